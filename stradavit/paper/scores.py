"""The numbers of one cell: F1 over seeds and folds, their mean, spread and interval."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stradavit.errors import DataError
from stradavit.evaluation.statistics import Estimate, estimate
from stradavit.paper.layout import Spread
from stradavit.paper.metric_files import FoldScores, Metric


@dataclass(frozen=True)
class Score:
    """What was measured in one cell.

    Attributes
    ----------
    encoders : names of the encoders, one per seed
    files : their metrics files, relative to the folder of metrics
    macro_f1, weighted_f1 : (seeds, repeats * folds) float64 in [0, 1], repeat after repeat
    places : repeat and fold of each column
    classes : class names in the order of the confusion matrices
    confusions : (seeds, repeats * folds, classes, classes) int64, true class in rows
    remarks : what makes these numbers differ from what the present config would give
    """

    encoders: tuple[str, ...]
    files: tuple[str, ...]
    macro_f1: NDArray[np.float64]
    weighted_f1: NDArray[np.float64]
    places: tuple[tuple[int, int], ...]
    classes: tuple[str, ...]
    confusions: NDArray[np.int64]
    remarks: tuple[str, ...]

    @property
    def confusion(self) -> NDArray[np.int64]:
        """(classes, classes) sum over folds, repeats and seeds."""
        summed: NDArray[np.int64] = self.confusions.sum(axis=(0, 1))
        return summed

    @property
    def held_out(self) -> NDArray[np.int64]:
        """(repeats * folds, classes) held-out images of each true class."""
        counted: NDArray[np.int64] = self.confusions[0].sum(axis=2)
        return counted

    @property
    def n_folds(self) -> int:
        """Number of folds that together hold each image out once."""
        return len({fold for _, fold in self.places})

    @property
    def n_images(self) -> int:
        """Images the folds of one repeat hold out together."""
        return int(self.held_out.sum()) * self.n_folds // len(self.places)

    @property
    def test_share(self) -> float:
        """Held-out images per training image: 1 / (K - 1) with K folds."""
        return 1.0 / (self.n_folds - 1)

    def values(self, metric: Metric) -> NDArray[np.float64]:
        """(seeds, repeats * folds) scores."""
        found: NDArray[np.float64] = getattr(self, metric)
        return found

    def estimate(self, metric: Metric) -> Estimate:
        """Mean with its 95 % interval (`stradavit.evaluation.statistics`), unclipped."""
        return estimate(self.values(metric), self.test_share, self.n_images)

    def spread(self, metric: Metric) -> Spread:
        """The cell as printed; the interval ends at 0 and 1, where F1 does."""
        values = self.values(metric)
        found = self.estimate(metric)
        interval = float(np.clip(found.low, 0.0, 1.0)), float(np.clip(found.high, 0.0, 1.0))
        return spread_of(values, interval=interval)


def spread_of(values: NDArray[np.float64], **further: Any) -> Spread:
    """Mean over seeds of the means over folds, population std over all folds and seeds.

    The paper's statistic for one seed and one repeat (section 9.1, item 4).

    Parameters
    ----------
    values : (seeds, repeats * folds)
    further : other fields of the spread
    """
    return Spread(float(values.mean(axis=1).mean()), float(values.std(ddof=0)), **further)


def stack(
    encoders: tuple[str, ...],
    files: tuple[str, ...],
    classes: list[tuple[str, ...]],
    found: list[FoldScores],
    remarks: tuple[str, ...],
) -> Score:
    """The cell of several seeds.

    Raises
    ------
    DataError
        If the seeds were not scored on the same folds of the same classes.
    """
    for file, names, folds in zip(files[1:], classes[1:], found[1:], strict=True):
        for what, ours, first in (
            ("classes", names, classes[0]),
            ("repeats and folds", folds.places, found[0].places),
            ("held-out images", _held_out(folds), _held_out(found[0])),
        ):
            if ours != first:
                raise DataError(
                    f"metrics/{file}: {what} are {ours}, but {first} in metrics/{files[0]}, "
                    "another seed of the same cell. Delete both and run the workflow again."
                )
    return Score(
        encoders=encoders,
        files=files,
        macro_f1=np.array([folds.macro_f1 for folds in found]),
        weighted_f1=np.array([folds.weighted_f1 for folds in found]),
        places=found[0].places,
        classes=classes[0],
        confusions=np.array([folds.confusions for folds in found]),
        remarks=remarks,
    )


def _held_out(folds: FoldScores) -> list[list[int]]:
    """Images of each class in each fold."""
    counted: list[list[int]] = folds.confusions.sum(axis=2).tolist()
    return counted
