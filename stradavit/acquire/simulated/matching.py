"""Draw sources so that flux, size and sky coverage say nothing about their class.

If an FR II were on average larger or brighter than an FR I, a benchmark could be solved by counting
pixels and would measure nothing of an encoder's grasp of shape. Size, peak and the number of pixels
above the noise are therefore drawn first, from distributions that are the same for all classes, and
the source is then fitted to them: amplitude to the peak, thickness to the number of pixels.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from stradavit.acquire.simulated.morphology import Floats, Gaussians, render

THICKNESS = (0.4, 2.2)
DETECTION_SNR = 3.0
AREA_TOLERANCE = 0.1


@dataclass(frozen=True)
class Target:
    """What a drawn source must look like whatever its class.

    Parameters
    ----------
    side_px : side of the square image
    x_px, y_px : centre of the source
    size_px : half-length of the source
    angle_rad : position angle
    peak_snr : brightest pixel over the noise, after the beam
    area_px : pixels above `DETECTION_SNR` times the noise
    """

    side_px: int
    x_px: float
    y_px: float
    size_px: float
    angle_rad: float
    peak_snr: float
    area_px: float


def log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """A positive number whose logarithm is uniform."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def matched(
    rng: np.random.Generator,
    draw: Callable[[np.random.Generator], Gaussians],
    target: Target,
    beam_sigma_px: float,
    is_good: Callable[[Floats], bool] = lambda snr: True,
    tries: int = 8,
) -> Gaussians | None:
    """A source of the noise's unit that meets `target`, or the nearest of `tries` drawn.

    None if `is_good`, asked about the noiseless image in units of the noise, refuses all of them.
    """
    best: tuple[float, Gaussians] | None = None
    for _ in range(tries):
        shape = draw(rng)
        low, high = np.log(THICKNESS[0]), np.log(THICKNESS[1])
        for _ in range(7):
            middle = 0.5 * (low + high)
            source, snr = _at_thickness(shape, float(np.exp(middle)), target, beam_sigma_px)
            area = np.count_nonzero(snr > DETECTION_SNR)
            low, high = (middle, high) if area < target.area_px else (low, middle)
        miss = abs(float(np.log(area / target.area_px)))
        if (best is None or miss < best[0]) and is_good(snr):
            best = miss, source
            if miss < AREA_TOLERANCE:
                break
    return best[1] if best else None


def _at_thickness(
    shape: Gaussians, thickness: float, target: Target, beam_sigma_px: float
) -> tuple[Gaussians, Floats]:
    """The shape made thicker and placed, with its image in units of the noise."""
    thick = Gaussians(shape.x, shape.y * thickness, shape.flux, shape.sigma * thickness)
    placed = thick.placed(target.x_px, target.y_px, target.size_px, target.angle_rad)
    image = render(placed, (target.side_px, target.side_px), beam_sigma_px)
    factor = target.peak_snr / float(image.max())
    return placed.scaled(factor), image * factor
