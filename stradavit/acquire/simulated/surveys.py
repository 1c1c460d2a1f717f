"""Mosaics of four kinds of survey, drawn source by source into real FITS files.

`mgcls`: a MeerKAT cube (Stokes, frequency, y, x), not corrected for the primary beam. `askap`: a
tile with two degenerate axes whose noise rises outwards. `lotss`: a float64 mosaic of two axes with
a tilted footprint in a NaN border. `sdc1`: a crowded field with its truth catalogue beside it.
"""

import csv
import dataclasses
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS

from stradavit.acquire.simulated import instrument as telescope
from stradavit.acquire.simulated.instrument import INSTRUMENTS, Image, Instrument
from stradavit.acquire.simulated.islands import BRIDGES, draw_islands
from stradavit.acquire.simulated.matching import log_uniform
from stradavit.acquire.simulated.morphology import (
    DRAW,
    Floats,
    Gaussians,
    add_source,
    compact,
    render,
)
from stradavit.acquire.simulated.products import product_name
from stradavit.acquire.simulated.sky import field_centre, generator
from stradavit.acquire.truth_catalogue import (
    CLASS_FLAT_AGN,
    CLASS_STAR_FORMING,
    CLASS_STEEP_AGN,
    SIZE_EXPONENTIAL,
    SIZE_GAUSSIAN,
    SIZE_LAS,
    TRUTH_COLUMNS,
)
from stradavit.files import atomic_path

# One extended source in every cell of a jittered grid: nearly every cutout of 128 px holds one.
CELL_PX = 86
TILE_PX = 128
COMPACT_PER_TILE = {"mgcls": 2.0, "askap": 2.0, "lotss": 2.0, "sdc1": 14.0}
HALF_LENGTH_PX = (9.0, 34.0)
SIDELOBE_SNR = 60.0


@dataclasses.dataclass(frozen=True)
class FieldSource:
    """A source of a mosaic: its Gaussians (in units of the noise), where and what it is."""

    gaussians: Gaussians
    x_px: float
    y_px: float
    half_length_px: float
    angle_rad: float
    peak_snr: float
    kind: str
    spectral_index: float


