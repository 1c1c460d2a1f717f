"""The keyed generator: each property below is one the views rely on."""

import numpy as np
import pytest
import torch
from scipy import stats

from stradavit.views.random import (
    Stream,
    bits,
    cutout_keys,
    fold,
    normals,
    positions,
    uniforms,
)

NUMBERS = torch.arange(500)
MASK = (1 << 64) - 1


def splitmix64(state: int) -> int:
    """Output function of SplitMix64 in Python's unbounded integers."""
    z = state & MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def test_bits_are_the_published_generator():
    # The first outputs of SplitMix64 from seed 1234567, as printed by its reference program.
    expected = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    drawn = bits(torch.tensor([1234567]), 3)[0].tolist()
    assert [word & MASK for word in drawn] == expected


def test_keys_are_plain_integer_arithmetic():
    golden = 0x9E3779B97F4A7C15
    key = 0
    for word in (-3, 7, 123456, 2):
        key = splitmix64(key + golden * (word + 1))
    drawn = cutout_keys(-3, 7, torch.tensor([123456]), torch.tensor([2]))
    assert drawn.item() & MASK == key


@pytest.mark.parametrize("count", [1, 5, 4096])
def test_a_draw_does_not_depend_on_how_many_are_made(count):
    keys = cutout_keys(1, 2, NUMBERS)
    for draw in (uniforms, normals, lambda k, n: positions(k, n, 1000)):
        assert torch.equal(draw(keys[:3], count), draw(keys[:3], 5000)[:, :count])


def test_each_word_of_the_key_changes_everything():
    keys = cutout_keys(1, 2, NUMBERS)
    others = [
        cutout_keys(2, 2, NUMBERS),
        cutout_keys(1, 3, NUMBERS),
        cutout_keys(1, 2, NUMBERS + 500),
        cutout_keys(1, 2, NUMBERS, torch.ones_like(NUMBERS)),
        fold(keys, Stream.NOISE),
        fold(keys, Stream.BANDS),
    ]
    everything = torch.cat([keys, *others])
    assert len(everything.unique()) == len(everything)
    reference = uniforms(keys, 40).flatten().numpy()
    for other in others:
        draws = uniforms(other, 40).flatten().numpy()
        # 20,000 independent pairs: |r| has standard deviation 0.007.
        assert abs(np.corrcoef(reference, draws)[0, 1]) < 0.03


def test_no_attempt_is_attempt_zero():
    zeros = torch.zeros_like(NUMBERS)
    assert torch.equal(cutout_keys(5, 6, NUMBERS), cutout_keys(5, 6, NUMBERS, zeros))


def test_uniforms_are_uniform_within_and_across_keys():
    draws = uniforms(cutout_keys(3, 0, NUMBERS), 400).numpy()
    assert draws.min() >= 0 and draws.max() < 1
    # p-values of a fixed seed: a broken generator gives 1e-20, an honest one rarely below 1e-3.
    for sample in (draws[0], draws[:, 0], draws[:, 399], draws.ravel()):
        assert stats.kstest(sample, "uniform").pvalue > 1e-3
    neighbours = np.corrcoef(draws[:, :-1].ravel(), draws[:, 1:].ravel())[0, 1]
    cutouts = np.corrcoef(draws[:-1].ravel(), draws[1:].ravel())[0, 1]
    assert abs(neighbours) < 0.01 and abs(cutouts) < 0.01


def test_normals_are_normal():
    draws = normals(cutout_keys(4, 0, NUMBERS), 1001).double().numpy()
    assert abs(draws.mean()) < 5 / np.sqrt(draws.size)
    assert abs(draws.var() - 1) < 5 * np.sqrt(2 / draws.size)
    assert abs(stats.kurtosis(draws.ravel())) < 5 * np.sqrt(24 / draws.size)
    assert stats.kstest(draws.ravel(), "norm").pvalue > 1e-3
    # Four numbers come from one hash; they must not know of each other.
    quarters = draws[:, :1000].reshape(-1, 4)
    assert np.abs(np.corrcoef(quarters.T) - np.eye(4)).max() < 0.015


def test_positions_cover_their_range_evenly():
    drawn = positions(cutout_keys(5, 0, NUMBERS), 400, 10)
    counts = torch.bincount(drawn.flatten(), minlength=10).numpy()
    assert len(counts) == 10
    assert stats.chisquare(counts).pvalue > 1e-3
    assert positions(NUMBERS[:2], 100, 1).eq(0).all()
