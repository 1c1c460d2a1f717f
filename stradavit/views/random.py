"""Randomness as a function of what is drawn for, never of when, where or beside what.

Every random number is a hash of (seed, epoch, cutout number, attempt, stream, index). Batch
composition, order, worker, rank and device cannot change it, and resuming needs no generator
state. The hash is SplitMix64 (Steele, Lea and Flood 2014, "Fast splittable pseudorandom number
generators"): a key plus a multiple of the golden ratio, mixed. All arithmetic is on integers
modulo 2^64 until one exact conversion to a float, so processor and accelerator agree bit for bit.
"""

from enum import IntEnum
from functools import cache

import numpy as np
import torch
from torch import Tensor

_GOLDEN = 0x9E3779B97F4A7C15
_MIX_1 = 0xBF58476D1CE4E5B9
_MIX_2 = 0x94D049BB133111EB
_NORMAL_LEVELS = 1 << 16


class Stream(IntEnum):
    """What a draw is for; two streams of one cutout are independent."""

    BACKGROUND = 0
    ANCHOR = 1
    REGIME = 2
    WIDE_FIELD = 3
    REGION = 4
    VIEW = 5
    CROP = 6
    DIHEDRAL = 7
    ASINH = 8
    AFFINE = 9
    NOISE = 10
    BANDS = 11
    FLUX = 12


def cutout_keys(seed: int, epoch: int, numbers: Tensor, attempt: Tensor | None = None) -> Tensor:
    """The key of each slot of a batch, from which all its draws follow.

    Parameters
    ----------
    seed, epoch : any integers
    numbers : (b,) int64 tensor, numbers of the cutouts in the corpus
    attempt : (b,) int64 tensor, how often the slot was given another cutout; None is zeros

    Returns
    -------
    (b,) int64 tensor; different numbers have different keys within one (seed, epoch, attempt)
    """
    keys = fold(fold(torch.zeros_like(numbers), seed), epoch)
    keys = fold(keys, numbers)
    return fold(keys, 0 if attempt is None else attempt)


def fold(keys: Tensor, word: int | Tensor) -> Tensor:
    """Keys of a narrower purpose: the parent's key and one more word, hashed.

    Use a key either to fold or to draw: draw i of a key equals its child of word i.
    """
    if isinstance(word, int):
        return _mix(keys + _signed(_GOLDEN * (word + 1)))
    return _mix(keys + (word + 1) * _signed(_GOLDEN))


def bits(keys: Tensor, count: int) -> Tensor:
    """(b,) int64 keys to (b, count) int64 tensor of 64 random bits each."""
    return fold(keys[:, None], torch.arange(count, device=keys.device))


def uniforms(keys: Tensor, *shape: int) -> Tensor:
    """(b,) int64 keys to (b, *shape) float64 tensor, uniform on the 2^53 steps of [0, 1)."""
    count = 1
    for length in shape:
        count *= length
    return (_shift_right(bits(keys, count), 11) * 2.0**-53).view(-1, *shape)


def positions(keys: Tensor, count: int, below: int) -> Tensor:
    """(b,) int64 keys to (b, count) int64 tensor, uniform integers in [0, below), below < 2^31."""
    return _shift_right(_pieces(keys, count, torch.int32).long().add_(1 << 31) * below, 32)


def normals(keys: Tensor, count: int) -> Tensor:
    """(b,) int64 keys to (b, count) float32 tensor of standard normal numbers.

    The quantile of a uniform 16-bit number from a table: exact, fast and the same on every
    device, where logarithms and cosines are not. The price is that no number exceeds 4.4.
    """
    levels = _pieces(keys, count, torch.int16).int().add_(_NORMAL_LEVELS // 2)
    return quantiles(keys.device).index_select(0, levels.flatten()).view(levels.shape)


def _pieces(keys: Tensor, count: int, dtype: torch.dtype) -> Tensor:
    """(b, count) signed integers of 16 or 32 random bits; several are cut from one hash."""
    per_hash = 8 // dtype.itemsize
    return bits(keys, -(-count // per_hash)).view(dtype)[:, :count]


@cache
def quantiles(device: torch.device) -> Tensor:
    """The normal quantiles of 2^16 strata, scaled to unit variance; (65536,) float32."""
    midpoints = (torch.arange(_NORMAL_LEVELS, dtype=torch.float64) + 0.5) / _NORMAL_LEVELS
    exact: Tensor = torch.special.ndtri(midpoints)
    return (exact / exact.square().mean().sqrt()).float().to(device)


def _mix(z: Tensor) -> Tensor:
    if z.device.type == "cpu":
        # The same arithmetic in a fifth of the time: numpy has unsigned integers, and small
        # operations, of which a batch takes hundreds, start faster.
        words = z.numpy().view(np.uint64)
        words = words ^ (words >> np.uint64(30))
        words *= np.uint64(_MIX_1)
        words ^= words >> np.uint64(27)
        words *= np.uint64(_MIX_2)
        words ^= words >> np.uint64(31)
        return torch.from_numpy(words.view(np.int64))
    z = (z ^ _shift_right(z, 30)) * _signed(_MIX_1)
    z = (z ^ _shift_right(z, 27)) * _signed(_MIX_2)
    return z ^ _shift_right(z, 31)


def _shift_right(z: Tensor, count: int) -> Tensor:
    """Logical shift; the arithmetic one of int64 tensors copies the sign bit."""
    shifted: Tensor = (z >> count) & ((1 << (64 - count)) - 1)
    return shifted


def _signed(word: int) -> int:
    """The int64 with the low 64 bits of `word`."""
    word &= (1 << 64) - 1
    return word - (1 << 64) if word >> 63 else word
