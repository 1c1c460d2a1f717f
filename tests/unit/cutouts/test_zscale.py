"""The stretch against Astropy's own, and the images Astropy has no answer for."""

import numpy as np
import pytest
from astropy.visualization import ZScaleInterval
from hypothesis import given, settings
from hypothesis import strategies as st

from stradavit.cutouts.zscale import limits, scale, stretch
from stradavit.cutouts.zscale_fit import _grown, zscale_limits
from tests.unit.cutouts.fake_fits import noise


def source(shape, seed, flux=50.0):
    """Noise with one Gaussian source in it."""
    y, x = np.indices(shape)
    blob = np.exp(-((y - shape[0] / 3) ** 2 + (x - shape[1] / 2) ** 2) / 20)
    return (noise(*shape, seed=seed) + flux * blob).astype(np.float32)


@pytest.mark.parametrize("unit", [1e-6, 1.0, 1e4])
@pytest.mark.parametrize("offset", [0.0, 1.0, -30.0])
@pytest.mark.parametrize("shape", [(64, 64), (512, 512), (33, 90)])
def test_equals_astropy(shape, unit, offset):
    image = (unit * (source(shape, seed=3) + offset)).astype(np.float32)
    expected = ZScaleInterval()(image, clip=True)
    found = stretch(image, "zscale")
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-6, rtol=0)
    assert found.min() == 0 and found.max() == 1


def test_8_bit_pictures_equal_astropy_even_where_the_limits_coincide():
    picture = np.zeros((100, 100), np.float32)
    picture[40:60, 45:55] = 200.0
    low, high = limits(picture, "zscale")
    assert low == high
    found = stretch(picture, "zscale")
    np.testing.assert_array_equal(found, ZScaleInterval()(picture, clip=True))
    assert found.any()  # the paper's constant cutouts are blanked, this one is not constant
    assert np.unique(stretch(picture, "minmax")).tolist() == [0, 1]


def test_blank_pixels_become_zero_and_take_no_part_in_the_limits():
    image = source((100, 100), seed=1)
    holes = np.random.default_rng(2).random(image.shape) < 0.2
    for blank in (np.nan, np.inf, -np.inf):
        damaged = np.where(holes, np.float32(blank), image)
        assert limits(damaged, "zscale") == limits(image[~holes], "zscale")
        low, high = limits(image[~holes], "zscale")
        found = stretch(damaged, "zscale")
        assert not found[holes].any()
        np.testing.assert_array_equal(found[~holes], scale(image, low, high)[~holes])


@pytest.mark.parametrize("how", ["zscale", "minmax"])
@pytest.mark.parametrize("value", [0.0, 1.0, -3e-5, 0.1, 1e30, np.nan, np.inf])
def test_constant_images_become_zeros(how, value):
    assert not stretch(np.full((20, 30), value, np.float32), how).any()


def test_minmax_is_linear_between_the_extremes():
    image = np.array([[2.0, 4.0], [np.nan, 10.0]], np.float32)
    np.testing.assert_array_equal(stretch(image, "minmax"), [[0, 0.25], [0, 1]])


@settings(max_examples=200, deadline=None)
@given(
    values=st.lists(st.floats(width=32), min_size=1, max_size=40),
    how=st.sampled_from(["zscale", "minmax"]),
)
def test_always_in_the_unit_interval(values, how):
    found = stretch(np.array([values], np.float32), how)
    assert found.dtype == np.float32
    assert np.isfinite(found).all() and found.min() >= 0 and found.max() <= 1


KINDS = {
    "noise": lambda x, rng: x,
    "sources": lambda x, rng: x + rng.random(x.size) ** -0.7,
    "few values": lambda x, rng: np.round(x * rng.choice([1, 2, 5, 20])),
    "flat": lambda x, rng: rng.random(x.size),
    "half empty": lambda x, rng: np.where(rng.random(x.size) < rng.random(), 0, x),
    "bright tail": lambda x, rng: rng.exponential(size=x.size) ** 3,
    "ramp with outliers": lambda x, rng: (
        np.linspace(0, 1, x.size) + 10 * x * (rng.random(x.size) < 0.02)
    ),
    "clipped": lambda x, rng: np.clip(x, -1, 1),
}


@settings(max_examples=300, deadline=None)
@given(
    kind=st.sampled_from(sorted(KINDS)),
    seed=st.integers(0, 2**32),
    shape=st.sampled_from([(5, 6), (8, 8), (10, 10), (25, 40), (37, 27), (64, 64), (128, 128)]),
    unit=st.integers(-8, 5),
    offset=st.sampled_from([0.0, 0.0, 1.0, -30.0, 1e4]),
    blank=st.sampled_from([0.0, 0.3]),
)
def test_our_limits_are_those_of_astropy(kind, seed, shape, unit, offset, blank):
    rng = np.random.default_rng(seed)
    values = KINDS[kind](rng.normal(size=shape[0] * shape[1]), rng)
    image = (values * 10.0**unit + offset).astype(np.float32).reshape(shape)
    image[: int(blank * shape[0])] = np.nan  # a border
    finite = image[np.isfinite(image)]
    if finite.min() == finite.max():
        assert not stretch(image, "zscale").any()
        return
    expected = ZScaleInterval().get_limits(image)
    found = limits(image, "zscale")
    width = float(expected[1] - expected[0])
    if width > 0:
        np.testing.assert_allclose(found, expected, atol=1e-7 * width, rtol=0)
        pixels = ZScaleInterval()(image)
        shown = np.isfinite(image)
        found_pixels = stretch(image, "zscale")
        np.testing.assert_allclose(found_pixels[shown], pixels[shown], atol=1e-6, rtol=0)
        assert not found_pixels[~shown].any()


def test_what_hangs_on_the_last_bits_is_left_to_astropy():
    rng = np.random.default_rng(0)
    two_values = (rng.random(5000) < 0.3).astype(np.float32)
    mostly_zero = np.where(np.arange(5000) % 9, 0, two_values).astype(np.float32)
    assert zscale_limits(mostly_zero) is None
    assert zscale_limits(rng.normal(size=20).astype(np.float32)) is None, "too few"
    assert zscale_limits(rng.normal(size=5000).astype(np.float32)) is not None
    sky = [noise(128, 128, seed=seed).ravel() for seed in range(100)]
    assert sum(zscale_limits(image) is None for image in sky) == 0


@given(st.lists(st.booleans(), min_size=12, max_size=60), st.integers(1, 12))
def test_masks_grow_as_they_do_in_astropy(values, width):
    mask = np.array(values)
    expected = np.convolve(mask, np.ones(width, dtype=bool), mode="same")
    np.testing.assert_array_equal(_grown(mask, width), expected)
