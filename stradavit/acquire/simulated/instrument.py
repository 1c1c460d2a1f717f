"""What a telescope adds to the sky: beam, noise, sidelobes, stripes, and a FITS header."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray
from scipy import ndimage

from stradavit.acquire.simulated.morphology import FWHM_PER_SIGMA, Floats

Image = NDArray[np.float32]


@dataclass(frozen=True)
class Instrument:
    """A telescope and the imaging conventions of one survey.

    `edge_gain` is the primary-beam gain at the edge of a mosaic; `divides_by_gain` says whether the
    survey has divided by it (noise rises outwards) or not (sources fade outwards).
    `spokes` is the number of radial arms of the dirty beam, `sidelobe` its level.
    """

    telescope: str
    pixel_scale_arcsec: float
    beam_arcsec: float
    rms_jy_beam: float
    frequency_hz: float
    projection: Literal["SIN", "TAN"]
    frame: Literal["FK5", "ICRS"]
    n_planes: int = 1
    n_axes: Literal[2, 4] = 4
    dtype: Literal[">f4", ">f8"] = ">f4"
    edge_gain: float = 1.0
    divides_by_gain: bool = False
    spokes: int = 6
    sidelobe: float = 0.01
    rms_spread: float = 0.15

    @property
    def beam_sigma_px(self) -> float:
        """Standard deviation of the restoring beam in pixels."""
        return float(self.beam_arcsec / self.pixel_scale_arcsec / FWHM_PER_SIGMA)


INSTRUMENTS: dict[str, Instrument] = {
    "mgcls": Instrument(
        "MeerKAT", 1.25, 7.8, 4e-6, 1.28e9, "SIN", "FK5",
        n_planes=2, edge_gain=0.45, spokes=8, sidelobe=0.006, rms_spread=0.25,
    ),
    "askap": Instrument(
        "ASKAP", 2.0, 12.0, 3e-5, 9.435e8, "SIN", "FK5",
        edge_gain=0.6, divides_by_gain=True, spokes=6, sidelobe=0.01,
    ),
    "lotss": Instrument(
        "LOFAR", 1.5, 6.0, 8e-5, 1.4365e8, "SIN", "ICRS",
        n_axes=2, dtype=">f8", edge_gain=0.6, divides_by_gain=True,
        spokes=7, sidelobe=0.02, rms_spread=0.3,
    ),
    "sdc1": Instrument(
        "SKA1-MID", 0.6, 1.5, 2.55e-7, 5.6e8, "SIN", "FK5",
        edge_gain=0.7, spokes=3, sidelobe=0.001, rms_spread=0.03,
    ),
    "first": Instrument(
        "VLA", 1.8, 5.4, 1.5e-4, 1.4e9, "SIN", "FK5", n_axes=2, spokes=6, sidelobe=0.012
    ),
}  # fmt: skip


def correlated_noise(rng: np.random.Generator, shape: tuple[int, int], sigma_px: float) -> Image:
    """Gaussian noise (ny, nx) of unit rms with the correlation of the beam, as CLEAN leaves it."""
    white = rng.standard_normal(shape, dtype=np.float32)
    image = ndimage.gaussian_filter(white, sigma_px, mode="wrap", truncate=3.0)
    # Filtering white noise with a Gaussian leaves the variance 1 / (4 pi sigma²).
    smooth: Image = image * np.float32(2.0 * np.sqrt(np.pi) * sigma_px)
    return smooth


def rms_structure(rng: np.random.Generator, shape: tuple[int, int], spread: float) -> Image:
    """Slow variation (ny, nx) of the noise about 1, log-normal with the given spread."""
    knots = np.exp(spread * rng.standard_normal((6, 6)))
    weights = [_linear_weights(side, 6) for side in shape]
    image: Image = (weights[0] @ knots @ weights[1].T).astype(np.float32)
    return image


def _linear_weights(side: int, n_knots: int) -> Floats:
    """Matrix (side, n_knots) that interpolates linearly between evenly spaced knots."""
    at = np.linspace(0.0, n_knots - 1.0, side)
    return np.clip(1.0 - np.abs(at[:, None] - np.arange(n_knots)), 0.0, 1.0)


def primary_beam(shape: tuple[int, int], edge_gain: float) -> Image:
    """Gaussian gain (ny, nx): 1 in the centre, `edge_gain` in the middle of the edges."""
    along = [edge_gain ** (np.linspace(-1.0, 1.0, side) ** 2) for side in shape]
    gain: Image = np.outer(*along).astype(np.float32)
    return gain


def sidelobe_pattern(rng: np.random.Generator, instrument: Instrument, reach_px: int) -> Image:
    """Rings and spokes (2 reach + 1, 2 reach + 1) that remain of a source of unit peak."""
    y, x = np.mgrid[-reach_px : reach_px + 1, -reach_px : reach_px + 1]
    r, phi = np.hypot(x, y), np.arctan2(y, x)
    beam_px = instrument.beam_arcsec / instrument.pixel_scale_arcsec
    rings = np.cos(2.0 * np.pi * r / (rng.uniform(2.2, 3.2) * beam_px) + rng.uniform(0, 6.3))
    spokes = np.cos(instrument.spokes * phi + rng.uniform(0.0, 6.3)) ** 5
    fade = np.exp(-r / (0.35 * reach_px)) * (1.0 - np.exp(-((r / (1.5 * beam_px)) ** 2)))
    window = np.clip((reach_px - r) / (0.2 * reach_px), 0.0, 1.0)
    pattern: Image = ((0.6 * rings + 1.2 * spokes) * fade * window).astype(np.float32)
    return pattern * np.float32(instrument.sidelobe)


def add_sidelobes(
    image: Image, pattern: Image, sources: Iterable[tuple[float, float, float]]
) -> None:
    """Add the pattern around sources (x px, y px, peak) to `image` (ny, nx)."""
    reach = pattern.shape[0] // 2
    ny, nx = image.shape
    for x, y, peak in sources:
        x0, y0 = round(x) - reach, round(y) - reach
        rows = slice(max(0, y0), max(0, min(ny, y0 + pattern.shape[0])))
        columns = slice(max(0, x0), max(0, min(nx, x0 + pattern.shape[1])))
        part = pattern[
            rows.start - y0 : max(rows.start, rows.stop) - y0,
            columns.start - x0 : max(columns.start, columns.stop) - x0,
        ]
        image[rows, columns] += peak * part


def add_stripes(rng: np.random.Generator, image: Image, amplitude: float) -> None:
    """Add one family of parallel stripes, as of a bad baseline, strongest in some place."""
    ny, nx = image.shape
    angle, period_px = rng.uniform(0.0, np.pi), rng.uniform(12.0, 40.0)
    k = 2.0 * np.pi / period_px * np.array([np.cos(angle), np.sin(angle)])
    centre, width = rng.uniform(0.0, 1.0, 2) * (nx, ny), 0.4 * max(nx, ny)
    x, y = np.arange(nx), np.arange(ny)
    along_x = np.exp(1j * k[0] * x - 0.5 * ((x - centre[0]) / width) ** 2)
    along_y = np.exp(1j * k[1] * y - 0.5 * ((y - centre[1]) / width) ** 2)
    image += (amplitude * np.outer(along_y, along_x).imag).astype(np.float32)


def header(
    instrument: Instrument, name: str, centre_deg: tuple[float, float], shape: tuple[int, int]
) -> fits.Header:
    """Header of an image (ny, nx) centred on (ra, dec), with beam, unit and celestial WCS."""
    ny, nx = shape
    scale = instrument.pixel_scale_arcsec / 3600.0
    beam = instrument.beam_arcsec / 3600.0
    cards: list[tuple[str, object] | tuple[str, object, str]] = [
        ("OBJECT", name),
        ("TELESCOP", instrument.telescope),
        ("ORIGIN", "stradavit simulated sky"),
        ("BUNIT", "JY/BEAM", "brightness"),
        ("BTYPE", "Intensity"),
        ("BMAJ", beam, "[deg]"),
        ("BMIN", beam, "[deg]"),
        ("BPA", 0.0, "[deg]"),
        ("EQUINOX", 2000.0),
        ("RADESYS", instrument.frame),
        ("CTYPE1", f"RA---{instrument.projection}"),
        ("CRVAL1", centre_deg[0]),
        ("CRPIX1", (nx + 1) / 2.0),
        ("CDELT1", -scale),
        ("CUNIT1", "deg"),
        ("CTYPE2", f"DEC--{instrument.projection}"),
        ("CRVAL2", centre_deg[1]),
        ("CRPIX2", (ny + 1) / 2.0),
        ("CDELT2", scale),
        ("CUNIT2", "deg"),
    ]
    if instrument.n_axes == 2:
        cards.append(("RESTFRQ", instrument.frequency_hz, "[Hz]"))
    else:
        step_hz = 0.1 * instrument.frequency_hz
        for axis, kind, value, step, unit in (
            (3, "FREQ", instrument.frequency_hz, step_hz, "Hz"),
            (4, "STOKES", 1.0, 1.0, ""),
        ):
            cards += [
                (f"CTYPE{axis}", kind),
                (f"CRVAL{axis}", value),
                (f"CRPIX{axis}", 1.0),
                (f"CDELT{axis}", step),
                (f"CUNIT{axis}", unit),
            ]
    return fits.Header(cards)
