"""Metrics files, read with care: what is not exactly what a stage writes is an error."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from stradavit.errors import DataError
from stradavit.files import read_json

Metric = Literal["macro_f1", "weighted_f1"]
METRICS: tuple[Metric, ...] = ("macro_f1", "weighted_f1")
T = TypeVar("T")


@dataclass(frozen=True)
class FoldScores:
    """What was measured on the held-out images of each fold, repeat after repeat.

    Attributes
    ----------
    places : repeat and fold of each
    macro_f1, weighted_f1 : (n,) float64 in [0, 1]
    confusions : (n, classes, classes) int64, true class in rows
    """

    places: tuple[tuple[int, int], ...]
    macro_f1: NDArray[np.float64]
    weighted_f1: NDArray[np.float64]
    confusions: NDArray[np.int64]


@dataclass(frozen=True)
class Metrics:
    """One metrics file.

    Attributes
    ----------
    path : where it lies
    classes : names in the order of the confusion matrices
    settings : what it records of the settings that decided its numbers
    code : hash of the code that made it
    content : all of it
    """

    path: Path
    classes: tuple[str, ...]
    settings: dict[str, Any]
    code: str
    content: dict[str, Any]

    def folds(self) -> FoldScores:
        """Scores of every fold of every repeat, or of every training on a published split.

        Raises
        ------
        DataError
            If they are not what a stage writes.
        """
        return self._checked(lambda: fold_scores(self.content["folds"], len(self.classes)))

    def budgets(self) -> dict[int, FoldScores]:
        """Scores for each number of labels per class; for the draws, `repeat` counts.

        Raises
        ------
        DataError
            If they are not what a stage writes.
        """
        return self._checked(
            lambda: {
                int(budget["per_class"]): fold_scores(budget["folds"], len(self.classes))
                for budget in self.content["budgets"]
            }
        )

    def interval(self, metric: Metric) -> tuple[float, float]:
        """The 95 % interval a bootstrap over the test sources gave.

        Raises
        ------
        DataError
            If there is none.
        """

        def read() -> tuple[float, float]:
            low, high = (float(bound) for bound in self.content["interval_95"][metric])
            if not 0.0 <= low <= high <= 1.0:
                raise ValueError(f"interval of {metric} is [{low}, {high}]")
            return low, high

        return self._checked(read)

    def _checked(self, read: Callable[[], T]) -> T:
        with_remedy = f"Delete it and run `snakemake {self.path}`."
        try:
            return read()
        except (ValueError, TypeError, KeyError, OverflowError) as error:
            raise DataError(
                f"{self.path}: not a metrics file ({type(error).__name__}: {error}). {with_remedy}"
            ) from error


def read_metrics(path: Path, protocol: str, encoder: str, benchmark: str) -> Metrics:
    """The metrics file of a cell.

    Raises
    ------
    DataError
        If the file is not the JSON that a stage of evaluation writes, or is about another cell.
    """
    try:
        content = read_json(path)
        about = tuple(content[key] for key in ("protocol", "encoder", "benchmark"))
        metrics = Metrics(
            path=path,
            classes=tuple(str(name) for name in content["classes"]),
            settings=dict(content["settings"]),
            code=str(content["code"]),
            content=content,
        )
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DataError(
            f"{path}: not a metrics file ({type(error).__name__}: {error}). Delete it and run "
            f"`snakemake {path}`."
        ) from error
    if about != (protocol, encoder, benchmark):
        raise DataError(
            f"{path}: is about {' '.join(map(str, about))}, expected {protocol} {encoder} "
            f"{benchmark}. Delete it and run `snakemake {path}`."
        )
    return metrics


def fold_scores(entries: Sequence[dict[str, Any]], n_classes: int) -> FoldScores:
    """Scores of the entries of a list `folds`.

    Raises
    ------
    ValueError, TypeError, KeyError
        If they are not what `stradavit.evaluation.metrics.fold_records` makes.
    """
    found = FoldScores(
        # Files made before folds could be repeated have the first repeat only.
        places=tuple((int(entry.get("repeat", 0)), int(entry["fold"])) for entry in entries),
        macro_f1=np.array([float(entry["macro_f1"]) for entry in entries]),
        weighted_f1=np.array([float(entry["weighted_f1"]) for entry in entries]),
        confusions=np.array([entry["confusion"] for entry in entries], dtype=np.int64),
    )
    n = len(found.places)
    scores = np.concatenate([found.macro_f1, found.weighted_f1])
    if n == 0 or not np.all((scores >= 0.0) & (scores <= 1.0)):
        raise ValueError(f"{n} folds with F1 {scores.tolist()}; expected F1 in [0, 1]")
    if found.confusions.shape != (n, n_classes, n_classes):
        raise ValueError(
            f"confusion matrices of shape {found.confusions.shape[1:]} for {n_classes} classes; "
            "expected one row and column per class"
        )
    if list(found.places) != sorted(set(found.places)):
        raise ValueError(f"repeats and folds {found.places}; expected each once, in order")
    return found
