"""Tables 6 to 14: transfer scores of baselines and runs, in the paper's rows and columns."""

from collections.abc import Sequence

from stradavit.paper.captions import mark_sentence, result_caption
from stradavit.paper.cells import Configuration, Results, Role
from stradavit.paper.comparisons import compared, corrected, difference, n_tests
from stradavit.paper.layout import Cell, Column, Head, Row, RowGroup, Table
from stradavit.paper.names import (
    CONTRASTIVE_LOSSES,
    LOSS_TITLES,
    METRIC_TITLES,
    PROTOCOL_TITLES,
    RECONSTRUCTION_LOSSES,
    benchmark_title,
    encoder_title,
    register_title,
    registers_shown,
)
from stradavit.settings import Settings
from stradavit.settings.evaluation import PAPER_PROTOCOLS, Protocol
from stradavit.settings.matrix import Branch, ContrastiveGrid, ReconstructionGrid, TwoStageGrid
from stradavit.settings.training import ContrastiveLoss, ReconstructionLoss

# The rows of Tables 6, 7 and 12 in the paper; an encoder is known by its title.
PAPER_BASELINES = ("DINOv2-Base", "DINOv2-Small", "DINOv2-Base(R)", "ViT-MAE-Base")
PAPER_DINOV2_STARTS = ("DINOv2-Base", "DINOv2-Base(R)")
PAPER_DINOV2_LOSS: ContrastiveLoss = "hcl"

TRANSDUCTIVE = "(transductive)"
TRANSDUCTIVE_SENTENCE = (
    "Rows marked (transductive) were pretrained on a corpus that holds the benchmark's images, "
    "without their labels."
)
RECONSTRUCTION_HEAD = Head("reconstruction_loss", "Reconstruction loss")
CONTRASTIVE_HEAD = Head("contrastive_loss", "Contrastive loss")
BRANCH_TITLES: dict[Branch, str] = {
    "reconstruction": "Reconstruction-only branch",
    "contrastive": "Contrastive-only branch",
    "two_stage": "Two-stage branch",
}
SHORT_NAMES: dict[Protocol, str] = {"linear_probe": "probe", "finetune": "finetune"}


def baseline_tables(results: Results) -> list[Table]:
    """Tables 6 and 7: encoders as they are, without any pretraining of ours."""
    tables = []
    for number, protocol in zip((6, 7), PAPER_PROTOCOLS, strict=True):
        rows: list[Row] = []
        for title, start in _titled_starts(results.settings, PAPER_BASELINES, results.starts):
            configuration = Configuration("start", start) if start else None
            rows += score_rows(results, protocol, (title,), configuration)
        slug = f"baselines_{SHORT_NAMES[protocol]}"
        title = f"Baselines, {PROTOCOL_TITLES[protocol].lower()}"
        heads, groups = (Head("model", "Model"),), [RowGroup(tuple(rows))]
        caption = result_caption(results, protocol, lead="(R) marks register tokens.")
        tables.append(score_table(results, number, slug, title, caption, heads, groups))
    return tables


def reconstruction_tables(results: Results) -> list[Table]:
    """Tables 8 and 9: reconstruction-only runs."""
    grid = results.settings.matrix.reconstruction
    losses = [(loss, None) for loss in RECONSTRUCTION_LOSSES]
    heads = (RECONSTRUCTION_HEAD,)
    return _branch_tables(results, (8, 9), "reconstruction", grid, losses, heads)


def contrastive_tables(results: Results) -> list[Table]:
    """Tables 10 and 11: contrastive-only runs."""
    grid = results.settings.matrix.contrastive
    losses = [(None, loss) for loss in CONTRASTIVE_LOSSES]
    return _branch_tables(results, (10, 11), "contrastive", grid, losses, (CONTRASTIVE_HEAD,))


def two_stage_tables(results: Results) -> list[Table]:
    """Tables 13 and 14: reconstruction, then contrastive."""
    grid = results.settings.matrix.two_stage
    losses = [(first, then) for first in RECONSTRUCTION_LOSSES for then in CONTRASTIVE_LOSSES]
    heads = (RECONSTRUCTION_HEAD, CONTRASTIVE_HEAD)
    return _branch_tables(results, (13, 14), "two_stage", grid, losses, heads)


def dinov2_table(results: Results) -> Table:
    """Table 12: contrastive-only runs that start from DINOv2, HCL unless a row says otherwise."""
    grid = results.settings.matrix.dinov2
    losses = [loss for loss in CONTRASTIVE_LOSSES if loss in (*grid.losses, PAPER_DINOV2_LOSS)]
    rows: list[Row] = []
    for protocol in PAPER_PROTOCOLS:
        starts = _titled_starts(results.settings, PAPER_DINOV2_STARTS, grid.starts)
        for title, start in starts:
            for loss in losses:
                for registers in grid.registers:
                    label = title + ("" if loss == PAPER_DINOV2_LOSS else f", {LOSS_TITLES[loss]}")
                    if len(grid.registers) > 1:
                        label += f", R = {registers}"
                    run = (
                        Configuration("contrastive", start, registers, None, loss)
                        if start
                        else None
                    )
                    rows += score_rows(results, protocol, (PROTOCOL_TITLES[protocol], label), run)
    heads = (Head("setting", "Setting"), Head("initialization", "Initialization"))
    title = "Contrastive-only branch from DINOv2"
    caption = result_caption(results, *PAPER_PROTOCOLS, lead="Contrastive loss: HCL.")
    groups = [RowGroup(tuple(rows))]
    return score_table(results, 12, "dinov2_init", title, caption, heads, groups)


