"""Radio sources as sums of round Gaussians, so that convolving with a round beam is exact.

A source is drawn along the x axis in units of its half-length, then placed: scaled, squeezed,
rotated, shifted. Gaussians of width sigma become Gaussians of width sqrt(sigma² + beam²), and since
a round Gaussian is a product of a function of x and one of y, a whole source is one matrix product.
Surveys and benchmarks draw from the same functions, one for each morphology.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

FWHM_PER_SIGMA = 2.0 * np.sqrt(2.0 * np.log(2.0))


@dataclass(frozen=True)
class Gaussians:
    """Round Gaussians that make one source.

    Parameters
    ----------
    x, y : (n,) float64, centres; in half-lengths when drawn, in pixels when placed
    flux : (n,) float64, integrated flux density, any unit
    sigma : (n,) float64, widths in the unit of `x`
    """

    x: Floats
    y: Floats
    flux: Floats
    sigma: Floats

    def placed(self, x_px: float, y_px: float, size_px: float, angle_rad: float) -> "Gaussians":
        """Scaled by `size_px` (pixels in a half-length), rotated, centred on (x_px, y_px)."""
        cos, sin = np.cos(angle_rad) * size_px, np.sin(angle_rad) * size_px
        return Gaussians(
            x_px + cos * self.x - sin * self.y,
            y_px + sin * self.x + cos * self.y,
            self.flux,
            self.sigma * size_px,
        )

    def squeezed(self, ratio: float) -> "Gaussians":
        """Seen at an inclination: y shrinks by `ratio` (0 to 1)."""
        return Gaussians(self.x, self.y * ratio, self.flux, self.sigma * ratio**0.5)

    def scaled(self, factor: float) -> "Gaussians":
        """The same source, `factor` times as bright."""
        return Gaussians(self.x, self.y, self.flux * factor, self.sigma)

    def mirrored(self) -> "Gaussians":
        """Turned by half a turn, so that a side drawn to the right lies on the left."""
        return Gaussians(-self.x, -self.y, self.flux, self.sigma)


def joined(*parts: Gaussians) -> Gaussians:
    """All Gaussians of several parts as one source."""
    return Gaussians(
        np.concatenate([part.x for part in parts]),
        np.concatenate([part.y for part in parts]),
        np.concatenate([part.flux for part in parts]),
        np.concatenate([part.sigma for part in parts]),
    )


def render(source: Gaussians, side_px: tuple[int, int], beam_sigma_px: float) -> Floats:
    """Image of a placed source after convolution with a round beam of unit peak.

    Parameters
    ----------
    source : in pixels
    side_px : (ny, nx)
    beam_sigma_px : standard deviation of the restoring beam

    Returns
    -------
    (ny, nx) float64, flux per beam: an unresolved source of flux 1 has the peak 1
    """
    width = np.sqrt(source.sigma**2 + beam_sigma_px**2)
    ny, nx = side_px
    along_x = np.exp(-0.5 * ((np.arange(nx) - source.x[:, None]) / width[:, None]) ** 2)
    along_y = np.exp(-0.5 * ((np.arange(ny) - source.y[:, None]) / width[:, None]) ** 2)
    peak = source.flux * (beam_sigma_px / width) ** 2
    image: Floats = along_y.T @ (peak[:, None] * along_x)
    return image


def add_source(image: NDArray[np.float32], source: Gaussians, beam_sigma_px: float) -> None:
    """Add a placed source to `image` (ny, nx) in a stamp just large enough to hold it."""
    reach = 4.5 * np.sqrt(source.sigma.max() ** 2 + beam_sigma_px**2)
    ny, nx = image.shape
    x0, x1 = max(0, int(source.x.min() - reach)), min(nx, int(source.x.max() + reach) + 1)
    y0, y1 = max(0, int(source.y.min() - reach)), min(ny, int(source.y.max() + reach) + 1)
    if x0 >= x1 or y0 >= y1:
        return
    shifted = Gaussians(source.x - x0, source.y - y0, source.flux, source.sigma)
    image[y0:y1, x0:x1] += render(shifted, (y1 - y0, x1 - x0), beam_sigma_px).astype(image.dtype)


def core(flux: float, sigma: float = 0.02) -> Gaussians:
    """An unresolved nucleus."""
    return Gaussians(np.zeros(1), np.zeros(1), np.array([flux]), np.array([sigma]))


def _along(rng: np.random.Generator, s: Floats, bend_rad: float) -> tuple[Floats, Floats]:
    """Points at the fractions `s` of a jet that leaves along x and turns by `bend_rad` in all."""
    wiggle = rng.uniform(0.0, 0.12) * np.sin(rng.uniform(3.0, 9.0) * s + rng.uniform(0.0, 6.3))
    angle = bend_rad * s**1.5 + wiggle
    step = np.diff(s, prepend=0.0)
    return np.cumsum(np.cos(angle) * step), np.cumsum(np.sin(angle) * step)


def _fading_jet(rng: np.random.Generator, bend_rad: float) -> Gaussians:
    """One side of an FR I: brightest near the core, widening and fading into a plume."""
    s = np.linspace(0.06, 1.0, 44)
    x, y = _along(rng, s, bend_rad)
    sigma = rng.uniform(0.03, 0.06) + rng.uniform(0.12, 0.26) * s ** rng.uniform(1.0, 1.6)
    fade = rng.uniform(0.45, 0.95)
    flux = np.exp(-s / fade) * rng.lognormal(0.0, 0.25, s.size) * (0.35 + s)
    jitter = 0.25 * sigma * rng.standard_normal((2, s.size))
    return Gaussians(x + jitter[0], y + jitter[1], flux / flux.sum(), sigma)


def _hotspot_lobe(rng: np.random.Generator, bend_rad: float) -> Gaussians:
    """One side of an FR II: a hotspot at the far end, a lobe flowing back towards the core."""
    s = np.linspace(rng.uniform(0.1, 0.4), 0.96, 40)
    x, y = _along(rng, np.concatenate([[0.03], s]), bend_rad)
    x, y = x[1:], y[1:]
    sigma = rng.uniform(0.11, 0.17) * (1.3 - 0.4 * s)
    rise = s ** rng.uniform(0.7, 2.0)
    flux = rise * rng.lognormal(0.0, 0.3, s.size)
    jitter = 0.5 * sigma * rng.standard_normal((2, s.size))
    lobe = Gaussians(x + jitter[0], y + jitter[1], flux / flux.sum(), sigma)
    n_spots = int(rng.integers(1, 3))
    spread = rng.uniform(-0.07, 0.07, (2, n_spots)) * (n_spots > 1)
    hot = Gaussians(
        x[-1] + spread[0],
        y[-1] + spread[1],
        rng.uniform(0.2, 0.45) * rng.dirichlet(np.full(n_spots, 2.0)),
        rng.uniform(0.035, 0.06, n_spots),
    )
    return joined(lobe, hot)


def _bends(rng: np.random.Generator, largest_rad: float) -> tuple[float, float]:
    """Turns of the two sides: the same way round (S) or to the same side (C, as in a tail)."""
    bend = rng.uniform(-largest_rad, largest_rad)
    other = bend * rng.uniform(0.5, 1.1)
    return (bend, other) if rng.random() < 0.4 else (bend, -other)


def _two_sided(
    rng: np.random.Generator, right: Gaussians, left: Gaussians, core_flux: float
) -> Gaussians:
    """Two sides of unequal length and flux about a core."""
    share = rng.uniform(0.35, 0.65)
    length = rng.uniform(0.75, 1.0)
    left = Gaussians(left.x * length, left.y * length, left.flux, left.sigma * length)
    return joined(right.scaled(share), left.scaled(1.0 - share).mirrored(), core(core_flux))


def fr_one(rng: np.random.Generator) -> Gaussians:
    """FR I: jets fade from a bright core; straight, S-shaped, or bent into tails."""
    bends = _bends(rng, rng.choice([0.5, 1.3]))
    jets = [_fading_jet(rng, bend) for bend in bends]
    return _two_sided(rng, jets[0], jets[1], rng.uniform(0.02, 0.12))


def fr_two(rng: np.random.Generator) -> Gaussians:
    """FR II: edge-brightened lobes with hotspots at their ends and a weak core."""
    bends = _bends(rng, rng.choice([0.25, 0.7]))
    lobes = [_hotspot_lobe(rng, bend) for bend in bends]
    return _two_sided(rng, lobes[0], lobes[1], rng.uniform(0.0, 0.05))


def hybrid(rng: np.random.Generator) -> Gaussians:
    """Hybrid: an FR I jet on one side of the core, an FR II lobe on the other."""
    bends = _bends(rng, 0.4)
    jet, lobe = _fading_jet(rng, bends[0]), _hotspot_lobe(rng, bends[1])
    return _two_sided(rng, jet, lobe, rng.uniform(0.01, 0.06))


def relaxed_double(rng: np.random.Generator) -> Gaussians:
    """Relaxed double: two diffuse, rounded lobes without hotspots, with or without a core."""
    lobes = []
    for _ in range(2):
        n = 26
        centre = rng.uniform(0.45, 0.6)
        spread = rng.uniform(0.16, 0.26)
        x = centre + spread * np.clip(rng.standard_normal(n), -1.6, 1.6)
        y = spread * rng.uniform(0.7, 1.1) * np.clip(rng.standard_normal(n), -1.6, 1.6)
        lobes.append(Gaussians(x, y, rng.dirichlet(np.full(n, 3.0)), rng.uniform(0.1, 0.16, n)))
    return _two_sided(rng, lobes[0], lobes[1], rng.choice([0.0, 0.03]))


def spiral(rng: np.random.Generator) -> Gaussians:
    """Spiral: an inclined disc of star formation with two or three arms and a nucleus."""
    n_arms = int(rng.choice([2, 2, 3]))
    t = np.linspace(0.0, 1.0, 34)
    radius = 0.16 + 0.84 * t
    pitch = rng.uniform(2.2, 3.6) * rng.choice([-1.0, 1.0])
    arms = []
    for arm in range(n_arms):
        angle = pitch * t + 2.0 * np.pi * arm / n_arms + rng.uniform(-0.2, 0.2)
        flux = np.exp(-radius / rng.uniform(0.5, 0.9)) * rng.lognormal(0.0, 0.45, t.size)
        arms.append(
            Gaussians(
                radius * np.cos(angle),
                radius * np.sin(angle),
                flux / flux.sum(),
                0.05 + 0.05 * t,
            )
        )
    n = 40
    r, phi = np.abs(rng.normal(0.0, 0.42, n)).clip(0, 1), rng.uniform(0.0, 2.0 * np.pi, n)
    disc = Gaussians(
        r * np.cos(phi), r * np.sin(phi), np.full(n, rng.uniform(0.2, 0.5) / n), np.full(n, 0.16)
    )
    whole = joined(*[arm.scaled(1.0 / n_arms) for arm in arms], disc, core(rng.uniform(0.0, 0.06)))
    return whole.squeezed(rng.uniform(0.35, 0.9))


def compact(rng: np.random.Generator) -> Gaussians:
    """A source that the beam barely resolves."""
    n = int(rng.integers(1, 3))
    return Gaussians(
        rng.uniform(-1.0, 1.0, n),
        rng.uniform(-0.3, 0.3, n),
        rng.dirichlet(np.full(n, 2.0)),
        np.full(n, 0.2),
    )


DRAW: dict[str, Callable[[np.random.Generator], Gaussians]] = {
    "FR I": fr_one,
    "FR II": fr_two,
    "Hybrid": hybrid,
    "Spiral": spiral,
    "Relaxed double": relaxed_double,
}
