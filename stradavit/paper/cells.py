"""Find the numbers of a cell by its coordinates.

A cell is a protocol, a configuration (branch, start, losses, registers) and a benchmark; its
number comes from one metrics file per seed, of the runs on the first corpus that guards the
benchmark.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from stradavit.errors import DataError
from stradavit.files import read_json
from stradavit.models.card import read_card
from stradavit.paper.layout import Spread
from stradavit.provenance import code_hash
from stradavit.settings import Settings
from stradavit.settings.evaluation import Protocol
from stradavit.settings.matrix import Branch, EncoderNode
from stradavit.settings.training import ContrastiveLoss, ReconstructionLoss

Role = Literal["inductive", "transductive"]

MISSING_SHOWN = 5

# The block of `evaluation` and the module that decide the numbers of a protocol.
_MADE_BY: dict[Protocol, tuple[str, str]] = {
    "linear_probe": ("probe", "stradavit.evaluation.probe"),
    "finetune": ("finetune", "stradavit.evaluation.finetune"),
}


@dataclass(frozen=True)
class Configuration:
    """What a row of a table is about; corpus and seed are settled by the lookup."""

    branch: Branch
    start: str
    registers: int | None = None
    reconstruction_loss: ReconstructionLoss | None = None
    contrastive_loss: ContrastiveLoss | None = None

    def matches(self, node: EncoderNode) -> bool:
        """Whether `node` is a run of this configuration; a start is known by its name alone."""
        if (self.branch, self.start) != (node.branch, node.start):
            return False
        return self.branch == "start" or (
            self.registers == node.registers
            and self.reconstruction_loss == node.reconstruction_loss
            and self.contrastive_loss == node.contrastive_loss
        )


@dataclass(frozen=True)
class Score:
    """The numbers of one cell.

    Attributes
    ----------
    encoders : names of the encoders, one per seed
    macro_f1, weighted_f1 : (seeds, folds) float64 in [0, 1]
    classes : class names in the order of the confusion matrix
    confusion : (classes, classes) int64, true class in rows, summed over folds and seeds
    remarks : what makes these numbers differ from what the present config would give
    """

    encoders: tuple[str, ...]
    macro_f1: NDArray[np.float64]
    weighted_f1: NDArray[np.float64]
    classes: tuple[str, ...]
    confusion: NDArray[np.int64]
    remarks: tuple[str, ...]


def spread_of(values: NDArray[np.float64], is_signed: bool = False) -> Spread:
    """Mean over seeds of the means over folds, population std over all folds and seeds.

    The paper's statistic for one seed (section 9.1, item 4).

    Parameters
    ----------
    values : (seeds, folds)
    """
    return Spread(float(values.mean(axis=1).mean()), float(values.std(ddof=0)), is_signed)


class Results:
    """Metrics of the encoders of a config's matrix.

    Parameters
    ----------
    settings : the whole config
    results_dir : folder that holds `metrics/` and `encoders/`

    Raises
    ------
    DataError
        If the matrix asks for cells whose metrics file does not exist.
    """

    def __init__(self, settings: Settings, results_dir: Path) -> None:
        self.settings = settings
        self.results_dir = Path(results_dir)
        self.nodes = settings.nodes()
        missing = [p for cell in settings.cells() if not (p := self.metrics_path(*cell)).is_file()]
        if missing:
            raise DataError(_describe_missing(missing))

    def metrics_path(self, protocol: str, encoder: str, benchmark: str) -> Path:
        """Where the metrics of a cell lie."""
        return self.results_dir / "metrics" / protocol / encoder / f"{benchmark}.json"

    @cached_property
    def starts(self) -> tuple[str, ...]:
        """Starting points the matrix scores, in its order."""
        names = (node.start for node in self.nodes.values() if node.branch == "start")
        return tuple(dict.fromkeys(names))

    @cached_property
    def _code(self) -> dict[Protocol, str]:
        """Hash of the code that would score a protocol now."""
        return {protocol: code_hash(module) for protocol, (_, module) in _MADE_BY.items()}

    @cached_property
    def _training_code(self) -> str:
        """Hash of the code that would train a run now."""
        return code_hash("stradavit.training.pretrain")

    def runs(
        self, configuration: Configuration, benchmark: str, role: Role = "inductive"
    ) -> list[EncoderNode]:
        """Runs of a configuration that fill its cell for `benchmark`, one per seed."""
        nodes = [node for node in self.nodes.values() if configuration.matches(node)]
        fitting = [node for node in nodes if self.settings.role(node, benchmark) == role]
        for corpus in (None, *self.settings.matrix.corpora):
            if chosen := [node for node in fitting if node.corpus == corpus]:
                return chosen
        return []

    def score(
        self,
        protocol: Protocol,
        configuration: Configuration,
        benchmark: str,
        role: Role = "inductive",
    ) -> Score | None:
        """Numbers of a cell; None if the config left it out.

        Raises
        ------
        DataError
            If a metrics file is malformed or does not belong to this cell.
        """
        if protocol not in self.settings.evaluation.protocols:
            return None
        runs = self.runs(configuration, benchmark, role)
        if not runs:
            return None
        paths = [self.metrics_path(protocol, run.name, benchmark) for run in runs]
        found = [
            read_metrics(path, protocol, run.name, benchmark)
            for path, run in zip(paths, runs, strict=True)
        ]
        for path, metrics in zip(paths[1:], found[1:], strict=True):
            for what in ("classes", "n_folds"):
                if metrics[what] != found[0][what]:
                    raise DataError(
                        f"{path}: {what} is {metrics[what]}, but {found[0][what]} in {paths[0]}, "
                        "another seed of the same cell. Delete both and run the workflow again."
                    )
        return Score(
            encoders=tuple(run.name for run in runs),
            macro_f1=np.array([metrics["macro_f1"] for metrics in found]),
            weighted_f1=np.array([metrics["weighted_f1"] for metrics in found]),
            classes=tuple(found[0]["classes"]),
            confusion=np.sum([metrics["confusion"] for metrics in found], axis=0),
            remarks=tuple(
                dict.fromkeys(
                    remark
                    for run, metrics in zip(runs, found, strict=True)
                    for remark in [
                        *self._remarks(protocol, benchmark, metrics),
                        *self._training_remarks(run),
                    ]
                )
            ),
        )

    def _remarks(self, protocol: Protocol, benchmark: str, metrics: dict[str, Any]) -> list[str]:
        """How settings and code a metrics file records differ from those of now."""
        block, _ = _MADE_BY[protocol]
        evaluation = self.settings.evaluation.model_dump(mode="json")
        expected = {key: evaluation[key] for key in ("folds", "class_weights", block)}
        found = dict(_leaves(metrics["settings"]))
        remarks = [
            f"{benchmark} was scored with {key} = {found[key]}; the config says {value}."
            for key, value in _leaves(expected)
            if key in found and found[key] != value
        ]
        if metrics["code"] != self._code[protocol]:
            remarks.append(f"{benchmark} was scored by another version of the code.")
        return remarks

    def _training_remarks(self, run: EncoderNode) -> list[str]:
        """Training is not repeated when its code changes, so its rows must say so."""
        if run.branch == "start":
            return []
        code = read_card(self.results_dir / "encoders" / run.name).get("code")
        if code is None or code == self._training_code:
            return []
        return ["The encoder was trained by another version of the code."]


def read_metrics(path: Path, protocol: str, encoder: str, benchmark: str) -> dict[str, Any]:
    """Checked content of a metrics file: classes, confusion, fold scores, recorded settings.

    Raises
    ------
    DataError
        If the file is not the JSON that `probe` and `finetune` write, or is about another cell.
    """
    try:
        content = read_json(path)
        about = tuple(content[key] for key in ("protocol", "encoder", "benchmark"))
        classes = [str(name) for name in content["classes"]]
        folds = content["folds"]
        scores = {key: [float(fold[key]) for fold in folds] for key in ("macro_f1", "weighted_f1")}
        confusion = np.array(content["confusion"], dtype=np.int64)
        recorded = {"settings": dict(content["settings"]), "code": str(content["code"])}
    except (OSError, ValueError, TypeError, KeyError, OverflowError) as error:
        raise DataError(
            f"{path}: not a metrics file ({type(error).__name__}: {error}). Delete it and run "
            f"`snakemake {path}`."
        ) from error
    if about != (protocol, encoder, benchmark):
        raise DataError(
            f"{path}: is about {' '.join(map(str, about))}, expected {protocol} {encoder} "
            f"{benchmark}. Delete it and run `snakemake {path}`."
        )
    in_range = all(0.0 <= value <= 1.0 for values in scores.values() for value in values)
    if not folds or not in_range or confusion.shape != (len(classes), len(classes)):
        raise DataError(
            f"{path}: {len(folds)} folds with F1 {scores['macro_f1']} and a confusion matrix of "
            f"shape {confusion.shape} for {len(classes)} classes; expected F1 in [0, 1] and one "
            f"row and column per class. Delete it and run `snakemake {path}`."
        )
    return {
        **scores,
        "classes": classes,
        "n_folds": len(folds),
        "confusion": confusion,
        **recorded,
    }


def _leaves(block: dict[str, Any], path: str = "") -> list[tuple[str, Any]]:
    """Dotted path and value of every setting inside nested mappings."""
    leaves: list[tuple[str, Any]] = []
    for key, value in block.items():
        inner = (
            _leaves(value, f"{path}{key}.") if isinstance(value, dict) else [(path + key, value)]
        )
        leaves += inner
    return leaves


def _describe_missing(missing: list[Path]) -> str:
    shown = " ".join(str(path) for path in missing[:MISSING_SHOWN])
    rest = len(missing) - MISSING_SHOWN
    more = f" and {rest} more" if rest > 0 else ""
    plural = "files are" if len(missing) > 1 else "file is"
    return (
        f"{len(missing)} metrics {plural} missing that the matrix asks for: {shown}{more}. "
        f"Make them with `snakemake {shown}`, or take their encoders out of `matrix`."
    )
