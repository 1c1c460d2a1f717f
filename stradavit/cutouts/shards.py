"""A shard: all cutouts of one part of a survey, with where each comes from, and checksums.

One HDF5 file:

- `cutouts` (n, size_px, size_px) uint16, value = round(pixel * 65535), one chunk a cutout;
- `chunks`: where in the file they are, see `stradavit.cutouts.chunks`;
- `rows/<column>` (n, ...), the columns of `ROW`;
- `products/name`, `products/sha256`: the files that `rows/product` counts;
- attributes: `format`, `version`, `survey`, `part`, `size_px`, `settings` (JSON of what decided
  the pixels), `ledger_sha256`, `skipped` (JSON: products by reason), `dropped` (JSON: cutouts by
  reason), `rows_checksum`, and `products_checksum` (not in shards of before).
"""

import hashlib
import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from stradavit.cutouts.chunks import Chunks, note_chunks
from stradavit.cutouts.hdf5 import LazyFile, NewFile, new_file, table_digest
from stradavit.cutouts.quantise import STORED, checksum
from stradavit.errors import MalformedProductError
from stradavit.files import atomic_path

FORMAT = "stradavit-shard"
VERSION = 2
REMEDY = "Delete the file and cut the part again (stradavit cut-part)."

ROW = np.dtype(
    [
        ("product", "<i4"),  # index into products/name
        ("plane", "<i4"),
        ("y0", "<i4"),  # first pixel of the cutout in the product
        ("x0", "<i4"),
        ("ra_deg", "<f8"),  # ICRS, centre; NaN if the sky is not known
        ("dec_deg", "<f8"),
        ("corner_ra_deg", "<f8", (4,)),  # outer corners in order around the cutout
        ("corner_dec_deg", "<f8", (4,)),
        ("radius_arcsec", "<f8"),  # of the circle around the centre that holds the cutout
        ("beam_major_arcsec", "<f8"),
        ("beam_minor_arcsec", "<f8"),
        ("pixel_scale_arcsec", "<f8"),
        ("finite_fraction", "<f8"),  # of the pixels, before the stretch
        ("low", "<f8"),  # values that became 0 and 1, in the product's unit
        ("high", "<f8"),
        ("checksum", "<u8"),  # stradavit.cutouts.quantise.checksum
    ]
)

# Cutouts by which the dataset grows; it is cut to size at the end.
GROWTH = 256

# Pixels that are read back at once.
VERIFY_BYTES = 1 << 22


class ShardWriter:
    """Writes a shard cutout by cutout; made by `new_shard`.

    Memory holds the rows (200 bytes a cutout), never the pixels.
    """

    def __init__(self, file: NewFile, size_px: int) -> None:
        self._file = file
        self._size_px = size_px
        self._cutouts = file.create_dataset(
            "cutouts",
            shape=(0, size_px, size_px),
            maxshape=(None, size_px, size_px),
            chunks=(1, size_px, size_px),
            dtype=STORED,
        )
        self._rows: list[NDArray[np.void]] = []  # of each product
        self._pending: list[dict[str, Any]] = []  # of the current one
        self._n_rows = 0
        self._products: list[tuple[str, str]] = []
        self._dropped: Counter[str] = Counter()
        self._skipped: Counter[str] = Counter()

    @contextmanager
    def product(self, name: str, sha256: str) -> Iterator[Counter[str]]:
        """Cutouts appended inside belong to this product; yields the counter of dropped ones.

        A `MalformedProductError` takes back all that was appended, is counted as a skip, and
        goes on to the caller: a shard holds whole products only.
        """
        dropped: Counter[str] = Counter()
        self._products.append((name, sha256))
        try:
            yield dropped
        except MalformedProductError as error:
            self._skipped[error.reason] += 1
            self._pending.clear()
            raise
        self._dropped += dropped
        self._rows.append(_table(self._pending))
        self._n_rows += len(self._pending)
        self._pending.clear()

    def append(self, levels: NDArray[np.uint16], **row: Any) -> None:
        """Add a cutout of the current product.

        Parameters
        ----------
        levels : (size_px, size_px), see `stradavit.cutouts.quantise`
        row : all columns of `ROW` but product and checksum
        """
        self._file.check()
        number = self._n_rows + len(self._pending)
        if number == len(self._cutouts):
            self._cutouts.resize(number + GROWTH, axis=0)
        # Past the filter pipeline, which has nothing to do here: twice as fast.
        content = np.ascontiguousarray(levels, dtype=STORED)
        self._cutouts.id.write_direct_chunk((number, 0, 0), content)
        product = len(self._products) - 1
        values = {**row, "product": product, "checksum": checksum(content)}
        assert set(values) == set(ROW.names or ())
        self._pending.append(values)

    def finish(self) -> None:
        """Write what is known only at the end."""
        self._cutouts.resize(self._n_rows, axis=0)
        note_chunks(self._file)
        rows = np.concatenate([*self._rows, _table([])])
        for column in ROW.names or ():
            self._file.create_dataset(f"rows/{column}", data=rows[column])
        names, digests = zip(*self._products, strict=True) if self._products else ((), ())
        text = h5py.string_dtype()
        self._file.create_dataset("products/name", data=list(names), dtype=text)
        self._file.create_dataset("products/sha256", data=list(digests), dtype=text)
        self._file.attrs["products_checksum"] = _products_checksum(names, digests)
        self._file.attrs["skipped"] = json.dumps(self._skipped, sort_keys=True)
        self._file.attrs["dropped"] = json.dumps(self._dropped, sort_keys=True)
        self._file.attrs["rows_checksum"] = _rows_checksum(rows)


