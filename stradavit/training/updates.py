"""The numbers of an update, looked at when they are there instead of when they are asked for.

A float on the host makes it wait until the GPU has done all it was given. So the sums of an update
travel to the host beside the next one's work.
"""

import math
from collections import deque
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from stradavit.cutouts.corpus import Corpus
from stradavit.training.alarms import not_finite
from stradavit.training.record import Passed
from stradavit.training.sampler import MicroBatch


class Sums(NamedTuple):
    """Over all devices: loss of all cutouts, replaced, still empty, who asks to stop or to save."""

    loss: float
    resampled: float
    still_empty: float
    stop: float
    save: float
    grad_norm: float


@dataclass(frozen=True)
class Update:
    """One update whose sums are on their way to the host.

    Attributes
    ----------
    batch : its last micro-batch
    passed : its micro-batches on this device
    waited_s : for cutouts
    """

    batch: MicroBatch
    passed: list[Passed]
    waited_s: float
    _values: Tensor
    _arrived: "torch.cuda.Event | None"

    def sums(self, corpus: Corpus) -> Sums:
        """The sums, waited for if need be.

        Raises
        ------
        TrainingError
            If the loss or the gradient norm is not finite.
        """
        if self._arrived is not None:
            self._arrived.synchronize()
        sums = Sums(*self._values.tolist())
        if not math.isfinite(sums.loss) or not math.isfinite(sums.grad_norm):
            batch, passed = self.batch, self.passed
            raise not_finite(batch.epoch, batch.step, sums.grad_norm, passed, corpus)
        return sums


class Updates:
    """Updates whose sums nobody has looked at yet, oldest first.

    Parameters
    ----------
    is_late : leave one update that has just been made alone, since its sums may not be there yet
    """

    def __init__(self, is_late: bool) -> None:
        self._is_late = is_late
        self._waiting: deque[Update] = deque()

    def add(
        self, batch: MicroBatch, passed: list[Passed], waited_s: float, tally: Tensor, norm: Tensor
    ) -> None:
        """Send the sums of an update on their way.

        Parameters
        ----------
        tally : (5,) float32, all of `Sums` but the last
        norm : () float32, of the gradient
        """
        values = torch.cat([tally, norm.reshape(1)])
        self._waiting.append(Update(batch, passed, waited_s, *_send(values)))

    def take(self, is_all: bool) -> list[Update]:
        """The updates to look at now, each once: all, or all that must have arrived."""
        n_left = 1 if self._is_late and not is_all else 0
        return [self._waiting.popleft() for _ in range(len(self._waiting) - n_left)]


def _send(values: Tensor) -> tuple[Tensor, "torch.cuda.Event | None"]:
    """Where the values will be on the host, and when."""
    if values.device.type != "cuda":
        return values, None
    there = torch.empty(values.shape, pin_memory=True).copy_(values, non_blocking=True)
    return there, torch.cuda.current_stream(values.device).record_event()


def tally_of(
    passed: list[Passed], asks_to_stop: bool, asks_to_save: bool, device: torch.device
) -> Tensor:
    """This device's part of `Sums`, (5,) float32, all but the gradient norm."""
    tally = torch.zeros(5, device=device)
    for one in passed:
        tally[0] += one.loss * len(one.numbers)
        tally[1] += one.n_resampled
        tally[2] += one.n_still_empty
    tally[3] += asks_to_stop
    tally[4] += asks_to_save
    return tally
