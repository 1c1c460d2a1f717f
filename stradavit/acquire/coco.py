"""COCO annotations of one split: read strictly, and every fault of the file told at once."""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, TypeGuard

from stradavit.errors import DataError

# Parsed JSON takes about ten times its file: 5 GB here. SARDet-100K's largest has some 60 MB.
MAX_BYTES = 512 * 2**20
TOLD_FAULTS = 50


@dataclass(frozen=True)
class CocoBox:
    """A box as the file has it.

    Parameters
    ----------
    id : of the annotation
    source : what the box is of, if the file says so (`source_id`); else ""
    label : name of its class; ids differ between releases, names do not
    x, y, width, height : pixels; finite, sizes not negative; may reach out of the image
    is_crowd : a region to ignore
    """

    id: int
    source: str
    label: str
    x: float
    y: float
    width: float
    height: float
    is_crowd: bool


@dataclass(frozen=True)
class CocoImage:
    """A picture with its boxes; `name` is its path below the folder of pictures."""

    name: str
    ny: int
    nx: int
    boxes: tuple[CocoBox, ...]


@dataclass(frozen=True)
class CocoFile:
    """One annotation file.

    Parameters
    ----------
    categories : id of each class by name, in the order of ids
    images : in the order of the file
    """

    path: Path
    categories: dict[str, int]
    images: tuple[CocoImage, ...]


class Faults:
    """What is wrong with a file: all is counted, the first `TOLD_FAULTS` are told."""

    def __init__(self) -> None:
        self.number = 0
        self._told: list[str] = []

    def add(self, text: str) -> None:
        """Note a fault."""
        self.number += 1
        if len(self._told) < TOLD_FAULTS:
            self._told.append(text)

    def listed(self) -> str:
        """The faults, one a line."""
        more = self.number - len(self._told)
        lines = [*self._told, *([f"and {more:,} more"] if more else [])]
        return "\n".join(f"- {line}" for line in lines)


def read_coco(path: Path) -> CocoFile:
    """Read one annotation file; categories count from whichever id.

    Raises
    ------
    DataError
        One error that lists every fault: missing keys, boxes without image or class, values that
        are no finite numbers, repeated ids or names, names that lead out of the folder, sizes that
        are no positive integers.
    """
    coco = _read_json(path)
    faults = Faults()
    categories = _read_categories(_items(coco, "categories", faults), faults)
    images = _read_images(_items(coco, "images", faults), faults)
    boxes = _read_boxes(_items(coco, "annotations", faults), categories, set(images), faults)
    if faults.number:
        raise DataError(
            f"{path}: cannot be used as COCO annotations, for {faults.number:,} "
            f"fault{'s' * (faults.number > 1)}. Correct the file, or get the data set again.\n"
            f"{faults.listed()}"
        )
    read = tuple(
        CocoImage(name, ny, nx, tuple(boxes.get(number, ())))
        for number, (name, ny, nx) in images.items()
    )
    by_id = sorted(categories.items())
    return CocoFile(path, {name: number for number, name in by_id}, read)


def _read_json(path: Path) -> dict[str, Any]:
    expected = "expected a JSON object with images, annotations and categories"
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise DataError(
                f"{path}: has {size / 2**20:,.0f} MB; at most {MAX_BYTES / 2**20:,.0f} MB of "
                "annotations are read. Take out what is not needed, such as segmentations."
            )
        coco = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(
            f"{path}: cannot be read as COCO annotations ({error!r}); {expected}. "
            "Get the data set again."
        ) from error
    if not isinstance(coco, dict):
        raise DataError(
            f"{path}: cannot be read as COCO annotations: holds a {type(coco).__name__}; "
            f"{expected}."
        )
    return coco


def _items(coco: dict[str, Any], key: str, faults: Faults) -> Iterator[tuple[str, dict[str, Any]]]:
    """The objects below a key of the file, and how messages call each."""
    items = coco.get(key)
    if not isinstance(items, list):
        found = f"`{key}` is {_short(items)}" if key in coco else f"has no `{key}`"
        faults.add(f"{found}; expected a list")
        return
    for place, item in enumerate(items):
        where = f"{key}[{place}]"
        if isinstance(item, dict):
            yield where, item
        else:
            faults.add(f"{where}: is {_short(item)}; expected an object")


def _read_id(item: dict[str, Any], where: str, known: Any, faults: Faults) -> int | None:
    """The id of an item, None if there is no good one."""
    number = item.get("id")
    if not _is_integer(number):
        faults.add(f"{where}: {_found(item, 'id')}; expected an integer")
        return None
    if number in known:
        faults.add(f"{where}: repeats the id {number}")
        return None
    return number


