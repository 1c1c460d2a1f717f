"""Sources described by their number of components and peaks, as in Radio Galaxy Zoo.

A component is an island of emission above `ISLAND_SNR` times the noise, a peak a maximum of the
brightness within one. `2c3p` is two islands with three peaks between them.
"""

import numpy as np
from scipy import ndimage

from stradavit.acquire.simulated.morphology import Floats, Gaussians, joined

ISLAND_SNR = 4.0
# A peak must stand this far above the saddle to its neighbour, or noise would blur the label.
SADDLE_DEPTH = 0.8

# Which neighbouring peaks are joined by a bridge.
BRIDGES: dict[str, tuple[tuple[bool, ...], ...]] = {
    "1c1p": ((),),
    "1c2p": ((True,),),
    "1c3p": ((True, True),),
    "2c2p": ((False,),),
    "2c3p": ((True, False), (False, True)),
    "3c3p": ((False, False),),
}


def counts(name: str) -> tuple[int, int]:
    """Components and peaks that a class name such as `2c3p` promises."""
    return int(name[0]), int(name[2])


def draw_islands(name: str, rng: np.random.Generator) -> Gaussians:
    """A source of class `name` along the x axis, in half-lengths."""
    bridges = BRIDGES[name][rng.integers(len(BRIDGES[name]))]
    n_peaks = len(bridges) + 1
    if n_peaks == 1:
        return _spindle(rng)
    x = np.linspace(-0.8, 0.8, n_peaks) + rng.uniform(-0.12, 0.12, n_peaks)
    y = rng.uniform(-0.25, 0.25, n_peaks)
    peak = rng.uniform(0.55, 1.0, n_peaks)
    width = rng.uniform(0.09, 0.13)
    blobs = [_blob(rng, x[k], y[k], width * rng.uniform(0.8, 1.2), peak[k]) for k in range(n_peaks)]
    for k, is_bridge in enumerate(bridges):
        if is_bridge:
            level = rng.uniform(0.4, 0.65) * min(peak[k], peak[k + 1])
            blobs.append(_bridge((x[k], y[k]), (x[k + 1], y[k + 1]), width, level))
    return joined(*blobs)


def _spindle(rng: np.random.Generator) -> Gaussians:
    """One island with one peak: elongated, brightest somewhere near its middle."""
    s = np.linspace(-1.0, 1.0, 40)
    peak_at = rng.uniform(-0.3, 0.3)
    flux = np.exp(-0.5 * ((s - peak_at) / rng.uniform(0.3, 0.5)) ** 2)
    bend = rng.uniform(-0.3, 0.3)
    sigma = rng.uniform(0.1, 0.2) * (1.2 - 0.5 * np.abs(s - peak_at))
    return Gaussians(0.9 * s, bend * s**2, flux / flux.sum(), sigma)


def _blob(rng: np.random.Generator, x: float, y: float, sigma: float, flux: float) -> Gaussians:
    """An irregular component of one peak."""
    n = 6
    scatter = 0.5 * sigma * rng.standard_normal((2, n))
    return Gaussians(x + scatter[0], y + scatter[1], np.full(n, flux / n), np.full(n, sigma))


def _bridge(
    start: tuple[float, float], end: tuple[float, float], sigma: float, level: float
) -> Gaussians:
    """Emission between two peaks, `level` times the brightness of a blob of unit flux.

    It sags in the middle: the smallest ripple on a level ridge would be a peak of its own.
    """
    n = 24
    s = np.linspace(0.0, 1.0, n)
    dx, dy = end[0] - start[0], end[1] - start[1]
    # The ridge of a chain of flux F and length L is as bright as a blob of F sqrt(2 pi) sigma / L.
    flux = level * float(np.hypot(dx, dy)) / (np.sqrt(2.0 * np.pi) * sigma)
    sag = 0.75 + 0.75 * (2.0 * s - 1.0) ** 2
    return Gaussians(start[0] + s * dx, start[1] + s * dy, flux * sag / n, np.full(n, sigma))


def count_islands_and_peaks(snr: Floats) -> tuple[int, int]:
    """Islands and peaks of a noiseless image (ny, nx) in units of the noise."""
    n_islands = ndimage.label(snr > ISLAND_SNR)[1]
    is_peak = (snr == ndimage.maximum_filter(snr, 3)) & (snr > ISLAND_SNR)
    return int(n_islands), int(is_peak.sum())


def is_clear(name: str, snr: Floats) -> bool:
    """Whether a noiseless image shows the counts its class promises, with room for noise."""
    if count_islands_and_peaks(snr) != counts(name):
        return False
    n_components, n_peaks = counts(name)
    is_peak = (snr == ndimage.maximum_filter(snr, 3)) & (snr > ISLAND_SNR)
    lowest = float(snr[is_peak].min())
    if lowest < 1.6 * ISLAND_SNR or ndimage.label(snr > SADDLE_DEPTH * lowest)[1] != n_peaks:
        return False
    # The counts of islands must not hang on the exact threshold either.
    return all(
        ndimage.label(snr > factor * ISLAND_SNR)[1] == n_components for factor in (0.6, 1.25)
    )
