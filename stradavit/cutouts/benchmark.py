"""The labelled images of a benchmark, stretched, in one file.

One HDF5 file; images may differ in size, so their pixels follow each other in one row:

- `pixels` (all pixels,) uint16, value = round(pixel * 65535);
- `shape` (n, 2) ny, nx; `checksum` (n,); `label` (n,) index into `classes`;
- `image`, `source`, `split` (n,) text; `position` (n, 2) right ascension and declination, deg;
- attributes: `format`, `version`, `classes` (JSON), `excluded` (JSON: images by reason),
  `settings` (JSON of the benchmark's block), `labels_sha256`, `images_sha256` (of the files the
  images came from, see `stradavit.cutouts.labelled.images_digest`), `rows_checksum` (of all
  columns; not in files of before).
"""

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from stradavit.acquire.labels import LabelledImage
from stradavit.cutouts.hdf5 import LazyFile, NewFile, table_digest
from stradavit.cutouts.quantise import STORED, checksum, quantise, restore

FORMAT = "stradavit-benchmark"
VERSION = 3
REMEDY = "Delete the file and cut the benchmark again (stradavit cut-benchmark)."

# An image of 150 px fills a third of a chunk, one of 512 px four of them.
CHUNK = 2**16


class LabelledCutouts:
    """A benchmark to read; safe to pickle and to fork.

    Parameters
    ----------
    path : file made by `stradavit.cutouts.stages.cut_benchmark`

    Attributes
    ----------
    classes : class names in table order
    labels : (n,) int64, index into `classes`
    images : unique ids
    sources : names of sources; images of one share a fold
    splits : side of the published division, train or test; "" where there is none
    positions : (n, 2) float64 right ascension and declination, deg; NaN if unknown
    excluded : images left out, by reason

    Raises
    ------
    DataError
        If the file is missing, damaged, or no benchmark.
    """

    def __init__(self, path: Path) -> None:
        self._lazy = LazyFile(path, FORMAT, VERSION, REMEDY)
        with self._lazy.opened() as file:
            self.classes: list[str] = json.loads(file.attrs["classes"])
            self.excluded: dict[str, int] = json.loads(file.attrs["excluded"])
            self.labels: NDArray[np.int64] = file["label"][()]
            self.images: list[str] = file["image"].asstr()[()].tolist()
            self.sources: list[str] = file["source"].asstr()[()].tolist()
            self.splits: list[str] = file["split"].asstr()[()].tolist()
            self.positions: NDArray[np.float64] = file["position"][()]
            self._shapes: NDArray[np.int64] = file["shape"][()]
            self._checksums: NDArray[np.uint64] = file["checksum"][()]
            n_pixels = int(file["pixels"].shape[0])
            noted = file.attrs.get("rows_checksum")
        self._lazy.close()
        if noted not in (None, table_digest(self._columns())):
            raise self._lazy.damaged("the table of its images does not have its checksum")
        self._ends = np.cumsum(self._shapes.prod(axis=1))
        lengths = {len(column) for column in (self.labels, self.images, self.sources)}
        lengths |= {len(column) for column in (self.positions, self._shapes, self._checksums)}
        lengths.add(len(self.splits))
        if len(lengths) != 1 or not len(self._ends) or self._ends[-1] != n_pixels:
            raise self._lazy.damaged("its columns are empty or do not fit together")

    def _columns(self) -> dict[str, Any]:
        return {
            "label": self.labels,
            "position": self.positions,
            "shape": self._shapes,
            "checksum": self._checksums,
            "image": self.images,
            "source": self.sources,
            "split": self.splits,
        }

    @property
    def path(self) -> Path:
        """The file."""
        return self._lazy.path

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, number: int) -> NDArray[np.float32]:
        """Image `number`, (ny, nx) float32 in [0, 1].

        Raises
        ------
        DataError
            If its pixels have changed.
        """
        ny, nx = self._shapes[number]
        end = self._ends[number]
        with self._lazy.opened() as file:
            levels = file["pixels"][end - ny * nx : end].reshape(ny, nx)
        if checksum(levels) != self._checksums[number]:
            raise self._lazy.damaged(
                f"image {number} ({self.images[number]}) does not have its checksum: its pixels "
                "have changed"
            )
        return restore(levels)

    def close(self) -> None:
        """Close the file in this process."""
        self._lazy.close()


class BenchmarkWriter:
    """Writes a benchmark image by image; memory holds the table, never the pixels."""

    def __init__(self, file: NewFile) -> None:
        self._pixels = file.create_dataset(
            "pixels", shape=(0,), maxshape=(None,), chunks=(CHUNK,), dtype=STORED
        )
        self._file = file
        self._shapes: list[tuple[int, ...]] = []
        self._checksums: list[int] = []
        self._rows: list[LabelledImage] = []

    def append(self, pixels: NDArray[np.float32], row: LabelledImage) -> None:
        """Add an image, (ny, nx) float32 in [0, 1]."""
        self._file.check()
        levels = quantise(pixels)
        start = len(self._pixels)
        self._pixels.resize(start + levels.size, axis=0)
        self._pixels[start:] = levels.ravel()
        self._shapes.append(levels.shape)
        self._checksums.append(checksum(levels))
        self._rows.append(row)

    def finish(self, classes: list[str], attributes: dict[str, Any]) -> None:
        """Write the table."""
        number = {name: place for place, name in enumerate(classes)}
        positions = [(row.ra_deg, row.dec_deg) for row in self._rows]
        columns: dict[str, Any] = {
            "label": np.array([number[row.label] for row in self._rows], np.int64),
            "position": np.array(positions, np.float64).reshape(-1, 2),
            "shape": np.array(self._shapes, np.int64).reshape(-1, 2),
            "checksum": np.array(self._checksums, np.uint64),
        }
        for name, values in columns.items():
            self._file.create_dataset(name, data=values)
        text = h5py.string_dtype()
        for name in ("image", "source", "split"):
            columns[name] = [getattr(row, name) for row in self._rows]
            self._file.create_dataset(name, data=columns[name], dtype=text)
        fixed = {"format": FORMAT, "version": VERSION, "classes": json.dumps(classes)}
        fixed["rows_checksum"] = table_digest(columns)
        self._file.attrs.update({**attributes, **fixed})
