"""A cell's numbers are those of its own metrics files."""

import json
from pathlib import Path

import numpy as np
import pytest

from stradavit.errors import DataError
from stradavit.paper.cells import Configuration, Results
from stradavit.paper.scores import spread_of
from stradavit.provenance import code_hash
from stradavit.settings import Settings
from tests.reference.statistics import corrected_test

from .fake_results import (
    MANY,
    fake_score,
    fold_entries,
    fold_scores,
    results_of,
    small_config,
    write_all_metrics,
    write_metrics,
)


def test_seeds_and_folds_of_a_run(tmp_path: Path) -> None:
    results = results_of(small_config(), tmp_path)
    score = results.score("finetune", Configuration("reconstruction", "mae", 0, "l2_bl1"), "rgz")
    assert score is not None
    names = ("reconstruction_mae_l2_bl1_r0_all_s1", "reconstruction_mae_l2_bl1_r0_all_s2")
    assert score.encoders == names
    for metric in ("macro_f1", "weighted_f1"):
        expected = [fold_scores("finetune", name, "rgz", metric) for name in names]
        np.testing.assert_array_equal(getattr(score, metric), expected)
    np.testing.assert_array_equal(score.confusion, MANY * np.array([[80, 20], [10, 90]]))
    assert score.remarks == ()
    assert score.files == tuple(f"finetune/{name}/rgz.json" for name in names)


def test_repeats_come_after_each_other(tmp_path: Path) -> None:
    config = small_config() | {"evaluation": {"probe": {"repeats": 2}}}
    results = results_of(config, tmp_path)
    start = Configuration("start", "mae")
    score = results.score("linear_probe", start, "rgz")
    assert score is not None
    expected = fold_scores("linear_probe", "start_mae", "rgz", "macro_f1", n=6)
    np.testing.assert_array_equal(score.macro_f1, [expected])
    assert score.places == ((0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2))
    assert (score.n_folds, score.test_share) == (3, 0.5)
    once = results.score("finetune", start, "rgz")
    assert once is not None
    assert once.macro_f1.shape == (1, 3)


def test_files_without_repeats_are_the_first_repeat(tmp_path: Path) -> None:
    results = results_of(small_config(), tmp_path)
    path = results.metrics_path("finetune", "start_mae", "rgz")
    content = json.loads(path.read_text())
    for entry in content["folds"]:
        del entry["repeat"]
    path.write_text(json.dumps(content))
    score = results.score("finetune", Configuration("start", "mae"), "rgz")
    assert score is not None
    assert score.places == ((0, 0), (0, 1), (0, 2))


