"""What losses, encoders, benchmarks and protocols are called in print."""

from typing import get_args

from stradavit.paper.metric_files import Metric
from stradavit.settings import Settings
from stradavit.settings.evaluation import Protocol
from stradavit.settings.training import ContrastiveLoss, ReconstructionLoss

# In the order of the paper's rows.
RECONSTRUCTION_LOSSES: tuple[ReconstructionLoss, ...] = get_args(ReconstructionLoss)
CONTRASTIVE_LOSSES: tuple[ContrastiveLoss, ...] = get_args(ContrastiveLoss)
REGISTERS = (0, 4)

LOSS_TITLES: dict[str, str] = {
    "l2": "L2",
    "l2_l1": "L2+L1",
    "l2_bl1": "L2+BL1",
    "info_nce": "InfoNCE",
    "soft_hcl": "Soft-HCL",
    "hcl": "HCL",
}
PROTOCOL_TITLES: dict[Protocol, str] = {
    "linear_probe": "Linear probe",
    "finetune": "Fine-tuning",
    "knn": "k-NN",
    "label_budget": "Linear probe with few labels",
    "published_split": "Linear probe on the published division",
}
METRIC_TITLES: dict[Metric, str] = {"macro_f1": "Macro-F1", "weighted_f1": "Weighted-F1"}


def encoder_title(settings: Settings, name: str) -> str:
    """Name of a starting point in the tables."""
    return settings.encoders[name].title or name


def benchmark_title(settings: Settings, name: str) -> str:
    """Name of a benchmark in the tables."""
    return settings.benchmarks[name].title or name


def survey_title(settings: Settings, name: str) -> str:
    """Name of a survey in the tables."""
    return settings.surveys[name].title or name


def register_title(registers: int) -> str:
    """Heading of the rows with this number of register tokens."""
    words = "With registers" if registers else "No registers"
    return f"{words} (R = {registers})"


def registers_shown(configured: tuple[int, ...]) -> tuple[int, ...]:
    """The paper's numbers of registers, then those the config adds."""
    return REGISTERS + tuple(sorted(set(configured) - set(REGISTERS)))
