"""A corpus: the cutouts a run is pretrained on, as an index over shards.

One HDF5 file:

- `shards/path` (relative to the file), `shards/cutouts`: the shards and their lengths;
- `shards/rows_checksum`: that of each shard's row table, which holds those of all its pixels;
- `cutouts/shard`, `cutouts/row`, `cutouts/checksum`: where each cutout of the corpus lies;
- attributes: `format`, `version`, `size_px`, `counts` (JSON, see `Corpus.counts`), `guards`
  (JSON: by guarded benchmark `positions_sha256` and the radius `arcmin`, see `Guard`) and
  `index_checksum` (of all datasets; not in files of before).
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from stradavit.cutouts.hdf5 import LazyFile, new_atomic_file, table_digest
from stradavit.cutouts.shards import Shard

FORMAT = "stradavit-corpus"
VERSION = 2
REMEDY = "Delete the file and make the corpus again (stradavit cut-corpus)."


class Corpus:
    """Cutouts by number, 0 to len - 1, from whichever shards they lie in.

    Safe to pickle and to fork; the index is in numpy arrays (16 bytes a cutout), the pixels stay
    on disk.

    Parameters
    ----------
    path : file made by `write_corpus`

    Raises
    ------
    DataError
        If the file is missing, damaged, or no corpus.
    """

    def __init__(self, path: Path) -> None:
        lazy = LazyFile(path, FORMAT, VERSION, REMEDY)
        self.path = lazy.path
        with lazy.opened() as file:
            paths = file["shards/path"].asstr()[()].tolist()
            lengths = file["shards/cutouts"][()]
            self._shard: NDArray[np.int32] = file["cutouts/shard"][()]
            self._row: NDArray[np.int32] = file["cutouts/row"][()]
            self._checksum: NDArray[np.uint64] = file["cutouts/checksum"][()]
            self.size_px = int(file.attrs["size_px"])
            noted = file.attrs.get("index_checksum")
            if noted is not None:
                rows = file["shards/rows_checksum"].asstr()[()].tolist()
                if noted != _index_checksum(paths, rows, lengths, self._index()):
                    raise lazy.damaged("its index does not have its checksum")
            self._counts = json.loads(file.attrs["counts"])
            if not len(self._shard) == len(self._row) == len(self._checksum) > 0:
                raise lazy.damaged("its columns are empty or not of one length")
            is_inside = 0 <= self._shard.min() <= self._shard.max() < len(paths) == len(lengths)
            if not is_inside or self._row.min() < 0 or (self._row >= lengths[self._shard]).any():
                raise lazy.damaged("a cutout lies in no shard")
        lazy.close()
        self._shards = [Shard(self.path.parent / path) for path in paths]

    def __len__(self) -> int:
        return len(self._shard)

    def _index(self) -> list[NDArray[Any]]:
        return [self._shard, self._row, self._checksum]

    def read(
        self, numbers: NDArray[np.int64], out: NDArray[np.uint16] | None = None
    ) -> NDArray[np.uint16]:
        """Cutouts (len(numbers), size_px, size_px) in the order asked for, any with repeats.

        Within a shard they are read in the order of the file, neighbours in one go. Every cutout
        is compared with its checksum. Threads may read side by side.

        Parameters
        ----------
        numbers : which
        out : C-contiguous memory of that shape to read into and return; by default a new array

        Raises
        ------
        DataError
            If a shard is missing or a cutout has changed, naming it.
        """
        numbers = np.asarray(numbers)
        if out is None:
            out = np.empty((len(numbers), self.size_px, self.size_px), dtype=np.uint16)
        assert len(out) == len(numbers) and out.flags.c_contiguous and out.dtype == np.uint16
        shard, row, checksums = (c[numbers] for c in (self._shard, self._row, self._checksum))
        order = np.lexsort((row, shard))
        ends = (np.flatnonzero(np.diff(shard[order])) + 1).tolist()
        for start, stop in zip([0, *ends], [*ends, len(order)], strict=True):
            some = order[start:stop]
            if len(some):
                source = self._shards[shard[some[0]]]
                source.read_into(out, some, row[some], checksums[some])
        if sys.byteorder == "big":
            out.byteswap(inplace=True)
        return out

    def describe(self, number: int) -> str:
        """Where a cutout comes from, as `survey/part 0/product name plane 0 y 512 x 0`."""
        shard: Shard = self._shards[self._shard[number]]
        return shard.describe(int(self._row[number]))

    def counts(self) -> dict[str, dict[str, Any]]:
        """What became of each survey's cutouts.

        Returns
        -------
        By survey: `products` read; `skipped` products by reason; `dropped` cutouts by reason when
        the products were cut; `cut`, the cutouts in the shards; of these `no_sky`, `guard` by
        benchmark, `duplicate`, and `kept`, which add up to `cut`.
        """
        counts: dict[str, dict[str, Any]] = json.loads(json.dumps(self._counts))
        return counts

    def close(self) -> None:
        """Close all shards in this process."""
        for shard in self._shards:
            shard.close()


def write_corpus(
    path: Path,
    shards: list[Shard],
    kept: list[NDArray[np.int64]],
    counts: dict[str, dict[str, Any]],
    guards: dict[str, dict[str, Any]] | None = None,
) -> None:
    """Write the index.

    Parameters
    ----------
    path : file to make
    shards : all shards, also those of which nothing is kept
    kept : for each shard the rows to keep
    counts : see `Corpus.counts`
    guards : `positions_sha256` and `arcmin` of each guarded benchmark
    """
    folder = Path(path).absolute().parent
    relative = [os.path.relpath(shard.path.absolute(), folder) for shard in shards]
    shard_of = np.repeat(np.arange(len(shards)), [len(rows) for rows in kept])
    checksums = [shard.column("checksum")[rows] for shard, rows in zip(shards, kept, strict=True)]
    with new_atomic_file(path) as file:
        file.create_dataset("shards/path", data=relative, dtype=h5py.string_dtype())
        lengths = np.array([len(shard) for shard in shards], np.int32)
        file.create_dataset("shards/cutouts", data=lengths)
        rows = [str(shard.attribute("rows_checksum")) for shard in shards]
        file.create_dataset("shards/rows_checksum", data=rows, dtype=h5py.string_dtype())
        index: dict[str, NDArray[Any]] = {
            "shard": shard_of.astype(np.int32),
            "row": np.concatenate(kept).astype(np.int32),
            "checksum": np.concatenate(checksums).astype(np.uint64),
        }
        for name, column in index.items():
            file.create_dataset(f"cutouts/{name}", data=column)
        file.attrs.update(
            {
                "format": FORMAT,
                "version": VERSION,
                "size_px": shards[0].size_px,
                "index_checksum": _index_checksum(relative, rows, lengths, list(index.values())),
                "counts": json.dumps(counts, sort_keys=True),
                "guards": json.dumps(guards or {}, sort_keys=True),
            }
        )


def _index_checksum(
    paths: list[str], rows: list[str], lengths: NDArray[Any], index: list[NDArray[Any]]
) -> str:
    shard, row, checksum = index
    columns = {"cutouts": lengths, "shard": shard, "row": row, "checksum": checksum}
    return table_digest({"path": paths, "rows_checksum": rows, **columns})
