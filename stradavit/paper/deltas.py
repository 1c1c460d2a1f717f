"""Table 15: the selected model minus its starting points."""

from dataclasses import dataclass

from stradavit.errors import DataError
from stradavit.paper.captions import result_caption
from stradavit.paper.cells import Configuration, Results, Score, spread_of
from stradavit.paper.layout import Cell, Column, Head, Row, RowGroup, Spread, Table
from stradavit.paper.names import (
    LOSS_TITLES,
    PROTOCOL_TITLES,
    benchmark_title,
    encoder_title,
)
from stradavit.settings import Settings
from stradavit.settings.evaluation import PROTOCOLS, Protocol


@dataclass(frozen=True)
class Rival:
    """A starting point that the selected model is compared with on one benchmark."""

    start: str
    score: Score


def selected_configuration(settings: Settings) -> Configuration | None:
    """The model Table 15 and the confusion matrices are about; None if the config selects none.

    It starts from `matrix.reference`, or from the first start of its branch if that has no such
    start.
    """
    selected = settings.matrix.selected
    if selected is None:
        return None
    starts: tuple[str, ...] = getattr(settings.matrix, selected.branch).starts
    if not starts:
        return None
    reference = settings.matrix.reference
    first, then = selected.reconstruction_loss, selected.contrastive_loss
    return Configuration(
        branch=selected.branch,
        start=reference if reference and reference in starts else starts[0],
        registers=selected.registers,
        # A branch with one phase has one loss, whatever else the block says.
        reconstruction_loss=None if selected.branch == "contrastive" else first,
        contrastive_loss=None if selected.branch == "reconstruction" else then,
    )


def selected_title(settings: Settings) -> str:
    """The selected configuration in words."""
    chosen = selected_configuration(settings)
    if chosen is None:
        return "none"
    losses = [loss for loss in (chosen.reconstruction_loss, chosen.contrastive_loss) if loss]
    return (
        f"{chosen.branch.replace('_', '-')}, {' → '.join(LOSS_TITLES[loss] for loss in losses)}, "
        f"R = {chosen.registers}, from {encoder_title(settings, chosen.start)}"
    )


def reference(results: Results, protocol: Protocol, benchmark: str) -> Rival | None:
    """The ViT-MAE start."""
    start = results.settings.matrix.reference
    score = start and results.score(protocol, Configuration("start", start), benchmark)
    return Rival(start, score) if start and score else None


def strongest_dinov2(results: Results, protocol: Protocol, benchmark: str) -> Rival | None:
    """The DINOv2 start with the highest Macro-F1, on a tie the one with the higher Weighted-F1.

    The paper's rule (section 10.1), on unrounded means; if both are equal, the first in
    `matrix.dinov2_references`.
    """
    rivals = [
        Rival(start, score)
        for start in results.settings.matrix.dinov2_references
        if (score := results.score(protocol, Configuration("start", start), benchmark))
    ]
    return max(rivals, key=_rank, default=None)


def paired_difference(ours: Score, theirs: Score) -> Spread:
    """Macro-F1 of `ours` minus `theirs`, fold by fold and seed by seed.

    Published weights have one seed, which is compared with each of ours.

    Returns
    -------
    Spread with the mean difference and its population standard deviation over folds and seeds

    Raises
    ------
    DataError
        If the two were not scored on the same folds.
    """
    (n_ours, folds), (n_theirs, their_folds) = ours.macro_f1.shape, theirs.macro_f1.shape
    if folds != their_folds or n_theirs not in (1, n_ours):
        raise DataError(
            f"{ours.encoders[0]} has {n_ours} seeds with {folds} folds and {theirs.encoders[0]} "
            f"{n_theirs} with {their_folds}: they cannot be paired. Delete the metrics of the one "
            "that is out of date and run the workflow again."
        )
    return spread_of(ours.macro_f1 - theirs.macro_f1, is_signed=True)


def delta_table(results: Results) -> Table:
    """Table 15."""
    settings = results.settings
    chosen = selected_configuration(settings)
    groups = []
    for protocol in PROTOCOLS:
        rows = []
        for label, find in (
            ("vs ViT-MAE", reference),
            ("vs strongest DINOv2", strongest_dinov2),
        ):
            cells: list[Cell] = []
            named: list[str] = []
            for benchmark in settings.benchmarks:
                ours = results.score(protocol, chosen, benchmark) if chosen else None
                rival = find(results, protocol, benchmark)
                if ours is None or rival is None:
                    cells.append(None)
                    continue
                cells.append(paired_difference(ours, rival.score))
                title = encoder_title(settings, rival.start)
                named.append(f"{title} on {benchmark_title(settings, benchmark)}")
            note = (f"Compared with {', '.join(named)}.",) if named else ()
            rows.append(Row((label,), tuple(cells), note))
        groups.append(RowGroup(tuple(rows), PROTOCOL_TITLES[protocol]))
    lead = (
        f"Macro-F1 of the selected model ({selected_title(settings)}) minus that of a starting "
        "point, paired over folds and seeds. The strongest DINOv2 has the highest Macro-F1 on the "
        "benchmark, on a tie the higher Weighted-F1."
    )
    return Table(
        number=15,
        slug="deltas",
        title="Differences to the starting points",
        caption=result_caption(results, *PROTOCOLS, lead=lead),
        heads=(Head("reference", "Reference"),),
        columns=tuple(
            Column(f"{name} macro_f1 difference", benchmark_title(settings, name), has_spread=True)
            for name in settings.benchmarks
        ),
        groups=tuple(groups),
        group_key="setting",
    )


def _rank(rival: Rival) -> tuple[float, float]:
    macro, weighted = spread_of(rival.score.macro_f1), spread_of(rival.score.weighted_f1)
    return macro.mean, weighted.mean
