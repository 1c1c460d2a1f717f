"""What a cutout server sent: is it an image, is there anything in it, does it show the place?

Readers of FITS proper live in `stradavit.cutouts`; this only decides whether a fetched file is
kept, so it reads the first HDU and trusts nothing the header says.
"""

import math
import re
import warnings
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS
from numpy.typing import NDArray

from stradavit.acquire.archives.catalogue_positions import separation_arcmin

BLOCK = 2880
MAX_HEADER_BLOCKS = 100
MAX_AXIS = 100_000
# Sixty times what the largest cutout has; it is read whole.
MAX_FILE_BYTES = 2**28
DTYPES = {8: ">u1", 16: ">i2", 32: ">i4", -32: ">f4", -64: ">f8"}

# The cards a celestial WCS of the first two axes needs. Dates and old spellings of the frame are
# left out: Astropy warns of them, for every single image.
WCS_CARD = re.compile(
    r"(CTYPE|CRVAL|CRPIX|CDELT|CUNIT|CROTA)[12]|(PC|CD)0*[12]_0*[12]|LONPOLE|LATPOLE|NAXIS[12]"
)


# Reasons that mean the survey has no usable image there, and not that a server is in trouble.
NO_IMAGE = ("blank image", "constant image", "another place", "off centre", "no position")


class _UnfitError(Exception):
    """Why a file is refused; the text before a colon is what refusals are counted by."""


def check_image(
    path: Path, position_deg: tuple[float, float], centre_tolerance_arcmin: float | None
) -> str | None:
    """A reason to refuse a cutout, or None.

    Parameters
    ----------
    path : FITS file; the padding after its pixels may be missing
    position_deg : right ascension and declination that were asked for
    centre_tolerance_arcmin : how far the centre of the image may be from there; if None, the
        position must only lie within the image
    """
    try:
        with warnings.catch_warnings():
            # One for every broken card; what matters is raised.
            warnings.simplefilter("ignore")
            _check(path, position_deg, centre_tolerance_arcmin)
    except _UnfitError as error:
        return str(error)
    return None


def _check(
    path: Path, position_deg: tuple[float, float], centre_tolerance_arcmin: float | None
) -> None:
    size = path.stat().st_size
    if size > MAX_FILE_BYTES:
        raise _UnfitError(f"too large: {size} bytes; a cutout has at most {MAX_FILE_BYTES}")
    header, image = _first_image(path.read_bytes())
    finite = image[np.isfinite(image)]
    if finite.size == 0:
        raise _UnfitError("blank image")
    if finite.min() == finite.max():
        raise _UnfitError(f"constant image: every pixel is {finite[0]:g}")
    _check_place(header, image.shape, position_deg, centre_tolerance_arcmin)


def _first_image(raw: bytes) -> tuple[fits.Header, NDArray[np.generic]]:
    """Header of the first HDU and its image (ny, nx)."""
    if not raw.startswith(b"SIMPLE  ="):
        raise _UnfitError(f"not FITS: begins with {raw[:16]!r}")
    n_cards = min(len(raw), BLOCK * MAX_HEADER_BLOCKS) // 80
    end = next((k for k in range(n_cards) if raw[80 * k : 80 * k + 8] == b"END     "), None)
    if end is None:
        raise _UnfitError("damaged FITS: its header has no end")
    start = -(-80 * (end + 1) // BLOCK) * BLOCK
    try:
        header = fits.Header.fromstring(raw[: 80 * (end + 1)])
        n_axes = header["NAXIS"]
        axes = [header[f"NAXIS{axis}"] for axis in range(1, n_axes + 1)]
        dtype = np.dtype(DTYPES[header["BITPIX"]])
    except Exception as error:  # Astropy raises whatever a broken card makes it raise
        raise _UnfitError(f"damaged FITS: {error}") from error
    # `T` is an integer to Python, and to NumPy no length.
    is_image = len(axes) >= 2 and all(type(n) is int and 0 < n < MAX_AXIS for n in axes)
    if not is_image or math.prod(axes[2:]) != 1:
        raise _UnfitError(f"not one image: its axes are {axes}")
    n_bytes = axes[0] * axes[1] * dtype.itemsize
    if len(raw) < start + n_bytes:
        raise _UnfitError(f"truncated: {len(raw)} of {start + n_bytes} bytes")
    pixels = np.frombuffer(raw, dtype, axes[0] * axes[1], start)
    return header, pixels.reshape(axes[1], axes[0])


def _check_place(
    header: fits.Header,
    shape: tuple[int, ...],
    position_deg: tuple[float, float],
    centre_tolerance_arcmin: float | None,
) -> None:
    ny, nx = shape
    try:
        # A value is parsed when it is asked for, and only then found to be broken.
        kept = fits.Header(
            [(key, header[key]) for key in dict.fromkeys(header) if WCS_CARD.fullmatch(key)]
        )
        wcs = WCS(kept, naxis=2, fix=False)
        if not wcs.has_celestial:
            raise ValueError(f"the axes are {list(wcs.wcs.ctype)}")
        ra_deg, dec_deg = (
            float(value) for value in wcs.all_pix2world((nx - 1) / 2, (ny - 1) / 2, 0)
        )
        x, y = (float(value) for value in wcs.all_world2pix(*position_deg, 0, quiet=True))
    except Exception as error:  # as above
        raise _UnfitError(f"no position: {error}") from error
    off_arcmin = separation_arcmin((ra_deg, dec_deg), position_deg)
    if not math.isfinite(off_arcmin):
        raise _UnfitError("no position: the centre is not on the sky")
    if centre_tolerance_arcmin is None:
        if not (-0.5 <= x <= nx - 0.5 and -0.5 <= y <= ny - 0.5):
            raise _UnfitError(f"another place: its centre is {off_arcmin:.2f} arcmin off")
    elif off_arcmin > centre_tolerance_arcmin:
        raise _UnfitError(f"off centre: by {off_arcmin:.2f} arcmin")
