"""Reading ahead: workers read stored cutouts and do nothing else.

What is read, and in which order, is decided by the plan alone, so the number of workers changes
the speed and never a result.
"""

import multiprocessing
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from stradavit.cutouts.corpus import Corpus
from stradavit.settings.training import LoaderSettings
from stradavit.training.sampler import MicroBatch, Numbers


class _Reader(Dataset[tuple[MicroBatch, Tensor]]):
    """Opens the corpus in the process that reads: HDF5 handles must not cross a fork."""

    def __init__(self, corpus_path: Path) -> None:
        self._corpus_path = corpus_path
        self._corpus: Corpus | None = None

    def __getitem__(self, batch: MicroBatch) -> tuple[MicroBatch, Tensor]:
        if self._corpus is None:
            self._corpus = Corpus(self._corpus_path)
        return batch, read_cutouts(self._corpus, batch.numbers)


class _Listed(Sampler[MicroBatch]):
    """The micro-batches of a plan, as the sampler a DataLoader asks for."""

    def __init__(self, batches: Iterable[MicroBatch]) -> None:
        self._batches = batches

    def __iter__(self) -> Iterator[MicroBatch]:
        return iter(self._batches)


def read_cutouts(corpus: Corpus, numbers: Numbers) -> Tensor:
    """Cutouts as stored: (k, 1, size, size) uint16, 65535 standing for 1."""
    return torch.from_numpy(corpus.read(numbers)).unsqueeze(1)


def read_ahead(
    corpus_path: Path,
    batches: Iterable[MicroBatch],
    settings: LoaderSettings,
    pin_memory: bool,
) -> Iterator[tuple[MicroBatch, Tensor]]:
    """Each micro-batch with its cutouts, in the given order.

    One set of workers serves all epochs, so none waits at an epoch's start.

    Parameters
    ----------
    batches : consumed lazily, a few ahead of what was yielded
    pin_memory : keep cutouts in page-locked memory, for copies to a GPU that do not block
    """
    workers = settings.workers
    loader: DataLoader[tuple[MicroBatch, Tensor]] = DataLoader(
        _Reader(corpus_path),
        batch_size=None,
        sampler=_Listed(batches),
        num_workers=workers,
        prefetch_factor=settings.prefetch if workers else None,
        pin_memory=pin_memory,
        collate_fn=_as_it_is,
        multiprocessing_context=_fork_server() if workers else None,
    )
    return iter(loader)


def _as_it_is(item: Any) -> Any:
    return item


def _fork_server() -> multiprocessing.context.BaseContext:
    """Workers forked from a clean process: neither HDF5 nor CUDA nor threads are in it."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context