@contextmanager
def new_shard(path: Path, size_px: int, attributes: dict[str, Any]) -> Iterator[ShardWriter]:
    """Write a shard that appears under `path` only when it is whole and has been read back.

    Parameters
    ----------
    path : file to make
    size_px : side of its cutouts
    attributes : survey, part, settings, ledger_sha256
    """
    with atomic_path(path) as temporary:
        with new_file(temporary) as file:
            fixed = {"format": FORMAT, "version": VERSION, "size_px": size_px}
            file.attrs.update({**attributes, **fixed})
            writer = ShardWriter(file, size_px)
            yield writer
            writer.finish()
        verify_shard(temporary)


class Shard:
    """A shard to read: opened on first use, safe to pickle and to fork.

    Parameters
    ----------
    path : file

    Raises
    ------
    DataError
        On first use, if the file is missing, damaged, or no shard.
    """

    def __init__(self, path: Path) -> None:
        self._lazy = LazyFile(path, FORMAT, VERSION, REMEDY)
        self._chunks: Chunks | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_chunks": None}

    @property
    def path(self) -> Path:
        """The file."""
        return self._lazy.path

    def __len__(self) -> int:
        with self._lazy.opened() as file:
            return int(file["cutouts"].shape[0])

    @property
    def size_px(self) -> int:
        """Side of the cutouts."""
        return int(self.attribute("size_px"))

    def attribute(self, name: str) -> Any:
        """An attribute of the file; `skipped`, `dropped` and `settings` come as mappings."""
        with self._lazy.opened() as file:
            value = file.attrs[name]
        return json.loads(value) if name in ("skipped", "dropped", "settings") else value

    def column(self, name: str) -> NDArray[Any]:
        """(n, ...) one column of `ROW`."""
        with self._lazy.opened() as file:
            column: NDArray[Any] = file["rows"][name][()]
            return column

    def products(self) -> list[tuple[str, str]]:
        """Name and SHA-256 of the files the cutouts come from."""
        with self._lazy.opened() as file:
            names, digests = (file["products"][k].asstr()[()] for k in ("name", "sha256"))
            noted = file.attrs.get("products_checksum")
            if noted not in (None, _products_checksum(names, digests)):
                raise self._lazy.damaged("the list of its products does not have its checksum")
        return list(zip(names.tolist(), digests.tolist(), strict=True))

    def read(
        self,
        rows: NDArray[np.integer],
        checksums: NDArray[np.uint64],
    ) -> NDArray[np.uint16]:
        """Cutouts (len(rows), size_px, size_px); fastest if the rows ascend.

        Parameters
        ----------
        rows : which, of any order
        checksums : (len(rows),) what each must have

        Raises
        ------
        DataError
            If a cutout does not have its checksum.
        """
        size_px = self.chunks().size_px
        out = np.empty((len(rows), size_px, size_px), dtype=np.uint16)
        self.read_into(out, np.arange(len(rows)), rows, checksums)
        return out.byteswap() if sys.byteorder == "big" else out

    def read_into(
        self,
        out: NDArray[np.uint16],
        places: NDArray[np.integer],
        rows: NDArray[np.integer],
        checksums: NDArray[np.uint64],
    ) -> None:
        """As `read`, cutout `rows[i]` into `out[places[i]]`; threads may read side by side.

        Parameters
        ----------
        out : (any, size_px, size_px), C-contiguous; gets the bytes as stored, little-endian

        Raises
        ------
        DataError
        """
        chunks = self.chunks()
        with self._lazy.named_failures():
            if out.shape[1:] != (chunks.size_px, chunks.size_px):
                raise ValueError(f"its cutouts are {chunks.size_px} px wide, not {out.shape[1:]}")
            damage = chunks.read(rows, out, places, checksums)
        if damage is not None:
            row, expected = int(rows[damage.position]), int(checksums[damage.position])
            raise self._lazy.damaged(
                f"cutout {row} of {chunks.n_cutouts} ({self.describe(row)}) has checksum "
                f"{damage.found:016x}, expected {expected:016x}: its pixels have changed"
            )

    def chunks(self) -> Chunks:
        """Where the cutouts lie, asked once; the HDF5 handle is then closed until needed again."""
        if self._chunks is None:
            with self._lazy.opened() as file:
                if self._chunks is None:  # another thread may have been first
                    self._chunks = Chunks(file)
                    self._lazy.close()
        return self._chunks

    def describe(self, row: int) -> str:
        """Where a cutout comes from, for messages."""
        with self._lazy.opened() as file:
            product, plane, y0, x0 = (
                int(file["rows"][column][row]) for column in ("product", "plane", "y0", "x0")
            )
            name = file["products/name"].asstr()[product]
            place = f"{file.attrs['survey']}/part {file.attrs['part']}/product {name}"
        return f"{place} plane {plane} y {y0} x {x0}"

    def expect(self, survey: str, other: "Shard") -> None:
        """Check that this shard is one of `survey` and fits together with another one.

        Raises
        ------
        DataError
        """
        found = self.attribute("survey")
        if found != survey:
            raise self._lazy.damaged(f"belongs to the survey {found!r}, expected {survey!r}")
        if self.size_px != other.size_px:
            raise self._lazy.damaged(
                f"its cutouts are {self.size_px} px wide, those of {other.path} {other.size_px} px"
            )

    def rows(self) -> NDArray[np.void]:
        """(n,) records of `ROW`, compared with their checksum.

        Raises
        ------
        DataError
        """
        rows = np.empty(len(self), dtype=ROW)
        for column in ROW.names or ():
            values = self.column(column)
            if values.shape != rows[column].shape or values.dtype != rows[column].dtype:
                raise self._lazy.damaged(f"rows/{column} has {values.dtype} {values.shape}")
            rows[column] = values
        if _rows_checksum(rows) != self.attribute("rows_checksum"):
            raise self._lazy.damaged("the row table does not have its checksum")
        return rows

    def verify(self) -> None:
        """Read everything and compare it with its checksums.

        Raises
        ------
        DataError
        """
        rows = self.rows()
        if len(rows) and rows["product"].max() >= len(self.products()):
            raise self._lazy.damaged("a row names a product that is not in the list")
        many = max(1, VERIFY_BYTES // max(1, self.chunks().size_px ** 2 * STORED.itemsize))
        out = np.empty((min(many, len(rows)), *[self.chunks().size_px] * 2), dtype=np.uint16)
        for start in range(0, len(rows), many):
            some = np.arange(start, min(start + many, len(rows)))
            self.read_into(out, some - start, some, rows["checksum"][some])

    def close(self) -> None:
        """Close the file in this process."""
        self._chunks = None
        self._lazy.close()


def verify_shard(path: Path) -> None:
    """Read a shard from end to end.

    Raises
    ------
    DataError
        Naming file, cutout and what to do, if anything is damaged.
    """
    shard = Shard(path)
    try:
        shard.verify()
    finally:
        shard.close()


def _table(rows: list[dict[str, Any]]) -> NDArray[np.void]:
    """(n,) records of `ROW`."""
    table = np.zeros(len(rows), dtype=ROW)
    for column in ROW.names or ():
        if rows:
            values = [row[column] for row in rows]
            shape = ROW[column].shape
            table[column] = [np.broadcast_to(v, shape) for v in values] if shape else values
    return table


def _rows_checksum(rows: NDArray[np.void]) -> str:
    return hashlib.blake2b(rows.tobytes(), digest_size=16).hexdigest()


def _products_checksum(names: Iterable[str], digests: Iterable[str]) -> str:
    return table_digest({"name": list(names), "sha256": list(digests)})
