"""The published division is kept, and its interval is that of a bootstrap told image by image."""

import csv
import json
import logging

import numpy as np
import pytest

from stradavit.errors import LabelError
from stradavit.evaluation import published_split as module
from stradavit.evaluation.feature_file import write_features
from stradavit.evaluation.metrics import FoldOutcome, macro_f1, weighted_f1
from stradavit.evaluation.probe import train_probe
from stradavit.evaluation.published_split import (
    bootstrap_interval,
    confusion_by_source,
    published_split,
)
from stradavit.evaluation.recipe import RESAMPLE, balanced_weights
from stradavit.settings.evaluation import ProbeSettings, PublishedSplitSettings
from tests.reference import bootstrap as reference
from tests.unit.evaluation.fake_features import clusters, fake_features

DRAW = np.random.default_rng(0)
LABELS = DRAW.permutation(np.repeat([0, 1, 2], [40, 30, 30]))
SPLITS = DRAW.permutation(["train"] * 60 + ["test"] * 30 + [""] * 10).tolist()
TRAIN = np.flatnonzero(np.array(SPLITS) == "train")
TEST = np.flatnonzero(np.array(SPLITS) == "test")
# Some sources have several images, and each is on one side.
SOURCES = [f"{split or 'none'}-{i // 7}" for i, split in enumerate(SPLITS)]
PROBE = ProbeSettings(batch_size=16, epochs=4, seed=5)
SETTINGS = PublishedSplitSettings(trainings=3, resamples=200)


def made(**changes):
    values = {"sources": SOURCES, "splits": SPLITS} | changes
    return fake_features(LABELS, clusters(LABELS, 0.5), **values)


def run(tmp_path, features, settings=SETTINGS):
    write_features(tmp_path / "features.h5", features)
    out = tmp_path / "published_split" / "vit" / "bench.json"
    names = ("vit", "bench")
    published_split(tmp_path / "features.h5", "whole_benchmark", PROBE, settings, names, out)
    with (out.parent / "bench.predictions.csv").open(newline="") as file:
        return json.loads(out.read_text()), list(csv.DictReader(file))


def test_it_trains_and_tests_on_the_published_sides(tmp_path) -> None:
    features = made()
    metrics, rows = run(tmp_path, features)
    assert [(fold["repeat"], fold["fold"]) for fold in metrics["folds"]] == [(0, 0), (1, 0), (2, 0)]
    assert {(fold["n_train"], fold["n_test"]) for fold in metrics["folds"]} == {(60, 30)}
    assert [row["image"] for row in rows] == [f"image {i}" for i in TEST] * 3
    weights = balanced_weights(LABELS, TRAIN, 3, "whole_benchmark")
    for number in range(3):
        outcome = train_probe(features.values, LABELS, TRAIN, TEST, number, weights, PROBE)
        of_training = [row for row in rows if row["repeat"] == str(number)]
        predicted = [features.classes[c] for c in outcome.predicted]
        assert [row["predicted"] for row in of_training] == predicted
    assert len({json.dumps(fold["curves"]) for fold in metrics["folds"]}) == 3
    assert "folds" not in metrics["settings"] and "repeats" not in metrics["settings"]["probe"]
    assert metrics["provenance"]["sources_on_both_sides"] == 0


@pytest.mark.parametrize("block", [module.BLOCK, 1, 50])
def test_the_interval_is_that_of_a_naive_bootstrap(tmp_path, monkeypatch, block) -> None:
    monkeypatch.setattr(module, "BLOCK", block)
    metrics, rows = run(tmp_path, made())
    names = metrics["classes"]
    predicted = [
        [names.index(row["predicted"]) for row in rows if row["repeat"] == str(number)]
        for number in range(3)
    ]
    sources = [SOURCES[i] for i in TEST]
    n_sources = len(set(sources))
    assert n_sources < len(TEST)
    drawn = np.random.default_rng((5, 0, 0, RESAMPLE)).integers(0, n_sources, (200, n_sources))
    for score, average in (("macro_f1", "macro"), ("weighted_f1", "weighted")):
        expected = reference.interval(sources, LABELS[TEST], predicted, 3, drawn, average)
        assert metrics["interval_95"][score] == pytest.approx(expected, abs=1e-12)
        low, high = metrics["interval_95"][score]
        assert low < metrics[score]["mean"] < high


