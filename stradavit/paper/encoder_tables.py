"""Tables 20 and 23 (ours): every encoder of the matrix under k-NN and on the published division."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from stradavit.paper.captions import result_caption
from stradavit.paper.cells import Configuration, Results, Role
from stradavit.paper.encoder_rows import HEADINGS, configurations, row_label
from stradavit.paper.layout import Cell, Column, Head, Row, RowGroup, Spread, Table
from stradavit.paper.metric_files import METRICS
from stradavit.paper.names import METRIC_TITLES, benchmark_title
from stradavit.paper.scores import spread_of
from stradavit.paper.transfer import TRANSDUCTIVE, TRANSDUCTIVE_SENTENCE, score_rows, score_table
from stradavit.settings.evaluation import Protocol

RowMaker = Callable[[tuple[str, ...], Configuration], list[Row]]
MODEL = (Head("encoder", "Encoder"),)


def knn_table(results: Results) -> Table | None:
    """Table 20; None if k-NN is not among the protocols."""
    groups = encoder_groups(results, lambda labels, run: score_rows(results, "knn", labels, run))
    if not groups:
        return None
    caption = result_caption(results, "knn")
    return score_table(results, 20, "knn", "Nearest neighbours", caption, MODEL, groups)


def split_table(results: Results) -> Table | None:
    """Table 23; None if no benchmark is scored on a published division."""
    settings = results.settings
    divided = [name for name, block in settings.benchmarks.items() if block.publishes_split]

    def rows(labels: tuple[str, ...], run: Configuration) -> list[Row]:
        return with_transductive(
            labels, lambda shown, role: _split_row(results, divided, shown, run, role)
        )

    groups = encoder_groups(results, rows)
    if not groups:
        return None
    n = settings.evaluation.published_split.trainings
    seeds = settings.training.seeds
    spread = (
        f"Mean ± population standard deviation over {n} trainings and {len(seeds)} pretraining "
        f"seed{'s' if len(seeds) > 1 else ''} ({', '.join(map(str, seeds))}). In brackets the 95 % "
        "interval of the mean over trainings, a bootstrap over the test sources: it says what "
        "another draw of test sources would change, and nothing of another division"
    )
    if len(seeds) > 1:
        spread += "; with several seeds the mean of their bounds, without the spread of the seeds"
    caption = result_caption(results, "published_split", spread=f"{spread}.")
    if _has_transductive(groups):
        caption += f" {TRANSDUCTIVE_SENTENCE}"
    columns = tuple(
        Column(f"{name} {metric}", METRIC_TITLES[metric], benchmark_title(settings, name), True)
        for name in divided
        for metric in METRICS
    )
    title = "Published training and test images"
    return Table(23, "published_split", title, caption, MODEL, columns, groups)


def encoder_groups(results: Results, rows: RowMaker) -> tuple[RowGroup, ...]:
    """Rows of every encoder under the heading of its branch, without those that are empty."""
    groups = []
    for branch, heading in HEADINGS.items():
        made = [
            row
            for configuration in configurations(results, branch)
            for row in rows((row_label(results, configuration),), configuration)
            if any(cell is not None for cell in row.cells)
        ]
        if made:
            groups.append(RowGroup(tuple(made), heading))
    return tuple(groups)


def with_transductive(
    labels: tuple[str, ...], row: Callable[[tuple[str, ...], Role], Row]
) -> list[Row]:
    """The row of an encoder, and that of its scores on images it has seen unlabelled."""
    marked = (*labels[:-1], f"{labels[-1]} {TRANSDUCTIVE}")
    return [row(labels, "inductive"), row(marked, "transductive")]


def _has_transductive(groups: Sequence[RowGroup]) -> bool:
    return any(row.labels[-1].endswith(TRANSDUCTIVE) for group in groups for row in group.rows)


def _split_row(
    results: Results,
    benchmarks: list[str],
    labels: tuple[str, ...],
    configuration: Configuration,
    role: Role,
) -> Row:
    protocol: Protocol = "published_split"
    cells: list[Cell] = []
    notes: list[str] = []
    files: list[str] = []
    for benchmark in benchmarks:
        runs = results.runs(configuration, benchmark, role)
        score = results.score_of(protocol, runs, benchmark)
        if score is None:
            cells += [None] * len(METRICS)
            continue
        found = results.metrics(protocol, runs, benchmark)
        for metric in METRICS:
            bounds = [metrics.interval(metric) for metrics in found]
            cells.append(_split_cell(score.values(metric), bounds))
        shared = found[0].content.get("provenance", {}).get("sources_on_both_sides", 0)
        if shared:
            notes.append(
                f"{benchmark_title(results.settings, benchmark)}: {shared} sources have images on "
                "both sides of the published division."
            )
        notes += score.remarks
        files += score.files
    return Row(labels, tuple(cells), tuple(dict.fromkeys(notes)), tuple(files))


def _split_cell(values: NDArray[np.float64], bounds: list[tuple[float, float]]) -> Spread:
    low, high = np.mean(bounds, axis=0).tolist()
    return spread_of(values, interval=(low, high))
