"""Table 15: the selected model minus its starting points."""

from collections.abc import Callable
from dataclasses import dataclass

from stradavit.paper.captions import mark_sentence, result_caption
from stradavit.paper.cells import Configuration, Results
from stradavit.paper.comparisons import corrected, difference, n_tests
from stradavit.paper.digits import as_printed
from stradavit.paper.encoder_rows import branch_title, losses_and_registers
from stradavit.paper.layout import Cell, Column, Head, Row, RowGroup, Table
from stradavit.paper.names import PROTOCOL_TITLES, benchmark_title, encoder_title
from stradavit.paper.scores import Score
from stradavit.settings import Settings
from stradavit.settings.evaluation import PAPER_PROTOCOLS, Protocol


@dataclass(frozen=True)
class Rival:
    """A starting point that the selected model is compared with on one benchmark."""

    start: str
    score: Score


FindRival = Callable[[Results, Protocol, str], Rival | None]


def selected_configuration(settings: Settings) -> Configuration | None:
    """The model Table 15 and the confusion matrices are about; None if the config selects none."""
    matrix = settings.matrix
    # Which corpus and seed is settled by the lookup of a cell.
    node = matrix.selected_node(corpus="", seed=0)
    return Configuration.of(node) if node else None


def selected_title(settings: Settings) -> str:
    """The selected configuration in words."""
    chosen = selected_configuration(settings)
    if chosen is None:
        return "none"
    start = encoder_title(settings, chosen.start)
    return f"{branch_title(chosen)} {losses_and_registers(chosen)}, from {start}"


def reference(results: Results, protocol: Protocol, benchmark: str) -> Rival | None:
    """The ViT-MAE start."""
    start = results.settings.matrix.reference
    score = start and results.score(protocol, Configuration("start", start), benchmark)
    return Rival(start, score) if start and score else None


def strongest_dinov2(results: Results, protocol: Protocol, benchmark: str) -> Rival | None:
    """The DINOv2 start with the highest Macro-F1, on a tie the one with the higher Weighted-F1.

    The paper's rule (section 10.1). Its ties are ties of printed numbers ("a Macro-F1 tie at" three
    decimals), so Macro-F1 is compared as printed; Weighted-F1 decides unrounded. If both are equal,
    the first in `matrix.dinov2_references`.
    """
    rivals = [
        Rival(start, score)
        for start in results.settings.matrix.dinov2_references
        if (score := results.score(protocol, Configuration("start", start), benchmark))
    ]
    return max(rivals, key=_rank, default=None)


def delta_table(results: Results) -> Table:
    """Table 15."""
    settings = results.settings
    groups = [
        RowGroup(
            (
                _row(results, protocol, "vs ViT-MAE", reference),
                _row(results, protocol, "vs strongest DINOv2", strongest_dinov2),
            ),
            PROTOCOL_TITLES[protocol],
        )
        for protocol in PAPER_PROTOCOLS
    ]
    lead = (
        f"Macro-F1 of the selected model ({selected_title(settings)}) minus that of a starting "
        "point, paired over folds and seeds. The strongest DINOv2 has the highest Macro-F1 on the "
        "benchmark, on a tie of printed digits the higher Weighted-F1. p is corrected by Holm's "
        "method."
    )
    caption = result_caption(results, *PAPER_PROTOCOLS, lead=lead)
    if marks := mark_sentence(settings, "the starting point", n_tests(groups)):
        caption += f" {marks}"
    return Table(
        number=15,
        slug="deltas",
        title="Differences to the starting points",
        caption=caption,
        heads=(Head("reference", "Reference"),),
        columns=tuple(
            Column(
                f"{name} macro_f1 difference",
                benchmark_title(settings, name),
                has_spread=True,
                has_test=True,
            )
            for name in settings.benchmarks
        ),
        groups=corrected(groups),
        group_key="setting",
    )


def _row(results: Results, protocol: Protocol, label: str, find: FindRival) -> Row:
    """Differences of the selected model to the starting point `find` picks on each benchmark."""
    settings = results.settings
    chosen = selected_configuration(settings)
    cells: list[Cell] = []
    named: list[str] = []
    notes: list[str] = []
    files: list[str] = []
    minus: list[str] = []
    for benchmark in settings.benchmarks:
        ours = results.score(protocol, chosen, benchmark) if chosen else None
        rival = find(results, protocol, benchmark)
        if ours is None or rival is None:
            cells.append(None)
            continue
        cells.append(difference(ours, rival.score))
        title = encoder_title(settings, rival.start)
        named.append(f"{title} on {benchmark_title(settings, benchmark)}")
        notes += [*ours.remarks, *rival.score.remarks]
        files += ours.files
        minus += rival.score.files
    if named:
        notes.insert(0, f"Compared with {', '.join(named)}.")
    return Row((label,), tuple(cells), tuple(dict.fromkeys(notes)), tuple(files), tuple(minus))


def _rank(rival: Rival) -> tuple[float, float]:
    macro, weighted = rival.score.spread("macro_f1"), rival.score.spread("weighted_f1")
    return as_printed(macro.mean), weighted.mean