def outcome_of(predicted: np.ndarray, test: np.ndarray) -> FoldOutcome:
    return FoldOutcome(0, 1, test, np.eye(3)[predicted])


def test_counts_of_sources_add_up_to_the_confusion() -> None:
    draw = np.random.default_rng(1)
    features, predicted = made(), draw.integers(0, 3, len(TEST))
    counts = confusion_by_source(features, [outcome_of(predicted, TEST)])
    expected = np.zeros((3, 3), int)
    np.add.at(expected, (LABELS[TEST], predicted), 1)
    np.testing.assert_array_equal(counts.sum(axis=(0, 1)), expected)
    names = sorted({SOURCES[i] for i in TEST})
    of_first = [i for i in TEST if SOURCES[i] == names[0]]
    assert counts[0, 0].sum() == len(of_first)


def test_all_right_is_a_point() -> None:
    counts = confusion_by_source(made(), [outcome_of(LABELS[TEST], TEST)])
    # 30 images of three classes: that a resample lacks a class has a chance below 1e-4.
    interval = bootstrap_interval(counts, 500, np.random.default_rng(0))
    assert interval == {"macro_f1": [1.0, 1.0], "weighted_f1": [1.0, 1.0]}


def simulated(draw: np.random.Generator, n_sources: int) -> np.ndarray:
    """(1, sources, 2, 2): sources of three images, all three right or all three wrong."""
    truth = np.arange(n_sources) % 2
    said = np.where(draw.random(n_sources) < np.array([0.8, 0.6])[truth], truth, 1 - truth)
    counts = np.zeros((1, n_sources, 2, 2), int)
    counts[0, np.arange(n_sources), truth, said] = 3
    return counts


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    draw = np.random.default_rng(2)
    expected = np.array([[8, 2], [4, 6]])
    truth = {"macro_f1": macro_f1(expected), "weighted_f1": weighted_f1(expected)}
    hits = dict.fromkeys(truth, 0)
    for _ in range(300):
        interval = bootstrap_interval(simulated(draw, 120), 300, draw)
        for score, value in truth.items():
            hits[score] += interval[score][0] <= value <= interval[score][1]
    # Three standard deviations of a share of 300 around 0.95; images taken one by one, as if no
    # two were of one source, would cover 0.74.
    assert all(0.95 - 0.04 < n / 300 < 0.95 + 0.04 for n in hits.values())


def test_sources_on_both_sides_are_counted_and_told(tmp_path, caplog) -> None:
    sources = [f"s{i % 50}" for i in range(100)]
    shared = {sources[i] for i in TRAIN} & {sources[i] for i in TEST}
    assert shared
    with caplog.at_level(logging.WARNING):
        metrics, _ = run(tmp_path, made(sources=sources))
    assert metrics["provenance"]["sources_on_both_sides"] == len(shared)
    assert f"bench: {len(shared)} sources have images on both sides" in caplog.text


@pytest.mark.parametrize(
    ("splits", "match"),
    [
        ([""] * 100, "0 are published for training, none .* 'class 0', 'class 1', 'class 2'"),
        (["train"] * 100, "0 are published for testing"),
        (
            np.where((LABELS == 1) & (np.array(SPLITS) == "test"), "train", SPLITS).tolist(),
            "are published for testing, none of them of the class 'class 1'.*test_batch: null",
        ),
    ],
)
def test_a_side_without_a_class_is_told(tmp_path, splits, match) -> None:
    with pytest.raises(LabelError, match="benchmark bench: of its 100 images, .*" + match):
        run(tmp_path, made(splits=splits))
