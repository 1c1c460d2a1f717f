"""Three labelled benchmarks with the class names of the paper, as FITS cutouts.

Classes differ in shape alone: size, brightness, signal-to-noise, sky coverage, image side and
neighbours are drawn from the same distributions for all (see `matching`). Some sources have two
images, of different noise, so that folds must be grouped by source. Where the real benchmark is
published divided into training and test images, so is the drawn one.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from astropy.io import fits

from stradavit.acquire.labels import Side
from stradavit.acquire.simulated import instrument as telescope
from stradavit.acquire.simulated.instrument import INSTRUMENTS, Image, Instrument
from stradavit.acquire.simulated.islands import BRIDGES, draw_islands, is_clear
from stradavit.acquire.simulated.matching import Target, log_uniform, matched
from stradavit.acquire.simulated.morphology import DRAW, Floats, Gaussians, add_source, compact
from stradavit.acquire.simulated.sky import benchmark_positions, generator

SECOND_EPOCH_SHARE = 0.15
MIN_SOURCES_PER_CLASS = 3

# Of MiraBest, 104 of 833 images are for testing. Of each class here, every eighth source.
DIVIDED = ("mirabest",)
TEST_EVERY = 8


@dataclass(frozen=True)
class Kind:
    """How the images of one benchmark are made.

    `side_px` is the range of image sides, `fill` of half-lengths over the side, `coverage` of
    pixels above the noise over the squared half-length, `neighbours` the mean number of unrelated
    compact sources in an image; `share` says which part of the images a class has.
    """

    instrument: str
    share: dict[str, float]
    side_px: tuple[int, int]
    fill: tuple[float, float]
    coverage: tuple[float, float]
    peak_snr: tuple[float, float]
    neighbours: float


KINDS: dict[str, Kind] = {
    "mirabest": Kind(
        "first", {"FR I": 0.5, "FR II": 0.5}, (150, 150), (0.13, 0.3), (0.4, 0.9), (12, 60), 1.2
    ),
    "lotss_dr2": Kind(
        "lotss",
        {"FR I": 0.24, "FR II": 0.28, "Hybrid": 0.12, "Spiral": 0.16, "Relaxed double": 0.2},
        (80, 200),
        (0.17, 0.33),
        (0.42, 1.0),
        (12, 60),
        1.0,
    ),
    "rgz_dr1": Kind(
        "first",
        {"1c1p": 0.26, "1c2p": 0.18, "1c3p": 0.1, "2c2p": 0.2, "2c3p": 0.12, "3c3p": 0.14},
        (40, 130),
        (0.28, 0.37),
        (0.45, 0.9),
        (25, 90),
        0.35,
    ),
}


@dataclass(frozen=True)
class SimulatedImage:
    """One drawn image: `path` of the FITS file, its class, its source and (ra, dec) of that.

    `split` is as in `LabelledImage`.
    """

    image: str
    path: Path
    label: str
    source: str
    position_deg: tuple[float, float]
    split: Side


def class_counts(like: str, images_per_class: int) -> dict[str, int]:
    """Images of each class: `images_per_class` on average, unequal as in the real benchmark."""
    share = KINDS[like].share
    total = images_per_class * len(share)
    return {name: max(MIN_SOURCES_PER_CLASS, round(total * part)) for name, part in share.items()}


def draw_benchmark(
    like: str, images_per_class: int, seed: int, folder: Path
) -> Iterator[SimulatedImage]:
    """Draw a benchmark image by image into FITS files in `folder`.

    Parameters
    ----------
    like : mirabest, lotss_dr2 or rgz_dr1
    images_per_class : mean over the classes
    seed : of the drawn sources

    Yields
    ------
    One `SimulatedImage` after each file is complete
    """
    kind = KINDS[like]
    instrument = INSTRUMENTS[kind.instrument]
    folder.mkdir(parents=True, exist_ok=True)
    plan = list(_plan(like, images_per_class, seed))
    of_class: Counter[str] = Counter()
    for (name, number, n_epochs), (ra, dec) in zip(
        plan, benchmark_positions(like, len(plan), seed), strict=True
    ):
        source = f"{like}-{number:05d}"
        sky = draw_source(like, name, number, seed)
        side = _side(like, of_class[name])
        of_class[name] += 1
        for epoch in range(n_epochs):
            rng = generator(seed, like, number, "epoch", epoch)
            image = f"{source}-e{epoch}"
            cards = telescope.header(instrument, image, (ra, dec), (sky.side_px, sky.side_px))
            pixels = _observe(rng, instrument, sky)
            path = folder / f"{image}.fits"
            hdu = fits.PrimaryHDU(pixels.astype(instrument.dtype), cards)
            # Whole or absent as a set: labels.csv, written last, is what vouches for these.
            hdu.writeto(path, overwrite=True)
            yield SimulatedImage(image, path, name, source, (float(ra), float(dec)), side)


def _side(like: str, number_in_class: int) -> Side:
    """Side of a source, all of whose images are on it; sources come in random order."""
    if like not in DIVIDED:
        return ""
    return "train" if number_in_class % TEST_EVERY else "test"


def _plan(like: str, images_per_class: int, seed: int) -> Iterator[tuple[str, int, int]]:
    """(class, running number, number of images) of each source, classes interleaved."""
    counts = class_counts(like, images_per_class)
    epochs = []
    for name, n_images in counts.items():
        n_second = min(round(SECOND_EPOCH_SHARE * n_images), n_images - MIN_SOURCES_PER_CLASS)
        epochs += [(name, 2 if k < n_second else 1) for k in range(n_images - n_second)]
    order = generator(seed, like, "order").permutation(len(epochs))
    for number, which in enumerate(order):
        yield epochs[which][0], number, epochs[which][1]


@dataclass(frozen=True)
class CutoutSky:
    """What lies in a cutout: the source and its neighbours, in units of the noise."""

    side_px: int
    source: Gaussians
    neighbours: tuple[Gaussians, ...]
    peak_snr: float
    x_px: float
    y_px: float


def draw_source(like: str, name: str, number: int, seed: int) -> CutoutSky:
    """The noiseless sky of source `number`, of class `name`."""
    kind = KINDS[like]
    beam_sigma_px = INSTRUMENTS[kind.instrument].beam_sigma_px
    rng = generator(seed, like, number, "sky")
    draw, is_good = _class_functions(name)
    source = None
    while source is None:
        target = _draw_target(rng, kind)
        source = matched(rng, draw, target, beam_sigma_px, is_good)
    neighbours = []
    for _ in range(rng.poisson(kind.neighbours)):
        x, y = rng.uniform(0.0, target.side_px, 2)
        size, angle = rng.uniform(1.0, 2.5), rng.uniform(0.0, 6.3)
        snr = log_uniform(rng, 6.0, 50.0)
        neighbours.append(compact(rng).placed(x, y, size, angle).scaled(snr))
    return CutoutSky(
        target.side_px, source, tuple(neighbours), target.peak_snr, target.x_px, target.y_px
    )


def _class_functions(
    name: str,
) -> tuple[Callable[[np.random.Generator], Gaussians], Callable[[Floats], bool]]:
    """How a class is drawn, and what its noiseless image must show."""
    if name in BRIDGES:
        return partial(draw_islands, name), partial(is_clear, name)
    return DRAW[name], lambda snr: True


def _draw_target(rng: np.random.Generator, kind: Kind) -> Target:
    side_px = round(log_uniform(rng, *kind.side_px))
    size_px = side_px * log_uniform(rng, *kind.fill)
    x, y = 0.5 * (side_px - 1) + rng.uniform(-1.5, 1.5, 2)
    peak_snr = log_uniform(rng, *kind.peak_snr)
    # Faint plumes cannot cover as much as bright ones; so that an FR I reaches its target as often
    # as an FR II does, targets of all classes follow.
    visible = (peak_snr / np.sqrt(np.prod(kind.peak_snr))) ** 0.35
    return Target(
        side_px,
        float(x),
        float(y),
        size_px,
        angle_rad=rng.uniform(0.0, 2.0 * np.pi),
        peak_snr=peak_snr,
        area_px=size_px**2 * log_uniform(rng, *kind.coverage) * visible,
    )


def _observe(rng: np.random.Generator, instrument: Instrument, sky: CutoutSky) -> Image:
    """One observation (ny, nx) in Jy/beam: noise, sidelobes and stripes differ between epochs."""
    shape = (sky.side_px, sky.side_px)
    image = telescope.correlated_noise(rng, shape, instrument.beam_sigma_px)
    for source in (sky.source, *sky.neighbours):
        add_source(image, source, instrument.beam_sigma_px)
    pattern = telescope.sidelobe_pattern(rng, instrument, reach_px=min(70, sky.side_px // 2))
    telescope.add_sidelobes(image, pattern, [(sky.x_px, sky.y_px, sky.peak_snr)])
    if rng.random() < 0.3:
        telescope.add_stripes(rng, image, rng.uniform(0.3, 0.9))
    return image * np.float32(instrument.rms_jy_beam * log_uniform(rng, 0.4, 2.5))
