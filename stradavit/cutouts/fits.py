"""The one reader of FITS: any axes, any HDU, any damage, in native float32.

Nothing else in the package opens FITS to read pixels. Files are told apart by their first bytes,
never by their suffix. Pixels are read in bands of rows, so memory does not grow with the product.
"""

import io
import math
import re
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.io.fits import CompImageHDU, GroupsHDU, ImageHDU, PrimaryHDU, VerifyError
from astropy.wcs import WCS
from numpy.typing import NDArray

from stradavit.cutouts.celestial import celestial, pixel_scale_arcsec
from stradavit.cutouts.claims import FITS_BLOCK, check_claims
from stradavit.cutouts.counted_file import CountedFile
from stradavit.cutouts.forward_gzip import DEFLATE_RATIO, ForwardGzip
from stradavit.cutouts.image import open_image
from stradavit.cutouts.product import (
    DEFAULT_MEMORY_MB,
    SKIP_REASONS,
    Product,
    check_memory,
    named_failures,
)
from stradavit.errors import DataError, MalformedProductError

__all__ = ["SKIP_REASONS", "FitsProduct", "open_product"]

GZIP_MAGIC = b"\x1f\x8b"
PACKED_MAGIC = {b"\x1f\x9d": "LZW", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"PK\x03\x04": "zip"}
IMAGE_MAGIC = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")
FITS_MAGIC = b"SIMPLE  ="

# A packed file may always unpack to this, and a larger one to so many times its size. Real images
# shrink to a half, and those with wide blank borders to a tenth.
GZIP_BYTES = 10**9
GZIP_RATIO = 200

# Names of celestial axes (Calabretta & Greisen 2002, section 3.1), and the old ones without a
# projection. The sky of the Sun and the planets is as good an image as any.
LONGITUDE = re.compile(r"(RA|.LON|..LN)(-|\s*$)")
LATITUDE = re.compile(r"(DEC|.LAT|..LT)(-|\s*$)")


@contextmanager
def open_product(path: Path, memory_mb: int = DEFAULT_MEMORY_MB) -> Iterator[Product]:
    """Open a FITS, PNG or JPEG file.

    In FITS the first HDU with at least two axes and no empty one is taken, tile-compressed or
    not. If the celestial axes are not the first two of the header (or come as latitude before
    longitude), they are moved there, so that `wcs` and pixels always agree; such products must
    fit into memory whole.

    Parameters
    ----------
    path : file of any name; plain or gzip-packed
    memory_mb : most memory one read may take, MB

    Raises
    ------
    MalformedProductError
        With one of `SKIP_REASONS`, here or in `read`, whatever the file holds.
    DataError
        If the file is missing or the disk fails.
    """
    path = Path(path)
    try:
        opened = CountedFile(io.FileIO(path))
    except OSError as error:
        raise DataError(
            f"{path}: cannot be opened ({error.strerror}). Acquire the part again."
        ) from error
    with ExitStack() as stack:
        stack.enter_context(opened)
        product: Product
        with named_failures(path):
            head = opened.read(16)
            opened.seek(0)
            if head.startswith(IMAGE_MAGIC):
                product = open_image(path, memory_mb)
            else:
                product = _open_fits(stack, opened, head, path, memory_mb)
        yield product


def _open_fits(
    stack: ExitStack, plain: CountedFile, head: bytes, path: Path, memory_mb: int
) -> "FitsProduct":
    opened: CountedFile | ForwardGzip = plain
    size_bytes = path.stat().st_size
    for magic, name in PACKED_MAGIC.items():
        if head.startswith(magic):
            raise MalformedProductError("compression", f"{path}: packed with {name}")
    if head.startswith(GZIP_MAGIC):
        most_bytes = max(GZIP_BYTES, GZIP_RATIO * size_bytes)
        opened = stack.enter_context(ForwardGzip(plain, most_bytes))
        size_bytes = min(size_bytes * DEFLATE_RATIO, most_bytes)
        head = opened.read(16)
        opened.seek(0)
    if not head.startswith(FITS_MAGIC):
        raise MalformedProductError("unknown_format", f"{path}: begins with {head!r}")
    # Scaling is ours: Astropy ignores BLANK = 0 and takes no BLANK in pseudo-unsigned integers.
    opened.header_budget.start()
    try:
        hdus = fits.open(opened, memmap=False, do_not_scale_image_data=True)
    except OSError:
        # Astropy calls a gzip file that ends early corrupt; reading on says what it is.
        while opened.read(FITS_BLOCK * 100):
            pass
        raise
    stack.enter_context(closing(hdus))
    hdu = _first_image(hdus, path)
    opened.header_budget.stop()
    check_claims(hdu, opened, size_bytes, memory_mb, path)
    return FitsProduct(hdu, memory_mb, path)


def _first_image(hdus: Any, path: Path) -> Any:
    """The first HDU whose data have two axes or more, none of them empty."""
    seen: list[str] = []
    is_empty = False
    for hdu in hdus:
        seen.append(type(hdu).__name__)
        if not isinstance(hdu, PrimaryHDU | ImageHDU | CompImageHDU) or isinstance(hdu, GroupsHDU):
            continue
        if len(hdu.shape) >= 2:
            if min(hdu.shape) > 0:
                return hdu
            is_empty = True
    reason = "empty_image" if is_empty else "no_image"
    raise MalformedProductError(reason, f"{path}: holds {', '.join(seen) or 'nothing'}")


