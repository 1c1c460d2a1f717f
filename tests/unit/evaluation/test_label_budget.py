"""Probes with few labels: what is drawn, and that they are the probe in all else."""

import json
import math
from collections import Counter

import numpy as np
import pytest

from stradavit.evaluation.feature_file import write_features
from stradavit.evaluation.folds import Split, repeated_folds
from stradavit.evaluation.label_budget import draw_images, label_budget, probe_few
from stradavit.evaluation.probe import train_probe
from stradavit.evaluation.recipe import (
    balanced_weights,
    head_weights,
    training_order,
    training_orientations,
)
from stradavit.settings.evaluation import FoldSettings, LabelBudgetSettings, ProbeSettings
from tests.reference import probe as reference
from tests.unit.evaluation.fake_features import clusters, fake_features

FOLDS = FoldSettings()
LABELS = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], [30, 18, 9]))
PROBE = ProbeSettings(batch_size=8, epochs=5, seed=3)


@pytest.fixture(scope="module")
def split() -> Split:
    features = fake_features(LABELS, clusters(LABELS, 1.0))
    return list(repeated_folds(features, FOLDS))[1]


def sourced(sources: list[str] | None = None):
    return fake_features(LABELS, clusters(LABELS, 1.0), sources)


def test_as_many_of_each_class_or_all_there_are(split) -> None:
    features = sourced()
    for n in (1, 5, 10, 50):
        chosen = draw_images(features, split, 0, 3, n)
        assert set(chosen) <= set(split.train) and len(set(chosen)) == len(chosen)
        there = Counter(LABELS[split.train].tolist())
        assert Counter(LABELS[chosen].tolist()) == {c: min(n, k) for c, k in there.items()}


def test_a_larger_budget_holds_a_smaller_one_and_draws_differ(split) -> None:
    features = sourced()
    drawn = [set(draw_images(features, split, 0, 3, n).tolist()) for n in (2, 5, 6)]
    assert drawn[0] < drawn[1] < drawn[2]
    others = [draw_images(features, split, draw, 3, 5).tolist() for draw in range(4)]
    others.append(draw_images(features, split, 0, 4, 5).tolist())
    assert len({tuple(other) for other in others}) == 5


def test_every_image_is_drawn_equally_often(split) -> None:
    features = sourced()
    counts: Counter[int] = Counter()
    for draw in range(600):
        counts.update(draw_images(features, split, draw, 3, 2).tolist())
    for label in range(3):
        images = split.train[LABELS[split.train] == label]
        expected = 600 * 2 / len(images)
        found = np.array([counts[image] for image in images.tolist()])
        # Five standard deviations of a binomial count.
        assert np.abs(found - expected).max() < 5 * math.sqrt(expected)


def test_second_images_of_a_source_come_after_first_images_of_all(split) -> None:
    # Pairs of images of a class share a source.
    sources = [""] * len(LABELS)
    for label in range(3):
        of_class = np.flatnonzero(np.equal(LABELS, label))
        for number, image in enumerate(of_class):
            sources[image] = f"{label}-{number // 2}"
    features = sourced(sources)
    for draw in range(20):
        for n in (3, 6, 12):
            chosen = draw_images(features, split, draw, 3, n)
            for label in range(3):
                of_class = split.train[LABELS[split.train] == label]
                n_sources = len({sources[image] for image in of_class})
                drawn = [sources[image] for image in chosen if LABELS[image] == label]
                assert len(set(drawn)) == min(len(drawn), n_sources)


