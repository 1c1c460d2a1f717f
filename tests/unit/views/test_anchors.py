"""Anchors on skies whose answer is known."""

import pytest
import torch

from stradavit.settings.views import AnchorSettings
from stradavit.views.anchors import find_anchors
from stradavit.views.loops import LoopPixels
from stradavit.views.random import cutout_keys
from stradavit.views.tensors import TensorPixels
from tests.unit.views.skies import sparse_sky

DEFAULT = AnchorSettings()
both_engines = pytest.mark.parametrize("pixels", [TensorPixels, LoopPixels])


def keys(count: int) -> torch.Tensor:
    return cutout_keys(0, 0, torch.arange(count))


def spots(*where: tuple[int, int, float], size: int = 128) -> torch.Tensor:
    """Noise-free images with squares of 3 x 3 pixels, brightest in their middle."""
    image = torch.zeros(size, size)
    for x, y, peak in where:
        image[y - 1 : y + 2, x - 1 : x + 2] = 0.8 * peak
        image[y, x] = peak
    return image


def anchors_of(pixels, image: torch.Tensor, settings: AnchorSettings, draws: int = 400):
    found = find_anchors(pixels(image.expand(draws, -1, -1)), keys(draws), settings)
    return found.points.tolist(), found.is_fallback


@both_engines
def test_peaks_are_drawn_evenly_and_faint_ones_never(pixels):
    # The third reaches 0.7 of the brightest, below the 0.8 an anchor must reach.
    image = spots((20, 30, 1.0), (90, 100, 0.85), (100, 20, 0.7))
    points, is_fallback = anchors_of(pixels, image, AnchorSettings(mean_probability=0.0))
    assert not is_fallback.any()
    assert {tuple(point) for point in points} == {(20, 30), (90, 100)}
    # 400 fair coins: standard deviation 10.
    assert 150 < points.count([20, 30]) < 250


@both_engines
def test_peaks_closer_than_the_separation_count_once(pixels):
    # Tiles of 8 px; 17 px is two tiles, 25 px three.
    near, far = spots((20, 20, 1.0), (37, 20, 0.95)), spots((20, 20, 1.0), (45, 20, 0.95))
    settings = AnchorSettings(mean_probability=0.0)
    assert {tuple(p) for p in anchors_of(pixels, near, settings)[0]} == {(20, 20)}
    assert {tuple(p) for p in anchors_of(pixels, far, settings)[0]} == {(20, 20), (45, 20)}


@both_engines
def test_mean_anchors_are_tile_centres(pixels):
    points, _ = anchors_of(
        pixels, spots((20, 30, 1.0)), AnchorSettings(mean_probability=1.0), draws=20
    )
    # 8 x 8 tiles of 16 px: the source lies in tile (1, 1), whose centre is (24, 24).
    assert {tuple(point) for point in points} == {(24, 24)}


@both_engines
def test_the_coin_chooses_between_the_sets(pixels):
    points, _ = anchors_of(pixels, spots((20, 30, 1.0)), AnchorSettings(mean_probability=0.25))
    # 400 draws at 0.25: standard deviation 8.7.
    assert 65 < points.count([24, 24]) < 135
    assert points.count([24, 24]) + points.count([20, 30]) == 400


@both_engines
def test_an_empty_peak_set_gives_the_centre(pixels):
    settings = AnchorSettings(peak_z_min=1e12)
    points, is_fallback = anchors_of(pixels, spots((20, 30, 1.0)), settings)
    assert {tuple(point) for point in points} == {(24, 24), (64, 64)}
    assert not is_fallback.any()


@both_engines
def test_no_anchor_at_all_gives_the_brightest_pixel(pixels):
    # A peak 11 px away from every tile centre: outside their windows of 21 px.
    settings = AnchorSettings(peak_z_min=1e12, mean_grid=4)
    image = spots((32, 32, 1.0))
    points, is_fallback = anchors_of(pixels, image, settings)
    assert {tuple(point) for point in points} == {(32, 32)}
    assert is_fallback.all()


@both_engines
@pytest.mark.parametrize("size", [100, 128, 150])
def test_background_is_median_and_scaled_mad_of_the_faint_pixels(pixels, size):
    images = sparse_sky(6, size, 3)[:, 0]
    everything = AnchorSettings(background_samples=size * size)
    _, _, median, sigma = pixels(images).survey(keys(6), everything)
    for image, m, s in zip(images, median, sigma, strict=True):
        faint = image.flatten().sort().values[: int(0.8 * size * size)]
        # Half a level of 1/4095 for the median, twice that for a difference.
        assert abs(m - faint.median()) < 0.5 / 4095 + 1e-6
        assert abs(s - 1.4826 * (faint - faint.median()).abs().median()) < 1.5 / 4095


@both_engines
def test_a_subset_of_the_pixels_estimates_the_background_of_all(pixels):
    images = sparse_sky(6, 300, 4)[:, 0]
    few = pixels(images).survey(keys(6), DEFAULT)[2:]
    everything = pixels(images).survey(keys(6), AnchorSettings(background_samples=90000))[2:]
    # 8192 samples: about one per cent, and a level of the histogram.
    for subset, whole in zip(few, everything, strict=True):
        torch.testing.assert_close(subset, whole, rtol=0.06, atol=1 / 4095)
    again = pixels(images).survey(keys(6) + 1, DEFAULT)
    assert not torch.equal(few[0], again.background)


@both_engines
def test_anchors_follow_the_sky_when_it_is_mirrored(pixels):
    # No two pixels are equal, and the side is a multiple of the grid, so the tiles mirror too.
    images = torch.rand(30, 128, 128, generator=torch.Generator().manual_seed(3)) ** 8
    settings = AnchorSettings(mean_probability=0.0, background_samples=128 * 128)
    found = find_anchors(pixels(images), keys(30), settings)
    mirrored = find_anchors(pixels(images.flip(2)), keys(30), settings)
    expected = found.points * torch.tensor([-1, 1]) + torch.tensor([127, 0])
    assert torch.equal(mirrored.points, expected)
