"""Stage `knn`: nearest neighbours among embedded images, all folds. Not in the paper.

Nothing is trained, so the score says how an encoder itself arranges the images, whatever a layer
could make of them. A held-out image takes the votes of the training images whose features are most
alike by cosine similarity, each vote weighted by exp(similarity / temperature) (Wu et al. 2018,
section 3.4; 20 neighbours and a temperature of 0.07 as in Caron et al. 2021). Votes count as they
are: a frequent class has more of them.

All images are taken in their own orientation. Training images in eight orientations, or features
averaged over them, would find more; but that is an invariance added by hand, not the encoder's.
"""

import logging
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stradavit.evaluation.feature_file import read_features
from stradavit.evaluation.folds import repeated_folds
from stradavit.evaluation.metrics import FoldOutcome, fold_records, write_outcomes
from stradavit.evaluation.recipe import batches
from stradavit.provenance import code_hash
from stradavit.settings.evaluation import FoldSettings, KnnSettings

Floats = NDArray[np.floating[Any]]

# Similarities held at a time: 64 MiB in float32, whatever the size of the benchmark.
BLOCK = 2**24

log = logging.getLogger(__name__)


def knn(
    features_path: Path,
    folds: FoldSettings,
    settings: KnnSettings,
    names: tuple[str, str],
    out_path: Path,
) -> None:
    """Score one encoder on one benchmark; write metrics and, beside them, predictions.

    Parameters
    ----------
    features_path : what the stage `features` wrote
    names : of the encoder and of the benchmark, for the tables
    out_path : metrics (JSON); the predictions lie beside it as ``<name>.predictions.csv``
    """
    features = read_features(features_path)
    upright = unit_length(features.values[:, 0])
    outcomes = []
    for split in repeated_folds(features, folds, settings.repeats):
        train, test = split.train, split.test
        probabilities = vote(
            upright[train],
            features.labels[train],
            upright[test],
            len(features.classes),
            settings.neighbours,
            settings.temperature,
        )
        outcome = FoldOutcome(split.fold, len(train), test, probabilities, repeat=split.repeat)
        outcomes.append(outcome)
        score = fold_records(features, [outcome])[0]["macro_f1"]
        log.info("repeat %d, fold %d: macro-F1 %.4f", split.repeat, split.fold, score)
    write_outcomes(
        out_path,
        features,
        outcomes,
        names=names,
        protocol="knn",
        settings={
            "folds": folds.model_dump(mode="json"),
            "knn": settings.model_dump(mode="json"),
        },
        code=code_hash(__name__),
        provenance=features.origin,
    )


def unit_length(features: Floats) -> Floats:
    """(n, dim) features over their Euclidean norms; a feature of zeros stays zero."""
    norms = np.linalg.norm(features, axis=1, keepdims=True)
    scaled: Floats = features / np.maximum(norms, np.finfo(features.dtype).tiny)
    return scaled


def vote(
    known: Floats,
    labels: NDArray[np.int64],
    asked: Floats,
    n_classes: int,
    neighbours: int,
    temperature: float,
) -> NDArray[np.float64]:
    """Share of the votes each class has among the neighbours of each image.

    Parameters
    ----------
    known : (n, dim) features of unit length that vote
    labels : (n,) their classes
    asked : (m, dim) features of unit length to classify
    neighbours : how many vote; all of `known` if there are fewer. Those exactly as similar as the
        last of them vote too, so the order of the images plays no role
    temperature : a vote has the weight exp(similarity / temperature)

    Returns
    -------
    (m, n_classes) float64, rows sum to 1
    """
    n, m = len(known), len(asked)
    n_voting = min(neighbours, n)
    votes = np.empty((m, n_classes))
    for rows in batches(np.arange(m), max(1, BLOCK // n)):
        similarity = asked[rows] @ known.T
        last = np.partition(similarity, n - n_voting, axis=1)[:, n - n_voting, None]
        asking, voting = np.nonzero(similarity >= last)
        # Relative to the nearest: shares are the same, and no temperature overflows.
        distance = similarity[asking, voting].astype(np.float64) - similarity.max(axis=1)[asking]
        places = asking * n_classes + labels[voting]
        weights = np.exp(distance / temperature)
        counted = np.bincount(places, weights, minlength=len(rows) * n_classes)
        votes[rows] = counted.reshape(len(rows), n_classes)
    shares: NDArray[np.float64] = votes / votes.sum(axis=1, keepdims=True)
    return shares
