"""Objectives, optimisation and schedule of pretraining (paper, sections 5.2 to 8.2)."""

from typing import Annotated, Literal

from pydantic import Field

from stradavit.settings.base import Beta, Block, Count, Fraction, Positive, Seed
from stradavit.settings.views import ViewSettings

ReconstructionLoss = Literal["l2", "l2_l1", "l2_bl1"]
ContrastiveLoss = Literal["info_nce", "soft_hcl", "hcl"]


class OptimiserSettings(Block):
    """AdamW."""

    learning_rate: Positive = 5e-4
    weight_decay: float = Field(
        0.05, ge=0.0, description="None on biases, norms, tokens, positions."
    )
    betas: tuple[Beta, Beta] = (0.9, 0.95)
    eps: Positive = 1e-8


class PhaseSettings(Block):
    """What both objectives share."""

    epochs: Count = 35
    batch_size: Count = Field(256, description="Cutouts per device and forward pass.")
    effective_batch: Count = Field(
        2048, description="Cutouts per optimiser update, reached by accumulation over all devices."
    )
    warmup_fraction: Fraction = Field(0.15, description="Share of the epochs of linear warm-up.")
    optimiser: OptimiserSettings = OptimiserSettings()
    clip_norm: Positive = 1.0
    precision: Literal["bf16", "fp32"] = "bf16"
    drop_last: bool = Field(False, description="Leave out the last, incomplete micro-batch.")
    shuffle_block: Count = Field(
        1,
        description="Cutouts side by side in their shard that an epoch's order keeps together, "
        "for disks that are slow to seek; 1 shuffles freely.",
    )


class ReconstructionSettings(PhaseSettings):
    """Masked reconstruction (section 6)."""

    mask_ratio: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.75
    patch_weight: Positive = Field(1.0, description="Weight of the masked-patch MSE.")
    global_l1_weight: Positive = Field(0.1, description="Weight of the global L1 in l2_l1.")
    brightness_l1_weight: Positive = Field(0.1, description="Weight of the weighted L1 in l2_bl1.")
    brightness: Literal["unit", "normalised_batch"] = Field(
        "unit",
        description="unit: weights from the [0, 1] image with unit mean per image (equation 5); "
        "normalised_batch: the authors' |normalised input|, unit mean over the batch.",
    )
    brightness_eps: Positive = 1e-6
    normalise_patches: bool = Field(False, description="Pixel-normalised targets.")


class ContrastiveSettings(PhaseSettings):
    """Contrastive learning (section 7)."""

    batch_size: Count = 64
    clip_norm: Positive = 3.0
    drop_last: bool = True
    temperature_start: Positive = 0.20
    temperature: Positive = 0.10
    temperature_ramp: Literal["linear", "cosine"] = Field(
        "linear", description="linear: the text; cosine: the authors' code."
    )
    hcl_beta: float = Field(1.0, ge=0.0)
    soft_hcl_alpha: Fraction = 0.5
    soft_hcl_temperature: Positive = 0.15
    remote_key_gradients: bool = Field(
        False, description="false: keys of other devices are stop-gradient (the text)."
    )
    head_width: Count = Field(2048, description="Hidden width of the projection head.")
    head_output: Count = Field(128, description="Width of the embedding the loss sees.")
    head_output_norm: bool = Field(
        True, description="BatchNorm on the output; off for DINOv2 starts."
    )


class TrainingSettings(Block):
    """Pretraining."""

    seeds: tuple[Seed, ...] = Field((42,), min_length=1, description="One run per seed.")
    devices: Count = Field(
        1,
        description="Devices that one pretraining uses; with `batch_size` per device it decides "
        "which cutouts are contrasted, so it is part of the result.",
    )
    reconstruction: ReconstructionSettings = ReconstructionSettings()
    contrastive: ContrastiveSettings = ContrastiveSettings()
    dinov2: ContrastiveSettings = Field(
        ContrastiveSettings(
            batch_size=20,
            effective_batch=2080,
            head_output_norm=False,
            optimiser=OptimiserSettings(learning_rate=1e-4),
        ),
        description="Contrastive settings of runs that start from a DINOv2 encoder.",
    )
    chips: ReconstructionSettings = Field(
        ReconstructionSettings(
            epochs=400,
            batch_size=256,
            effective_batch=512,
            warmup_fraction=0.1,
            optimiser=OptimiserSettings(learning_rate=3e-4),
            normalise_patches=True,
        ),
        description="Reconstruction settings of runs on chips (SAR paper, section III-B).",
    )


class PretrainSettings(Block):
    """All that decides the weights of one run; what only decides its speed is not here."""

    objective: Literal["reconstruction", "contrastive"]
    loss: ReconstructionLoss | ContrastiveLoss
    registers: int = Field(ge=0)
    seed: Seed
    devices: Count = 1
    phase: ReconstructionSettings | ContrastiveSettings
    views: ViewSettings


class LoaderSettings(Block):
    """What decides speed and never results; changing it replans nothing."""

    workers: int = Field(0, ge=0, description="Reader threads per device; 0 reads in the main one.")
    prefetch: Count = Field(2, description="Batches read ahead per worker.")
    threads: Count = Field(1, description="Processor threads of one training or evaluation job.")
    checkpoint_every_epochs: Count = Field(5, description="Epochs between checkpoints.")
    checkpoint_every_s: Positive = Field(
        600.0, description="Seconds between checkpoints inside one."
    )
    log_every_steps: Count = Field(100, description="Optimiser steps between metric lines.")
    device: Literal["auto", "cpu", "cuda"] = "auto"
    nodes: Count = Field(
        1,
        description="Machines that share the `training.devices` of one pretraining equally; more "
        "than one needs Slurm.",
    )
    compile: Literal["auto", "off", "on"] = Field(
        "auto",
        description="torch.compile of the blocks in pretraining; auto: on GPUs only. Like "
        "`threads`, it can change the last bits of sums.",
    )
