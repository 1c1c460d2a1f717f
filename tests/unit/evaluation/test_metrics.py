"""Scores against scikit-learn and against a matrix worked out by hand; the files agree."""

import csv
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix, f1_score

from stradavit.evaluation import metrics
from stradavit.evaluation.metrics import FoldOutcome, write_outcomes
from tests.unit.evaluation.test_folds import Answers


@settings(deadline=None)
@given(st.integers(2, 6), st.data())
def test_scores_are_those_of_scikit_learn(n_classes, data) -> None:
    pairs = data.draw(
        st.lists(
            st.tuples(*[st.integers(0, n_classes - 1)] * 2),
            min_size=1,
            max_size=60,
        )
    )
    true, predicted = np.array(pairs).T
    every = list(range(n_classes))
    confusion = metrics.confusion_matrix(true, predicted, n_classes)
    np.testing.assert_array_equal(confusion, confusion_matrix(true, predicted, labels=every))
    for average, ours in (("macro", metrics.macro_f1), ("weighted", metrics.weighted_f1)):
        theirs = f1_score(true, predicted, labels=every, average=average, zero_division=0)
        assert ours(confusion) == pytest.approx(theirs, abs=1e-12)


def test_scores_by_hand() -> None:
    # Rows true: class 0 has 4 images, 3 right; class 1 has 2, 1 right; class 2 is absent.
    confusion = np.array([[3, 1, 0], [1, 1, 0], [0, 0, 0]])
    np.testing.assert_allclose(metrics.f1_per_class(confusion), [0.75, 0.5, 0.0])
    assert metrics.macro_f1(confusion) == pytest.approx(1.25 / 3)
    assert metrics.weighted_f1(confusion) == pytest.approx((4 * 0.75 + 2 * 0.5) / 6)


def test_spread_is_that_of_a_population() -> None:
    assert metrics.mean_and_std([1.0, 2.0, 3.0]) == {
        "mean": 2.0,
        "std": pytest.approx((2 / 3) ** 0.5),
    }


def test_metrics_and_predictions_agree(tmp_path) -> None:
    labels = np.array([0, 1, 0, 1, 2, 2, 0])
    answers = Answers(labels, classes=["FR I", "FR II", "Hybrid, odd"])
    draw = np.random.default_rng(0)
    outcomes = [
        FoldOutcome(0, 4, np.array([0, 2, 4]), draw.dirichlet([1, 1, 1], 3), {"loss": [1.0]}),
        FoldOutcome(1, 3, np.array([1, 3, 5, 6]), draw.dirichlet([1, 1, 1], 4)),
    ]
    path = tmp_path / "linear_probe" / "vit" / "mira.best.json"
    write_outcomes(
        path,
        answers,
        outcomes,
        names=("vit", "mira.best"),
        protocol="linear_probe",
        settings={"folds": {"count": 2}},
        code="abc",
        provenance={},
    )
    written = json.loads(path.read_text())
    with (path.parent / "mira.best.predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["image"] for row in rows] == answers.images
    confusion = np.zeros((3, 3), int)
    for row in rows:
        confusion[answers.classes.index(row["label"]), answers.classes.index(row["predicted"])] += 1
        p = [float(row[f"p_{name}"]) for name in answers.classes]
        assert answers.classes[int(np.argmax(p))] == row["predicted"]
        assert sum(p) == pytest.approx(1.0, abs=1e-6)
    assert written["confusion"] == confusion.tolist()
    assert (
        np.sum([fold["confusion"] for fold in written["folds"]], axis=0).tolist()
        == (written["confusion"])
    )
    assert [fold["n_test"] for fold in written["folds"]] == [3, 4]
    scores = [fold["macro_f1"] for fold in written["folds"]]
    assert written["macro_f1"] == {"mean": np.mean(scores), "std": np.std(scores)}
    assert written["n_images"] == written["n_sources"] == 7
    assert {"torch", "numpy", "scikit-learn"} <= set(written["made_by"]["libraries"])


def test_repeats_hold_an_image_out_once_each(tmp_path) -> None:
    labels = np.array([0, 1, 0, 1, 1])
    answers = Answers(labels)
    draw = np.random.default_rng(3)

    def outcome(repeat: int, fold: int, test: list[int]) -> FoldOutcome:
        p = draw.dirichlet([1, 1], len(test))
        return FoldOutcome(fold, 5 - len(test), np.array(test), p, repeat=repeat)

    # Not in order, and as in a published split the images 2 and 3 are never held out.
    outcomes = [outcome(1, 0, [0, 1, 4]), outcome(0, 1, [4]), outcome(0, 0, [0, 1])]
    path = tmp_path / "cell.json"
    write_outcomes(
        path,
        answers,
        outcomes,
        names=("vit", "bench"),
        protocol="published_split",
        settings={},
        code="abc",
        provenance={},
        extra={"interval_95": {"macro_f1": [0.25, 0.75]}},
    )
    written = json.loads(path.read_text())
    assert written["interval_95"] == {"macro_f1": [0.25, 0.75]}
    assert [(f["repeat"], f["fold"], f["n_test"]) for f in written["folds"]] == [
        (0, 0, 2),
        (0, 1, 1),
        (1, 0, 3),
    ]
    assert np.sum(written["confusion"]) == 6
    with (tmp_path / "cell.predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    found = [(row["image"], row["source"], row["repeat"], row["fold"]) for row in rows]
    assert found == [
        (f"image {i}", f"source {i}", str(repeat), str(fold))
        for repeat, fold, i in [(0, 0, 0), (0, 0, 1), (0, 1, 4), (1, 0, 0), (1, 0, 1), (1, 0, 4)]
    ]
