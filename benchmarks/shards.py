"""Reading a shuffled epoch: our shards beside the bare system call and three common formats.

Ours is the training loader as it is, with every checksum. The roof reads the very same bytes in
the very same order and does nothing with them.
"""

import io
import os
import tarfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from astropy.io import fits
from numpy.typing import NDArray

from benchmarks.harness import Comparison, Target, fresh_processes, in_turn
from stradavit.cutouts.corpus import Corpus, write_corpus
from stradavit.cutouts.shards import ROW, Shard, new_shard
from stradavit.settings.training import LoaderSettings
from stradavit.training.loader import read_ahead
from stradavit.training.sampler import Plan

READERS = 2
MICRO_BATCH = 64
N_SHARDS = 4
BLOCK = 4  # of the block-shuffled side, cutouts: 16 blocks make a micro-batch
SEED = 0


@dataclass(frozen=True)
class Size:
    """One size of cutouts; `passes` epochs make one measurement of the quick sides."""

    size_px: int
    n_cutouts: int
    passes: int
    shuffle_buffer: int  # of WebDataset, samples per reader


SIZES = (Size(512, 1024, 12, 250), Size(128, 4096, 12, 1000))


def compare(work_dir: Path, device: torch.device, rounds: int) -> list[Comparison]:
    """Cutouts per second into the memory of the process, at the paper's size and the default's."""
    return [_compare(work_dir / f"shards-{size.size_px}", size, rounds) for size in SIZES]


def _compare(folder: Path, size: Size, rounds: int) -> Comparison:
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder, size)
    plan = Plan(size.n_cutouts, MICRO_BATCH, MICRO_BATCH, drop_last=False, seed=SEED)
    epochs = [batch.numbers for batch in plan.micro_batches(size.passes)]
    batches = epochs[: plan.steps_per_epoch]
    roof = _Roof(folder, size)
    halves = [batches[reader::READERS] for reader in range(READERS)]
    _check(folder, batches[0])
    with fresh_processes(READERS) as processes:

        def by_processes(read: Callable[[Path, list[NDArray[np.int64]]], int]) -> int:
            return sum(processes.map(partial(read, folder), halves))

        sides: dict[str, tuple[str, Callable[[], float]]] = {
            "ours": (
                "the training loader, 2 threads, every cutout compared with its checksum",
                lambda: _ours(folder, plan, size.passes),
            ),
            "roof": (
                "the same bytes in the same order by preadv into one buffer per thread, 2 threads",
                lambda: roof.read(epochs),
            ),
            "ours, block-shuffled": (
                f"the training loader with shuffle_block {BLOCK}: neighbours are read in one call",
                lambda: _ours(folder, replace(plan, shuffle_block=BLOCK), size.passes),
            ),
            "WebDataset": (
                f"tar of .npy, 2 workers, shuffled in a buffer of {size.shuffle_buffer} samples "
                "each: not a full shuffle",
                partial(_webdataset, _web_loader(folder, size)),
            ),
            "Zarr v3": (
                "one uncompressed chunk a cutout, read by blocks, 2 processes",
                lambda: by_processes(_zarr),
            ),
            "FITS": (
                "one file a cutout, float32 as astronomers keep them, fits.getdata, 2 processes",
                lambda: by_processes(_fits),
            ),
        }
        measured, ratios = in_turn(sides, rounds)
    return Comparison(
        name=f"Shard reads, {size.size_px} px",
        question=(
            f"How fast does a shuffled epoch of {size.n_cutouts} cutouts of {size.size_px} px "
            f"come from disk (page cache), in micro-batches of {MICRO_BATCH}, with both cores?"
        ),
        unit="cutouts/s",
        sides=measured,
        ratios=ratios,
        targets=[Target("share of the roof", 0.7, ratios["roof"].median)],
        notes=[
            "All files lie in the page cache: this is the price of the formats, not of the disk.",
            "Ours and WebDataset hand whole micro-batches to the training process; the roof, Zarr "
            "and FITS only read them where their readers are.",
            "FITS files hold float32, so twice the bytes of the other sides, whose pixels are "
            "16-bit.",
            "Only our two sides notice damaged pixels.",
        ],
        figures={"bytes_per_cutout": size.size_px**2 * 2, "shards": N_SHARDS},
    )


# -- what is read ------------------------------------------------------------------------------


def _pixels(size: Size) -> Iterator[NDArray[np.uint16]]:
    """The cutouts in order: noise, since nothing here depends on what they show."""
    rng = np.random.default_rng(SEED)
    for _ in range(size.n_cutouts):
        yield rng.integers(0, 1 << 16, (size.size_px, size.size_px), dtype=np.uint16)


