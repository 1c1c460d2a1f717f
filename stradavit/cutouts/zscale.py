"""The contrast stretch of one image to [0, 1] (paper, section 3.2)."""

import warnings
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from stradavit.cutouts.zscale_fit import zscale_limits

Stretch = Literal["zscale", "minmax"]


def stretch(image: NDArray[np.float32], how: Stretch) -> NDArray[np.float32]:
    """Stretch an image of any unit linearly to [0, 1] and clip it.

    Non-finite pixels take no part in the limits and become 0; a constant image becomes zeros.

    Parameters
    ----------
    image : (ny, nx) float32
    how : `zscale`: Astropy's `ZScaleInterval` with its defaults, pixel for pixel;
        `minmax`: from the faintest to the brightest finite pixel

    Returns
    -------
    (ny, nx) float32 in [0, 1]

    References
    ----------
    Paper, sections 3.2 and 4; IRAF's `zscale` as in `astropy.visualization.ZScaleInterval`.
    """
    low, high = limits(image, how)
    return scale(image, low, high)


def limits(image: NDArray[np.float32], how: Stretch) -> tuple[float, float]:
    """The values that become 0 and 1; equal for an image without contrast.

    ZScale's limits also coincide where more than half of the pixels are equal, as in pictures
    that were clipped at 3 sigma. Such an image is not constant and must not be blanked (every
    image of MiraBest's PNG release would be): like Astropy we then only subtract and clip, which
    leaves the mask of the brighter pixels of an 8-bit picture. `minmax` is the better choice.
    """
    finite, faintest, brightest = _finite(image)
    if how == "minmax" or faintest == brightest:
        return faintest, brightest
    low, high = zscale_limits(finite) or _astropy_limits(finite)
    if not np.isfinite(high - low):  # the fit overflowed
        return faintest, brightest
    # The slope of a flat fit may be -1e-17, which would turn the image into its negative.
    return low, max(low, high)


def _finite(image: NDArray[np.float32]) -> tuple[NDArray[np.float32], float, float]:
    """The pixels that are neither NaN nor infinite, in order, and their extremes, 0 if none.

    All of the image if that is finite, else (n,).
    """
    finite = image
    for _ in range(2):
        if finite.size == 0:
            break
        with np.errstate(invalid="ignore"):
            faintest, brightest = float(finite.min()), float(finite.max())
        if np.isfinite(faintest) and np.isfinite(brightest):
            return finite, faintest, brightest
        finite = finite[np.isfinite(finite)]
    return finite, 0.0, 0.0


def _astropy_limits(finite: NDArray[np.float32]) -> tuple[float, float]:
    from astropy.visualization import ZScaleInterval

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        # A few pixels, or all of them rejected, make poor fits; Astropy then takes the extremes.
        warnings.simplefilter("ignore")
        low, high = (float(limit) for limit in ZScaleInterval().get_limits(finite))
    return low, high


def scale(image: NDArray[np.float32], low: float, high: float) -> NDArray[np.float32]:
    """`(image - low) / (high - low)`, or `image - low` if they coincide, clipped to [0, 1]."""
    with np.errstate(all="ignore"):
        scaled = np.subtract(image, low, dtype=np.float32)
        width = np.float32(high - low)
        if high > low:
            np.divide(scaled, width, out=scaled)
        np.clip(scaled, 0.0, 1.0, out=scaled)
        is_finite = np.isfinite(image)
        # Of finite pixels only 0 / 0 and a width beyond all numbers make NaN.
        if not is_finite.all() or (high > low and not 0 < width < np.inf):
            scaled[~is_finite] = 0.0
            np.nan_to_num(scaled, copy=False, nan=0.0)
    return scaled
