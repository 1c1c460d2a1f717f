"""Table 18 (ours): recall of each class, the class-wise summary of the paper's section 10.3.

The paper reads it off the confusion matrices of Figure 4; here each difference has its interval
and its test.
"""

import numpy as np
from numpy.typing import NDArray

from stradavit.evaluation.statistics import paired_difference
from stradavit.paper.captions import mark_sentence, result_caption
from stradavit.paper.cells import Results
from stradavit.paper.comparisons import check_same_folds, corrected, n_tests, tested
from stradavit.paper.deltas import (
    Rival,
    reference,
    selected_configuration,
    selected_title,
    strongest_dinov2,
)
from stradavit.paper.digits import as_printed
from stradavit.paper.layout import Cell, Column, Head, Row, RowGroup, Spread, Table
from stradavit.paper.names import PROTOCOL_TITLES, benchmark_title, encoder_title
from stradavit.paper.scores import Score
from stradavit.settings.evaluation import PAPER_PROTOCOLS, Protocol

SELECTED, REFERENCE, DINOV2 = "selected model", "ViT-MAE", "strongest DINOv2"
RIVALS = {REFERENCE: reference, DINOV2: strongest_dinov2}


def class_wise_table(results: Results) -> Table | None:
    """Table 18; None if the config selects no model or nothing to compare it with."""
    groups = [
        group
        for protocol in PAPER_PROTOCOLS
        for benchmark in results.settings.benchmarks
        if (group := _group(results, protocol, benchmark))
    ]
    if not groups:
        return None
    lead = (
        f"Recall: share of a class's held-out images that are recognised, over all folds, repeats "
        f"and seeds (the diagonals of Figure 4). Selected model: "
        f"{selected_title(results.settings)}. Highest: by the printed digits, all that tie. "
        "Differences: selected model minus the other, paired over folds and seeds; folds without "
        "an image of the class are left out."
    )
    caption = result_caption(results, *PAPER_PROTOCOLS, lead=lead)
    marks = mark_sentence(results.settings, "the other", n_tests(groups), what="recall")
    return Table(
        number=18,
        slug="class_wise",
        title="Recall by class",
        caption=f"{caption} {marks}".strip(),
        heads=(Head("class", "Class"),),
        columns=(
            Column("images", "Images"),
            Column("selected recall", "Selected", "Recall"),
            Column("reference recall", REFERENCE, "Recall"),
            Column("dinov2 recall", "DINOv2", "Recall"),
            Column("highest", "Highest"),
            Column("reference difference", f"vs {REFERENCE}", "Difference", True, True),
            Column("dinov2 difference", f"vs {DINOV2}", "Difference", True, True),
        ),
        groups=corrected(groups),
        group_key="setting",
    )


def _group(results: Results, protocol: Protocol, benchmark: str) -> RowGroup | None:
    """A row per class of a benchmark."""
    chosen = selected_configuration(results.settings)
    ours = results.score(protocol, chosen, benchmark) if chosen else None
    rivals = {name: find(results, protocol, benchmark) for name, find in RIVALS.items()}
    if ours is None or not any(rivals.values()):
        return None
    title = f"{PROTOCOL_TITLES[protocol]}, {benchmark_title(results.settings, benchmark)}"
    best = rivals[DINOV2]
    notes: tuple[str, ...] = ()
    if best is not None:
        start = encoder_title(results.settings, best.start)
        notes = (f"{title}: the strongest DINOv2 is {start}.",)
    for score in (ours, *(rival.score for rival in rivals.values() if rival)):
        notes += score.remarks
    rows = tuple(
        Row(
            labels=(name,),
            cells=_cells(ours, rivals, number),
            notes=tuple(dict.fromkeys(notes)),
            files=ours.files,
            minus=tuple(f for rival in rivals.values() if rival for f in rival.score.files),
        )
        for number, name in enumerate(ours.classes)
    )
    return RowGroup(rows, title)


def _cells(ours: Score, rivals: dict[str, Rival | None], number: int) -> tuple[Cell, ...]:
    """Recalls of class `number`, who has the highest, and the differences."""
    scores = {SELECTED: ours} | {n: rival.score for n, rival in rivals.items() if rival}
    recalls = {name: pooled_recall(score, number) for name, score in scores.items()}
    shown = {name: as_printed(r) for name, r in recalls.items() if r is not None}
    highest = [name for name, value in shown.items() if value == max(shown.values())]
    return (
        images_of(ours, number),
        recalls[SELECTED],
        recalls.get(REFERENCE),
        recalls.get(DINOV2),
        ", ".join(highest) or None,
        *(
            recall_difference(ours, rival.score, number) if rival else None
            for rival in rivals.values()
        ),
    )


def pooled_recall(score: Score, number: int) -> float | None:
    """Share of the held-out images of a class that are recognised; None if there are none."""
    true = score.confusion[number]
    return float(true[number] / true.sum()) if true.sum() else None


def recall_difference(ours: Score, theirs: Score, number: int) -> Spread | None:
    """Recall of a class, ours minus theirs, paired over the folds that hold images of it.

    None if fewer than two folds do.
    """
    check_same_folds(ours, theirs)
    has_images = ours.held_out[:, number] > 0
    if has_images.sum() < 2:
        return None
    one, other = (_fold_recalls(score, number)[:, has_images] for score in (ours, theirs))
    differences = paired_difference(one, other)
    return tested(differences, ours.test_share, images_of(ours, number))


def images_of(score: Score, number: int) -> int:
    """Images of a class that the folds of one repeat hold out together."""
    return int(score.held_out[:, number].sum()) * score.n_folds // len(score.places)


def _fold_recalls(score: Score, number: int) -> NDArray[np.float64]:
    """(seeds, repeats * folds); 0 where a fold has no image of the class."""
    true = score.confusions[:, :, number]
    recalls: NDArray[np.float64] = true[..., number] / np.maximum(true.sum(axis=2), 1)
    return recalls
