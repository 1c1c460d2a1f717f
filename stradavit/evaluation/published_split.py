"""Stage `published_split`: the linear probe on a benchmark's own training and test images.

Other works report scores on it, such as that of MiraBest: 729 images of FIRST to train on and 104
to test on. There is one test set, so the spread over trainings says nothing of what other test
images would have given; an interval over resampled test *sources* does. Not in the paper.
"""

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stradavit.errors import LabelError
from stradavit.evaluation.feature_file import Features, read_features
from stradavit.evaluation.metrics import (
    FoldOutcome,
    f1_per_class,
    write_outcomes,
)
from stradavit.evaluation.probe import train_probe
from stradavit.evaluation.recipe import RESAMPLE, ClassWeights, balanced_weights
from stradavit.provenance import code_hash
from stradavit.settings.evaluation import ProbeSettings, PublishedSplitSettings

# Resampled sources held at a time: 32 MiB, however many resamples are wanted.
BLOCK = 2**22

TAILS = (2.5, 97.5)

log = logging.getLogger(__name__)


def published_split(
    features_path: Path,
    class_weights: ClassWeights,
    probe: ProbeSettings,
    settings: PublishedSplitSettings,
    names: tuple[str, str],
    out_path: Path,
) -> None:
    """Probe one encoder on one benchmark as it is divided; write metrics and predictions.

    Parameters
    ----------
    features_path : what the stage `features` wrote
    class_weights : where the balanced weights are counted
    names : of the encoder and of the benchmark, for the tables
    out_path : metrics (JSON), whose `folds` are trainings, with their number as `repeat`; the
        predictions lie beside it as ``<name>.predictions.csv``

    Raises
    ------
    LabelError
        If the benchmark is not divided, or a class has no image on one side.
    """
    features = read_features(features_path)
    train, test = published_sides(features, names[1])
    n_shared = len({features.sources[i] for i in train} & {features.sources[i] for i in test})
    log.info("%d training and %d test images", len(train), len(test))
    if n_shared:
        log.warning(
            "%s: %d sources have images on both sides of its published division, which is kept as "
            "it is; scores on it are too good by what an encoder remembers of them.",
            names[1],
            n_shared,
        )
    weights = balanced_weights(features.labels, train, len(features.classes), class_weights)
    outcomes = []
    for number in range(settings.trainings):
        outcome = train_probe(features.values, features.labels, train, test, number, weights, probe)
        outcomes.append(replace(outcome, repeat=number, fold=0))
        log.info("training %d: macro-F1 %.4f", number, outcome.curves["macro_f1"][-1])
    draw = np.random.default_rng((probe.seed, 0, 0, RESAMPLE))
    confusions = confusion_by_source(features, outcomes)
    write_outcomes(
        out_path,
        features,
        outcomes,
        names=names,
        protocol="published_split",
        settings={
            "class_weights": class_weights,
            "probe": probe.model_dump(mode="json", exclude={"repeats"}),
            "published_split": settings.model_dump(mode="json"),
        },
        code=code_hash(__name__),
        provenance={**features.origin, "sources_on_both_sides": n_shared},
        extra={"interval_95": bootstrap_interval(confusions, settings.resamples, draw)},
    )


def published_sides(
    features: Features, benchmark_name: str
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Numbers of the images for training and of those for testing.

    Raises
    ------
    LabelError
        If a class has no image on one of the sides.
    """
    sides = np.array(features.splits)
    for side in ("train", "test"):
        found = set(features.labels[sides == side].tolist())
        absent = [name for k, name in enumerate(features.classes) if k not in found]
        if absent:
            raise LabelError(
                f"benchmark {benchmark_name}: of its {len(sides)} images, {(sides == side).sum()} "
                f"are published for {side}ing, none of them of the class"
                f"{'' if len(absent) == 1 else 'es'} {', '.join(map(repr, absent))}. Correct the "
                f"labels (a folder's split_column), say that the benchmark is not divided "
                f"(test_batch: null for batches), or leave published_split out of "
                f"evaluation.protocols."
            )
    return np.flatnonzero(sides == "train"), np.flatnonzero(sides == "test")


def confusion_by_source(features: Features, outcomes: list[FoldOutcome]) -> NDArray[np.int64]:
    """(trainings, sources, n_classes, n_classes) counts of each source of the test images.

    Rows true and columns predicted; sources in the order of their names. All outcomes are on the
    same test images.
    """
    test, n_classes = outcomes[0].test, len(features.classes)
    names = np.array([features.sources[image] for image in test])
    _, source = np.unique(names, return_inverse=True)
    n_sources = int(source.max()) + 1
    counts = []
    for outcome in outcomes:
        # One matrix whose true classes are (source, class): its rows are what each source adds.
        truth = source * n_classes + features.labels[test]
        pairs = np.bincount(
            truth * n_classes + outcome.predicted, minlength=n_sources * n_classes**2
        )
        counts.append(pairs.reshape(n_sources, n_classes, n_classes))
    return np.stack(counts).astype(np.int64)


def bootstrap_interval(
    confusions: NDArray[np.int64], resamples: int, draw: np.random.Generator
) -> dict[str, list[float]]:
    """95 % percentile interval of both scores, over resampled test sources.

    In each resample as many sources as there are come with replacement, with all their images and
    the same ones for every training; its score is the mean over the trainings. The interval is for
    these trained probes: what the recipe gives with other training images it does not say. A class
    that a resample neither holds nor predicts counts as 0 (`metrics.macro_f1`).

    Parameters
    ----------
    confusions : (trainings, sources, n_classes, n_classes) counts

    References
    ----------
    Efron & Tibshirani 1993, sections 6 and 13.3.
    """
    n_trainings, n_sources, n_classes, _ = confusions.shape
    flat = confusions.transpose(1, 0, 2, 3).reshape(n_sources, -1).astype(np.float64)
    scores: dict[str, list[NDArray[np.float64]]] = {"macro_f1": [], "weighted_f1": []}
    block = max(1, BLOCK // n_sources)
    for start in range(0, resamples, block):
        n = min(block, resamples - start)
        drawn = draw.integers(0, n_sources, (n, n_sources)) + n_sources * np.arange(n)[:, None]
        times = np.bincount(drawn.ravel(), minlength=n * n_sources).reshape(n, n_sources)
        # Whole numbers far below 2**53, so these sums are exact.
        resampled = (times @ flat).reshape(n, n_trainings, n_classes, n_classes)
        f1, support = f1_per_class(resampled), resampled.sum(axis=-1)
        weighted = (f1 * support).sum(axis=-1) / support.sum(axis=-1)
        scores["macro_f1"].append(f1.mean(axis=-1).mean(axis=-1))
        scores["weighted_f1"].append(weighted.mean(axis=-1))
    return {
        name: [float(end) for end in np.percentile(np.concatenate(values), TAILS)]
        for name, values in scores.items()
    }
