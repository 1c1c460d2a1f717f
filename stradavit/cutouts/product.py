"""What every opened product offers, and the reasons why one cannot be cut."""

import errno
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from stradavit.errors import DataError, MalformedProductError

if TYPE_CHECKING:
    from astropy.wcs import WCS

logger = logging.getLogger(__name__)

SKIP_REASONS = MappingProxyType(
    {
        "unknown_format": "neither FITS nor PNG nor JPEG: an error page, a text, an empty file",
        "compression": "packed otherwise than by gzip or in RICE or GZIP tiles, or to less "
        "than a 200th; unpack it",
        "truncated": "the file is shorter than its header promises",
        "unreadable": "the header or the pixels are damaged",
        "no_image": "no part of the file holds an image: header only, tables, random groups",
        "empty_image": "an axis of the image has no pixels",
        "not_sky": "only one axis of the image lies on the sky, as in a position-velocity slice",
        "too_large": "the least that must be read at once is over cutouts.memory_mb",
        "no_such_plane": "the survey asks for a plane that the product does not have",
        "too_small": "the image is smaller than a cutout",
    }
)
"""Short names under which products are counted that cannot be cut, with what each means."""

# The disk's fault and not the file's: the job must fail and be tried again, not count a skip.
DISK_FAULTS = {errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT, errno.EACCES}

DEFAULT_MEMORY_MB = 1024


class Product(Protocol):
    """One opened file: planes of equal shape, read in bands of whole rows.

    Attributes
    ----------
    shape : (ny, nx) of each plane, px
    n_planes : planes, counted over all other axes in C order
    wcs : celestial WCS whose pixel axes are x and y, or None
    beam_arcsec : (major, minor) full widths at half maximum, or None
    pixel_scale_arcsec : geometric mean of the two axes, or None
    unit : as the header has it, may be empty
    frequency_hz : of the first plane, or None
    """

    @property
    def shape(self) -> tuple[int, int]: ...
    @property
    def n_planes(self) -> int: ...
    @property
    def wcs(self) -> "WCS | None": ...
    @property
    def beam_arcsec(self) -> tuple[float, float] | None: ...
    @property
    def pixel_scale_arcsec(self) -> float | None: ...
    @property
    def unit(self) -> str: ...
    @property
    def frequency_hz(self) -> float | None: ...

    def read(self, plane: int, y0: int, y1: int) -> NDArray[np.float32]:
        """Rows `y0` to `y1` (half-open) of a plane, (y1 - y0, nx); blank pixels are NaN."""
        ...


@contextmanager
def named_failures(path: Path) -> Iterator[None]:
    """Turn whatever a reader raises or warns about the content of `path` into our own words.

    Raises
    ------
    MalformedProductError
        For every fault of the content.
    DataError
        For a fault of the disk, which is no property of the product.
    """
    with warnings.catch_warnings(record=True) as caught, np.errstate(all="ignore"):
        warnings.simplefilter("always")
        try:
            yield
        except DataError:
            raise
        except EOFError as error:
            raise MalformedProductError("truncated", f"{path}: {error}") from error
        except OSError as error:
            if error.errno in DISK_FAULTS:
                raise DataError(f"{path}: the disk failed: {error}. Run the job again.") from error
            # Seeking to where the header puts the end fails if no file can be as long.
            reason = "truncated" if error.errno == errno.EINVAL else "unreadable"
            raise MalformedProductError(reason, f"{path}: {error}") from error
        except Exception as error:
            detail = f"{path}: {type(error).__name__}: {error}"
            raise MalformedProductError("unreadable", detail) from error
    for warning in caught:
        logger.debug("%s: %s", path, str(warning.message).replace("\n", " "))


def check_memory(path: Path, needed: int, memory_mb: int, what: str) -> None:
    """Refuse to read more than the settings allow.

    Raises
    ------
    MalformedProductError
        `too_large`, if `needed` bytes are more than `memory_mb` MB.
    """
    if needed > memory_mb * 10**6:
        detail = f"{path}: {what} needs {needed / 1e6:.0f} MB, cutouts.memory_mb is {memory_mb}"
        raise MalformedProductError("too_large", detail)