def _read_categories(items: Iterator[tuple[str, dict[str, Any]]], faults: Faults) -> dict[int, str]:
    names: dict[int, str] = {}
    seen: set[str] = set()
    for where, item in items:
        number = _read_id(item, where, names, faults)
        name = item.get("name")
        if not isinstance(name, str) or not name or not name.isprintable():
            faults.add(f"{where}: {_found(item, 'name')}; expected the name of a class")
            name = None
        elif name in seen:
            faults.add(f"{where}: two categories share a name, {name!r}")
        else:
            seen.add(name)
        if number is not None:
            # Kept even without a name, so that its boxes are not called faulty as well.
            names[number] = name or f"category {number}"
    return names


def _read_images(
    items: Iterator[tuple[str, dict[str, Any]]], faults: Faults
) -> dict[int, tuple[str, int, int]]:
    images: dict[int, tuple[str, int, int]] = {}
    names: set[str] = set()
    for where, item in items:
        number = _read_id(item, where, images, faults)
        name = item.get("file_name")
        if not isinstance(name, str) or not name:
            faults.add(f"{where}: {_found(item, 'file_name')}; expected the name of a picture")
            name = ""
        elif not _is_safe(name):
            faults.add(
                f"{where}: the file name {_short(name)} lies outside its folder or is no path"
            )
        elif str(PurePosixPath(name)) in names:
            faults.add(f"{where}: repeats the file name {_short(name)}")
        names.add(str(PurePosixPath(name)))
        for key in ("width", "height"):
            value = item.get(key)
            if not _is_integer(value) or value < 1:
                faults.add(f"{where}: {_found(item, key)}; expected a positive integer")
        if number is not None:
            images[number] = (name, item.get("height", 0), item.get("width", 0))
    return images


def _read_boxes(
    items: Iterator[tuple[str, dict[str, Any]]],
    categories: dict[int, str],
    images: set[int],
    faults: Faults,
) -> dict[int, list[CocoBox]]:
    boxes: dict[int, list[CocoBox]] = {}
    known: set[int] = set()
    for where, item in items:
        before = faults.number
        number = _read_id(item, where, known, faults)
        image, category = item.get("image_id"), item.get("category_id")
        if not _is_integer(image):
            faults.add(f"{where}: {_found(item, 'image_id')}; expected the id of an image")
        elif image not in images:
            faults.add(f"{where}: has no image: there is none with the id {image}")
        if not _is_integer(category):
            faults.add(f"{where}: {_found(item, 'category_id')}; expected the id of a category")
        elif category not in categories:
            faults.add(f"{where}: there is no category with the id {category}")
        if fault := _box_fault(item):
            faults.add(f"{where}: {fault}")
        crowd = item.get("iscrowd", 0)
        if crowd not in (0, 1):
            faults.add(f"{where}: `iscrowd` is {_short(crowd)}; expected 0 or 1")
        source = item.get("source_id", "")
        if isinstance(source, bool) or not isinstance(source, str | int):
            faults.add(f"{where}: `source_id` is {_short(source)}; expected text or an integer")
        elif not str(source).isprintable():
            faults.add(f"{where}: `source_id` is {_short(source)}; expected printable text")
        if number is not None:
            known.add(number)
        if faults.number == before:
            assert number is not None and _is_integer(image) and _is_integer(category)
            x, y, width, height = (float(value) for value in item["bbox"])
            label = categories[category]
            box = CocoBox(number, str(source), label, x, y, width, height, bool(crowd))
            boxes.setdefault(image, []).append(box)
    return boxes


def _box_fault(item: dict[str, Any]) -> str | None:
    box = item.get("bbox")
    expected = "expected four numbers: x, y, width, height"
    if not isinstance(box, list) or len(box) != 4:
        return f"{_found(item, 'bbox')}; {expected}"
    for value in box:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return f"`bbox` is {_short(box)}; {expected}"
        # An integer may be too long for a float; no picture is so wide.
        if not (abs(value) < 2**31 and math.isfinite(value)):
            return f"`bbox` is {_short(box)}; expected finite numbers"
    if min(box[2:]) < 0:
        return f"`bbox` is {_short(box)}; expected no negative width or height"
    return None


def _is_integer(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_safe(name: str) -> bool:
    path = PurePosixPath(name)
    is_inside = not path.is_absolute() and ".." not in path.parts and path.name != ""
    return is_inside and "\\" not in name and name.isprintable()


def _found(item: dict[str, Any], key: str) -> str:
    return f"`{key}` is {_short(item[key])}" if key in item else f"has no `{key}`"


def _short(value: Any) -> str:
    """A value as messages show it; damaged files hold long ones."""
    if isinstance(value, int) and abs(value) >= 10**40:
        return "a very long integer"
    text = ascii(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
