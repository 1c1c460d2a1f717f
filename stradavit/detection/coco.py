"""COCO's average precision, computed by pycocotools itself.

A detection is right if it overlaps a box of its class by more than a threshold, which no better
detection has taken. Precision is read at 101 recalls and averaged; `map` averages over thresholds
0.50 to 0.95 as well, and over classes that occur. At most 100 detections of an image count. Size
classes are by the area of a box in pixels of the stored image: COCO's limits are for photographs,
so a table says what they are.

References
----------
Lin et al. 2014; https://cocodataset.org/#detection-eval
"""

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

# Boxes of exactly such an area count in both neighbouring classes, as in COCO.
SIZE_LIMITS_PX = (32, 96)
MAX_DETECTIONS = 100
_SIZES = ("all", "small", "medium", "large")


class Detection(TypedDict):
    """A detection as COCO's result files have it; `bbox` is x, y, width, height in pixels."""

    image_id: int
    category_id: int
    bbox: list[float]
    score: float


@dataclass(frozen=True)
class Truth:
    """What is in one image.

    Parameters
    ----------
    image_id : as detections name it
    boxes : (k, 4) x0, y0, x1, y1, half-open, px
    labels : (k,) index into the classes
    is_crowd : (k,) bool; detections within such a region are neither right nor wrong
    """

    image_id: int
    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    is_crowd: NDArray[np.bool_]


@dataclass(frozen=True)
class Scores:
    """Average precisions as fractions; None where there is no ground truth.

    Attributes
    ----------
    scores : `map`, `ap50`, `ap75`, `map_small`, `map_medium`, `map_large`
    per_class : `map` and `ap50` of each class, or None if it does not occur
    n_boxes : boxes that are scored, by size class
    """

    scores: dict[str, float | None]
    per_class: dict[str, dict[str, float] | None]
    n_boxes: dict[str, int]


def coco_scores(
    truth: Sequence[Truth], found: Sequence[Detection], classes: Sequence[str]
) -> Scores:
    """Score the detections of a split.

    Parameters
    ----------
    truth : one per image, empty images included
    found : detections in these images
    classes : names by label

    Raises
    ------
    ValueError
        If a detection names an image or a class that is not there.
    """
    wrong = {one["image_id"] for one in found} - {image.image_id for image in truth}
    if wrong or any(not 0 <= one["category_id"] < len(classes) for one in found):
        raise ValueError(
            f"detections name {len(wrong)} images that are not scored, or classes beyond "
            f"{len(classes) - 1}"
        )
    precision = _precision(truth, found, len(classes))
    thresholds = {"map": slice(None), "ap50": slice(0, 1), "ap75": slice(5, 6)}
    scores = {name: _mean(precision[one, :, :, 0]) for name, one in thresholds.items()}
    for place, size in enumerate(_SIZES[1:], start=1):
        scores[f"map_{size}"] = _mean(precision[:, :, :, place])
    per_class: dict[str, dict[str, float] | None] = {}
    for number, name in enumerate(classes):
        of_class = precision[:, :, number, 0]
        mean, at_half = _mean(of_class), _mean(of_class[:1])
        occurs = mean is not None and at_half is not None
        per_class[name] = {"map": mean, "ap50": at_half} if occurs else None  # type: ignore[dict-item]
    return Scores(scores, per_class, _count(truth))


def _precision(
    truth: Sequence[Truth], found: Sequence[Detection], n_classes: int
) -> NDArray[np.float64]:
    """(thresholds, recalls, classes, sizes) precision; -1 where there is no ground truth."""
    from pycocotools.cocoeval import COCOeval

    images = [{"id": image.image_id} for image in truth]
    categories = [{"id": number} for number in range(n_classes)]
    boxes = [
        _annotation(image.image_id, int(label), _xywh(box), is_crowd=bool(is_crowd))
        for image in truth
        for box, label, is_crowd in zip(image.boxes, image.labels, image.is_crowd, strict=True)
    ]
    results = [
        _annotation(one["image_id"], one["category_id"], one["bbox"]) | {"score": one["score"]}
        for one in found
    ]
    with contextlib.redirect_stdout(io.StringIO()):  # it prints what it does
        evaluation = COCOeval(
            _dataset(images, categories, boxes), _dataset(images, categories, results), "bbox"
        )
        evaluation.params.maxDets = [MAX_DETECTIONS]
        evaluation.evaluate()
        evaluation.accumulate()
    precision: NDArray[np.float64] = evaluation.eval["precision"][..., 0]
    return precision


def _dataset(
    images: list[dict[str, Any]], categories: list[dict[str, Any]], rows: list[dict[str, Any]]
) -> Any:
    """A `COCO` made of lists; its own reader of results wants at least one."""
    from pycocotools.coco import COCO

    # Ids from 1: it writes the id of a match where 0 means none.
    annotations = [row | {"id": number} for number, row in enumerate(rows, start=1)]
    made = COCO()
    made.dataset = {"images": images, "categories": categories, "annotations": annotations}
    made.createIndex()
    return made


def _annotation(
    image_id: int, category_id: int, bbox: Sequence[float], is_crowd: bool = False
) -> dict[str, Any]:
    return {
        "image_id": image_id,
        "category_id": category_id,
        "bbox": list(bbox),
        "area": bbox[2] * bbox[3],
        "iscrowd": int(is_crowd),
    }


def _xywh(box: NDArray[np.float32]) -> list[float]:
    x0, y0, x1, y1 = (float(value) for value in box)
    return [x0, y0, x1 - x0, y1 - y0]


def _mean(precision: NDArray[np.float64]) -> float | None:
    known = precision[precision > -1]
    return float(known.mean()) if known.size else None


def _count(truth: Sequence[Truth]) -> dict[str, int]:
    kept = [image.boxes[~image.is_crowd].astype(np.float64) for image in truth]
    boxes = np.concatenate([np.empty((0, 4)), *kept])
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    small, large = (side**2 for side in SIZE_LIMITS_PX)
    return {
        "all": len(areas),
        "small": int((areas <= small).sum()),
        "medium": int(((areas >= small) & (areas <= large)).sum()),
        "large": int((areas >= large).sum()),
    }