@pytest.mark.parametrize("shape", [(1, 3), (1, 12), (4, 3), (3, 6)])
def test_the_interval_of_a_cell(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(shape)
    values = rng.normal(0.5, 0.05, shape) + rng.normal(0, 0.05, (shape[0], 1))
    score = fake_score(values)
    spread = score.spread("macro_f1")
    mean, low, high, _, _ = corrected_test(values.tolist(), n_train=2, n_test=1)
    assert spread.mean == pytest.approx(mean, abs=1e-12)
    assert spread.interval == pytest.approx((low, high), abs=1e-9)
    assert spread.p_value is None, "a score is tested against nothing"


def test_few_images_leave_a_cell_uncertain_however_its_folds_agree() -> None:
    values = np.array([[0.5, 0.5001, 0.4999]])
    few = fake_score(values, np.array([[[[14, 3], [2, 15]]] * 3]))
    assert few.n_images == 3 * 34
    _, low, high, _, _ = corrected_test(values.tolist(), n_train=2, n_test=1, n_images=102)
    interval = few.spread("macro_f1").interval
    assert interval == pytest.approx((low, high), abs=1e-9)
    # Of 102 images; the three folds alone would say ± 0.0004.
    assert high - low > 0.2


def test_the_interval_of_a_score_ends_where_f1_does() -> None:
    high = fake_score(np.array([[0.9, 0.99, 0.8]])).spread("macro_f1").interval
    low = fake_score(np.array([[0.0, 0.1, 0.0]])).spread("macro_f1").interval
    assert high is not None and low is not None
    assert high[1] == 1.0 and 0.0 < high[0] < 0.9
    assert low[0] == 0.0 and 0.1 < low[1] < 1.0


def test_spread_by_hand() -> None:
    # Two seeds, two folds: means 0.2 and 0.6; deviations from 0.4 are −0.3, −0.1, 0.1, 0.3.
    spread = spread_of(np.array([[0.1, 0.3], [0.5, 0.7]]))
    assert spread.mean == pytest.approx(0.4, abs=1e-15)
    assert spread.std == pytest.approx(np.sqrt((0.09 + 0.01 + 0.01 + 0.09) / 4), abs=1e-15)


@pytest.mark.parametrize(
    "configuration",
    [
        Configuration("reconstruction", "mae", 0, "l2_l1"),
        Configuration("reconstruction", "mae", 4, "l2"),
        Configuration("contrastive", "mae", 0, None, "info_nce"),
        Configuration("contrastive", "dino", 0, None, "hcl"),
        Configuration("two_stage", "mae", 0, "l2", "hcl"),
    ],
)
def test_what_the_matrix_leaves_out_is_none(tmp_path: Path, configuration: Configuration) -> None:
    assert results_of(small_config(), tmp_path).score("finetune", configuration, "rgz") is None


def test_protocol_left_out_is_none(tmp_path: Path) -> None:
    config = small_config() | {"evaluation": {"protocols": ["finetune"]}}
    results = results_of(config, tmp_path)
    assert results.score("linear_probe", Configuration("start", "mae"), "rgz") is None
    assert results.score("finetune", Configuration("start", "mae"), "rgz") is not None


def test_first_corpus_that_guards_a_benchmark_fills_it(tmp_path: Path) -> None:
    config = small_config()
    config["corpora"] = {
        "strict": {"surveys": ["mgcls"], "guards": ["rgz"]},
        "open": {"surveys": ["lotss"], "guards": ["mirabest"], "transductive": ["rgz"]},
        "late": {"surveys": ["lotss"]},
    }
    config["matrix"]["corpora"] = ["strict", "open", "late"]
    results = results_of(config, tmp_path)
    run = Configuration("reconstruction", "mae", 0, "l2")

    def corpora(benchmark: str, role: str) -> set[str | None]:
        return {node.corpus for node in results.runs(run, benchmark, role)}  # type: ignore[arg-type]

    assert corpora("rgz", "inductive") == {"strict"}
    assert corpora("mirabest", "inductive") == {"open"}
    assert corpora("rgz", "transductive") == {"open"}
    assert corpora("mirabest", "transductive") == set()


def test_missing_files_are_named_with_the_remedy(tmp_path: Path) -> None:
    settings = Settings.parse(small_config())
    write_all_metrics(settings, tmp_path)
    path = tmp_path / "metrics" / "finetune" / "start_mae" / "rgz.json"
    path.unlink()
    with pytest.raises(DataError, match="1 metrics file is missing") as error:
        Results(settings, tmp_path)
    assert f"snakemake {path}" in str(error.value)

    for left in (tmp_path / "metrics" / "linear_probe").glob("*/*.json"):
        left.unlink()
    with pytest.raises(DataError, match=r"metrics files are missing .* and \d+ more"):
        Results(settings, tmp_path)


def test_old_settings_and_code_are_remarked(tmp_path: Path) -> None:
    results = results_of(small_config(), tmp_path)
    path = results.metrics_path("linear_probe", "start_mae", "rgz")
    content = json.loads(path.read_text())
    content["settings"]["probe"]["learning_rate"] = 0.1
    content["code"] = "0" * 64
    path.write_text(json.dumps(content))
    score = results.score("linear_probe", Configuration("start", "mae"), "rgz")
    assert score is not None
    assert score.remarks == (
        "rgz was scored with probe.learning_rate = 0.1; the config says 0.005.",
        "rgz was scored by another version of the code.",
    )


def test_runs_trained_by_other_code_are_remarked(tmp_path: Path) -> None:
    results = results_of(small_config(), tmp_path)
    run = next(node for node in results.nodes.values() if node.branch == "reconstruction")
    card = tmp_path / "encoders" / run.name / "README.md"
    card.parent.mkdir(parents=True, exist_ok=True)
    configuration = Configuration(
        "reconstruction", run.start, run.registers, run.reconstruction_loss
    )
    for code, remarks in (
        (code_hash("stradavit.training.pretrain"), ()),
        ("0" * 64, ("The encoder was trained by another version of the code.",)),
    ):
        card.write_text(f'```json\n{{"code": "{code}"}}\n```\n')
        score = Results(results.settings, tmp_path).score("linear_probe", configuration, "rgz")
        assert score is not None
        assert score.remarks == remarks


ENTRY = fold_entries({"macro_f1": [0.5], "weighted_f1": [0.5]})[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"encoder": "start_dino"}, "is about linear_probe start_dino rgz, expected"),
        ({"folds": []}, "0 folds"),
        ({"folds": [ENTRY | {"macro_f1": 1.5}]}, r"F1 in \[0, 1\]"),
        ({"folds": [ENTRY | {"macro_f1": float("nan")}]}, r"F1 in \[0, 1\]"),
        ({"folds": [{"macro_f1": 0.5}]}, "not a metrics file"),
        ({"folds": [ENTRY | {"confusion": [[1, 2]]}]}, "confusion matrices of shape"),
        ({"folds": [ENTRY, ENTRY]}, "expected each once, in order"),
        ({"folds": 3}, "not a metrics file"),
    ],
)
def test_malformed_metrics(tmp_path: Path, change: dict[str, object], message: str) -> None:
    results = results_of(small_config(), tmp_path)
    path = results.metrics_path("linear_probe", "start_mae", "rgz")
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(DataError, match=message):
        results.score("linear_probe", Configuration("start", "mae"), "rgz")


def test_seeds_of_different_folds_are_refused(tmp_path: Path) -> None:
    results = results_of(small_config(), tmp_path)
    node = "reconstruction_mae_l2_r0_all_s2"
    scores = {"macro_f1": [0.5, 0.5], "weighted_f1": [0.5, 0.5]}
    write_metrics(results.settings, tmp_path, "finetune", node, "rgz", scores)
    with pytest.raises(DataError, match=r"repeats and folds are \(\(0, 0\), \(0, 1\)\), but"):
        results.score("finetune", Configuration("reconstruction", "mae", 0, "l2"), "rgz")
