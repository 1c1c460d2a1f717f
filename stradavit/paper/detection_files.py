"""Metrics and boxes of detectors, read with care: what `detect` does not write is an error."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from stradavit.errors import DataError
from stradavit.files import read_json, sha256_of
from stradavit.settings.detection import SPLITS

SCORES = ("map", "ap50", "ap75", "map_small", "map_medium", "map_large")
SIZES = ("small", "medium", "large")
T = TypeVar("T")


@dataclass(frozen=True)
class Sdc1Score:
    """Score of the SKA Science Data Challenge 1; `stradavit.detection.challenge` says of what.

    Attributes
    ----------
    score : may be negative
    percent : the score in percent of the number of true boxes
    n_detections, n_matched, n_false : what was submitted
    band_mhz : of the scored images; None if they are of several bands
    """

    score: float
    percent: float
    n_detections: int
    n_matched: int
    n_false: int
    band_mhz: int | None


@dataclass(frozen=True)
class DetectionMetrics:
    """What one detector scored.

    Attributes
    ----------
    path : the file
    encoder, detection_set, seed : what was trained on what, with which seed
    split : train, val or test
    classes : names, in the order of the labels
    scores : for each of `SCORES` a fraction, or None where no box has that size
    per_class : mAP of each class as a fraction, None for a class without boxes
    n_images, n_boxes : what was scored; boxes by size and in all
    size_limits_px : a medium box has an area of at least the first squared, a large one of the
        second
    sdc1 : score of the challenge, if its products were scored
    settings, code : what the detector was trained with, and the hash of the code that scored it
    trained_code : hash of the code that trained it
    detections_sha256 : of the file beside it; None in files of before
    """

    path: Path
    encoder: str
    detection_set: str
    seed: int
    split: str
    classes: tuple[str, ...]
    scores: dict[str, float | None]
    per_class: dict[str, float | None]
    n_images: int
    n_boxes: dict[str, int]
    size_limits_px: tuple[float, float]
    sdc1: Sdc1Score | None
    settings: dict[str, Any]
    code: str
    trained_code: str
    detections_sha256: str | None = None


@dataclass(frozen=True)
class Found:
    """Boxes that a detector found in one image.

    Attributes
    ----------
    boxes : (k, 4) float64 x0, y0, x1, y1 in pixels of the stored image
    labels : (k,) int64, index into the classes
    scores : (k,) float64 in [0, 1]
    """

    boxes: NDArray[np.float64]
    labels: NDArray[np.int64]
    scores: NDArray[np.float64]


def detection_file(encoder: str, detection_set: str, seed: int) -> str:
    """The metrics file of a detector, relative to the folder of metrics."""
    return f"detection/{encoder}/{detection_set}/s{seed}.json"


def read_detection_metrics(
    path: Path, encoder: str, detection_set: str, seed: int
) -> DetectionMetrics:
    """The metrics file of a detector.

    Raises
    ------
    DataError
        If the file is not the JSON that `detect` writes, or is about another detector.
    """
    metrics = _read(path, "a metrics file of detection", lambda c: _metrics(path, c))
    about = (metrics.encoder, metrics.detection_set, metrics.seed)
    if about != (encoder, detection_set, seed):
        raise DataError(
            f"{path}: is about {' '.join(map(str, about))}, expected {encoder} {detection_set} "
            f"{seed}. Delete it and run `snakemake {path}`."
        )
    return metrics


def read_found(metrics: DetectionMetrics) -> dict[int, Found]:
    """The boxes behind a metrics file, by number of the image; images without any are absent.

    Raises
    ------
    DataError
        If the file beside the metrics is not a list of results as COCO defines it.
    """
    path = metrics.path.with_suffix(".detections.json")
    expected = metrics.detections_sha256

    def parse(content: Any) -> dict[int, Found]:
        if expected is not None and sha256_of(path) != expected:
            raise ValueError("it is not the one that was scored, or is damaged")
        by_image: dict[int, list[tuple[list[float], int, float]]] = {}
        for entry in content:
            x, y, width, height = (float(value) for value in entry["bbox"])
            label, score = _whole(entry["category_id"], "category_id"), _fraction(entry["score"])
            if not np.isfinite([x, y, width, height]).all() or min(width, height) < 0:
                raise ValueError(f"box {entry['bbox']}; expected finite x, y, width, height")
            if label >= len(metrics.classes):
                raise ValueError(f"category_id {label}; expected less than {len(metrics.classes)}")
            image = by_image.setdefault(_whole(entry["image_id"], "image_id"), [])
            image.append(([x, y, x + width, y + height], label, score))
        return {
            number: Found(
                boxes=np.array([box for box, _, _ in found], dtype=np.float64),
                labels=np.array([label for _, label, _ in found], dtype=np.int64),
                scores=np.array([score for _, _, score in found], dtype=np.float64),
            )
            for number, found in by_image.items()
        }

    return _read(path, "a list of detections", parse)


def _read(path: Path, kind: str, parse: Callable[[Any], T]) -> T:
    try:
        return parse(read_json(path))
    except (OSError, ValueError, TypeError, KeyError, OverflowError, AttributeError) as error:
        made = path.with_name(path.name.replace(".detections.json", ".json"))
        raise DataError(
            f"{path}: not {kind} ({type(error).__name__}: {error}). Delete it and run "
            f"`snakemake --forcerun {made}`."
        ) from error


def _metrics(path: Path, content: dict[str, Any]) -> DetectionMetrics:
    if content["protocol"] != "detection":
        raise ValueError(f"protocol is {content['protocol']!r}, expected 'detection'")
    if content["split"] not in SPLITS:
        raise ValueError(f"split is {content['split']!r}, expected one of {', '.join(SPLITS)}")
    classes = tuple(str(name) for name in content["classes"])
    if sorted(content["scores"]) != sorted(SCORES):
        raise ValueError(f"scores are {sorted(content['scores'])}, expected {sorted(SCORES)}")
    if sorted(content["per_class"]) != sorted(classes) or not classes:
        raise ValueError(f"per_class has {sorted(content['per_class'])}, expected the classes")
    n_boxes = {key: _whole(content["n_boxes"][key], f"n_boxes.{key}") for key in ("all", *SIZES)}
    medium, large = (float(limit) for limit in content["size_limits_px"])
    if not 0 < medium < large:
        raise ValueError(f"size_limits_px is [{medium}, {large}], expected two that rise")
    by_class = {name: content["per_class"][name] for name in classes}
    return DetectionMetrics(
        path=path,
        encoder=str(content["encoder"]),
        detection_set=str(content["set"]),
        seed=_whole(content["seed"], "seed"),
        split=content["split"],
        classes=classes,
        scores={key: _fraction_or_none(content["scores"][key]) for key in SCORES},
        per_class={
            name: None if block is None else _fraction_or_none(block["map"])
            for name, block in by_class.items()
        },
        n_images=_whole(content["n_images"], "n_images"),
        n_boxes=n_boxes,
        size_limits_px=(medium, large),
        sdc1=None if content["sdc1"] is None else _sdc1(content["sdc1"]),
        settings=dict(content["settings"]),
        code=str(content["code"]),
        trained_code=str(content["provenance"]["detector_code"]),
        detections_sha256=content.get("detections_sha256"),
    )


def _sdc1(block: dict[str, Any]) -> Sdc1Score:
    score, percent = float(block["score"]), float(block["percent"])
    if not np.isfinite([score, percent]).all():
        raise ValueError(f"sdc1 has score {score} and percent {percent}; expected finite numbers")
    band = block["band_mhz"]
    return Sdc1Score(
        score=score,
        percent=percent,
        n_detections=_whole(block["n_detections"], "sdc1.n_detections"),
        n_matched=_whole(block["n_matched"], "sdc1.n_matched"),
        n_false=_whole(block["n_false"], "sdc1.n_false"),
        band_mhz=None if band is None else _whole(band, "sdc1.band_mhz"),
    )


def _fraction(value: Any) -> float:
    number = float(value)
    if isinstance(value, bool) or not 0.0 <= number <= 1.0:
        raise ValueError(f"a score is {value!r}, expected a fraction")
    return number


def _fraction_or_none(value: Any) -> float | None:
    return None if value is None else _fraction(value)


def _whole(value: Any, key: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"{key} is {value!r}, expected a whole number")
    return value
