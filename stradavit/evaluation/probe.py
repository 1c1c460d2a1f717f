"""Stage `probe`: a strict linear probe on embedded images, all folds (paper, section 9.2).

Everything is float32 where the paper trains in bfloat16: there is only one small matrix, for which
half precision saves nothing and rounds the logits to three digits.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from stradavit.evaluation.feature_file import read_features
from stradavit.evaluation.folds import make_folds
from stradavit.evaluation.metrics import FoldOutcome, confusion_matrix, macro_f1, write_outcomes
from stradavit.evaluation.recipe import (
    ClassWeights,
    balanced_weights,
    batches,
    cosine_with_warmup,
    linear_head,
    training_order,
    training_orientations,
)
from stradavit.provenance import code_hash
from stradavit.settings.evaluation import FoldSettings, ProbeSettings

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
    fold_of = make_folds(features, folds)
    n_classes = len(features.classes)
    values = torch.from_numpy(features.values)
    labels = torch.from_numpy(features.labels)
    outcomes = []
    with one_thread():
        for fold in range(folds.count):
            train = np.flatnonzero(fold_of != fold)
            weights = balanced_weights(features.labels, train, n_classes, class_weights)
            outcomes.append(train_probe(values, labels, fold_of, fold, weights, settings))
            log.info("fold %d: macro-F1 %.4f", fold, outcomes[-1].curves["macro_f1"][-1])
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
        provenance=features.provenance,
    )


def train_probe(
    values: Tensor,
    labels: Tensor,
    fold_of: NDArray[np.int64],
    fold: int,
    class_weights: Tensor,
    settings: ProbeSettings,
) -> FoldOutcome:
    """Train one linear layer on the features of a fold's training images.

    The features are taken as they are: no normalisation, which would be a further layer. In each
    epoch an image comes in one drawn orientation; held-out images in their own. AdamW, cosine with
    warm-up per step, clipped gradients, the model of the last epoch.

    Parameters
    ----------
    values : (n, 8, dim) floating tensor; its type is the type of all arithmetic
    labels : (n,) int64
    fold_of : (n,) fold each image is held out in
    fold : the fold to hold out
    class_weights : (n_classes,) weights of the cross-entropy
    """
    train, test = np.flatnonzero(fold_of != fold), np.flatnonzero(fold_of == fold)
    n_images, n_classes = len(values), len(class_weights)
    weights = class_weights.to(values.dtype)
    head = linear_head(values.shape[2], n_classes, settings.seed, fold).to(values.dtype)
    optimiser = torch.optim.AdamW(
        [
            {"params": [head.weight], "weight_decay": settings.weight_decay},
            {"params": [head.bias], "weight_decay": 0.0},
        ],
        lr=settings.learning_rate,
        betas=settings.betas,
    )
    n_steps = settings.epochs * -(-len(train) // settings.batch_size)
    step = 0
    curves: dict[str, list[float]] = {"loss": [], "macro_f1": []}
    probabilities = np.empty((0, n_classes), np.float32)
    for epoch in range(settings.epochs):
        order = training_order(settings.seed, fold, epoch, train)
        turns = training_orientations(settings.seed, fold, epoch, n_images)
        losses = []
        for batch in batches(order, settings.batch_size):
            rate = settings.learning_rate * cosine_with_warmup(
                step, n_steps, settings.warmup_fraction
            )
            for group in optimiser.param_groups:
                group["lr"] = rate
            optimiser.zero_grad()
            loss = F.cross_entropy(head(values[batch, turns[batch]]), labels[batch], weights)
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(head.parameters(), settings.clip_norm)
            optimiser.step()
            losses.append(loss.item())
            step += 1
        with torch.no_grad():
            probabilities = head(values[test, 0]).softmax(dim=1).numpy()
        confusion = confusion_matrix(
            labels[test].numpy(), probabilities.argmax(axis=1), n_classes
        )
        curves["loss"].append(float(np.mean(losses)))
        curves["macro_f1"].append(macro_f1(confusion))
    return FoldOutcome(fold, len(train), test, probabilities, curves)


@contextmanager
def one_thread() -> Iterator[None]:
    """One processor thread: the sums are short, and their order is then the same everywhere."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
