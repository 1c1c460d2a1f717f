"""Stage `probe`: a strict linear probe on embedded images, all folds (paper, section 9.2).

Softmax regression in numpy, since loading torch would take longer than the probe. Everything is
float32 where the paper trains in bfloat16: there is only one small matrix, for which half precision
saves nothing and rounds the logits to three digits.
"""

import logging
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stradavit.evaluation.feature_file import read_features
from stradavit.evaluation.folds import repeated_folds
from stradavit.evaluation.metrics import FoldOutcome, confusion_matrix, macro_f1, write_outcomes
from stradavit.evaluation.recipe import (
    ClassWeights,
    balanced_weights,
    batches,
    cosine_with_warmup,
    head_weights,
    training_order,
    training_orientations,
)
from stradavit.provenance import code_hash
from stradavit.settings.evaluation import FoldSettings, ProbeSettings

Floats = NDArray[np.floating[Any]]

ADAM_EPS = 1e-8

log = logging.getLogger(__name__)


def probe(
    features_path: Path,
    folds: FoldSettings,
    class_weights: ClassWeights,
    settings: ProbeSettings,
    names: tuple[str, str],
    out_path: Path,
) -> None:
    """Probe one encoder on one benchmark; write metrics and, beside them, predictions.

    Parameters
    ----------
    features_path : what the stage `features` wrote
    class_weights : where the balanced weights are counted
    names : of the encoder and of the benchmark, for the tables
    out_path : metrics (JSON); the predictions lie beside it as ``<name>.predictions.csv``
    """
    features = read_features(features_path)
    outcomes = []
    for split in repeated_folds(features, folds, settings.repeats):
        train, test = split.train, split.test
        weights = balanced_weights(features.labels, train, len(features.classes), class_weights)
        outcome = train_probe(
            features.values, features.labels, train, test, split.draw, weights, settings
        )
        outcomes.append(replace(outcome, repeat=split.repeat, fold=split.fold))
        score = outcome.curves["macro_f1"][-1]
        log.info("repeat %d, fold %d: macro-F1 %.4f", split.repeat, split.fold, score)
    write_outcomes(
        out_path,
        features,
        outcomes,
        names=names,
        protocol="linear_probe",
        settings={
            "folds": folds.model_dump(mode="json"),
            "class_weights": class_weights,
            "probe": settings.model_dump(mode="json"),
        },
        code=code_hash(__name__),
        provenance=features.origin,
    )


