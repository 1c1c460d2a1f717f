"""Table 22 (ours): what each survey contributes, by pretraining the selected model without it."""

from stradavit.paper.captions import mark_sentence, result_caption
from stradavit.paper.cells import Results
from stradavit.paper.comparisons import corrected, difference, n_tests
from stradavit.paper.deltas import selected_title
from stradavit.paper.layout import Cell, Column, Head, Row, RowGroup, Table
from stradavit.paper.names import PROTOCOL_TITLES, benchmark_title, survey_title
from stradavit.paper.scores import Score
from stradavit.settings.evaluation import Protocol

WHOLE = "all surveys"
# Budgets and a published division have tables of their own.
PROTOCOLS: tuple[Protocol, ...] = ("linear_probe", "finetune", "knn")


def survey_table(results: Results) -> Table | None:
    """Table 22; None if no survey is left out."""
    settings = results.settings
    if not settings.matrix.leave_out:
        return None
    protocols = [p for p in PROTOCOLS if p in settings.evaluation.protocols]
    groups = []
    for protocol in protocols:
        rows = [_row(results, protocol, WHOLE, settings.matrix.corpora[0])]
        for corpus, survey in settings.matrix.reduced_corpora.items():
            rows.append(
                _row(results, protocol, f"without {survey_title(settings, survey)}", corpus)
            )
        groups.append(RowGroup(tuple(rows), PROTOCOL_TITLES[protocol]))
    if not groups:
        return None
    lead = (
        f"Macro-F1 of the selected model ({selected_title(settings)}), pretrained on the corpus "
        f"{settings.matrix.corpora[0]} without one survey at a time, and its difference to the one "
        "pretrained on all, paired over folds and seeds. Without a survey there are fewer cutouts "
        "and, with the same epochs, fewer updates. p is corrected by Holm's method."
    )
    columns = [Column("cutouts", "Cutouts")]
    for name in settings.benchmarks:
        title = benchmark_title(settings, name)
        columns += [
            Column(f"{name} macro_f1", "Macro-F1", title, has_spread=True),
            Column(f"{name} macro_f1 difference", "minus all", title, True, has_test=True),
        ]
    sentences = [
        result_caption(results, *protocols, lead=lead),
        mark_sentence(settings, "with all surveys", n_tests(groups)),
        _transductive_sentence(results),
    ]
    return Table(
        number=22,
        slug="leave_one_survey_out",
        title="Pretraining without one survey",
        caption=" ".join(sentence for sentence in sentences if sentence),
        heads=(Head("surveys", "Surveys"),),
        columns=tuple(columns),
        groups=corrected(groups),
        group_key="setting",
    )


def _row(results: Results, protocol: Protocol, label: str, corpus: str) -> Row:
    """Scores on every benchmark, and the differences to the model of all surveys."""
    whole = results.settings.matrix.corpora[0]
    counts = results.corpus_counts[corpus].values()
    cells: list[Cell] = [sum(survey["kept"] for survey in counts)]
    notes: list[str] = []
    files: list[str] = []
    minus: list[str] = []
    for benchmark in results.settings.benchmarks:
        score = _score(results, protocol, corpus, benchmark)
        if score is None:
            cells += [None, None]
            continue
        files += score.files
        notes += score.remarks
        of_all = _score(results, protocol, whole, benchmark) if corpus != whole else None
        cells += [score.spread("macro_f1"), difference(score, of_all) if of_all else None]
        minus += of_all.files if of_all else ()
    return Row((label,), tuple(cells), tuple(dict.fromkeys(notes)), tuple(files), tuple(minus))


def _score(results: Results, protocol: Protocol, corpus: str, benchmark: str) -> Score | None:
    """Score of the selected model trained on a corpus; None if the config left it out."""
    settings = results.settings
    nodes = [settings.matrix.selected_node(corpus, seed) for seed in settings.training.seeds]
    runs = [node for node in nodes if node is not None]
    return results.score_of(protocol, runs, benchmark)


def _transductive_sentence(results: Results) -> str:
    settings = results.settings
    seen = settings.corpus(settings.matrix.corpora[0]).transductive
    if not seen:
        return ""
    titles = ", ".join(benchmark_title(settings, name) for name in seen)
    return f"Transductive, since the corpus may hold the benchmark's unlabelled images: {titles}."
