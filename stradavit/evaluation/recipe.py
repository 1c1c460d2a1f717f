"""What probe and fine-tuning share: draws, class weights, schedule (paper, section 9.1)."""

import math
from collections.abc import Iterator
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from stradavit.evaluation.dihedral import N_ORIENTATIONS

ClassWeights = Literal["training_fold", "whole_benchmark"]

HEAD_INIT_STD = 0.02

# Each draw has its own stream; adding one must not shift the others.
ORDER, ORIENTATION, HEAD, DROPOUT, BUDGET, RESAMPLE = range(6)


def training_order(seed: int, fold: int, epoch: int, train: NDArray[np.int64]) -> NDArray[np.int64]:
    """The training images of a fold in the order of one epoch."""
    return np.random.default_rng((seed, fold, epoch, ORDER)).permutation(train)


def training_orientations(seed: int, fold: int, epoch: int, n_images: int) -> NDArray[np.int64]:
    """(n_images,) the D4 orientation each image of the benchmark has in one epoch of a fold.

    A function of (seed, fold, epoch, image) alone, hence the same for a probe on cached features
    and for a model that sees the pixels.
    """
    draw = np.random.default_rng((seed, fold, epoch, ORIENTATION))
    return draw.integers(0, N_ORIENTATIONS, n_images)


def torch_seed(seed: int, fold: int, epoch: int, stream: int) -> int:
    """A seed for torch's generators that belongs to one draw."""
    return int(np.random.SeedSequence((seed, fold, epoch, stream)).generate_state(1)[0])


def head_weights(dim: int, n_classes: int, seed: int, fold: int) -> NDArray[np.float64]:
    """(n_classes, dim) initial weights of the linear layer, normal with standard deviation 0.02.

    The paper's are cut at ±2, a hundred standard deviations, which is never. The bias starts at 0.
    """
    draw = np.random.default_rng((seed, fold, 0, HEAD))
    return draw.normal(0.0, HEAD_INIT_STD, (n_classes, dim))


def balanced_weights(
    labels: NDArray[np.int64],
    train: NDArray[np.int64],
    n_classes: int,
    counted_over: ClassWeights,
) -> NDArray[np.float64]:
    """Weight n / (C · n_c) of each class.

    Parameters
    ----------
    labels : (n,) class of each image of the benchmark
    train : numbers of the training images
    counted_over : `whole_benchmark` counts held-out images too, as the paper does; no pixel of
        theirs is used, and with stratified folds the two differ by rounding only

    Returns
    -------
    (n_classes,) float64; Σ n_c · w_c = n
    """
    counted = labels[train] if counted_over == "training_fold" else labels
    counts = np.bincount(counted, minlength=n_classes)
    return len(counted) / (n_classes * counts)


def cosine_with_warmup(step: int, n_steps: int, warmup_fraction: float) -> float:
    """Factor on the learning rate of optimiser step `step`, counted from 0.

    Linear from 0 over the first ⌈warmup_fraction · n_steps⌉ steps, then half a cosine to 0 (as
    `get_cosine_schedule_with_warmup` of transformers, the schedule of the paper's trainer; so the
    very first update is by nothing).
    """
    n_warmup = math.ceil(warmup_fraction * n_steps)
    if step < n_warmup:
        return step / n_warmup
    done = (step - n_warmup) / max(1, n_steps - n_warmup)
    return 0.5 * (1.0 + math.cos(math.pi * done))


def batches(order: NDArray[np.int64], size: int) -> Iterator[NDArray[np.int64]]:
    """`order` in pieces of `size`; the last may be smaller, and is kept."""
    for start in range(0, len(order), size):
        yield order[start : start + size]
