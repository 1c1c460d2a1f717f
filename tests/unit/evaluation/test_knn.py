"""Nearest neighbours against a loop over pairs, and on features with known answers."""

import csv
import json
import subprocess
import sys

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

from stradavit.evaluation import knn as module
from stradavit.evaluation.feature_file import write_features
from stradavit.evaluation.folds import make_folds
from stradavit.evaluation.knn import knn, unit_length, vote
from stradavit.settings.evaluation import FoldSettings, KnnSettings
from tests.reference import knn as reference
from tests.unit.evaluation.fake_features import clusters, fake_features

FOLDS = FoldSettings()


@pytest.mark.parametrize("neighbours", [1, 5, 20, 1000])
@pytest.mark.parametrize("temperature", [0.07, 1.0])
def test_votes_are_those_of_a_loop_over_pairs(neighbours, temperature) -> None:
    draw = np.random.default_rng(neighbours)
    known, asked = draw.standard_normal((30, 6)), draw.standard_normal((9, 6))
    labels = draw.integers(0, 4, 30)
    ours = vote(unit_length(known), labels, unit_length(asked), 4, neighbours, temperature)
    theirs = reference.vote(known, labels, asked, 4, neighbours, temperature)
    np.testing.assert_allclose(ours, theirs, rtol=1e-10)


def test_hot_votes_are_equal_votes() -> None:
    draw = np.random.default_rng(1)
    known, asked = (unit_length(draw.standard_normal((n, 5))) for n in (40, 25))
    labels = draw.integers(0, 3, 40)
    model = KNeighborsClassifier(7, metric="cosine").fit(known, labels)
    ours = vote(known, labels, asked, 3, 7, temperature=1e9)
    np.testing.assert_allclose(ours, model.predict_proba(asked), atol=1e-8)


def test_blocks_and_order_change_nothing(monkeypatch) -> None:
    draw = np.random.default_rng(2)
    # Few different features, so that many are equally near.
    known = unit_length(draw.integers(1, 4, (60, 2)).astype(np.float64))
    asked, labels = unit_length(draw.integers(1, 4, (31, 2)) * 1.0), draw.integers(0, 3, 60)
    whole = vote(known, labels, asked, 3, 10, 0.07)
    monkeypatch.setattr(module, "BLOCK", 5 * 60)
    np.testing.assert_allclose(vote(known, labels, asked, 3, 10, 0.07), whole, rtol=1e-12)
    turned = draw.permutation(60)
    other = vote(known[turned], labels[turned], asked, 3, 10, 0.07)
    np.testing.assert_allclose(other, whole, rtol=1e-12)


def test_an_encoder_that_says_nothing_gets_the_most_frequent_class() -> None:
    labels = np.repeat([0, 1], [10, 20])
    collapsed = unit_length(np.ones((30, 4), np.float32))
    np.testing.assert_allclose(
        vote(collapsed, labels, collapsed, 2, 5, 0.07), [[1 / 3, 2 / 3]] * 30
    )
    nothing = unit_length(np.zeros((30, 4), np.float32))
    assert np.isfinite(vote(nothing, labels, nothing, 2, 5, 0.07)).all()


def test_a_low_temperature_does_not_overflow() -> None:
    features = unit_length(np.random.default_rng(3).standard_normal((20, 4)).astype(np.float32))
    shares = vote(features, np.arange(20) % 2, features, 2, 5, 1e-4)
    # Each image is its own nearest neighbour.
    np.testing.assert_allclose(shares[np.arange(20), np.arange(20) % 2], 1.0, atol=1e-6)


def run(tmp_path, features, **settings):
    write_features(tmp_path / "features.h5", features)
    out = tmp_path / "knn" / "vit" / "bench.json"
    knn(tmp_path / "features.h5", FOLDS, KnnSettings(**settings), ("vit", "bench"), out)
    with (out.parent / "bench.predictions.csv").open(newline="") as file:
        return json.loads(out.read_text()), list(csv.DictReader(file))


def test_the_stage_scores_the_folds_of_the_probe_and_only_upright_images(tmp_path) -> None:
    labels = np.random.default_rng(4).permutation(np.repeat([0, 1, 2], 15))
    features = fake_features(labels, clusters(labels, 3.0))
    # What the other orientations hold must not matter.
    features.values[:, 1:] *= -1000
    metrics, rows = run(tmp_path, features, repeats=2, neighbours=5)
    assert [(fold["repeat"], fold["fold"]) for fold in metrics["folds"]] == [
        (repeat, fold) for repeat in (0, 1) for fold in (0, 1, 2)
    ]
    assert metrics["macro_f1"]["mean"] > 0.95
    assert metrics["protocol"] == "knn" and metrics["settings"]["knn"]["repeats"] == 2
    for repeat in (0, 1):
        held_out = make_folds(features, FOLDS, repeat)
        of_repeat = [row for row in rows if row["repeat"] == str(repeat)]
        assert [int(row["fold"]) for row in of_repeat] == held_out.tolist()
    model = KNeighborsClassifier(5, metric="cosine", weights=lambda d: np.exp((1 - d) / 0.07))
    fold_of = make_folds(features, FOLDS)
    upright = features.values[:, 0]
    for fold in range(3):
        model.fit(upright[fold_of != fold], labels[fold_of != fold])
        theirs = model.predict_proba(upright[fold_of == fold])
        ours = [
            [float(row[f"p_class {c}"]) for c in range(3)]
            for row in rows
            if (row["repeat"], row["fold"]) == ("0", str(fold))
        ]
        # Written with seven digits, from float32 similarities over a temperature of 0.07.
        np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_labels_without_meaning_give_chance(tmp_path) -> None:
    draw = np.random.default_rng(5)
    labels = draw.permutation(np.repeat([0, 1], 200))
    metrics, _ = run(tmp_path, fake_features(labels, draw.standard_normal((400, 8, 6))))
    # Four standard deviations of a share of 400 answers.
    assert metrics["macro_f1"]["mean"] == pytest.approx(0.5, abs=4 * 0.025)


def test_the_stage_starts_without_torch_and_scikit_learn() -> None:
    code = (
        "import sys, stradavit.evaluation.knn, stradavit.evaluation.label_budget, "
        "stradavit.evaluation.published_split;"
        "print(sorted({'torch', 'sklearn', 'scipy', 'pandas', 'astropy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
