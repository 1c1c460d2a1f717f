"""A copy of SARDet-100K on this disk, and whether it is as published."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stradavit.acquire.coco_copy import CocoCopy, find_copy

CLASSES = ("ship", "aircraft", "car", "tank", "bridge", "harbor")
IMAGES = {"train": 94_493, "val": 10_492, "test": 11_613}
# The README prints 24,023 for the test boxes; its own rows add up to 24,203.
BOXES = {"train": 198_747, "val": 22_703, "test": 24_203}


@dataclass(frozen=True)
class SardetCopy:
    """Where a copy keeps its files, what it holds, and what of it is not as published.

    Parameters
    ----------
    annotations : COCO file of each split
    folders : folder the file names of each split are relative to
    images, boxes : number in each split
    categories : id of each class; ids differ between releases, names do not
    """

    root: Path
    annotations: Mapping[str, Path]
    folders: Mapping[str, Path]
    images: Mapping[str, int]
    boxes: Mapping[str, int]
    categories: Mapping[str, int]
    boxes_of_class: Mapping[str, int]
    warnings: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """The copy as JSON can say it."""
        return {
            "root": str(self.root),
            "annotations": {split: str(path) for split, path in self.annotations.items()},
            "folders": {split: str(path) for split, path in self.folders.items()},
            "images": dict(self.images),
            "boxes": dict(self.boxes),
            "categories": dict(self.categories),
            "boxes_of_class": dict(self.boxes_of_class),
            "warnings": list(self.warnings),
        }


def read_copy(folder: Path) -> SardetCopy:
    """Recognise a copy in `folder` or below it, count it, and look for every image it names.

    Both published layouts are known, see `stradavit.acquire.coco_copy`. Numbers that differ from
    the published ones are warnings: the data set may have been revised.

    Raises
    ------
    DataError
        If there is no copy or more than one, annotations are damaged or unsafe, disagree on their
        categories, or images are missing.
    """
    copy = find_copy(folder)
    counts = {split: copy.boxes_of_class(split) for split in copy.files}
    of_class = sum(counts.values(), Counter[str]())
    return SardetCopy(
        copy.root,
        {split: file.path for split, file in copy.files.items()},
        {str(split): folder for split, folder in copy.folders.items()},
        {split: copy.n_images(split) for split in copy.files},
        {split: count.total() for split, count in counts.items()},
        copy.categories,
        dict(sorted(of_class.items())),
        tuple(differences(copy)),
    )


def is_sardet(copy: CocoCopy) -> bool:
    """Whether a copy means to be SARDet-100K: its classes, and most of the images of its splits.

    Its parts were published on their own, some in its layout and with its classes.
    """
    expected = sum(IMAGES[split] for split in copy.files)
    found = sum(copy.n_images(split) for split in copy.files)
    return set(copy.categories) == set(CLASSES) and 2 * found > expected


def differences(copy: CocoCopy) -> list[str]:
    """What of a copy is not as published."""
    images = {split: copy.n_images(split) for split in copy.files}
    boxes = {split: copy.boxes_of_class(split).total() for split in copy.files}
    told = [
        f"{split}: has {found[split]:,} {what}; published are {expected[split]:,}"
        for what, found, expected in (("images", images, IMAGES), ("boxes", boxes, BOXES))
        for split in copy.files
        if found[split] != expected[split]
    ]
    classes = sorted(copy.categories)
    if classes != sorted(CLASSES):
        told.append(f"its classes are {classes}; published are {sorted(CLASSES)}")
    return told