def train_probe(
    values: Floats,
    labels: NDArray[np.int64],
    train: NDArray[np.int64],
    test: NDArray[np.int64],
    draw: int,
    class_weights: NDArray[np.float64],
    settings: ProbeSettings,
    epochs: int | None = None,
) -> FoldOutcome:
    """Train one linear layer on the features of the training images.

    The features are taken as they are: no normalisation, which would be a further layer. In each
    epoch an image comes in one drawn orientation; held-out images in their own. AdamW, cosine with
    warm-up per update, clipped gradient, the model of the last epoch. Where there are fewer
    training images than `batch_size`, all of them are the batch.

    Parameters
    ----------
    values : (n, 8, dim) floats; their type is the type of all arithmetic
    labels : (n,)
    train, test : numbers of the images to train on and to hold out
    draw : seeds, with the settings, order, orientations and initial layer; in the paper's folds
        the number of the fold
    class_weights : (n_classes,) weights of the cross-entropy
    epochs : instead of those of the settings; the curves keep about as many values as those

    Returns
    -------
    outcome whose `fold` is `draw`: the caller knows what it stands for
    """
    n_epochs = settings.epochs if epochs is None else epochs
    n_classes, dim = len(class_weights), values.shape[2]
    weights = class_weights.astype(values.dtype)
    # Weights of the layer and, in the last column, its bias.
    layer = np.zeros((n_classes, dim + 1), values.dtype)
    layer[:, :-1] = head_weights(dim, n_classes, settings.seed, draw)
    optimiser = AdamW(layer, settings)
    n_steps = n_epochs * math.ceil(len(train) / settings.batch_size)
    curves: dict[str, list[float]] = {"loss": [], "macro_f1": []}
    probabilities = softmax_regression(layer, values[test, 0])
    # With few images an epoch is one update: held-out images are not looked at after each.
    look_every = max(1, n_epochs // settings.epochs)
    losses: list[float] = []
    for epoch in range(n_epochs):
        order = training_order(settings.seed, draw, epoch, train)
        turns = training_orientations(settings.seed, draw, epoch, len(values))
        for batch in batches(order, settings.batch_size):
            seen, truth = values[batch, turns[batch]], labels[batch]
            loss, gradient = loss_and_gradient(layer, seen, truth, weights)
            gradient *= min(1.0, settings.clip_norm / (float(np.linalg.norm(gradient)) + 1e-6))
            factor = cosine_with_warmup(optimiser.step, n_steps, settings.warmup_fraction)
            optimiser.update(gradient, settings.learning_rate * factor)
            losses.append(loss)
        if (epoch + 1) % look_every and epoch + 1 < n_epochs:
            continue
        probabilities = softmax_regression(layer, values[test, 0])
        confusion = confusion_matrix(labels[test], probabilities.argmax(axis=1), n_classes)
        curves["loss"].append(float(np.mean(losses)))
        losses = []
        curves["macro_f1"].append(macro_f1(confusion))
    return FoldOutcome(draw, len(train), test, probabilities, curves)


def softmax_regression(layer: Floats, features: Floats) -> Floats:
    """(b, n_classes) probabilities of (b, dim) features under a (n_classes, dim + 1) layer."""
    logits = features @ layer[:, :-1].T + layer[:, -1]
    likelihood = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities: Floats = likelihood / likelihood.sum(axis=1, keepdims=True)
    return probabilities


def loss_and_gradient(
    layer: Floats, features: Floats, labels: NDArray[np.int64], class_weights: Floats
) -> tuple[float, Floats]:
    """Class-weighted cross-entropy of a batch and its gradient by `layer`.

    −Σᵢ w(yᵢ) log pᵢ(yᵢ) / Σᵢ w(yᵢ), the mean that torch's `cross_entropy` takes.
    """
    probabilities = softmax_regression(layer, features)
    rows = np.arange(len(labels))
    share = class_weights[labels] / class_weights[labels].sum()
    # A probability that underflows counts as the smallest number: a large loss, not infinity.
    likelihood = np.maximum(probabilities[rows, labels], np.finfo(probabilities.dtype).tiny)
    loss = -(share * np.log(likelihood)).sum()
    error = probabilities.copy()
    error[rows, labels] -= 1.0
    error *= share[:, None]
    gradient = np.concatenate([error.T @ features, error.sum(axis=0)[:, None]], axis=1)
    return float(loss), gradient


class AdamW:
    """AdamW on a linear layer, in place; the bias is not decayed (Loshchilov & Hutter 2019).

    Parameters
    ----------
    layer : (n_classes, dim + 1), the bias in the last column
    settings : betas and weight decay
    """

    def __init__(self, layer: Floats, settings: ProbeSettings) -> None:
        self.layer = layer
        self.step = 0
        self._mean, self._square = np.zeros_like(layer), np.zeros_like(layer)
        self._betas = settings.betas
        self._decay = settings.weight_decay

    def update(self, gradient: Floats, rate: float) -> None:
        """One update at a learning rate."""
        self.step += 1
        first, second = self._betas
        self._mean += (1 - first) * (gradient - self._mean)
        self._square += (1 - second) * (gradient**2 - self._square)
        mean = self._mean / (1 - first**self.step)
        square = self._square / (1 - second**self.step)
        self.layer[:, :-1] *= 1 - rate * self._decay
        self.layer -= rate * mean / (np.sqrt(square) + ADAM_EPS)
