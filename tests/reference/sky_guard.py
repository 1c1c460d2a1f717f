"""The overlap guard as one would write it for a single cutout: try points all over it."""

import astropy.units as u
import numpy as np
from astropy.coordinates import SkyCoord


def nearest_arcmin(wcs, y0, x0, size_px, position, samples=81):
    """Smallest separation of a position from a fine grid of points on a cutout, its edges included.

    Parameters
    ----------
    wcs : celestial WCS
    y0, x0 : first pixel of the cutout
    size_px : side of the cutout
    position : (ra, dec), deg
    samples : points along each side
    """
    steps = np.linspace(-0.5, size_px - 0.5, samples)
    y, x = np.meshgrid(y0 + steps, x0 + steps, indexing="ij")
    points = wcs.pixel_to_world(x, y)
    return points.separation(SkyCoord(*position, unit=u.deg)).arcmin.min()
