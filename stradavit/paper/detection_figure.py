"""Figure 9: what detectors find, miss and invent, on images they were scored on."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from stradavit.cutouts.detection_images import DetectionImages
from stradavit.paper.cells import Results
from stradavit.paper.detection_files import Found, read_found
from stradavit.paper.detection_scores import Compared, compared
from stradavit.paper.names import detection_title
from stradavit.paper.style import GREEN, PHOTO_COLORS, SKY, VERMILION, new_figure, outlined

IMAGES = 4
MIN_SCORE, MIN_IOU = 0.5, 0.5
PANEL_IN = 2.4
LONGEST_NAME = 12
NOTHING = Found(np.zeros((0, 4)), np.zeros(0, np.int64), np.zeros(0))


@dataclass(frozen=True)
class Judged:
    """Detections of an image and its true boxes, told right from wrong.

    Attributes
    ----------
    right : numbers of the detections that match a true box of their class
    wrong : numbers of those that do not
    missed : (m,) bool, for each true box whether no detection matches it; false for regions to
        ignore
    """

    right: list[int]
    wrong: list[int]
    missed: NDArray[np.bool_]


def detection_figures(results: Results) -> Iterator[tuple[str, str, Figure]]:
    """Name, caption and figure for every detection set that the matrix compares encoders on."""
    for name in results.settings.matrix.detection:
        rows = compared(results, name)
        if rows:
            yield f"fig9_detections_{name}", *_figure(results, name, rows)


def judge(
    boxes: NDArray[np.float32],
    labels: NDArray[np.int64],
    is_crowd: NDArray[np.bool_],
    found: Found,
) -> Judged:
    """Match detections with true boxes as COCO does: the surest first, each with its best box.

    A detection most of which lies in a region to ignore is neither right nor wrong.

    Parameters
    ----------
    boxes : (m, 4) x0, y0, x1, y1 px, with labels and whether each is a region to ignore
    found : detections of the image
    """
    iou, inside = _overlaps(found.boxes, boxes.astype(np.float64))
    same_class = found.labels[:, None] == labels[None]
    is_free = ~is_crowd
    right: list[int] = []
    wrong: list[int] = []
    for number in np.argsort(-found.scores, kind="stable").tolist():
        candidates = np.where(same_class[number] & is_free, iou[number], 0.0)
        if len(candidates) and candidates.max() >= MIN_IOU:
            is_free[candidates.argmax()] = False
            right.append(number)
        elif not (same_class[number] & is_crowd & (inside[number] >= MIN_IOU)).any():
            wrong.append(number)
    return Judged(right, wrong, is_free)


def _overlaps(
    found: NDArray[np.float64], boxes: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(k, m) intersection over union, and share of each of the k boxes within each of the m."""
    low = np.maximum(found[:, None, :2], boxes[None, :, :2])
    high = np.minimum(found[:, None, 2:], boxes[None, :, 2:])
    common = (high - low).clip(min=0.0).prod(axis=-1)
    areas = [(b[:, 2:] - b[:, :2]).prod(axis=-1) for b in (found, boxes)]
    union = areas[0][:, None] + areas[1][None] - common
    # A box without area overlaps nothing.
    own = np.maximum(areas[0][:, None], np.finfo(np.float64).tiny)
    return common / np.maximum(union, np.finfo(np.float64).tiny), common / own


