"""Which cutouts make which step: a pure function of (seed, epoch, number of cutouts).

An epoch is one permutation of the corpus, cut into *micro-batches* of ``world × batch_size``
cutouts: what all devices pass through the network at once. Each device takes an equal, contiguous
share of a micro-batch, so W devices with B cutouts each see the same micro-batches as one device
with W × B. *accumulation* consecutive micro-batches make one optimiser update.

The last micro-batch of an epoch may be short. With `drop_last` it is left out; else it is shared
as evenly as it goes: every device still makes the same number of steps, some of them with one
cutout less, or with none, so nobody waits for ever and no cutout is shown twice. Gradients are
weighted by cutouts (`MicroBatch.weight`), which makes every update a mean over its cutouts
whatever the shares are.
"""

from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stradavit.training.epoch import Epoch
from stradavit.views.random import cutout_keys, fold, positions

Numbers = NDArray[np.int64]

# What a cutout's key is folded with: apart from the streams of `stradavit.views.random`, and from
# the 1002 of the masks in `stradavit.training.tasks`.
_ORDER, _REPLACEMENT, _BLOCKS, _WINDOW = 1000, 1001, 1003, 1004

# Blocks of a block-shuffled epoch among which cutouts are mixed.
WINDOW_BLOCKS = 16

# Numbers that are hashed at once; their temporary arrays stay in the processor's cache.
_AT_ONCE = 1 << 14