def draw_product(like: str, number: int, side_px: int, seed: int, folder: Path) -> Path:
    """Draw one mosaic; a function of (like, number, side_px, seed) and of nothing else.

    Parameters
    ----------
    like : the survey to resemble, one of mgcls, askap, lotss, sdc1
    number : which product; decides the place on the sky
    side_px : side of the mosaic
    folder : where `{like}-{number}.fits` is written, and for sdc1 its `.truth.csv`

    Returns
    -------
    Path of the FITS file: fluxes in Jy/beam, NaN outside the footprint
    """
    name = product_name(like, number)
    rng = generator(seed, like, number, side_px)
    instrument = INSTRUMENTS[like]
    if like == "askap" and number % 2:
        # Newer mosaics are gnomonic.
        instrument = dataclasses.replace(instrument, projection="TAN")
    shape = (side_px, side_px)
    sources = _population(rng, like, instrument, side_px)
    gain = telescope.primary_beam(shape, instrument.edge_gain)
    pattern = telescope.sidelobe_pattern(rng, instrument, reach_px=min(110, side_px // 2))
    planes = [
        _draw_plane(rng, instrument, sources, gain, pattern, plane)
        for plane in range(instrument.n_planes)
    ]
    cube = np.stack(planes) * np.float32(instrument.rms_jy_beam)
    if like == "lotss":
        cube[:, ~_footprint(rng, side_px)] = np.nan
    pixels = cube[0] if instrument.n_axes == 2 else cube[None]

    centre = field_centre(like, number)
    cards = telescope.header(instrument, name, centre, shape)
    path = folder / f"{name}.fits"
    if like == "sdc1":
        _write_truth(path.with_suffix(".truth.csv"), sources, instrument, WCS(cards).celestial)
    with atomic_path(path) as temporary:
        fits.PrimaryHDU(pixels.astype(instrument.dtype), cards).writeto(temporary)
    return path


def _population(
    rng: np.random.Generator, like: str, instrument: Instrument, side_px: int
) -> list[FieldSource]:
    """Extended sources of all morphologies, one in each cell of a grid, and compact ones."""
    morphologies: dict[str, Callable[[np.random.Generator], Gaussians]] = {
        **DRAW,
        **{name: partial(draw_islands, name) for name in BRIDGES},
    }
    names = list(morphologies)
    beam_px = instrument.beam_arcsec / instrument.pixel_scale_arcsec
    sources = []
    n_cells = max(1, round(side_px / CELL_PX))
    for cell in np.ndindex(n_cells, n_cells):
        at = (np.array(cell) + rng.uniform(0.1, 0.9, 2)) * side_px / n_cells
        kind = names[rng.integers(len(names))]
        half_length = log_uniform(rng, max(HALF_LENGTH_PX[0], 2.5 * beam_px), HALF_LENGTH_PX[1])
        shape = morphologies[kind](rng)
        snr = log_uniform(rng, 10.0, 80.0)
        sources.append(_place(rng, instrument, shape, kind, half_length, snr, at))
    for _ in range(1 + rng.poisson(COMPACT_PER_TILE[like] * (side_px / TILE_PX) ** 2)):
        # Source counts fall with flux as a power law.
        snr = min(4.0 * rng.uniform(1e-4, 1.0) ** -0.8, 800.0)
        half_length = rng.uniform(0.1, 0.5) * beam_px
        at = rng.uniform(0.0, side_px, 2)
        sources.append(_place(rng, instrument, compact(rng), "compact", half_length, snr, at))
    return sources


def _place(
    rng: np.random.Generator,
    instrument: Instrument,
    shape: Gaussians,
    kind: str,
    half_length_px: float,
    peak_snr: float,
    at_px: Floats,
) -> FieldSource:
    x, y = (float(value) for value in at_px)
    angle = rng.uniform(0.0, 2.0 * np.pi)
    reach = int(1.6 * half_length_px + 4.0 * instrument.beam_sigma_px) + 1
    trial = shape.placed(reach, reach, half_length_px, angle)
    peak = render(trial, (2 * reach + 1, 2 * reach + 1), instrument.beam_sigma_px).max()
    placed = shape.placed(x, y, half_length_px, angle).scaled(peak_snr / float(peak))
    index = rng.normal(-0.75, 0.2)
    return FieldSource(placed, x, y, half_length_px, angle, peak_snr, kind, index)


def _draw_plane(
    rng: np.random.Generator,
    instrument: Instrument,
    sources: list[FieldSource],
    gain: Image,
    pattern: Image,
    plane: int,
) -> Image:
    """One plane (ny, nx) in units of the nominal noise."""
    shape = gain.shape
    image = np.zeros(shape, np.float32)
    # Planes of a cube are neighbouring channels, each a tenth of the band away.
    channel = 1.0 + 0.1 * plane
    bright = []
    for source in sources:
        factor = channel**source.spectral_index
        add_source(image, source.gaussians.scaled(factor), instrument.beam_sigma_px)
        if source.kind != "compact":
            _add_bowl(image, source, factor)
        if source.peak_snr > SIDELOBE_SNR:
            bright.append((source.x_px, source.y_px, source.peak_snr * factor))
    telescope.add_sidelobes(image, pattern, bright)
    if not instrument.divides_by_gain:
        image *= gain
    noise = telescope.correlated_noise(rng, shape, instrument.beam_sigma_px)
    noise *= telescope.rms_structure(rng, shape, instrument.rms_spread)
    telescope.add_stripes(rng, noise, rng.uniform(0.0, 0.6))
    if instrument.divides_by_gain:
        noise /= gain
    return image + noise


def _add_bowl(image: Image, source: FieldSource, factor: float) -> None:
    """A shallow negative bowl: short spacings are missing, so CLEAN underestimates large scales."""
    depth = -0.008 * source.peak_snr * factor
    bowl = Gaussians(
        np.array([source.x_px]), np.array([source.y_px]), np.array([depth]), np.zeros(1)
    )
    # A point seen with a wide beam: a Gaussian whose peak is the depth.
    add_source(image, bowl, 1.8 * source.half_length_px)


def _footprint(rng: np.random.Generator, side_px: int) -> np.ndarray:
    """True inside a tilted, rounded square that leaves the corners of the mosaic out."""
    tilt = rng.uniform(0.2, 0.45) * rng.choice([-1.0, 1.0])
    at = (np.arange(side_px) - 0.5 * (side_px - 1)) / (0.53 * side_px)
    u = np.cos(tilt) * at[None, :] - np.sin(tilt) * at[:, None]
    v = np.sin(tilt) * at[None, :] + np.cos(tilt) * at[:, None]
    inside: np.ndarray = u**6 + v**6 < 1.0
    return inside


def _write_truth(path: Path, sources: list[FieldSource], instrument: Instrument, wcs: WCS) -> None:
    """Catalogue of the drawn sources in the columns and codes of SDC1's training sets."""
    scale = instrument.pixel_scale_arcsec
    with atomic_path(path) as temporary, temporary.open("w", newline="") as opened:
        writer = csv.writer(opened, lineterminator="\n")
        writer.writerow(TRUTH_COLUMNS)
        for number, source in enumerate(sources, start=1):
            gaussians = source.gaussians
            total = gaussians.flux.sum()
            x = float((gaussians.x * gaussians.flux).sum() / total)
            y = float((gaussians.y * gaussians.flux).sum() / total)
            core_deg = wcs.pixel_to_world_values(source.x_px, source.y_px)
            centroid_deg = wcs.pixel_to_world_values(x, y)
            size, kind = {
                "Spiral": (SIZE_EXPONENTIAL, CLASS_STAR_FORMING),
                "compact": (SIZE_GAUSSIAN, CLASS_FLAT_AGN),
            }.get(source.kind, (SIZE_LAS, CLASS_STEEP_AGN))
            # An exponential disc is listed by its scale, the others by how far they reach.
            extent = (1.0 if size == SIZE_EXPONENTIAL else 2.0) * source.half_length_px * scale
            near = np.hypot(gaussians.x - source.x_px, gaussians.y - source.y_px) < 1.0
            writer.writerow(
                [
                    number,
                    *(f"{float(value):.8f}" for value in (*core_deg, *centroid_deg)),
                    f"{float(total) * instrument.rms_jy_beam:.5e}",
                    f"{float(gaussians.flux[near].sum() / total):.8f}",
                    f"{extent:.3f}",
                    f"{0.4 * extent:.3f}",
                    # Clockwise from the longitude, as SDC1 counts it; ours runs from x to y.
                    f"{np.degrees(-source.angle_rad) % 360.0:.3f}",
                    size,
                    kind,
                    1,
                    f"{x:.3f}",
                    f"{y:.3f}",
                ]
            )
