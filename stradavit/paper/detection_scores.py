"""The detectors that a detection set compares, and whether they were scored on the same boxes."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from stradavit.errors import DataError
from stradavit.paper.cells import Results
from stradavit.paper.detection_files import DetectionMetrics, detection_file, read_detection_metrics
from stradavit.paper.layout import Spread
from stradavit.paper.remarks import Remarks


@dataclass(frozen=True)
class Compared:
    """A row of the comparison: the trainings of a detector with one kind of encoder.

    Parameters
    ----------
    title : of the encoder
    trainings : one for each pretraining seed and each seed of the detector
    files : their metrics files, relative to the folder of metrics
    notes : what makes their scores differ from what the present config and code would give
    """

    title: str
    trainings: tuple[DetectionMetrics, ...]
    files: tuple[str, ...]
    notes: tuple[str, ...]

    def score(self, key: str) -> float | Spread | None:
        """A score in percent: see `summary`."""
        return summary([metrics.scores[key] for metrics in self.trainings])

    def of_class(self, name: str) -> float | Spread | None:
        """mAP of a class in percent; None if the set does not have it."""
        return summary([metrics.per_class.get(name) for metrics in self.trainings])

    @property
    def mean_map(self) -> float:
        """mAP in percent, mean over the trainings; −1 if nothing was to be found."""
        found = self.score("map")
        if found is None:
            return -1.0
        return found.mean if isinstance(found, Spread) else found


def summary(values: list[float | None], factor: float = 100.0) -> float | Spread | None:
    """Mean with population std over trainings; the number alone if there is one training.

    Parameters
    ----------
    values : fractions; None, of all trainings together, where there was nothing to find
    factor : makes percent of fractions
    """
    found = np.array([value for value in values if value is not None]) * factor
    if not len(found):
        return None
    if len(values) == 1:
        return float(found[0])
    return Spread(float(found.mean()), float(found.std(ddof=0)))


def compared(results: Results, detection_set: str) -> list[Compared]:
    """All rows of a detection set, in the order of the config.

    Raises
    ------
    DataError
        If a metrics file is malformed, or two were not scored on the same boxes.
    """
    settings = results.settings
    remarks = Remarks(settings, results.results_dir)
    rows = []
    for row in settings.detection_rows(detection_set):
        trainings, files, notes = [], [], []
        for node in row.nodes:
            for seed in settings.detection.training.seeds:
                cell = (node.name, detection_set, seed)
                metrics = read_detection_metrics(results.detection_path(*cell), *cell)
                trainings.append(metrics)
                files.append(detection_file(*cell))
                notes += remarks.of_detector(node, metrics)
        if trainings:
            unique = tuple(dict.fromkeys(notes))
            rows.append(Compared(row.title, tuple(trainings), tuple(files), unique))
    _check_same_boxes([metrics for row in rows for metrics in row.trainings])
    return rows


def _check_same_boxes(trainings: list[DetectionMetrics]) -> None:
    for metrics in trainings[1:]:
        for what, ours in _scored(metrics).items():
            first = _scored(trainings[0])[what]
            if ours != first:
                raise DataError(
                    f"{metrics.path}: {what} {ours}, but {first} in {trainings[0].path}, which is "
                    "in the same table. Delete both and run the workflow again."
                )


def _scored(metrics: DetectionMetrics) -> dict[str, Any]:
    """What must not differ between numbers that are compared."""
    by_class = metrics.per_class.items()
    return {
        "split is": metrics.split,
        "classes are": metrics.classes,
        "images are": metrics.n_images,
        "boxes are": metrics.n_boxes,
        "size limits are": metrics.size_limits_px,
        "scores without boxes are": [key for key, value in metrics.scores.items() if value is None],
        "classes without boxes are": [name for name, value in by_class if value is None],
        "the band of the SDC1 score is": metrics.sdc1 and metrics.sdc1.band_mhz,
    }
