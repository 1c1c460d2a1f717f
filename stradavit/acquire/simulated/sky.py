"""Where the simulated sky lies, and the random numbers it is drawn from.

Surveys and benchmarks keep to disjoint regions, with one deliberate exception: the first
`N_OVERLAPPING` sources of every benchmark lie inside the first LoTSS-like mosaics, one in each in
turn, so that the guard against benchmark positions in the pretraining corpus has work to do.
"""

import hashlib

import numpy as np
from numpy.typing import NDArray

N_OVERLAPPING = 2
OVERLAP_OFFSET_ARCSEC = 40.0
N_OVERLAP_FIELDS = 2

# First field of each survey (right ascension, declination in degrees); the others follow in rows.
FIELD_ORIGIN = {
    "mgcls": (20.0, -44.0),
    "askap": (60.0, -32.0),
    "lotss": (128.0, 56.0),
    "sdc1": (359.0, -30.0),
}
FIELD_STEP_DEG = 2.0
FIELDS_IN_ROW = 20

# Benchmarks: (lowest, highest) right ascension and declination, in degrees.
BENCHMARK_REGION = {
    "mirabest": ((130.0, 240.0), (2.0, 18.0)),
    "rgz_dr1": ((130.0, 240.0), (20.0, 34.0)),
    "lotss_dr2": ((130.0, 240.0), (36.0, 50.0)),
}


def generator(seed: int, *words: object) -> np.random.Generator:
    """Random numbers that are a function of the seed and of what they are for."""
    text = "/".join(str(word) for word in (seed, *words))
    return np.random.default_rng(np.frombuffer(hashlib.sha256(text.encode()).digest(), np.uint32))


def field_centre(like: str, number: int) -> tuple[float, float]:
    """Right ascension and declination (degrees) of the centre of product `number` of a survey."""
    row, column = divmod(number, FIELDS_IN_ROW)
    ra, dec = FIELD_ORIGIN[like]
    step = FIELD_STEP_DEG / np.cos(np.radians(dec))
    # Rows lead away from the equator, from the benchmarks and from other surveys.
    return float((ra + column * step) % 360.0), float(dec + np.sign(dec) * row * FIELD_STEP_DEG)


def benchmark_positions(like: str, n_sources: int, seed: int) -> NDArray[np.float64]:
    """Positions of the sources of a benchmark.

    Returns
    -------
    (n_sources, 2) float64, right ascension and declination in degrees; the first `N_OVERLAPPING`
    lie within `OVERLAP_OFFSET_ARCSEC` per axis of the centres of LoTSS-like fields
    """
    rng = generator(seed, like, "positions")
    (ra_low, ra_high), (dec_low, dec_high) = BENCHMARK_REGION[like]
    # A jittered grid keeps sources apart, so that a guard around one never concerns another.
    columns = int(np.ceil(np.sqrt(n_sources * (ra_high - ra_low) / (dec_high - dec_low))))
    rows = int(np.ceil(n_sources / columns))
    steps = np.array([(ra_high - ra_low) / columns, (dec_high - dec_low) / rows])
    cells = np.stack(np.divmod(np.arange(n_sources), columns)[::-1], axis=1)
    jitter = rng.uniform(0.2, 0.8, (n_sources, 2))
    corner = np.array([ra_low, dec_low])
    positions: NDArray[np.float64] = corner + (cells + jitter) * steps
    for number in range(min(N_OVERLAPPING, n_sources)):
        ra, dec = field_centre("lotss", number % N_OVERLAP_FIELDS)
        d_ra, d_dec = rng.uniform(-OVERLAP_OFFSET_ARCSEC, OVERLAP_OFFSET_ARCSEC, 2) / 3600.0
        positions[number] = ra + d_ra / np.cos(np.radians(dec)), dec + d_dec
    return positions
