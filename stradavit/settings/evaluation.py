"""The transfer protocol (paper, section 9)."""

from typing import Annotated, Literal

from pydantic import Field

from stradavit.settings.base import Beta, Block, Count, Fraction, Positive, Seed
from stradavit.settings.duplicates import LeakageSettings

Protocol = Literal["linear_probe", "finetune", "knn", "label_budget", "published_split"]
PAPER_PROTOCOLS: tuple[Protocol, ...] = ("linear_probe", "finetune")
"""The two protocols of the paper's tables; the others are ours and have tables of their own."""

Repeats = Annotated[
    Count,
    Field(description="Times all folds are drawn anew; the first time they are the paper's."),
]


class FoldSettings(Block):
    """Stratified folds; images of one source stay together."""

    count: Annotated[int, Field(ge=2)] = 3
    seed: Seed = 0


class ProbeSettings(Block):
    """Strict linear probe (section 9.2): frozen encoder, one linear layer."""

    repeats: Repeats = 1
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

    repeats: Repeats = 1
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


class KnnSettings(Block):
    """Weighted nearest neighbours by cosine similarity on the probe's features."""

    repeats: Repeats = 1
    neighbours: Count = 20
    temperature: Positive = Field(0.07, description="A neighbour's vote is exp(similarity / this).")


class LabelBudgetSettings(Block):
    """The probe with few labels: n images of each class, drawn from a fold's training images."""

    per_class: tuple[Count, ...] = Field((5, 10, 20, 50, 100), min_length=1)
    draws: Count = Field(5, description="Draws of each budget in each fold.")


class PublishedSplitSettings(Block):
    """The probe on a benchmark's own division into training and test images."""

    trainings: Count = Field(5, description="Trainings, each with its own draws.")
    resamples: Count = Field(10_000, description="Bootstrap resamples of the test sources.")


class EvaluationSettings(Block):
    """How encoders are scored."""

    protocols: tuple[Protocol, ...] = Field(
        PAPER_PROTOCOLS,
        description="The paper's: linear_probe, finetune. Beside them, from the same features: "
        "knn, label_budget, published_split (on benchmarks that have one).",
    )
    folds: FoldSettings = FoldSettings()
    class_weights: Literal["training_fold", "whole_benchmark"] = Field(
        "whole_benchmark",
        description="Where balanced weights n / (C n_c) are counted; the paper's: whole_benchmark.",
    )
    probe: ProbeSettings = ProbeSettings()
    finetune: FinetuneSettings = FinetuneSettings()
    knn: KnnSettings = KnnSettings()
    label_budget: LabelBudgetSettings = LabelBudgetSettings()
    published_split: PublishedSplitSettings = PublishedSplitSettings()
    leakage: LeakageSettings = LeakageSettings()