class FitsProduct:
    """An image HDU; see `stradavit.cutouts.product.Product`."""

    def __init__(self, hdu: Any, memory_mb: int, path: Path) -> None:
        self._hdu = hdu
        self._memory_mb = memory_mb
        self._path = path
        self._moved: NDArray[np.float32] | None = None
        header = hdu.header
        self._scale = float(header.get("BSCALE", 1.0)), float(header.get("BZERO", 0.0))
        blank = header.get("BLANK")
        # On floats BLANK has no meaning, though AIPS writes it; blank floats are NaN already.
        self._blank = blank if header["BITPIX"] > 0 and isinstance(blank, int) else None
        unit = _remark(header, "BUNIT")
        self.unit = unit.strip() if isinstance(unit, str) else ""
        self.beam_arcsec = _beam_arcsec(header)
        self.frequency_hz = _frequency_hz(header)

        ndim = len(hdu.shape)
        self._sky_axes = _sky_axes(header, ndim, path)
        latitude, longitude = self._sky_axes or (ndim - 2, ndim - 1)
        self.shape: tuple[int, int] = (hdu.shape[latitude], hdu.shape[longitude])
        self._leading = tuple(
            length for axis, length in enumerate(hdu.shape) if axis not in (latitude, longitude)
        )
        self.n_planes = math.prod(self._leading)
        self.wcs: WCS | None = celestial(header) if self._sky_axes else None
        self.pixel_scale_arcsec = pixel_scale_arcsec(self.wcs)

    def read(self, plane: int, y0: int, y1: int) -> NDArray[np.float32]:
        """Rows `y0` to `y1` (half-open) of a plane, (y1 - y0, nx); blank pixels are NaN.

        Raises
        ------
        MalformedProductError
            `too_large`, `truncated` or `unreadable`.
        """
        ndim = len(self._hdu.shape)
        with named_failures(self._path):
            index = tuple(int(i) for i in np.unravel_index(plane, self._leading or (1,)))
            index = index[: len(self._leading)]
            if self._sky_axes in (None, (ndim - 2, ndim - 1)):
                needed = (y1 - y0) * self.shape[1] * self._bytes_per_pixel()
                check_memory(self._path, needed, self._memory_mb, f"a band of {y1 - y0} rows")
                return self._to_float(self._hdu.section[(*index, slice(y0, y1), slice(None))])
            if self._moved is None:
                needed = math.prod(self._hdu.shape) * self._bytes_per_pixel()
                what = "a product whose celestial axes are not the first two, read whole,"
                check_memory(self._path, needed, self._memory_mb, what)
                whole = self._to_float(self._hdu.section[...])
                self._moved = np.moveaxis(whole, self._sky_axes, (-2, -1))
            band: NDArray[np.float32] = self._moved[index][y0:y1].copy()
            return band

    def _bytes_per_pixel(self) -> int:
        stored: int = abs(self._hdu.header["BITPIX"]) // 8
        is_scaled = self._scale != (1.0, 0.0) or self._blank is not None
        return stored + 4 + (8 if is_scaled else 0)

    def _to_float(self, stored: NDArray[Any]) -> NDArray[np.float32]:
        scale, zero = self._scale
        if (scale, zero) == (1.0, 0.0) and self._blank is None:
            return stored.astype(np.float32)
        values = stored.astype(np.float64)
        if (scale, zero) != (1.0, 0.0):
            values *= scale
            values += zero
        if self._blank is not None:
            values[stored == self._blank] = np.nan
        return values.astype(np.float32)


def _remark(header: Any, key: str) -> Any:
    """A card that decides no pixel; None if it is missing or broken (`BMAJ = nan` is)."""
    try:
        return header.get(key)
    except VerifyError:
        return None


def _beam_arcsec(header: Any) -> tuple[float, float] | None:
    """(major, minor) from BMAJ and BMIN, which are in degrees."""
    try:
        major, minor = (3600.0 * float(_remark(header, key)) for key in ("BMAJ", "BMIN"))
    except (TypeError, ValueError):
        return None
    return (major, minor) if math.isfinite(major * minor) and min(major, minor) > 0 else None


def _frequency_hz(header: Any) -> float | None:
    """Where the frequency axis begins, or what the header calls the frequency of the image."""
    axes = [
        axis for axis in range(1, 10) if str(_remark(header, f"CTYPE{axis}")).startswith("FREQ")
    ]
    for key in (*(f"CRVAL{axis}" for axis in axes), "RESTFRQ", "RESTFREQ", "FREQ"):
        try:
            value = float(_remark(header, key))
        except (TypeError, ValueError):
            continue
        if math.isfinite(value) and value > 0:
            return value
    return None


def _sky_axes(header: Any, ndim: int, path: Path) -> tuple[int, int] | None:
    """Positions of (latitude, longitude) among the array axes; None if neither is there.

    Read from the names of the axes, since a WCS may fail to parse for the sake of another axis.
    The header may describe more axes than the data have: those are no array axes.
    """
    found: dict[str, int] = {}
    for axis in range(ndim):
        name = str(header.get(f"CTYPE{ndim - axis}", ""))
        for kind, pattern in (("latitude", LATITUDE), ("longitude", LONGITUDE)):
            if pattern.match(name):
                found[kind] = axis
    if len(found) == 1:
        names = [str(header.get(f"CTYPE{ndim - axis}", "?")) for axis in range(ndim)]
        raise MalformedProductError("not_sky", f"{path}: the array axes are {', '.join(names)}")
    return (found["latitude"], found["longitude"]) if found else None
