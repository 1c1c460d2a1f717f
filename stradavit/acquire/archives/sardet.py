"""A copy of SARDet-100K on this disk: which of its layouts it has, and whether it is whole."""

import json
from collections import Counter
from collections.abc import Mapping, Set
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from stradavit.errors import DataError

SPLITS = ("train", "val", "test")
CLASSES = ("ship", "aircraft", "car", "tank", "bridge", "harbor")
IMAGES = {"train": 94_493, "val": 10_492, "test": 11_613}
# The README prints 24,023 for the test boxes; its own rows add up to 24,203.
BOXES = {"train": 198_747, "val": 22_703, "test": 24_203}
ANNOTATIONS = "Annotations"
PICTURES = "JPEGImages"
MAX_DEPTH = 3


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

    Both published layouts are known: images in JPEGImages/<split>/, or all in JPEGImages/. Numbers
    that differ from the published ones are warnings: the data set may have been revised.

    Raises
    ------
    DataError
        If there is no copy or more than one, annotations are damaged or unsafe, disagree on their
        categories, or images are missing.
    """
    root = _find_root(Path(folder).absolute())
    annotations = {split: root / ANNOTATIONS / f"{split}.json" for split in SPLITS}
    missing = [path.name for path in annotations.values() if not path.is_file()]
    if missing:
        raise DataError(
            f"{root / ANNOTATIONS}: has no {', '.join(missing)}; expected one file for each split. "
            "The test split was published later than the others: download the data set again."
        )
    pictures = root / PICTURES
    there = {path.relative_to(pictures).as_posix() for path in pictures.rglob("*.*")}
    folders: dict[str, Path] = {}
    images: dict[str, int] = {}
    boxes: dict[str, int] = {}
    categories: dict[str, int] = {}
    of_class: Counter[str] = Counter()
    for split, path in annotations.items():
        names, found, counts = _read_annotations(path)
        if categories and found != categories:
            raise DataError(
                f"{path}: its categories are {found}; the other splits have {categories}. The "
                "files are of different versions: download the data set again."
            )
        categories = found
        folders[split] = _folder_of(names, there, pictures, split)
        images[split], boxes[split] = len(names), counts.total()
        of_class += counts
    warnings = [
        f"{split}: has {found[split]:,} {what}; published are {expected[split]:,}"
        for what, found, expected in (("images", images, IMAGES), ("boxes", boxes, BOXES))
        for split in SPLITS
        if found[split] != expected[split]
    ]
    if sorted(categories) != sorted(CLASSES):
        warnings.append(f"its classes are {sorted(categories)}; published are {sorted(CLASSES)}")
    counted = dict(sorted(of_class.items()))
    return SardetCopy(
        root, annotations, folders, images, boxes, categories, counted, tuple(warnings)
    )


def _find_root(folder: Path) -> Path:
    roots = [
        path.parent
        for depth in range(MAX_DEPTH)
        for path in sorted(folder.glob("*/" * depth + ANNOTATIONS))
        if (path.parent / PICTURES).is_dir()
    ]
    if len(roots) != 1:
        raise DataError(
            f"{folder}: expected one folder with {ANNOTATIONS}/ and {PICTURES}/ in it or up to "
            f"{MAX_DEPTH - 1} folders below; found {', '.join(map(str, roots)) or 'none'}. Name "
            "the folder that holds both."
        )
    return roots[0]


def _folder_of(names: list[str], there: Set[str], pictures: Path, split: str) -> Path:
    """The folder a split's file names are relative to, in which all of them must be."""
    missing = {
        pictures: [name for name in names if name not in there],
        pictures / split: [name for name in names if f"{split}/{name}" not in there],
    }
    folder = min(missing, key=lambda folder: len(missing[folder]))
    if lacking := missing[folder]:
        raise DataError(
            f"{folder}: lacks {len(lacking):,} of the {len(names):,} images of {split}.json, such "
            f"as {lacking[0]}. Download the data set again, or complete the copy."
        )
    return folder


def _read_annotations(path: Path) -> tuple[list[str], dict[str, int], Counter[str]]:
    """File names of the images, category ids by class name, boxes by class name."""
    try:
        coco = json.loads(path.read_text(encoding="utf-8"))
        names = {int(image["id"]): str(image["file_name"]) for image in coco["images"]}
        n_images = len(coco["images"])
        # Ids begin at 0 in some releases and at 1 in others: only names mean the same everywhere.
        classes = {int(item["id"]): str(item["name"]) for item in coco["categories"]}
        counts: Counter[str] = Counter()
        for box in coco["annotations"]:
            if int(box["image_id"]) not in names or len(box["bbox"]) != 4:
                raise ValueError(f"the box {box.get('id')!r} has no image, or not four numbers")
            counts[classes[int(box["category_id"])]] += 1
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(
            f"{path}: cannot be read as COCO annotations ({error!r}); expected images, annotations "
            "and categories. Download the data set again."
        ) from error
    if len(names) != n_images or len(set(names.values())) != n_images:
        raise DataError(f"{path}: some of its {n_images} images share an id or a file name.")
    for name in names.values():
        parts = PurePosixPath(name)
        if parts.is_absolute() or ".." in parts.parts or "\\" in name or not name.isprintable():
            raise DataError(f"{path}: names the image {name!r}, which lies outside its folder.")
    if len(set(classes.values())) != len(classes):
        raise DataError(f"{path}: two categories share a name: {sorted(classes.values())}.")
    return list(names.values()), {name: n for n, name in classes.items()}, counts