def _write(folder: Path, size: Size) -> None:
    """The same cutouts in every format."""
    import zarr

    per_shard = size.n_cutouts // N_SHARDS
    given = ("product", "checksum", "fingerprint")
    row = {name: np.zeros((), ROW[name]) for name in ROW.names or () if name not in given}
    array = zarr.create_array(
        store=folder / "all.zarr",
        shape=(size.n_cutouts, size.size_px, size.size_px),
        chunks=(1, size.size_px, size.size_px),
        dtype="uint16",
        compressors=None,
        overwrite=True,
    )
    (folder / "fits").mkdir(exist_ok=True)
    pixels = _pixels(size)
    for number in range(N_SHARDS):
        attributes = {"survey": "noise", "part": str(number), "settings": "{}"}
        some = range(number * per_shard, (number + 1) * per_shard)
        with (
            new_shard(folder / f"{number}.h5", size.size_px, attributes) as shard,
            shard.product("noise", ""),
            tarfile.open(folder / f"{number}.tar", "w") as tar,
        ):
            for place, levels in zip(some, pixels, strict=False):
                shard.append(levels, **row)
                array[place] = levels
                image = levels.astype(np.float32) / np.float32(65535)
                fits.PrimaryHDU(image).writeto(_fits_path(folder, place), overwrite=True)
                _add_npy(tar, f"{place:08}", levels)
    shards = [Shard(folder / f"{number}.h5") for number in range(N_SHARDS)]
    write_corpus(folder / "corpus.h5", shards, [np.arange(len(s)) for s in shards], {})


def _fits_path(folder: Path, number: int) -> Path:
    return folder / "fits" / f"{number:08}.fits"


def _add_npy(tar: tarfile.TarFile, name: str, levels: NDArray[np.uint16]) -> None:
    content = io.BytesIO()
    np.save(content, levels)
    member = tarfile.TarInfo(f"{name}.npy")
    member.size = content.tell()
    content.seek(0)
    tar.addfile(member, content)


def _check(folder: Path, numbers: NDArray[np.int64]) -> None:
    """All formats hold the same pixels under the same numbers."""
    import zarr

    ours = Corpus(folder / "corpus.h5").read(numbers)
    kept = zarr.open_array(folder / "all.zarr", mode="r").oindex[numbers]
    images = np.stack([fits.getdata(_fits_path(folder, n)) for n in numbers])
    if not (ours == kept).all() or not (ours == np.rint(images * 65535)).all():
        raise AssertionError("the formats do not hold the same cutouts")


# -- the sides -----------------------------------------------------------------------------------


def _ours(folder: Path, plan: Plan, passes: int) -> int:
    loader = LoaderSettings(workers=READERS, prefetch=2)
    read = read_ahead(folder / "corpus.h5", plan.micro_batches(passes), loader, pin_memory=False)
    return sum(len(cutouts) for _, cutouts in read)


class _Roof:
    """The bytes of the same cutouts, by one system call each and nothing else."""

    def __init__(self, folder: Path, size: Size) -> None:
        self._size = size
        self._where = [place for number in range(N_SHARDS) for place in _chunks(folder, number)]
        self._own = threading.local()

    def read(self, batches: list[NDArray[np.int64]]) -> int:
        with ThreadPoolExecutor(READERS) as threads:
            return sum(threads.map(self._read, batches))

    def _read(self, numbers: NDArray[np.int64]) -> int:
        if not hasattr(self._own, "buffer"):
            pixels = np.empty((MICRO_BATCH, self._size.size_px**2), dtype=np.uint16)
            self._own.buffer = [memoryview(one).cast("B") for one in pixels]
        for piece, number in zip(self._own.buffer, numbers.tolist(), strict=False):
            descriptor, offset = self._where[number]
            os.preadv(descriptor, (piece,), offset)
        return len(numbers)


def _chunks(folder: Path, shard: int) -> list[tuple[int, int]]:
    """Descriptor and first byte of each cutout of a shard; it stays open till the process ends."""
    path = folder / f"{shard}.h5"
    found: list[Any] = []
    with h5py.File(path, "r") as file:
        file["cutouts"].id.chunk_iter(found.append)
    descriptor = os.open(path, os.O_RDONLY)
    return [(descriptor, chunk.byte_offset) for chunk in sorted(found)]


def _zarr(folder: Path, batches: list[NDArray[np.int64]]) -> int:
    """By blocks, which takes two thirds of the time of `oindex` with sorted numbers."""
    import zarr

    array = zarr.open_array(folder / "all.zarr", mode="r")
    return sum(
        len(np.concatenate([array.blocks[number] for number in numbers.tolist()]))
        for numbers in batches
    )


def _fits(folder: Path, batches: list[NDArray[np.int64]]) -> int:
    done = 0
    for numbers in batches:
        images = [fits.getdata(_fits_path(folder, n)).astype(np.float32) for n in numbers]
        done += len(np.stack(images))
    return done


def _web_loader(folder: Path, size: Size) -> Any:
    import webdataset

    dataset = (
        webdataset.WebDataset(
            [str(folder / f"{number}.tar") for number in range(N_SHARDS)], shardshuffle=N_SHARDS
        )
        .shuffle(size.shuffle_buffer)
        .decode()
        .to_tuple("npy")
        .batched(MICRO_BATCH)
    )
    return webdataset.WebLoader(
        dataset, batch_size=None, num_workers=READERS, persistent_workers=True
    )


def _webdataset(loader: Any) -> int:
    return sum(len(levels) for (levels,) in loader)