def _figure(results: Results, name: str, rows: list[Compared]) -> tuple[str, Figure]:
    settings = results.settings
    shown = rows[:1]
    if len(rows) > 1:
        shown.append(max(rows[1:], key=lambda row: row.mean_map))
    metrics = shown[0].trainings[0]
    images = DetectionImages(results.results_dir / "detection" / f"{name}.h5")
    numbers = _chosen(images, metrics.split)
    # Photographs begin with their first row, maps of the sky end with it.
    is_sky = settings.detection.sets[name].table == "radio"
    figure = new_figure(PANEL_IN * len(numbers) + 0.4, PANEL_IN * len(shown) + 0.5)
    axes = figure.subplots(len(shown), len(numbers), squeeze=False)
    for line, row in zip(axes, shown, strict=True):
        found = read_found(row.trainings[0])
        for axis, number in zip(line, numbers, strict=True):
            _draw(axis, images, number, found.get(number, NOTHING), is_sky)
        line[0].set_ylabel(row.title, fontsize=8.0)
    handles = [
        Line2D([], [], color=GREEN, linewidth=1.4, label="found: detection of a true box"),
        Line2D([], [], color="white", linewidth=0.8, label="the true box", path_effects=outlined()),
        Line2D([], [], color=SKY, linewidth=1.4, linestyle="--", label="true box that is missed"),
        Line2D([], [], color=VERMILION, linewidth=1.4, label="false detection"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    return _caption(results, name, shown, len(rows)), figure


def _caption(results: Results, name: str, shown: list[Compared], n_rows: int) -> str:
    metrics = shown[0].trainings[0]
    which = "the first encoder of its table"
    if len(shown) > 1:
        which += " and the other" if n_rows == 2 else " and the one of the others with the best mAP"
    listed = "; ".join(f"{row.title}, {row.trainings[0].encoder}" for row in shown)
    seed = metrics.seed
    return (
        f"{detection_title(results.settings, name)}: detections with a score of {MIN_SCORE:g} or "
        f"more on images of the {metrics.split} split, spread evenly over those with boxes, of "
        f"{which} ({listed}; detector seed {seed}). A detection is right if it has an IoU of "
        f"{MIN_IOU:g} or more with a true box of its class that no surer one matches."
    )


def _chosen(images: DetectionImages, split: str) -> list[int]:
    """Images with boxes, at even distances in the split; any if none has boxes."""
    numbers = [int(n) for n in images.of_split(split)]
    with_boxes = [n for n in numbers if not images.is_crowd(n).all()] or numbers
    places = np.unique(np.linspace(0, len(with_boxes) - 1, IMAGES).round().astype(np.int64))
    return [with_boxes[place] for place in places]


def _draw(axis: Axes, images: DetectionImages, number: int, found: Found, is_sky: bool) -> None:
    is_shown = found.scores >= MIN_SCORE
    found = Found(found.boxes[is_shown], found.labels[is_shown], found.scores[is_shown])
    boxes = images.boxes(number)
    is_crowd = images.is_crowd(number)
    judged = judge(boxes, images.labels(number), is_crowd, found)
    image = images.image(number)
    axis.imshow(image, cmap=PHOTO_COLORS, vmin=0.0, vmax=1.0, origin="lower" if is_sky else "upper")
    axis.set_xticks([])
    axis.set_yticks([])
    for box, is_missed, ignored in zip(boxes, judged.missed, is_crowd, strict=True):
        if is_missed:
            _frame(axis, box, SKY, 1.4, "--")
        elif not ignored:
            _frame(axis, box, "white", 0.8)
    for numbers, color in ((judged.right, GREEN), (judged.wrong, VERMILION)):
        for i in numbers:
            _frame(axis, found.boxes[i], color, 1.4)
            words = [images.classes[found.labels[i]][:LONGEST_NAME]] * (len(images.classes) > 1)
            text = " ".join([*words, f"{found.scores[i]:.2f}"])
            _label(axis, found.boxes[i], text, color, image.shape[0], is_sky)


def _frame(
    axis: Axes, box: NDArray[np.floating], color: str, width: float, style: str = "-"
) -> None:
    x0, y0, x1, y1 = (float(value) for value in box)
    # Pixel i covers i − ½ to i + ½ on the axes of imshow.
    corner = (x0 - 0.5, y0 - 0.5)
    axis.add_patch(
        Rectangle(
            corner, x1 - x0, y1 - y0, fill=False, edgecolor=color, linewidth=width,
            linestyle=style, path_effects=outlined(width + 1.2),
        )
    )  # fmt: skip


def _label(
    axis: Axes, box: NDArray[np.floating], text: str, color: str, height_px: int, is_sky: bool
) -> None:
    """A text over the upper edge of a box, or below it where the image ends."""
    x0, y0, _, y1 = (float(value) for value in box)
    edge, room = (y1, height_px - y1) if is_sky else (y0, y0)
    label = axis.text(
        max(x0, 0.0), edge - 0.5, text, color="white", fontsize=6.0, clip_on=True,
        va="bottom" if room > 0.08 * height_px else "top",
        bbox={"facecolor": color, "edgecolor": "none", "pad": 0.6, "alpha": 0.85},
    )  # fmt: skip
    label.set_in_layout(False)
