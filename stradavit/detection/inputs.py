"""What a detector is shown: images and boxes of a split, in which order, and read ahead of use.

Order and mirroring are functions of (seed, epoch, image), the seed of all else that is drawn in a
micro-batch of (seed, epoch, its place in the epoch). So a training that was stopped goes on as if
it had not been, and reader threads change nothing.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from math import ceil
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stradavit.cutouts.detection_images import DetectionImages
from stradavit.settings.detection import DetectorTraining
from stradavit.settings.training import LoaderSettings
from stradavit.training.loader import in_order

# Each draw has its own stream; adding one must not shift the others.
_ORDER, _MIRROR, _NETWORK = range(3)

Target = dict[str, Tensor]


class MicroBatch(NamedTuple):
    """Images that pass the detector at once.

    `numbers` (b,) int64 of the images, `mirrored` (b,) bool, `weight` of its mean loss within the
    update, which is its share of the update's images; `torch_seed` of what is drawn meanwhile.
    `epoch` and `update`, counted over all epochs, start from 0.
    """

    epoch: int
    update: int
    numbers: NDArray[np.int64]
    mirrored: NDArray[np.bool_]
    weight: float
    torch_seed: int
    ends_update: bool
    ends_epoch: bool


@dataclass(frozen=True)
class Lessons:
    """The images of the split `train` with the boxes to be learned.

    Attributes
    ----------
    numbers : (n,) int64 images shown in every epoch
    boxes : of each, (k, 4) float32 in pixels of the image
    labels : of each, (k,) int64 index into the classes
    n_empty : images without a box to learn, shown or not
    n_crowd, n_small : boxes left out as regions of many, and as too small
    n_held_out : images left out since another split has the same pixels
    """

    numbers: NDArray[np.int64]
    boxes: dict[int, NDArray[np.float32]]
    labels: dict[int, NDArray[np.int64]]
    n_empty: int
    n_crowd: int
    n_small: int
    n_held_out: int

    @property
    def n_boxes(self) -> int:
        """Boxes learned in every epoch."""
        return sum(len(self.boxes[number]) for number in self.numbers.tolist())


def lessons_of(images: DetectionImages, settings: DetectorTraining) -> Lessons:
    """What to learn from a detection set; an image all of whose boxes are left out is empty."""
    boxes, labels = {}, {}
    numbers = images.of_split("train")
    n_held_out = 0
    if settings.skip_held_out:
        is_elsewhere = np.isin(images.checksums, images.checksums[images.splits != "train"])
        n_held_out = int(is_elsewhere[numbers].sum())
        numbers = numbers[~is_elsewhere[numbers]]
    n_crowd = n_small = n_empty = 0
    for number in numbers.tolist():
        found, is_crowd = images.boxes(number), images.is_crowd(number)
        sides = (found[:, 2:] - found[:, :2]).min(axis=1, initial=np.inf)
        is_small = ~is_crowd & (sides < settings.min_side_px)
        is_learned = ~is_crowd & ~is_small
        boxes[number] = found[is_learned]
        labels[number] = images.labels(number)[is_learned]
        n_crowd += int(is_crowd.sum())
        n_small += int(is_small.sum())
        n_empty += not is_learned.any()
    if settings.skip_empty:
        numbers = numbers[[len(boxes[number]) > 0 for number in numbers.tolist()]]
    return Lessons(numbers, boxes, labels, n_empty, n_crowd, n_small, n_held_out)


def updates_per_epoch(n_images: int, settings: DetectorTraining) -> int:
    """Updates that show every image once; the last may have fewer."""
    return ceil(n_images / settings.batch_size)


def micro_batches(
    numbers: NDArray[np.int64], settings: DetectorTraining, seed: int, updates_done: int
) -> Iterator[MicroBatch]:
    """All micro-batches from update `updates_done` to the end of the last epoch.

    Parameters
    ----------
    numbers : (n,) images of an epoch, in any order
    """
    per_epoch = updates_per_epoch(len(numbers), settings)
    for epoch in range(updates_done // per_epoch, settings.epochs):
        order = np.random.default_rng((seed, epoch, _ORDER)).permutation(numbers)
        chances = np.random.default_rng((seed, epoch, _MIRROR)).random(int(numbers.max()) + 1)
        place = 0
        for step, first in enumerate(range(0, len(order), settings.batch_size)):
            batch = order[first : first + settings.batch_size]
            for start in range(0, len(batch), settings.micro_batch_size):
                part = batch[start : start + settings.micro_batch_size]
                ends_update = start + len(part) == len(batch)
                update = epoch * per_epoch + step
                if update >= updates_done:
                    yield MicroBatch(
                        epoch=epoch,
                        update=update,
                        numbers=part,
                        mirrored=chances[part] < settings.flip_probability,
                        weight=len(part) / len(batch),
                        torch_seed=_torch_seed(seed, epoch, place),
                        ends_update=ends_update,
                        ends_epoch=ends_update and step + 1 == per_epoch,
                    )
                place += 1


def _torch_seed(seed: int, epoch: int, place: int) -> int:
    state = np.random.SeedSequence((seed, epoch, place, _NETWORK)).generate_state(1)
    return int(state[0])


def read_lesson(
    images: DetectionImages, lessons: Lessons, number: int, is_mirrored: bool
) -> tuple[Tensor, Target]:
    """An image and its boxes as a detector learns them.

    Returns
    -------
    (1, ny, nx) float32 in [0, 1]; `boxes` (k, 4) float32 in its pixels and `labels` (k,) int64,
    which count from 1 since 0 is the background. Without boxes they are (0, 4) and (0,).
    """
    pixels, boxes = images.image(number), lessons.boxes[number]
    if is_mirrored:
        pixels, boxes = mirror(pixels, boxes)
    labels = torch.from_numpy(lessons.labels[number] + 1)
    return torch.from_numpy(pixels)[None], {"boxes": torch.from_numpy(boxes), "labels": labels}


def mirror(
    pixels: NDArray[np.float32], boxes: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Left becomes right: (ny, nx) pixels and (k, 4) half-open boxes x0, y0, x1, y1."""
    nx = pixels.shape[1]
    x0, y0, x1, y1 = boxes.T
    mirrored = np.stack([nx - x1, y0, nx - x0, y1], axis=1).astype(np.float32)
    return np.ascontiguousarray(pixels[:, ::-1]), mirrored


def read_ahead(
    images: DetectionImages,
    lessons: Lessons,
    batches: Iterable[MicroBatch],
    loader: LoaderSettings,
) -> Iterator[tuple[MicroBatch, list[tuple[Tensor, Target]]]]:
    """Each micro-batch with its images and targets, in the given order, read by threads.

    Raises
    ------
    DataError
        If an image has changed.
    """

    def read(batch: MicroBatch) -> tuple[MicroBatch, list[tuple[Tensor, Target]]]:
        pairs = zip(batch.numbers.tolist(), batch.mirrored.tolist(), strict=True)
        return batch, [read_lesson(images, lessons, *pair) for pair in pairs]

    yield from in_order((partial(read, batch) for batch in batches), loader)


def as_input(pixels: Tensor, channels: int, device: torch.device) -> Tensor:
    """(1, ny, nx) in [0, 1] to (channels, ny, nx) on the device, all channels the same."""
    return pixels.to(device, non_blocking=True).expand(channels, -1, -1)