def test_it_is_the_probe_with_as_many_updates(split) -> None:
    values = clusters(LABELS, 1.0)
    features = fake_features(LABELS, values)
    object.__setattr__(features, "values", values)  # float64, to compare closely
    outcome = probe_few(features, split, 2, 2, FOLDS.count, PROBE)
    chosen = draw_images(features, split, 2, PROBE.seed, 2)
    # 38 images in batches of 8 are 5 updates in each of 5 epochs; 6 images are one.
    assert (len(split.train), len(chosen)) == (38, 6)
    draw = 2 * FOLDS.count + split.fold
    weight, bias = reference.train(
        values,
        LABELS,
        head_weights(10, 3, PROBE.seed, draw),
        np.zeros(3),
        np.ones(3),
        [training_order(PROBE.seed, draw, epoch, chosen) for epoch in range(25)],
        [training_orientations(PROBE.seed, draw, epoch, len(LABELS)) for epoch in range(25)],
        batch_size=8,
        learning_rate=PROBE.learning_rate,
        weight_decay=PROBE.weight_decay,
        warmup_fraction=PROBE.warmup_fraction,
        clip_norm=PROBE.clip_norm,
    )
    logits = values[split.test, 0] @ weight.T + bias
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(outcome.probabilities, expected, rtol=1e-9)
    assert (outcome.repeat, outcome.fold, outcome.n_train) == (2, split.fold, 6)
    np.testing.assert_array_equal(outcome.test, split.test)
    # It is looked at as often as the probe is, not after each of the 25 epochs.
    assert len(outcome.curves["loss"]) == len(outcome.curves["macro_f1"]) == 5


def test_a_budget_beyond_all_images_is_the_probe_on_all(split) -> None:
    features = sourced()
    outcome = probe_few(features, split, 0, 1000, FOLDS.count, PROBE)
    weights = balanced_weights(LABELS, split.train, 3, "training_fold")
    whole = train_probe(
        features.values, LABELS, split.train, split.test, split.fold, weights, PROBE
    )
    np.testing.assert_array_equal(outcome.probabilities, whole.probabilities)
    assert outcome.curves == whole.curves and outcome.n_train == len(split.train)


def run(tmp_path, features, per_class, draws=2, probe=PROBE):
    write_features(tmp_path / "features.h5", features)
    out = tmp_path / "label_budget" / "vit" / "bench.json"
    settings = LabelBudgetSettings(per_class=per_class, draws=draws)
    label_budget(tmp_path / "features.h5", FOLDS, probe, settings, ("vit", "bench"), out)
    assert [path.name for path in out.parent.iterdir()] == ["bench.json"]
    return json.loads(out.read_text())


def test_the_file_says_what_was_drawn(tmp_path) -> None:
    metrics = run(tmp_path, sourced(), (10, 2))
    assert "folds" not in metrics and "macro_f1" not in metrics
    assert metrics["protocol"] == "label_budget" and metrics["n_images"] == 57
    assert metrics["settings"]["label_budget"] == {"per_class": [10, 2], "draws": 2}
    assert "repeats" not in metrics["settings"]["probe"]
    assert [budget["per_class"] for budget in metrics["budgets"]] == [2, 10]
    for budget in metrics["budgets"]:
        n = budget["per_class"]
        assert [(fold["repeat"], fold["fold"]) for fold in budget["folds"]] == [
            (draw, fold) for draw in range(2) for fold in range(3)
        ]
        # Two thirds of 30, 18 and 9 images can be drawn from.
        assert {fold["n_train"] for fold in budget["folds"]} == {n + min(n, 12) + min(n, 6)}
        scores = [fold["macro_f1"] for fold in budget["folds"]]
        assert budget["macro_f1"] == {"mean": np.mean(scores), "std": np.std(scores)}


def test_a_further_budget_or_draw_leaves_the_others_as_they_are(tmp_path) -> None:
    few = run(tmp_path, sourced(), (5,), draws=1)["budgets"]
    more = run(tmp_path, sourced(), (2, 5), draws=2)["budgets"]
    assert few[0]["folds"] == more[1]["folds"][:3]


def test_more_labels_are_worth_more_where_there_is_something_to_learn(tmp_path) -> None:
    labels = np.random.default_rng(1).permutation(np.repeat([0, 1, 2, 3], 60))
    probe = ProbeSettings(batch_size=32, epochs=20)
    # All orientations of an image alike: eight noisy ones would be eight examples.
    values = clusters(labels, 0.8)[:, :1].repeat(8, axis=1)
    metrics = run(tmp_path, fake_features(labels, values), (1, 30), 3, probe)
    few, many = (budget["macro_f1"]["mean"] for budget in metrics["budgets"])
    assert 0.3 < few < many - 0.15 and many > 0.7
    noise = np.random.default_rng(2).standard_normal((240, 8, 10))
    metrics = run(tmp_path, fake_features(labels, noise), (10,), 3, probe)
    # Four standard deviations of a share of 240 answers.
    assert metrics["budgets"][0]["macro_f1"]["mean"] == pytest.approx(0.25, abs=4 * 0.028)
