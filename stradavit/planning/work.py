"""How much work trainings and scorings are: operations on a device, or seconds of a processor.

Both by formula alone. What a formula leaves out (start of a process, reading, views) is in the
measured rates, and not in the assumed ones.
"""

import math
from dataclasses import dataclass

from stradavit.models.cost import contrastive_flops, encoder_flops, reconstruction_flops
from stradavit.planning.networks import Network
from stradavit.settings.evaluation import EvaluationSettings, Protocol
from stradavit.settings.training import PretrainSettings, ReconstructionSettings

ORIENTATIONS = 8
VIEWS = 2
BACKWARD = 3  # forward and backward, in forward passes

DEVICE_STAGES = ("features", "finetune", "train_detector", "detect")
"""Stages whose work is operations on the device; that of the others is seconds of a processor."""

# Of the linear layer in `stradavit.evaluation.probe`, on one processor thread: an update of any
# size, and each number of each image in it (float32).
UPDATE_S, NUMBER_S = 0.3e-3, 9e-9
# Of `stradavit.evaluation.knn`, on one processor thread: a similarity, to find the largest among
# them, and each product in it (float32).
PAIR_S, PRODUCT_S = 40e-9, 2.2e-11
# `stradavit cut-part`, docs/performance.md: a cutout of any size, and each pixel of it.
CUTOUT_S, PIXEL_S = 0.15e-3, 4e-9


@dataclass(frozen=True)
class Sample:
    """What the cost of scoring depends on: images, and how many classes they have."""

    images: float
    classes: int


def training_flops(network: Network, settings: PretrainSettings) -> float:
    """Model FLOPs of one cutout, forward and backward, as the run itself counts them."""
    phase = settings.phase
    if isinstance(phase, ReconstructionSettings):
        return reconstruction_flops(network.shape, phase.mask_ratio)
    return contrastive_flops(
        encoder_flops(network.shape),
        network.shape.width,
        phase.head_width,
        phase.head_output,
        views=VIEWS,
    )


def scoring_work(
    stage: Protocol | str, evaluation: EvaluationSettings, sample: Sample, network: Network
) -> float:
    """Work of one cell of a protocol, or of the stage `features`.

    Returns
    -------
    FLOPs of a stage in `DEVICE_STAGES`, else seconds of one processor thread
    """
    n, k = sample.images, evaluation.folds.count
    n_train = n * (k - 1) / k
    forward = encoder_flops(network.shape)
    width = network.shape.width
    probe = evaluation.probe
    match stage:
        case "features":
            return n * ORIENTATIONS * forward
        case "finetune":
            finetune = evaluation.finetune
            passes = BACKWARD * finetune.epochs * n_train + n / k
            return finetune.repeats * k * passes * forward
        case "linear_probe":
            return probe.repeats * k * _probe_s(n_train, probe.epochs, probe.batch_size, width)
        case "published_split":
            trainings = evaluation.published_split.trainings
            return trainings * _probe_s(n, probe.epochs, probe.batch_size, width)
        case "label_budget":
            budgets = evaluation.label_budget
            updates = probe.epochs * math.ceil(n_train / probe.batch_size)
            batches = (min(probe.batch_size, b * sample.classes) for b in budgets.per_class)
            seconds = sum(updates * (UPDATE_S + batch * width * NUMBER_S) for batch in batches)
            return budgets.draws * k * seconds
        case "knn":
            return evaluation.knn.repeats * n * n_train * (PAIR_S + width * PRODUCT_S)
    raise ValueError(f"no stage is called {stage!r}")


def cutting_s(cutouts: float, size_px: int) -> float:
    """Seconds of one processor to cut so many cutouts."""
    return cutouts * (CUTOUT_S + PIXEL_S * size_px**2)


def _probe_s(n_train: float, epochs: int, batch_size: int, width: int) -> float:
    """Seconds to train one linear layer."""
    updates = epochs * math.ceil(n_train / batch_size)
    return updates * UPDATE_S + epochs * n_train * width * NUMBER_S
