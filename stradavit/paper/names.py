"""What losses, encoders, benchmarks and protocols are called in print."""

from typing import get_args

from stradavit.paper.metric_files import Metric
from stradavit.settings import Settings
from stradavit.settings.evaluation import Protocol
from stradavit.settings.sources import ChipsSurvey
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
    survey = settings.surveys[name]
    if survey.title is None and isinstance(survey, ChipsSurvey):
        splits = "+".join(survey.splits)
        return f"chips of {detection_title(settings, survey.detection)} ({splits})"
    return survey.title or name


def detection_title(settings: Settings, name: str) -> str:
    """Name of a detection set in the tables."""
    return settings.detection.sets[name].title or name


def guarded_title(settings: Settings, name: str) -> str:
    """Name of what a corpus keeps its distance from: a benchmark or a detection set."""
    known = name in settings.benchmarks
    return benchmark_title(settings, name) if known else detection_title(settings, name)


def corpus_title(settings: Settings, name: str) -> str:
    """Name of a corpus in the tables."""
    return settings.corpus(name).title or name


def register_title(registers: int) -> str:
    """Heading of the rows with this number of register tokens."""
    words = "With registers" if registers else "No registers"
    return f"{words} (R = {registers})"


def registers_shown(configured: tuple[int, ...]) -> tuple[int, ...]:
    """The paper's numbers of registers, then those the config adds."""
    return REGISTERS + tuple(sorted(set(configured) - set(REGISTERS)))
