"""The images of a detection set with their boxes, in one file.

One HDF5 file; images and lists of boxes differ in length, so they follow each other in one row:

- `pixels` (all pixels,) uint16, value = round(pixel * 65535);
- `images/<column>` (n, ...), the columns of `IMAGE_COLUMNS`; `n_boxes` says how many rows of
  `boxes/` belong to each image, in the same order;
- `boxes/<column>` (all boxes, ...), the columns of `BOX_COLUMNS`; `box` is x0, y0, x1, y1,
  half-open, in pixels of the image; `label` an index into `classes`;
- attributes: `format`, `version`, `classes` (JSON), `rows_checksum`, and what the writer was told:
  `settings` and `report` (JSON), `sources_sha256`.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from stradavit.cutouts.hdf5 import LazyFile, NewFile, new_file
from stradavit.cutouts.quantise import STORED, checksum, restore
from stradavit.errors import DataError
from stradavit.files import atomic_path
from stradavit.settings.detection import SPLITS, Split

FORMAT = "stradavit-detection"
VERSION = 1
REMEDY = "Delete the file and cut the detection set again (stradavit cut-detection)."

# One MiB: an image of 800 px fills a little more than one chunk.
CHUNK = 2**19

TEXT = h5py.string_dtype()
IMAGE_COLUMNS: dict[str, tuple[Any, tuple[int, ...]]] = {
    "name": (TEXT, ()),
    "split": (TEXT, ()),
    "shape": (np.dtype("<i8"), (2,)),  # ny, nx
    "checksum": (np.dtype("<u8"), ()),  # stradavit.cutouts.quantise.checksum
    "n_boxes": (np.dtype("<i8"), ()),
    "sky": (np.dtype("<f8"), (3,)),  # ra_deg, dec_deg, radius_arcsec; NaN if unknown
    "product": (TEXT, ()),  # where the image was cut; "" if it is no cutout
    "y0": (np.dtype("<i8"), ()),  # its first pixel in the product
    "x0": (np.dtype("<i8"), ()),
    "low": (np.dtype("<f8"), ()),  # values that became 0 and 1
    "high": (np.dtype("<f8"), ()),
}
BOX_COLUMNS: dict[str, tuple[Any, tuple[int, ...]]] = {
    "box": (np.dtype("<f4"), (4,)),
    "label": (np.dtype("<i8"), ()),
    "is_crowd": (np.dtype(np.bool_), ()),  # a region to ignore: not learned, not scored
    "source": (TEXT, ()),
}


@dataclass(frozen=True)
class Scene:
    """One image with its boxes, as it is written.

    Parameters
    ----------
    name : unique; of COCO sets "<split>/<file name>"
    split : train, val or test
    levels : (ny, nx) uint16, see `stradavit.cutouts.quantise`
    boxes : (k, 4) float32 x0, y0, x1, y1, half-open, within the image, of positive area
    labels : (k,) int64, index into the classes
    is_crowd : (k,) bool, regions to ignore: not learned, not scored
    sources : (k,) id of what each box is
    sky : right ascension and declination in deg, radius in arcsec, of the circle that holds the
        image; NaN if unknown
    product, y0, x0 : where in which product the image lies; "", 0, 0 if it is no cutout
    low, high : values that became 0 and 1
    """

    name: str
    split: Split
    levels: NDArray[np.uint16]
    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    is_crowd: NDArray[np.bool_]
    sources: tuple[str, ...]
    sky: tuple[float, float, float] = (np.nan, np.nan, np.nan)
    product: str = ""
    y0: int = 0
    x0: int = 0
    low: float = 0.0
    high: float = 1.0


class DetectionImages:
    """A detection set to read; safe to pickle and to fork. Boxes are in memory, pixels on disk.

    Parameters
    ----------
    path : file made by `stradavit.cutouts.detection_stages.cut_detection`

    Attributes
    ----------
    classes : class names in table order
    names : unique names of the images
    shapes : (n, 2) int64 ny, nx
    splits : (n,) text, train, val or test
    sky : (n, 3) float64 right ascension and declination in deg, radius in arcsec; NaN if unknown
    checksums : (n,) uint64, equal for equal pixels of equal number

    Raises
    ------
    DataError
        If the file is missing, damaged, or no detection set.
    """

    def __init__(self, path: Path) -> None:
        self._lazy = LazyFile(path, FORMAT, VERSION, REMEDY)
        with self._lazy.opened() as file:
            self.classes: tuple[str, ...] = tuple(json.loads(file.attrs["classes"]))
            rows_checksum = file.attrs["rows_checksum"]
            images = _read_table(file["images"], IMAGE_COLUMNS)
            boxes = _read_table(file["boxes"], BOX_COLUMNS)
            n_pixels = int(file["pixels"].shape[0])
        self._lazy.close()
        if _rows_checksum(images, boxes) != rows_checksum:
            raise self._lazy.damaged("the tables of images and boxes do not have their checksum")
        self.names: list[str] = images["name"].tolist()
        self.shapes: NDArray[np.int64] = images["shape"]
        self.splits: NDArray[np.str_] = images["split"].astype(np.str_)
        self.sky: NDArray[np.float64] = images["sky"]
        self.checksums: NDArray[np.uint64] = images["checksum"]
        self._images = images
        self._boxes = boxes
        self._pixel_ends = np.cumsum(self.shapes.prod(axis=1))
        self._box_ends = np.cumsum(images["n_boxes"])
        n_boxes = len(boxes["label"])
        if not self.names or (self._pixel_ends[-1], self._box_ends[-1]) != (n_pixels, n_boxes):
            raise self._lazy.damaged("its columns are empty or do not fit together")

    @property
    def path(self) -> Path:
        """The file."""
        return self._lazy.path

    def __len__(self) -> int:
        return len(self.names)

    def of_split(self, split: str) -> NDArray[np.int64]:
        """Numbers of the images of a split, in the order of the file."""
        return np.flatnonzero(self.splits == split)

    def levels(self, number: int) -> NDArray[np.uint16]:
        """Image `number`, (ny, nx) uint16 as stored.

        Raises
        ------
        DataError
            If its pixels have changed.
        """
        ny, nx = self.shapes[number]
        end = self._pixel_ends[number]
        with self._lazy.opened() as file:
            levels: NDArray[np.uint16] = file["pixels"][end - ny * nx : end].reshape(ny, nx)
        if checksum(levels) != self.checksums[number]:
            raise self._lazy.damaged(
                f"image {number} ({self.names[number]}) does not have its checksum: its pixels "
                "have changed"
            )
        return levels

    def image(self, number: int) -> NDArray[np.float32]:
        """Image `number`, (ny, nx) float32 in [0, 1].

        Raises
        ------
        DataError
            If its pixels have changed.
        """
        return restore(self.levels(number))

    def boxes(self, number: int) -> NDArray[np.float32]:
        """(k, 4) float32 x0, y0, x1, y1, half-open, in pixels of the image."""
        boxes: NDArray[np.float32] = self._rows(number, "box")
        return boxes

    def labels(self, number: int) -> NDArray[np.int64]:
        """(k,) int64, index into `classes`."""
        labels: NDArray[np.int64] = self._rows(number, "label")
        return labels

    def is_crowd(self, number: int) -> NDArray[np.bool_]:
        """(k,) bool, regions to ignore: not learned, not scored."""
        is_crowd: NDArray[np.bool_] = self._rows(number, "is_crowd")
        return is_crowd

    def sources(self, number: int) -> list[str]:
        """(k,) id of what each box is."""
        sources: list[str] = self._rows(number, "source").tolist()
        return sources

    def place(self, number: int) -> tuple[str, int, int, float, float]:
        """Product, y0, x0 of the image, and the values there that became 0 and 1."""
        row = {name: self._images[name][number] for name in ("product", "y0", "x0", "low", "high")}
        return (
            str(row["product"]),
            int(row["y0"]),
            int(row["x0"]),
            float(row["low"]),
            float(row["high"]),
        )

    def attribute(self, name: str) -> Any:
        """An attribute of the file; `classes`, `report` and `settings` as JSON means them."""
        with self._lazy.opened() as file:
            value = file.attrs[name]
            return json.loads(value) if name in ("classes", "report", "settings") else value

    @property
    def report(self) -> dict[str, Any]:
        """What the validator found; empty if nothing was noted."""
        with self._lazy.opened() as file:
            found: dict[str, Any] = json.loads(file.attrs.get("report", "{}"))
        return found

    def verify(self) -> None:
        """Read everything and compare it with its checksums.

        Raises
        ------
        DataError
        """
        for number in range(len(self)):
            self.levels(number)

    def close(self) -> None:
        """Close the file in this process."""
        self._lazy.close()

    def _rows(self, number: int, column: str) -> NDArray[Any]:
        end = self._box_ends[number]
        # A copy: callers flip and scale boxes in place.
        rows: NDArray[Any] = self._boxes[column][end - self._images["n_boxes"][number] : end]
        return rows.copy()


def write_detection_images(
    path: Path, classes: Sequence[str], scenes: Iterable[Scene], attributes: dict[str, Any]
) -> None:
    """Write a detection set that appears under `path` only when it is whole and was read back.

    Memory holds the tables, never the pixels of more than one image.

    Parameters
    ----------
    path : file to make
    classes : names, in the order that labels count
    scenes : images in the order of the file
    attributes : what else to note; anything but text and numbers is written as JSON. Read after
        the last scene, so it may be filled while they are made.

    Raises
    ------
    DataError
        If there is no scene, two share a name, or one is not what `Scene` says.
    """
    with atomic_path(path) as temporary:
        with new_file(temporary) as file:
            writer = _Writer(file, len(classes))
            for scene in scenes:
                writer.append(scene)
            if not writer.names:
                raise DataError(f"{path}: no image is left to write; expected at least one.")
            rows_checksum = writer.finish()
            noted = {
                name: value if isinstance(value, str | int | float) else _as_json(value)
                for name, value in attributes.items()
            }
            fixed = {"format": FORMAT, "version": VERSION, "rows_checksum": rows_checksum}
            file.attrs.update({**noted, **fixed, "classes": _as_json(list(classes))})
        written = DetectionImages(temporary)
        try:
            written.verify()
        finally:
            written.close()


class _Writer:
    def __init__(self, file: NewFile, n_classes: int) -> None:
        self._file = file
        self._n_classes = n_classes
        self._pixels = file.create_dataset(
            "pixels", shape=(0,), maxshape=(None,), chunks=(CHUNK,), dtype=STORED
        )
        self.names: set[str] = set()
        self._images: dict[str, list[Any]] = {name: [] for name in IMAGE_COLUMNS}
        self._boxes: dict[str, list[Any]] = {name: [] for name in BOX_COLUMNS}

    def append(self, scene: Scene) -> None:
        check_scene(scene, self._n_classes)
        if scene.name in self.names:
            raise DataError(f"two images are called {scene.name}; expected names that differ.")
        self._file.check()
        self.names.add(scene.name)
        start = len(self._pixels)
        self._pixels.resize(start + scene.levels.size, axis=0)
        self._pixels[start:] = scene.levels.ravel()
        given = {"shape": scene.levels.shape, "checksum": checksum(scene.levels)}
        given["n_boxes"] = len(scene.boxes)
        for name, column in self._images.items():
            column.append(given[name] if name in given else getattr(scene, name))
        self._boxes["box"].extend(scene.boxes)
        self._boxes["label"].extend(scene.labels)
        self._boxes["is_crowd"].extend(scene.is_crowd)
        self._boxes["source"].extend(scene.sources)

    def finish(self) -> str:
        """Write the tables; returns their checksum."""
        tables = []
        for group, columns, kinds in (
            ("images", self._images, IMAGE_COLUMNS),
            ("boxes", self._boxes, BOX_COLUMNS),
        ):
            table = {}
            for name, (dtype, shape) in kinds.items():
                is_text = dtype is TEXT
                values = np.array(columns[name], dtype=object if is_text else dtype)
                table[name] = values.reshape(-1, *shape)
                self._file.create_dataset(f"{group}/{name}", data=table[name], dtype=dtype)
            tables.append(table)
        return _rows_checksum(*tables)


def check_scene(scene: Scene, n_classes: int) -> None:
    """Raise unless a scene is what `Scene` says.

    Raises
    ------
    DataError
        Naming the scene and the fault.
    """
    ny, nx = scene.levels.shape
    boxes, n_boxes = scene.boxes, len(scene.boxes)
    lengths = {len(scene.labels), len(scene.is_crowd), len(scene.sources)}
    faults = []
    if scene.split not in SPLITS:
        faults.append(f"its split is {scene.split!r}, expected one of {', '.join(SPLITS)}")
    if scene.levels.dtype != np.uint16 or not scene.levels.size:
        faults.append(f"its levels are {scene.levels.dtype} {scene.levels.shape}, expected uint16")
    if boxes.shape != (n_boxes, 4) or lengths != {n_boxes}:
        faults.append(f"boxes {boxes.shape} and their columns {sorted(lengths)} do not fit")
    elif n_boxes:
        inside = (boxes[:, :2] >= 0).all() and (boxes[:, 2:] <= (nx, ny)).all()
        if not inside or not (boxes[:, 2:] > boxes[:, :2]).all():
            faults.append(f"a box has no area or leaves the image of {nx} x {ny} px")
        if scene.labels.min() < 0 or scene.labels.max() >= n_classes:
            faults.append(f"a label is not within 0 to {n_classes - 1}")
    if faults:
        raise DataError(f"{scene.name}: {'; '.join(faults)}.")


def _read_table(group: Any, kinds: dict[str, tuple[Any, tuple[int, ...]]]) -> dict[str, Any]:
    table = {}
    for name, (dtype, shape) in kinds.items():
        column = group[name].asstr()[()] if dtype is TEXT else group[name][()].astype(dtype)
        if column.shape[1:] != shape:
            raise ValueError(f"{name} has the shape {column.shape}")
        table[name] = column
    if len({len(column) for column in table.values()}) != 1:
        raise ValueError("columns differ in length")
    return table


def _rows_checksum(images: dict[str, Any], boxes: dict[str, Any]) -> str:
    """Over the bytes of all columns; text is parted by its length."""
    hasher = hashlib.blake2b(digest_size=16)
    for table in (images, boxes):
        for name, column in table.items():
            hasher.update(f"{name} {len(column)}\n".encode())
            if column.dtype == object:
                for word in column:
                    encoded = str(word).encode()
                    hasher.update(f"{len(encoded)} ".encode() + encoded)
            else:
                hasher.update(np.ascontiguousarray(column).tobytes())
    return hasher.hexdigest()


def _as_json(value: Any) -> str:
    # Keys stay in their order, which is that of the splits and classes.
    return json.dumps(value, allow_nan=False)
