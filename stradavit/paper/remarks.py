"""What makes the numbers of a cell differ from what the present config and code would give."""

from functools import cached_property
from pathlib import Path
from typing import Any

from stradavit.models.card import read_card
from stradavit.paper.detection_files import DetectionMetrics
from stradavit.paper.metric_files import Metrics
from stradavit.paper.names import detection_title
from stradavit.provenance import code_hash
from stradavit.settings import Settings
from stradavit.settings.evaluation import Protocol
from stradavit.settings.matrix import EncoderNode

# The blocks of `evaluation` and the module that decide the numbers of a protocol.
_MADE_BY: dict[Protocol, tuple[tuple[str, ...], str]] = {
    "linear_probe": (("probe",), "stradavit.evaluation.probe"),
    "finetune": (("finetune",), "stradavit.evaluation.finetune"),
    "knn": (("knn",), "stradavit.evaluation.knn"),
    "label_budget": (("label_budget", "probe"), "stradavit.evaluation.label_budget"),
    "published_split": (("published_split", "probe"), "stradavit.evaluation.published_split"),
}


class Remarks:
    """Sentences about metrics files and runs that are out of date.

    Parameters
    ----------
    settings : the whole config
    results_dir : folder that holds `encoders/`
    """

    def __init__(self, settings: Settings, results_dir: Path) -> None:
        self._settings = settings
        self._results_dir = results_dir

    def of(
        self, protocol: Protocol, run: EncoderNode, metrics: Metrics, benchmark: str
    ) -> list[str]:
        """Remarks on the scores of a run on a benchmark."""
        return [*self._scoring(protocol, metrics, benchmark), *self._training(run)]

    def of_detector(self, run: EncoderNode, metrics: DetectionMetrics) -> list[str]:
        """Remarks on the scores of a detector with the encoder `run`."""
        name = detection_title(self._settings, metrics.detection_set)
        expected = self._settings.detector_run(metrics.seed).model_dump(mode="json")
        remarks = [
            f"{name}: a detector was trained with {key} = {found}; the config says {value}."
            for key, found, value in _differences(metrics.settings, expected)
        ]
        if metrics.code != self._detection_code:
            remarks.append(f"{name} was scored by another version of the code.")
        if metrics.trained_code != self._detector_code:
            remarks.append(f"{name}: a detector was trained by another version of the code.")
        return [*remarks, *self._training(run)]

    @cached_property
    def _detector_code(self) -> str:
        """Hash of the code that would train a detector now."""
        return code_hash("stradavit.detection.training")

    @cached_property
    def _detection_code(self) -> str:
        """Hash of the code that would score a detector now."""
        return code_hash("stradavit.detection.detect")

    @cached_property
    def _code(self) -> dict[Protocol, str]:
        """Hash of the code that would score a protocol now."""
        used = self._settings.evaluation.protocols
        return {protocol: code_hash(_MADE_BY[protocol][1]) for protocol in used}

    @cached_property
    def _training_code(self) -> str:
        """Hash of the code that would train a run now."""
        return code_hash("stradavit.training.pretrain")

    def _scoring(self, protocol: Protocol, metrics: Metrics, benchmark: str) -> list[str]:
        """How settings and code a metrics file records differ from those of now."""
        blocks, _ = _MADE_BY[protocol]
        evaluation = self._settings.evaluation.model_dump(mode="json")
        expected = {key: evaluation[key] for key in ("folds", "class_weights", *blocks)}
        remarks = [
            f"{benchmark} was scored with {key} = {found}; the config says {value}."
            for key, found, value in _differences(metrics.settings, expected)
        ]
        if metrics.code != self._code[protocol]:
            remarks.append(f"{benchmark} was scored by another version of the code.")
        return remarks

    def _training(self, run: EncoderNode) -> list[str]:
        """Training is not repeated when its code changes, so its rows must say so."""
        if run.branch == "start":
            return []
        code = read_card(self._results_dir / "encoders" / run.name).get("code")
        if code is None or code == self._training_code:
            return []
        return ["The encoder was trained by another version of the code."]


def _differences(found: dict[str, Any], expected: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    """Dotted path, value found and value expected of every setting that both have and differs."""
    known = dict(_leaves(found))
    return [
        (key, known[key], value)
        for key, value in _leaves(expected)
        if key in known and known[key] != value
    ]


def _leaves(block: dict[str, Any], path: str = "") -> list[tuple[str, Any]]:
    """Dotted path and value of every setting inside nested mappings."""
    leaves: list[tuple[str, Any]] = []
    for key, value in block.items():
        inner = (
            _leaves(value, f"{path}{key}.") if isinstance(value, dict) else [(path + key, value)]
        )
        leaves += inner
    return leaves