def _branch_tables(
    results: Results,
    numbers: tuple[int, int],
    branch: Branch,
    grid: ReconstructionGrid | ContrastiveGrid | TwoStageGrid,
    losses: Sequence[tuple[ReconstructionLoss | None, ContrastiveLoss | None]],
    heads: tuple[Head, ...],
) -> list[Table]:
    """Both protocols of a branch: a row per loss, a group per number of registers."""
    tables = []
    for number, protocol in zip(numbers, PAPER_PROTOCOLS, strict=True):
        groups = []
        for start in grid.starts or (None,):
            for registers in registers_shown(grid.registers):
                rows: list[Row] = []
                for pair in losses:
                    run = Configuration(branch, start, registers, *pair) if start else None
                    labels = tuple(LOSS_TITLES[loss] for loss in pair if loss)
                    rows += score_rows(results, protocol, labels, run)
                title = register_title(registers)
                if start and (branch == "contrastive" or len(grid.starts) > 1):
                    init = encoder_title(results.settings, start)
                    title = f"{init} init, {title[0].lower()}{title[1:]}"
                groups.append(RowGroup(tuple(rows), title))
        slug = f"{branch}_{SHORT_NAMES[protocol]}"
        heading = f"{BRANCH_TITLES[branch]}, {PROTOCOL_TITLES[protocol].lower()}"
        caption = result_caption(results, protocol)
        tables.append(score_table(results, number, slug, heading, caption, heads, groups))
    return tables


def score_rows(
    results: Results,
    protocol: Protocol,
    labels: tuple[str, ...],
    configuration: Configuration | None,
) -> list[Row]:
    """The row of a configuration and, if some benchmark has one, its transductive row."""
    rows = [_row(results, protocol, labels, configuration, "inductive")]
    marked = (*labels[:-1], f"{labels[-1]} {TRANSDUCTIVE}")
    transductive = _row(results, protocol, marked, configuration, "transductive")
    if any(cell is not None for cell in transductive.cells):
        rows.append(transductive)
    return rows


def _row(
    results: Results,
    protocol: Protocol,
    labels: tuple[str, ...],
    configuration: Configuration | None,
    role: Role,
) -> Row:
    """Scores of a configuration on every benchmark, Macro-F1 with its test against the start."""
    cells: list[Cell] = []
    notes: list[str] = []
    files: list[str] = []
    minus: list[str] = []
    for benchmark in results.settings.benchmarks:
        score = None
        if configuration is not None:
            score = results.score(protocol, configuration, benchmark, role)
        if configuration is None or score is None:
            cells += [None, None]
            continue
        start = tested = None
        if configuration.branch != "start":
            start = results.score(protocol, configuration.own_start, benchmark)
        if start is not None:
            tested = difference(score, start)
            minus += start.files
        cells += [compared(score.spread("macro_f1"), tested), score.spread("weighted_f1")]
        notes += score.remarks
        files += score.files
    return Row(labels, tuple(cells), tuple(dict.fromkeys(notes)), tuple(files), tuple(minus))


def score_table(
    results: Results,
    number: int,
    slug: str,
    title: str,
    caption: str,
    heads: tuple[Head, ...],
    groups: Sequence[RowGroup],
) -> Table:
    """A table with the benchmarks' scores in its columns, Holm-corrected over all its rows."""
    settings = results.settings
    has_runs = n_tests(groups) > 0
    columns = tuple(
        Column(
            f"{benchmark} {metric}",
            printed,
            benchmark_title(settings, benchmark),
            has_spread=True,
            has_test=has_runs and metric == "macro_f1",
        )
        for benchmark in settings.benchmarks
        for metric, printed in METRIC_TITLES.items()
    )
    if marks := mark_sentence(settings, "the run's own start", n_tests(groups)):
        caption += f" {marks}"
    if any(row.labels[-1].endswith(TRANSDUCTIVE) for group in groups for row in group.rows):
        caption += f" {TRANSDUCTIVE_SENTENCE}"
    return Table(number, slug, title, caption, heads, columns, corrected(groups))


def _titled_starts(
    settings: Settings, paper_titles: tuple[str, ...], starts: tuple[str, ...]
) -> list[tuple[str, str | None]]:
    """The paper's rows with the start that fills each, then the starts the config adds."""
    titles = {start: encoder_title(settings, start) for start in starts}
    by_title = {title: start for start, title in reversed(titles.items())}
    rows = [(title, by_title.get(title)) for title in paper_titles]
    taken = {start for _, start in rows}
    return rows + [(title, start) for start, title in titles.items() if start not in taken]
