"""Where cutouts lie on the sky, and which come too near to a benchmark.

Positions are ICRS degrees on disk and unit vectors in here, so that neither the poles nor the
wrap of right ascension is special.
"""

import logging
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

logger = logging.getLogger(__name__)

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

ARCMIN = np.pi / (180 * 60)

# Pairs of a cutout and a position tested at once; 100 MB of temporary arrays.
PAIRS_AT_ONCE = 200_000


@dataclass(frozen=True)
class Footprints:
    """The sky of n cutouts; NaN where it is not known.

    A cutout without corners is a circle of `radius_arcsec` around its centre.

    Attributes
    ----------
    centres : (n, 2) right ascension and declination, deg
    corners : (n, 4, 2) outer corners of the corner pixels, in order around the cutout, deg
    radius_arcsec : (n,) of the circle around the centre that holds the corners
    """

    centres: Floats
    corners: Floats
    radius_arcsec: Floats

    def __len__(self) -> int:
        return len(self.centres)

    @property
    def is_known(self) -> NDArray[np.bool_]:
        """(n,) whether a centre and an extent are known."""
        return np.isfinite(self.centres).all(axis=1) & np.isfinite(self.radius_arcsec)


def footprints(
    wcs: Any, corners_px: list[tuple[int, int]] | NDArray[np.int64], size_px: int
) -> Footprints:
    """Footprints of the cutouts of a plane.

    Parameters
    ----------
    wcs : celestial WCS of the plane in any frame Astropy turns into ICRS, or None
    corners_px : (n, 2) first pixel (y0, x0) of each cutout
    size_px : side of a cutout

    Returns
    -------
    Unknown where there is no WCS, or where a corner lies beyond the edge of the projection.
    """
    first = np.asarray(corners_px, dtype=np.float64).reshape(-1, 2)
    # Pixel centres are whole numbers: the cutout begins half a pixel before its first one.
    steps = np.array([[0, 0], [0, 1], [1, 1], [1, 0], [0.5, 0.5]]) * size_px - 0.5
    points = first[:, None, :] + steps
    sky = np.full((len(first), 5, 2), np.nan)
    if wcs is not None:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            try:
                world = wcs.pixel_to_world(points[..., 1], points[..., 0]).icrs
                sky = np.stack([world.ra.deg, world.dec.deg], axis=-1)
            except Exception as error:  # a frame that is no sky, a singular matrix
                logger.debug("a WCS gives no positions: %s", error)
    sky[~np.isfinite(sky).all(axis=(1, 2))] = np.nan
    centres, corners = sky[:, 4], sky[:, :4]
    radius = angle(unit_vectors(centres)[:, None], unit_vectors(corners)).max(axis=1)
    return Footprints(centres, corners, np.degrees(radius) * 3600)


def circles(centres: Floats, radius_arcsec: Floats) -> Footprints:
    """Footprints of which only (n, 2) centres in deg and (n,) radii are known."""
    corners = np.full((len(centres), 4, 2), np.nan)
    return Footprints(np.asarray(centres, dtype=np.float64), corners, radius_arcsec)


def near(sky: Footprints, positions: Floats, guard_arcmin: float) -> NDArray[np.bool_]:
    """Which footprints hold a position or come nearer to one than `guard_arcmin`.

    Edges are great circles, as they are in TAN; in SIN the edge of a cutout of one degree bows by
    0.6 arcsec seven degrees from the reference point, of a fifth of a degree by 0.03 arcsec.
    Footprints wider than a hemisphere are taken as circles.

    Parameters
    ----------
    sky : n footprints; unknown ones are near to nothing
    positions : (m, 2) right ascension and declination, deg; rows with NaN are left out
    guard_arcmin : arcmin

    Returns
    -------
    (n,) bool
    """
    from scipy.spatial import cKDTree

    result = np.zeros(len(sky), dtype=bool)
    positions = positions[np.isfinite(positions).all(axis=1)]
    known = np.flatnonzero(sky.is_known)
    if len(positions) == 0 or len(known) == 0:
        return result
    targets = unit_vectors(positions)
    tree = cKDTree(targets)
    guard = guard_arcmin * ARCMIN
    radius = sky.radius_arcsec[known] / 60 * ARCMIN
    centres = unit_vectors(sky.centres[known])
    # A little wider than needed: the exact test follows.
    reach = 2 * np.sin(np.minimum(radius + guard, np.pi) / 2) * (1 + 1e-9) + 1e-12
    counts = tree.query_ball_point(centres, reach, return_length=True)

    is_circle = ~np.isfinite(sky.corners[known]).all(axis=(1, 2)) | (radius >= np.pi / 2)
    circle = np.flatnonzero(is_circle & (counts > 0))
    nearest, _ = tree.query(centres[circle])
    result[known[circle]] = 2 * np.arcsin(np.minimum(nearest / 2, 1)) < radius[circle] + guard

    square = np.flatnonzero(~is_circle & (counts > 0))
    blocks = np.cumsum(counts[square]) // PAIRS_AT_ONCE
    for block in np.unique(blocks):
        some = square[blocks == block]
        matches = tree.query_ball_point(centres[some], reach[some])
        owner = np.repeat(np.arange(len(some)), counts[some])
        target = targets[np.concatenate(matches).astype(np.int64)]
        corners = unit_vectors(sky.corners[known[some]])
        is_near = distance(target, centres[some][owner], corners[owner]) < guard
        result[known[some[np.unique(owner[is_near])]]] = True
    return result


