"""Sources as sums of Gaussians, and what an instrument does to them."""

import subprocess
import sys

import numpy as np
import pytest
from scipy import ndimage

from stradavit.acquire.simulated import instrument as telescope
from stradavit.acquire.simulated.islands import count_islands_and_peaks
from stradavit.acquire.simulated.morphology import DRAW, Gaussians, add_source, render
from tests.reference.islands import count_islands, count_peaks


def one(x: float, y: float, flux: float = 1.0, sigma: float = 0.0) -> Gaussians:
    return Gaussians(*(np.array([value]) for value in (x, y, flux, sigma)))


def test_point_source_has_its_flux_as_peak() -> None:
    image = render(one(20, 12, flux=3.0), (30, 40), beam_sigma_px=2.0)
    assert image.shape == (30, 40)
    assert np.unravel_index(image.argmax(), image.shape) == (12, 20)
    assert image.max() == pytest.approx(3.0)


def test_convolution_with_the_beam_is_exact() -> None:
    rng = np.random.default_rng(0)
    source = Gaussians(*rng.uniform(25, 55, (2, 5)), rng.uniform(1, 2, 5), rng.uniform(2, 3, 5))
    sharp = render(source, (80, 80), beam_sigma_px=1e-3)
    # Flux per (vanishing) beam to flux per pixel, then through a numerical beam of unit peak.
    per_pixel = sharp / (2 * np.pi * 1e-6)
    numerical = ndimage.gaussian_filter(per_pixel, 2.0, truncate=8.0) * (2 * np.pi * 2.0**2)
    # The filter samples the Gaussian, which costs some 1e-4 of the peak.
    np.testing.assert_allclose(
        render(source, (80, 80), 2.0), numerical, atol=1e-3 * numerical.max()
    )


def test_stamp_agrees_with_the_whole_image_also_at_the_edge() -> None:
    rng = np.random.default_rng(1)
    for x, y in ((50, 40), (-3, 30), (99, 79), (400, 30)):
        source = DRAW["FR I"](rng).placed(x, y, 12.0, 0.7)
        image = np.zeros((80, 100), np.float32)
        add_source(image, source, 1.5)
        whole = render(source, (80, 100), 1.5)
        assert np.abs(image - whole).max() <= 1e-3 * max(whole.max(), 1e-3)


@pytest.mark.parametrize("name", DRAW)
def test_placing_keeps_flux_and_follows_scale(name: str) -> None:
    shape = DRAW[name](np.random.default_rng(3))
    placed = shape.placed(100.0, 90.0, 20.0, 1.1)
    assert placed.flux.sum() == pytest.approx(shape.flux.sum())
    distance = np.hypot(placed.x - 100.0, placed.y - 90.0)
    np.testing.assert_allclose(distance, 20.0 * np.hypot(shape.x, shape.y))
    # A source reaches about one half-length from its core.
    assert 0.6 < np.hypot(shape.x, shape.y).max() < 1.6


def test_noise_has_unit_rms_and_the_beam_as_correlation() -> None:
    noise = telescope.correlated_noise(np.random.default_rng(0), (600, 600), 2.0)
    assert noise.std() == pytest.approx(1.0, rel=0.03)
    # White noise through a Gaussian of sigma has the correlation exp(-d²/(4 sigma²)).
    shifted = np.mean(noise * np.roll(noise, 3, axis=1)) / noise.var()
    assert shifted == pytest.approx(np.exp(-9 / 16), abs=0.03)


def test_sidelobes_are_clipped_at_the_edges() -> None:
    pattern = telescope.sidelobe_pattern(
        np.random.default_rng(0), telescope.INSTRUMENTS["lotss"], reach_px=20
    )
    padded = np.zeros((150, 150), np.float32)
    image = np.zeros((50, 50), np.float32)
    sources = [(0.0, 0.0, 1.0), (49.0, 25.0, 2.0), (-60.0, 10.0, 5.0), (25.0, 24.0, 3.0)]
    telescope.add_sidelobes(image, pattern, sources)
    for x, y, peak in sources:
        x0, y0 = int(x) + 50 - 20, int(y) + 50 - 20
        if x0 >= 0:
            padded[y0 : y0 + 41, x0 : x0 + 41] += peak * pattern
    np.testing.assert_allclose(image, padded[50:100, 50:100], atol=1e-6)


def test_islands_and_peaks_agree_with_the_slow_count() -> None:
    rng = np.random.default_rng(5)
    for _ in range(20):
        image = 20.0 * ndimage.gaussian_filter(rng.standard_normal((40, 40)), 2.0) * 3.0
        slow = count_islands(image, 4.0), count_peaks(image, 4.0)
        assert count_islands_and_peaks(image) == slow


def test_acquiring_does_not_import_torch() -> None:
    code = "import sys, stradavit.acquire.stages; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
