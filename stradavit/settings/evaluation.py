"""The transfer protocol (paper, section 9)."""

from typing import Annotated, Literal

from pydantic import Field

from stradavit.settings.base import Beta, Block, Count, Fraction, Positive, Seed

Protocol = Literal["linear_probe", "finetune"]
PROTOCOLS: tuple[Protocol, ...] = ("linear_probe", "finetune")


class FoldSettings(Block):
    """Stratified folds; images of one source stay together."""

    count: Annotated[int, Field(ge=2)] = 3
    seed: Seed = 0


class ProbeSettings(Block):
    """Strict linear probe (section 9.2): frozen encoder, one linear layer."""

    epochs: Count = 20
    batch_size: Count = 256
    learning_rate: Positive = 5e-3
    weight_decay: float = Field(0.05, ge=0.0, description="The bias is exempt.")
    betas: tuple[Beta, Beta] = (0.9, 0.999)
    warmup_fraction: Fraction = 0.05
    clip_norm: Positive = 1.0
    seed: Seed = 0


class FinetuneSettings(Block):
    """Full fine-tuning (section 9.3)."""

    epochs: Count = 20
    batch_size: Count = Field(256, description="Effective; reached by accumulation.")
    micro_batch_size: Count = 64
    learning_rate: Positive = Field(5e-4, description="Of the last block.")
    head_multiplier: Positive = 10.0
    layer_decay: Annotated[float, Field(gt=0.0, le=1.0)] = 0.65
    weight_decay: float = Field(0.05, ge=0.0)
    betas: tuple[Beta, Beta] = (0.9, 0.999)
    warmup_fraction: Fraction = 0.2
    clip_norm: Positive = 1.0
    head_dropout: Fraction = 0.0
    precision: Literal["bf16", "fp32"] = "bf16"
    seed: Seed = 0


class EvaluationSettings(Block):
    """How encoders are scored."""

    protocols: tuple[Protocol, ...] = ("linear_probe", "finetune")
    folds: FoldSettings = FoldSettings()
    class_weights: Literal["training_fold", "whole_benchmark"] = Field(
        "whole_benchmark",
        description="Where balanced weights n / (C n_c) are counted; the paper's: whole_benchmark.",
    )
    probe: ProbeSettings = ProbeSettings()
    finetune: FinetuneSettings = FinetuneSettings()
