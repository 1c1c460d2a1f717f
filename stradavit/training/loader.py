"""Reading ahead: threads read stored cutouts and do nothing else.

What is read, and in which order, is decided by the plan alone, so the number of threads changes
the speed and never a result.

Threads, not processes: `Corpus.read` spends its time in the system and in checksums, where
Python's lock is free. So cutouts are read straight into the memory that training uses, page-locked
if they go to a GPU, nothing is pickled or copied between processes, and there is one index.
"""

import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stradavit.cutouts.corpus import Corpus
from stradavit.settings.training import LoaderSettings
from stradavit.training.sampler import MicroBatch, Numbers

T = TypeVar("T")


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

    One set of threads serves all epochs, so none waits at an epoch's start.

    Parameters
    ----------
    batches : consumed lazily, a few ahead of what was yielded
    pin_memory : keep cutouts in page-locked memory, for copies to a GPU that do not block

    Raises
    ------
    DataError
        If the corpus is no corpus, or a cutout has changed; cutouts before it were yielded.
    """
    corpus = Corpus(corpus_path)
    memory = _PinnedMemory() if pin_memory else _Memory()

    def read(batch: MicroBatch, cutouts: Tensor) -> tuple[MicroBatch, Tensor]:
        corpus.read(batch.numbers, out=cutouts.numpy()[:, 0])
        return batch, cutouts

    def room(batch: MicroBatch) -> Tensor:
        return memory.take(len(batch.numbers), corpus.size_px)

    yield from in_order((partial(read, batch, room(batch)) for batch in batches), settings)


def in_order(tasks: Iterable[Callable[[], T]], settings: LoaderSettings) -> Iterator[T]:
    """What each task returns, in the order of the tasks, done ahead of use by reader threads.

    Parameters
    ----------
    tasks : made lazily, a few ahead of what was yielded
    """
    if settings.workers == 0:
        for task in tasks:
            yield task()
        return
    ahead = settings.workers * settings.prefetch
    reading: deque[Future[T]] = deque()
    with ThreadPoolExecutor(settings.workers, thread_name_prefix="reader") as threads:
        try:
            for task in tasks:
                reading.append(threads.submit(task))
                if len(reading) > ahead:
                    yield reading.popleft().result()
            while reading:
                yield reading.popleft().result()
        finally:  # an error, or nobody wants the rest
            threads.shutdown(wait=False, cancel_futures=True)


class _PinnedMemory:
    """Page-locked memory, which PyTorch keeps and hands out again when copies from it are done."""

    def take(self, k: int, size_px: int) -> Tensor:
        """(k, 1, size_px, size_px) uint16 of any content."""
        return torch.empty((k, 1, size_px, size_px), dtype=torch.uint16, pin_memory=True)


class _Memory:
    """Memory that is handed out again once nobody holds a tensor on it any more.

    Large arrays that come fresh from the system are cleared page by page when they are first
    written to, which takes a third of the time that reading into them does.
    """

    def __init__(self) -> None:
        self._free: list[NDArray[np.uint16]] = []

    def take(self, k: int, size_px: int) -> Tensor:
        """(k, 1, size_px, size_px) uint16 of any content."""
        wanted = k * size_px**2
        memory = self._free.pop() if self._free else np.empty(0, dtype=np.uint16)
        if len(memory) < wanted:
            memory = np.empty(wanted, dtype=np.uint16)
        # The tensor's storage keeps this very view, and with it the memory, from being free.
        view = memory[:wanted].reshape(k, 1, size_px, size_px)
        weakref.finalize(view, self._free.append, memory).atexit = False
        return torch.from_numpy(view)
