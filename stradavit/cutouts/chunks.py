"""Reading the cutouts of a shard past HDF5: where each lies in the file, and one copy of it.

HDF5 takes a lock around every call and hands out its own copy. A chunk of a shard is nothing but
the pixels of one cutout, so the writer asks HDF5 where the chunks are and notes it; a reader lets
the system read straight into the array that is wanted, and threads read side by side. Should the
notes be wrong, as in a file that another program has rearranged, the checksums say so.
"""

import math
import os
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from xxhash import xxh3_64_intdigest

from stradavit.cutouts.quantise import STORED

# Dataset (k, 2) int64: number of the first cutout of each run, and where it begins in the file.
NOTES = "chunks"

# Neighbours in the file are read in one call up to so many bytes: what is checked next should
# still lie in the processor's cache.
AT_ONCE = 1 << 20
# No system takes more pieces in one call.
PIECES = 1024


@dataclass(frozen=True)
class Damage:
    """Which of the cutouts asked for does not have its checksum, and the checksum it has."""

    position: int
    found: int


class Chunks:
    """The chunks of a shard's `cutouts`, one a cutout.

    Most follow each other in the file, so memory holds a few runs of them instead of every place.
    The descriptor is our own copy and is never moved, so threads and forks may share it.

    Parameters
    ----------
    file : open `h5py.File` of a shard

    Raises
    ------
    ValueError
        If the dataset is not stored as this package stores it, or lies outside the file.
    """

    def __init__(self, file: Any) -> None:
        dataset = file["cutouts"]
        self._descriptor = -1
        self.n_cutouts, self.size_px = _layout(dataset)
        self._bytes = self.size_px**2 * STORED.itemsize
        size_bytes = os.fstat(file.id.get_vfd_handle()).st_size
        if self.n_cutouts * self._bytes > size_bytes:
            raise ValueError(f"it has {size_bytes} bytes, too few for {self.n_cutouts} cutouts")
        self._first, self._starts = _runs_of(file, self.n_cutouts)
        ends = self._starts + np.diff(self._first, append=self.n_cutouts) * self._bytes
        is_inside = (self._starts >= 0) & (self._starts < ends) & (ends <= size_bytes)
        if not is_inside.all():  # also where the end is too large for an integer
            raise ValueError("a cutout lies outside of it")
        self._descriptor = os.dup(file.id.get_vfd_handle())

    def __del__(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)

    def read(
        self,
        rows: NDArray[np.integer],
        out: NDArray[np.uint16],
        places: NDArray[np.integer],
        checksums: NDArray[np.uint64],
    ) -> Damage | None:
        """Read cutout `rows[i]` into `out[places[i]]`, fastest if the rows ascend.

        Parameters
        ----------
        rows : (k,) which
        out : (any, size_px, size_px), C-contiguous
        places : (k,) where in `out`
        checksums : (k,) what each must have

        Raises
        ------
        ValueError
            If a row is not in the file.
        """
        if len(rows) == 0:
            return None
        if rows.min() < 0 or rows.max() >= self.n_cutouts:
            raise ValueError(f"it has {self.n_cutouts} cutouts, asked for {rows.max()}")
        memory, size = out.reshape(-1).data.cast("B"), self._bytes
        pieces = [memory[first : first + size] for first in (places * size).tolist()]
        expected = checksums.tolist()
        run = np.searchsorted(self._first, rows, side="right") - 1
        offsets = self._starts[run] + (rows - self._first[run]) * size
        start = 0
        for offset, length in self._neighbours(offsets):
            stop = start + length
            if os.preadv(self._descriptor, pieces[start:stop], offset) != length * size:
                self._read_on(pieces[start:stop], offset)
            # Now, while the pixels are in the processor's cache.
            for i in range(start, stop):
                if (found := xxh3_64_intdigest(pieces[i])) != expected[i]:
                    return Damage(i, found)
            start = stop
        return None

    def _neighbours(self, offsets: NDArray[np.int64]) -> list[tuple[int, int]]:
        """First byte and number of the cutouts that follow each other in the file.

        Longer ones are cut in such as are read at once.
        """
        ends = np.flatnonzero(np.diff(offsets) != self._bytes) + 1
        if len(ends) == len(offsets) - 1:  # no neighbours at all
            return [(offset, 1) for offset in offsets.tolist()]
        most = max(1, min(AT_ONCE // self._bytes, PIECES))
        bounds = [0, *ends.tolist(), len(offsets)]
        return [
            (int(offsets[start]), min(most, stop - start))
            for first, stop in pairwise(bounds)
            for start in range(first, stop, most)
        ]

    def _read_on(self, pieces: list[memoryview], offset: int) -> None:
        """Read until all pieces are full: the system may hand out less than it was asked for."""
        done, wanted = 0, len(pieces) * self._bytes
        while done < wanted:
            number, within = divmod(done, self._bytes)
            rest = [pieces[number][within:], *pieces[number + 1 :]]
            more = os.preadv(self._descriptor, rest, offset + done)
            if more == 0:
                raise ValueError("it has been cut off since it was opened")
            done += more


def _layout(dataset: Any) -> tuple[int, int]:
    """Number and side of the cutouts of a dataset that is stored as ours are."""
    if dataset.ndim != 3 or dataset.dtype != STORED or dataset.shape[1] != dataset.shape[2]:
        raise ValueError(f"cutouts is {dataset.dtype} {dataset.shape}")
    size_px = int(dataset.shape[1])
    plist = dataset.id.get_create_plist()
    if dataset.chunks != (1, size_px, size_px) or plist.get_nfilters():
        raise ValueError("cutouts is not stored in one plain chunk a cutout")
    return int(dataset.shape[0]), size_px


def _runs_of(file: Any, n_cutouts: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """What `note_chunks` has noted: number and first byte of the first cutout of each run."""
    runs: NDArray[np.int64] = file[NOTES][()]
    if runs.ndim != 2 or runs.shape[1] != 2 or runs.dtype != np.int64:
        raise ValueError(f"{NOTES} is {runs.dtype} {runs.shape}")
    first, starts = np.ascontiguousarray(runs[:, 0]), np.ascontiguousarray(runs[:, 1])
    bounds = np.concatenate([first, [n_cutouts]])
    if bounds[0] != 0 or (np.diff(bounds) <= 0).any():
        raise ValueError(f"{NOTES} does not count the {n_cutouts} cutouts")
    return first, starts


def note_chunks(file: Any) -> None:
    """Note in a shard where its cutouts lie, once all are written.

    Raises
    ------
    ValueError
        If a cutout is missing.
    """
    dataset = file["cutouts"]
    chunk_bytes = math.prod(dataset.shape[1:]) * STORED.itemsize
    offsets = np.full(len(dataset), -1, dtype=np.int64)

    def note(chunk: Any) -> None:
        offsets[chunk.chunk_offset[0]] = chunk.byte_offset

    if len(offsets):
        dataset.id.chunk_iter(note)
    if (offsets < 0).any():
        raise ValueError(f"cutout {int(np.argmin(offsets))} has never been written")
    first = np.flatnonzero(np.diff(offsets, prepend=-1) != chunk_bytes)
    file.create_dataset(NOTES, data=np.column_stack([first, offsets[first]]))
