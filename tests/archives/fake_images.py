"""Small FITS images around a place on the sky, for fake cutout servers."""

import io
import math

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

Mood = str


def image_around(
    position_deg: tuple[float, float],
    side_px: int,
    pixel_arcsec: float,
    mood: Mood = "",
    telescope: str = "VLA",
) -> bytes:
    """A source in noise, the same each time; SIN projection.

    `mood`: off_centre (by 2 arcmin), constant, blank, cube, no_wcs, unpadded (ends with the last
    pixel), cut_short (half of the pixels are missing).
    """
    ra_deg, dec_deg = position_deg
    if mood == "off_centre":
        dec_deg += 2 / 60
    pixels = _pixels(ra_deg, dec_deg, side_px)
    if mood == "constant":
        pixels[:] = 0.25
    if mood == "blank":
        pixels[:] = np.nan
    header = fits.Header()
    if mood != "no_wcs":
        # The reference lies far off, as in a cutout of a large map.
        header["CTYPE1"], header["CTYPE2"] = "RA---SIN", "DEC--SIN"
        header["CRVAL1"], header["CRVAL2"] = ra_deg, dec_deg
        header["CDELT1"], header["CDELT2"] = -pixel_arcsec / 3600, pixel_arcsec / 3600
        header["CRPIX1"] = header["CRPIX2"] = (side_px + 1) / 2
    # What makes Astropy warn of each image.
    header["DATE-OBS"] = "19930417"
    header["RADECSYS"] = "FK5"
    header["TELESCOP"], header["BUNIT"] = telescope, "JY/BEAM"
    data = np.stack([pixels, pixels]) if mood == "cube" else pixels
    opened = io.BytesIO()
    fits.PrimaryHDU(data, header).writeto(opened)
    raw = opened.getvalue()
    n_bytes = data.size * 4
    end = raw.index(b"END" + b" " * 77) + 80
    start = math.ceil(end / 2880) * 2880
    if mood == "unpadded":
        return raw[: start + n_bytes]
    if mood == "cut_short":
        return raw[: start + n_bytes // 2]
    return raw


def _pixels(ra_deg: float, dec_deg: float, side_px: int) -> NDArray[np.float32]:
    seed = int(ra_deg * 1e4) * 10_000_000 + int((dec_deg + 90) * 1e4)
    noise = np.random.default_rng(seed).normal(0, 1e-4, (side_px, side_px))
    y, x = np.indices((side_px, side_px)) - (side_px - 1) / 2
    return (noise + 0.01 * np.exp(-(x**2 + y**2) / 8)).astype(np.float32)


def near(position_deg: tuple[float, float], moods: dict[tuple[float, float], Mood]) -> Mood:
    """The mood a server is in at a place, within 3.6 arcsec."""
    for (ra_deg, dec_deg), mood in moods.items():
        if abs(ra_deg - position_deg[0]) < 1e-3 and abs(dec_deg - position_deg[1]) < 1e-3:
            return mood
    return ""