def close_pairs(
    positions: Floats, separation_arcsec: float
) -> Iterator[tuple[Integers, Integers, Floats]]:
    """Pairs of positions closer than a separation, a bounded number of them at a time.

    Parameters
    ----------
    positions : (n, 2) right ascension and declination, deg; rows with NaN are left out
    separation_arcsec : arcsec

    Yields
    ------
    first, second : (k,) rows of `positions`, first < second
    separation : (k,) arcsec
    """
    from scipy.spatial import cKDTree

    known = np.flatnonzero(np.isfinite(positions).all(axis=1))
    if len(known) < 2:
        return
    vectors = unit_vectors(positions[known])
    tree = cKDTree(vectors)
    limit = separation_arcsec / 60 * ARCMIN
    # A little wider than needed: the exact test follows.
    reach = 2 * np.sin(min(limit, np.pi) / 2) * (1 + 1e-9) + 1e-12
    counts = tree.query_ball_point(vectors, reach, return_length=True)
    blocks = np.cumsum(counts) // PAIRS_AT_ONCE
    for block in np.unique(blocks[counts > 1]):
        some = np.flatnonzero((blocks == block) & (counts > 1))
        matches = tree.query_ball_point(vectors[some], reach)
        a = np.repeat(some, counts[some])
        b = np.concatenate(matches).astype(np.int64)
        separation = angle(vectors[a], vectors[b])
        chosen = (a < b) & (separation < limit)
        a, b, separation = a[chosen], b[chosen], separation[chosen]
        yield known[a], known[b], np.degrees(separation) * 3600


def distance(points: Floats, centres: Floats, corners: Floats) -> Floats:
    """Angle from points to convex quadrilaterals on the sphere; 0 inside.

    Parameters
    ----------
    points, centres : (k, 3) unit vectors
    corners : (k, 4, 3) unit vectors in order around the quadrilateral, either way

    Returns
    -------
    (k,) rad
    """
    following = np.roll(corners, -1, axis=1)
    normals = np.cross(corners, following)
    heights = np.einsum("kej,kj->ke", normals, points)
    is_inside = (heights >= 0).all(axis=1) | (heights <= 0).all(axis=1)
    # The antipode of the inside has heights of one sign, too.
    is_inside &= np.einsum("kj,kj->k", points, centres) > 0

    lengths = np.linalg.norm(normals, axis=2)
    with np.errstate(invalid="ignore", divide="ignore"):
        across = np.abs(np.arcsin(np.clip(heights / lengths, -1, 1)))
    # The foot of the perpendicular lies on the edge if the point is between the two planes
    # through the ends that are at right angles to the edge.
    after_start = np.einsum("kej,kj->ke", np.cross(normals, corners), points) >= 0
    before_end = np.einsum("kej,kj->ke", np.cross(normals, following), points) <= 0
    across[~(after_start & before_end) | (lengths < 1e-15)] = np.inf
    to_corners = angle(points[:, None], corners)
    nearest = np.minimum(across, to_corners).min(axis=1)
    return np.where(is_inside, 0.0, nearest)


def unit_vectors(positions: Floats) -> Floats:
    """(..., 3) unit vectors of (..., 2) right ascensions and declinations in deg."""
    ra, dec = np.radians(positions[..., 0]), np.radians(positions[..., 1])
    return np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=-1)


def angle(a: Floats, b: Floats) -> Floats:
    """Angle between (..., 3) unit vectors, rad; exact for small and for large ones."""
    half = np.linalg.norm(a - b, axis=-1) / 2
    cohalf = np.linalg.norm(a + b, axis=-1) / 2
    result: Floats = 2 * np.arctan2(half, cohalf)
    return result
