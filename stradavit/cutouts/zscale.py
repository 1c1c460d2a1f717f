"""The contrast stretch of one image to [0, 1] (paper, section 3.2)."""

import warnings
from typing import Literal

import numpy as np
from numpy.typing import NDArray

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
    finite = image[np.isfinite(image)]
    if finite.size == 0:
        return 0.0, 0.0
    faintest, brightest = float(finite.min()), float(finite.max())
    if how == "minmax" or faintest == brightest:
        return faintest, brightest

    from astropy.visualization import ZScaleInterval

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        # A few pixels, or all of them rejected, make poor fits; Astropy then takes the extremes.
        warnings.simplefilter("ignore")
        low, high = (float(limit) for limit in ZScaleInterval().get_limits(finite))
    if not np.isfinite(high - low):  # the fit overflowed
        return faintest, brightest
    # The slope of a flat fit may be -1e-17, which would turn the image into its negative.
    return low, max(low, high)


def scale(image: NDArray[np.float32], low: float, high: float) -> NDArray[np.float32]:
    """`(image - low) / (high - low)`, or `image - low` if they coincide, clipped to [0, 1]."""
    with np.errstate(all="ignore"):
        scaled = np.subtract(image, low, dtype=np.float32)
        if high > low:
            np.divide(scaled, high - low, out=scaled)
    np.clip(scaled, 0.0, 1.0, out=scaled)
    scaled[~np.isfinite(image)] = 0.0
    return np.nan_to_num(scaled, copy=False, nan=0.0)