def epoch_order(seed: int, epoch: int, n_cutouts: int, block: int = 1) -> Numbers:
    """The order of an epoch: the cutouts sorted by a keyed hash of their number.

    With `block` > 1, cutouts that lie side by side in their shard stay near each other, so that
    a disk that is slow to seek reads whole blocks: blocks of so many consecutive numbers are
    shuffled, and cutouts are mixed within windows of `WINDOW_BLOCKS` blocks. A micro-batch then
    shows that many neighbourhoods, and not one; one of ``WINDOW_BLOCKS × block`` cutouts reads
    every block from end to end.

    Parameters
    ----------
    seed, epoch, n_cutouts : of which the order is a pure function, together with
    block : cutouts of a block; 1 shuffles all cutouts freely

    Returns
    -------
    (n_cutouts,) int64, a permutation of ``arange(n_cutouts)``
    """
    if block == 1:
        return _by_hash(seed, epoch, n_cutouts, _ORDER)
    blocks = _by_hash(seed, epoch, -(-n_cutouts // block), _BLOCKS)
    per_window = WINDOW_BLOCKS * block
    order = np.empty(len(blocks) * block, dtype=np.int64)
    windows_at_once = max(1, _AT_ONCE // per_window)
    for first in range(0, len(blocks), windows_at_once * WINDOW_BLOCKS):
        some = blocks[first : first + windows_at_once * WINDOW_BLOCKS]
        numbers = (some[:, None] * block + np.arange(block)).ravel()
        window = np.arange(len(numbers)) // per_window
        mixed = np.lexsort((_hashes(seed, epoch, numbers, _WINDOW), window))
        order[first * block : first * block + len(numbers)] = numbers[mixed]
    return order[order < n_cutouts]  # the last block may be short


def _by_hash(seed: int, epoch: int, n: int, word: int, spare_bits: int | None = None) -> Numbers:
    """``arange(n)`` sorted by hash, in no more memory than the result needs.

    Numbers lie in the low bits of their hashes, which are sorted in place; the few whose high
    bits are equal are sorted again by their whole hashes. No two whole hashes are equal.
    """
    bits = max(n - 1, 0).bit_length() if spare_bits is None else spare_bits
    packed = np.empty(n, dtype=np.int64)
    for start in range(0, n, _AT_ONCE):
        numbers = np.arange(start, min(start + _AT_ONCE, n))
        packed[start : start + _AT_ONCE] = (
            _hashes(seed, epoch, numbers, word) >> bits << bits
        ) | numbers
    packed.sort()
    ties = [
        start + np.flatnonzero((some[1:] ^ some[:-1]) >> bits == 0)
        for start in range(0, n, _AT_ONCE)
        for some in [packed[start : start + _AT_ONCE + 1]]
    ]
    packed &= (1 << bits) - 1
    tied = np.concatenate([*ties, np.empty(0, dtype=np.int64)])
    for run in np.split(tied, np.flatnonzero(np.diff(tied) > 1) + 1):
        if len(run):
            places = slice(run[0], run[-1] + 2)
            hashes = _hashes(seed, epoch, packed[places], word)
            packed[places] = packed[places][np.argsort(hashes)]
    return packed


def _hashes(seed: int, epoch: int, numbers: Numbers, word: int) -> Numbers:
    """(k,) int64; different numbers have different hashes."""
    return fold(cutout_keys(seed, epoch, torch.from_numpy(numbers)), word).numpy()


def replacements(seed: int, epoch: int, numbers: Tensor, attempt: Tensor, n_cutouts: int) -> Tensor:
    """The cutouts that stand in for cutouts whose views are empty.

    Parameters
    ----------
    numbers : (k,) int64, the cutouts first drawn
    attempt : (k,) int64, 1 for the first replacement

    Returns
    -------
    (k,) int64 in [0, n_cutouts)
    """
    keys = fold(cutout_keys(seed, epoch, numbers, attempt), _REPLACEMENT)
    return positions(keys, 1, n_cutouts)[:, 0]


@dataclass(frozen=True)
class MicroBatch:
    """One device's share of one pass through the network.

    Attributes
    ----------
    epoch, step : position; `step` counts micro-batches within the epoch
    numbers : (k,) int64, this device's cutouts; empty if there are fewer cutouts than devices
    n_update : cutouts of the whole update this micro-batch is part of, over all devices
    ends_update, ends_epoch : whether the optimiser steps, and the epoch ends, after it
    """

    epoch: int
    step: int
    numbers: Numbers
    n_update: int
    ends_update: bool
    ends_epoch: bool

    @property
    def weight(self) -> float:
        """Share of the update's cutouts that are in this micro-batch on this device."""
        return len(self.numbers) / self.n_update


@dataclass(frozen=True)
class Plan(Epoch):
    """The micro-batches of a run as one device sees them.

    Parameters
    ----------
    seed : decides the order
    rank : number of this device
    shuffle_block : see `epoch_order`; it belongs to the results
    """

    seed: int
    _: KW_ONLY
    rank: int = 0
    shuffle_block: int = 1

    def micro_batches(self, epochs: int, updates_done: int = 0) -> Iterator[MicroBatch]:
        """This device's micro-batches of all epochs, from the first one not yet used.

        Parameters
        ----------
        epochs : epochs of the whole run
        updates_done : optimiser updates made before; their micro-batches are not even read
        """
        first_epoch, update = divmod(updates_done, self.updates_per_epoch)
        first_step = update * self.accumulation
        for epoch in range(first_epoch, epochs):
            order = epoch_order(self.seed, epoch, self.n_cutouts, self.shuffle_block)
            order = order[: self.cutouts_per_epoch]
            for step in range(first_step, self.steps_per_epoch):
                yield self._micro_batch(epoch, step, order)
            first_step = 0

    def _micro_batch(self, epoch: int, step: int, order: Numbers) -> MicroBatch:
        whole = order[step * self.micro_batch : (step + 1) * self.micro_batch]
        per_update = self.accumulation * self.micro_batch
        update_start = step // self.accumulation * per_update
        ends_epoch = step + 1 == self.steps_per_epoch
        return MicroBatch(
            epoch=epoch,
            step=step,
            numbers=np.array_split(whole, self.world)[self.rank],
            n_update=min(per_update, len(order) - update_start),
            ends_update=ends_epoch or (step + 1) % self.accumulation == 0,
            ends_epoch=ends_epoch,
        )
