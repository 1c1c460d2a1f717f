"""Table 21 (ours): how well each encoder does with few labels."""

from stradavit.paper.captions import result_caption
from stradavit.paper.cells import Configuration, Results, Role
from stradavit.paper.encoder_tables import MODEL, encoder_groups, with_transductive
from stradavit.paper.layout import Cell, Column, Row, Table
from stradavit.paper.names import benchmark_title
from stradavit.paper.scores import Score, stack
from stradavit.paper.transfer import TRANSDUCTIVE_SENTENCE
from stradavit.settings import Settings
from stradavit.settings.evaluation import Protocol

PROTOCOL: Protocol = "label_budget"


def budget_table(results: Results) -> Table | None:
    """Table 21; None if label budgets are not among the protocols."""
    settings = results.settings
    budgets = budgets_shown(settings)

    def rows(labels: tuple[str, ...], run: Configuration) -> list[Row]:
        return with_transductive(labels, lambda shown, role: _row(results, shown, run, role))

    groups = encoder_groups(results, rows)
    if not groups:
        return None
    caption = result_caption(
        results,
        PROTOCOL,
        lead="Macro-F1 with n labels of each class.",
        spread=budget_spread_sentence(results),
    )
    if any("transductive" in row.labels[-1] for group in groups for row in group.rows):
        caption += f" {TRANSDUCTIVE_SENTENCE}"
    columns = tuple(
        Column(f"{name} macro_f1 n={n}", f"n = {n}", benchmark_title(settings, name), True)
        for name in settings.benchmarks
        for n in budgets
    )
    return Table(21, "label_budget", "Macro-F1 with few labels", caption, MODEL, columns, groups)


def budgets_shown(settings: Settings) -> list[int]:
    """Numbers of labels per class, in order."""
    return sorted(set(settings.evaluation.label_budget.per_class))


def budget_spread_sentence(results: Results) -> str:
    """Over what mean, spread and interval of a budget are taken."""
    settings = results.settings
    folds, seeds = settings.evaluation.folds, settings.training.seeds
    return (
        f"Mean ± population standard deviation over {folds.count} folds (images of a source share "
        f"a fold, fold seed {folds.seed}), {settings.evaluation.label_budget.draws} draws of the "
        f"labels in each, and {len(seeds)} pretraining seed{'s' if len(seeds) > 1 else ''} "
        f"({', '.join(map(str, seeds))}). In brackets the 95 % interval of the mean, with the "
        "correction for shared images that the full folds have."
    )


def budget_scores(
    results: Results, configuration: Configuration, benchmark: str, role: Role = "inductive"
) -> dict[int, Score]:
    """Scores of an encoder by number of labels per class; empty if the config left them out.

    A draw of labels stands in place of a repeat: as repeats do, draws share the images of a fold,
    so the mean keeps the correction of full folds, n_test / n_train = 1 / (K - 1).
    """
    runs = results.runs(configuration, benchmark, role)
    found = results.metrics(PROTOCOL, runs, benchmark)
    if not found:
        return {}
    by_file = [metrics.budgets() for metrics in found]
    return {
        n: stack(
            encoders=tuple(run.name for run in runs),
            files=tuple(f"{PROTOCOL}/{run.name}/{benchmark}.json" for run in runs),
            classes=[metrics.classes for metrics in found],
            found=[budgets[n] for budgets in by_file],
            remarks=results.remarks(PROTOCOL, runs, benchmark),
        )
        for n in budgets_shown(results.settings)
        if all(n in budgets for budgets in by_file)
    }


def _row(
    results: Results, labels: tuple[str, ...], configuration: Configuration, role: Role
) -> Row:
    cells: list[Cell] = []
    notes: list[str] = []
    files: list[str] = []
    for benchmark in results.settings.benchmarks:
        scores = budget_scores(results, configuration, benchmark, role)
        for n in budgets_shown(results.settings):
            cells.append(scores[n].spread("macro_f1") if n in scores else None)
        for score in scores.values():
            notes += score.remarks
            files += score.files
    unique = tuple(dict.fromkeys(notes)), tuple(dict.fromkeys(files))
    return Row(labels, tuple(cells), *unique)
