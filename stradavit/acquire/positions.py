"""Sky positions from users' tables, and which images show the same source."""

import math
from collections.abc import Sequence

import numpy as np

from stradavit.errors import DataError

# Catalogues of one source differ by an arcsecond or so; sources are tens of arcseconds apart.
SAME_SOURCE_ARCSEC = 10.0


def parse_position(ra: str, dec: str, where: str) -> tuple[float, float]:
    """Right ascension in [0, 360) and declination, both in degrees; NaN if both are empty.

    Parameters
    ----------
    ra, dec : text of two cells
    where : file and line, for messages

    Raises
    ------
    DataError
        If a value is no number of degrees on the sky, or only one of them is given.
    """
    if not ra and not dec:
        return math.nan, math.nan
    try:
        ra_deg, dec_deg = float(ra), float(dec)
    except ValueError:
        ra_deg = dec_deg = math.nan
    # Headers and catalogues write right ascensions just west of 0h as negative.
    if not (-180.0 <= ra_deg <= 360.0 and -90.0 <= dec_deg <= 90.0):
        raise DataError(
            f"{where}: found the position ({ra!r}, {dec!r}); expected right ascension and "
            "declination in decimal degrees. Convert it, or leave both cells empty if unknown."
        )
    return ra_deg % 360.0, dec_deg


def name_sources(positions_deg: Sequence[tuple[float, float]], images: Sequence[str]) -> list[str]:
    """A source name for each image: images nearer than `SAME_SOURCE_ARCSEC` share one.

    Parameters
    ----------
    positions_deg : right ascension and declination of each image; NaN if unknown
    images : unique ids; an image without a position is its own source and is called so

    Returns
    -------
    Names in the order of `images`. Nearness is transitive: a chain of images is one source.
    """
    # Takes a third of a second; those who only read positions need not wait for it.
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components
    from scipy.spatial import KDTree

    names = list(images)
    sky = np.radians(np.asarray(positions_deg, dtype=np.float64).reshape(-1, 2))
    known = np.flatnonzero(np.isfinite(sky).all(axis=1))
    if known.size == 0:
        return names
    ra, dec = sky[known].T
    unit = np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=1)
    chord = 2.0 * math.sin(0.5 * math.radians(SAME_SOURCE_ARCSEC / 3600.0))
    pairs = KDTree(unit).query_pairs(chord, output_type="ndarray")
    links = coo_array((np.ones(len(pairs)), pairs.T), shape=(known.size, known.size))
    groups = connected_components(links, directed=False)[1]
    first = {group: k for k, group in reversed(list(enumerate(groups)))}
    for k, group in enumerate(groups):
        ra_deg, dec_deg = positions_deg[known[first[group]]]
        names[known[k]] = f"{ra_deg:.5f}{dec_deg:+.5f}"
    return names
