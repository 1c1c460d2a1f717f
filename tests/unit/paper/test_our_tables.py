"""Tables 20 to 24: every number lands where its coordinates say, absent protocols print nothing."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stradavit.errors import DataError
from stradavit.paper.budget_figure import best_other_run
from stradavit.paper.budget_table import budget_scores, budget_table
from stradavit.paper.cells import Configuration, Results
from stradavit.paper.encoder_tables import knn_table, split_table
from stradavit.paper.layout import Cell, Spread, Table
from stradavit.paper.leakage_table import leakage_table
from stradavit.paper.survey_table import survey_table
from stradavit.provenance import code_hash
from stradavit.settings import Settings
from tests.reference.statistics import corrected_test

from .fake_data import CUTOUTS_PER_SURVEY
from .fake_results import fold_scores, results_of, small_config

RUN = "two_stage_mae_l2_soft_hcl_r0"


def config_with(*protocols: str, **evaluation: Any) -> dict[str, Any]:
    """The small matrix scored by these protocols."""
    return small_config() | {"evaluation": {"protocols": list(protocols), **evaluation}}


def cell_of(table: Table | None, group: str, label: str, key: str) -> Cell:
    assert table is not None
    rows = {g.title: {row.labels[0]: row for row in g.rows} for g in table.groups}
    return rows[group][label].cells[[column.key for column in table.columns].index(key)]


def check(
    cell: Cell, scores: list[list[float]], interval: tuple[float, float] | None = None
) -> None:
    """Mean, population std and interval of (seeds, folds) scores, written out."""
    assert isinstance(cell, Spread)
    mean, low, high, _, _ = corrected_test(scores, n_train=2, n_test=1)
    assert cell.mean == pytest.approx(mean, abs=1e-12)
    assert cell.std == pytest.approx(np.std(scores), abs=1e-12)
    expected = interval or (max(low, 0.0), min(high, 1.0))
    assert cell.interval == pytest.approx(expected, abs=1e-9)


ALL_ROWS = {
    "Starting points": ["ViT-MAE-Base", "DINOv2-Base(R)", "DINOv2-Base", "tiny_net"],
    "Reconstruction only": ["L2, R = 0", "L2+BL1, R = 0"],
    "Contrastive only": ["HCL, R = 0", "HCL, R = 8"],
    "Two-stage": ["L2 → Soft-HCL, R = 0"],
}


def rows_of(table: Table | None) -> dict[str, list[str]]:
    assert table is not None
    return {group.title: [row.labels[0] for row in group.rows] for group in table.groups}


def test_knn(tmp_path: Path) -> None:
    table = knn_table(results_of(config_with("knn", knn={"repeats": 2}), tmp_path))
    assert table is not None and table.name == "20_knn"
    assert rows_of(table) == ALL_ROWS
    scores = [fold_scores("knn", f"{RUN}_all_s{s}", "rgz", "weighted_f1", 6) for s in (1, 2)]
    check(cell_of(table, "Two-stage", "L2 → Soft-HCL, R = 0", "rgz weighted_f1"), scores)
    # 5 runs on 2 benchmarks, each against its start.
    assert "over the 10 comparisons of this table" in table.caption
    assert "3 folds × 2 repeats" in table.caption
    assert "20 nearest training images" in table.caption


def test_label_budgets(tmp_path: Path) -> None:
    settings = {"per_class": [20, 5, 20], "draws": 3}
    results = results_of(config_with("label_budget", label_budget=settings), tmp_path)
    table = budget_table(results)
    assert table is not None and table.name == "21_label_budget"
    assert rows_of(table) == ALL_ROWS
    assert [(column.group, column.title) for column in table.columns] == [
        ("MiraBest", "n = 5"), ("MiraBest", "n = 20"), ("RGZ DR1", "n = 5"), ("RGZ DR1", "n = 20"),
    ]  # fmt: skip
    names = [f"{RUN}_all_s{seed}" for seed in (1, 2)]
    scores = [fold_scores("label_budget 5", name, "rgz", "macro_f1", 9) for name in names]
    check(cell_of(table, "Two-stage", "L2 → Soft-HCL, R = 0", "rgz macro_f1 n=5"), scores)
    assert "3 draws of the labels" in table.caption
    assert "balanced over the drawn images" in table.caption


def test_the_best_other_run_is_not_the_selected(tmp_path: Path) -> None:
    settings = {"per_class": [5, 20], "draws": 3}
    results = results_of(config_with("label_budget", label_budget=settings), tmp_path)
    means = {}
    for run in (
        Configuration("reconstruction", "mae", 0, "l2"),
        Configuration("reconstruction", "mae", 0, "l2_bl1"),
        Configuration("contrastive", "mae", 0, None, "hcl"),
        Configuration("contrastive", "mae", 8, None, "hcl"),
    ):
        scores = [budget_scores(results, run, b)[20].macro_f1 for b in ("mirabest", "rgz")]
        means[run] = float(np.mean(scores))
    assert best_other_run(results) == max(means, key=lambda run: means[run])


def test_a_budget_a_file_lacks_is_left_empty_and_remarked(tmp_path: Path) -> None:
    config = config_with("label_budget", label_budget={"per_class": [5, 20], "draws": 2})
    results = results_of(config, tmp_path)
    path = results.metrics_path("label_budget", "start_mae", "rgz")
    content = json.loads(path.read_text())
    content["budgets"] = content["budgets"][:1]
    content["settings"]["label_budget"]["per_class"] = [5]
    path.write_text(json.dumps(content))
    table = budget_table(Results(results.settings, tmp_path))
    assert table is not None
    row = table.groups[0].rows[0]
    assert [cell is None for cell in row.cells] == [False, False, False, True]
    assert row.notes == (
        "rgz was scored with label_budget.per_class = [5]; the config says [5, 20].",
    )


def test_published_split(tmp_path: Path) -> None:
    config = config_with("published_split", published_split={"trainings": 4})
    results = results_of(config, tmp_path)
    table = split_table(results)
    assert table is not None and table.name == "23_published_split"
    assert rows_of(table) == ALL_ROWS
    # A simulated RGZ DR1 publishes no division.
    assert [column.key for column in table.columns] == ["mirabest macro_f1", "mirabest weighted_f1"]
    names = [f"{RUN}_all_s{seed}" for seed in (1, 2)]
    scores = [fold_scores("published_split", name, "mirabest", "macro_f1", 4) for name in names]
    bounds = [sorted(fold_scores("interval", name, "mirabest", "macro_f1", 2)) for name in names]
    low, high = ((bounds[0][end] + bounds[1][end]) / 2 for end in (0, 1))
    cell = cell_of(table, "Two-stage", "L2 → Soft-HCL, R = 0", "mirabest macro_f1")
    check(cell, scores, (low, high))
    assert "bootstrap over the test sources" in table.caption
    assert "with several seeds the mean of their bounds" in table.caption


def test_sources_on_both_sides_are_noted(tmp_path: Path) -> None:
    results = results_of(config_with("published_split"), tmp_path)
    path = results.metrics_path("published_split", "start_mae", "mirabest")
    content = json.loads(path.read_text())
    content["provenance"]["sources_on_both_sides"] = 7
    path.write_text(json.dumps(content))
    table = split_table(Results(results.settings, tmp_path))
    assert table is not None
    assert table.notes == (
        "MiraBest: 7 sources have images on both sides of the published division.",
    )


@pytest.mark.parametrize("interval", [None, {}, {"macro_f1": [0.7, 0.6]}, {"macro_f1": [0.7]}])
def test_a_published_split_without_its_interval_is_refused(
    tmp_path: Path, interval: object
) -> None:
    results = results_of(config_with("published_split"), tmp_path)
    path = results.metrics_path("published_split", "start_mae", "mirabest")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"interval_95": interval}))
    with pytest.raises(DataError, match=r"start_mae/mirabest\.json: not a metrics file"):
        split_table(Results(results.settings, tmp_path))


def test_leave_one_survey_out(tmp_path: Path) -> None:
    config = config_with("finetune", "knn")
    config["matrix"]["leave_out"] = ["lotss", "mgcls"]
    results = results_of(config, tmp_path)
    table = survey_table(results)
    assert table is not None and table.name == "22_leave_one_survey_out"
    assert rows_of(table) == {
        title: ["all surveys", "without lotss", "without MGCLS (MeerKAT), DR1"]
        for title in ("Fine-tuning", "k-NN")
    }
    n = CUTOUTS_PER_SURVEY
    cutouts = [cell_of(table, "k-NN", label, "cutouts") for label in rows_of(table)["k-NN"]]
    assert cutouts == [3 * n, n, n]

    def scores(corpus: str) -> list[list[float]]:
        return [fold_scores("knn", f"{RUN}_{corpus}_s{s}", "rgz", "macro_f1") for s in (1, 2)]

    ours, whole = scores("all-without-lotss"), scores("all")
    check(cell_of(table, "k-NN", "without lotss", "rgz macro_f1"), ours)
    values = [
        [a - b for a, b in zip(one, other, strict=True)]
        for one, other in zip(ours, whole, strict=True)
    ]
    mean, low, high, p, _ = corrected_test(values, n_train=2, n_test=1)
    cell = cell_of(table, "k-NN", "without lotss", "rgz macro_f1 difference")
    assert isinstance(cell, Spread)
    assert (cell.mean, cell.p_value) == pytest.approx((mean, p), abs=1e-9)
    assert cell.interval == pytest.approx((low, high), abs=1e-9)
    assert cell_of(table, "k-NN", "all surveys", "rgz macro_f1 difference") is None
    assert "over the 8 comparisons of this table" in table.caption


def test_without_protocol_or_survey_there_is_no_table(tmp_path: Path) -> None:
    results = results_of(small_config(), tmp_path)
    for make in (knn_table, budget_table, split_table, survey_table, leakage_table):
        assert make(results) is None


def test_a_published_split_nobody_publishes_makes_no_table(tmp_path: Path) -> None:
    config = config_with("published_split")
    del config["benchmarks"]["mirabest"]
    assert split_table(results_of(config, tmp_path)) is None


# -- images of the same sky ---------------------------------------------------------------------


def report(benchmark: str) -> dict[str, Any]:
    """What the stage `leakage` writes, with a number of its own in every place."""
    evaluation = Settings.parse(small_config()).evaluation
    clues = ("position_only", "content_only", "both")
    places = ("one_source", "one_fold", "across_folds")
    return {
        "benchmark": benchmark,
        "n_images": 200,
        "n_sources": 190,
        "n_without_position": 3,
        "n_indistinct": 4,
        "settings": {
            "folds": evaluation.folds.model_dump(mode="json"),
            "leakage": evaluation.leakage.model_dump(mode="json"),
        },
        "code": code_hash("stradavit.evaluation.leakage"),
        "pairs": {
            clue: {place: 10 * (i + 1) + j for j, place in enumerate(places)}
            for i, clue in enumerate(clues)
        },
        "published_split": {clue: {"one_side": 5 + i, "across": i} for i, clue in enumerate(clues)},
        "examples": [
            {
                "images": ["a.png", "b.png"],
                "sources": ["s", "t"],
                "classes": ["FR I", "FR II"],
                "folds": [0, 2],
                "found_by": "both",
                "separation_arcsec": 1.25,
                "similarity": 0.987,
                "elements": [0, 0],
                "overlap": 0.5,
            }
        ],
    }


def write_report(folder: Path, benchmark: str, content: object) -> None:
    path = folder / "leakage" / f"{benchmark}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content))


def test_leakage(tmp_path: Path) -> None:
    results = results_of(small_config(), tmp_path)
    write_report(tmp_path, "mirabest", report("mirabest"))
    known = [pair | {"sources": ["s", "s"]} for pair in report("rgz")["examples"]]
    write_report(tmp_path, "rgz", report("rgz") | {"published_split": None, "examples": known})
    table = leakage_table(results)
    assert table is not None and table.name == "24_leakage"
    first, second = table.rows
    assert (first.labels, second.labels) == (("MiraBest",), ("RGZ DR1",))
    # Pairs: 10 11 12 / 20 21 22 / 30 31 32; divided: 5 6 7 on one side, 0 1 2 across.
    assert first.cells == (200, 190, 3, 4, 12, 22, 32, 63, 60, 3, 18)
    assert second.cells == (*first.cells[:9], None, None)
    (section,) = table.sections
    assert section.title == "Pairs of MiraBest"
    assert section.sentences == (
        "a.png (FR I) and b.png (FR II), folds 0 and 2: by position and content, 1.2 arcsec "
        "apart, similarity 0.987.",
    )
    assert "6 of 30 pretraining cutouts were dropped" in table.caption
    assert table.notes == ()


def test_an_old_report_is_remarked(tmp_path: Path) -> None:
    results = results_of(small_config(), tmp_path)
    write_report(tmp_path, "rgz", report("rgz") | {"settings": {}, "code": "0"})
    table = leakage_table(results)
    assert table is not None
    assert table.notes == (
        "rgz was searched with other settings than the config's.",
        "rgz was searched by another version of the code.",
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"benchmark": "rgz"}, "is about rgz, expected mirabest"),
        ({"n_images": -1}, "n_images is -1"),
        ({"n_sources": "many"}, "n_sources is 'many'"),
        ({"pairs": {}}, "KeyError"),
        ({"published_split": {"both": 3}}, "KeyError"),
        ({"examples": [{"sources": ["s", "t"], "images": ["a"]}]}, "not a leakage report"),
        ({"settings": 3}, "not a leakage report"),
    ],
)
def test_a_malformed_report_is_refused(
    tmp_path: Path, change: dict[str, object], message: str
) -> None:
    results = results_of(small_config(), tmp_path)
    write_report(tmp_path, "mirabest", report("mirabest") | change)
    with pytest.raises(DataError, match=message) as error:
        leakage_table(results)
    assert "snakemake" in str(error.value)
