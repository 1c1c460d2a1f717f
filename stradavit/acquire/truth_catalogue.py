"""Truth catalogues of SDC1 and of mosaics drawn like it: what was put into an image, and where."""

from collections.abc import Callable
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stradavit.errors import DataError

TRUTH_COLUMNS = (
    "ID", "RA (core)", "DEC (core)", "RA (centroid)", "DEC (centroid)", "FLUX", "Core frac",
    "BMAJ", "BMIN", "PA", "SIZE", "CLASS", "SELECTION", "x", "y",
)  # fmt: skip
# SDC1's own codes: morphology model of SIZE, and kind of object.
SIZE_LAS, SIZE_GAUSSIAN, SIZE_EXPONENTIAL = 1, 2, 3
CLASS_STEEP_AGN, CLASS_FLAT_AGN, CLASS_STAR_FORMING = 1, 2, 3

# All that every catalogue has, in its order; training sets append SELECTION and the pixel.
TRUTH = np.dtype(
    [
        ("id", "i8"),
        ("ra_core", "f8"),
        ("dec_core", "f8"),
        ("ra_cent", "f8"),
        ("dec_cent", "f8"),
        ("flux", "f4"),
        ("core_frac", "f4"),
        ("b_maj", "f4"),
        ("b_min", "f4"),
        ("pa", "f4"),
        ("size", "u1"),
        ("class", "u1"),
    ]
)
TRUTH_FIELDS: tuple[str, ...] = TRUTH.names or ()
N_COLUMNS = len(TRUTH_FIELDS)
SELECTION = TRUTH_COLUMNS.index("SELECTION")
CODES = (1, 2, 3)

# Training sets begin with 18 lines of prose, and descriptions wrap.
HEADER_LINES = 60
# Lines parsed at once: 10 MB of text and numbers. The full catalogues have millions of lines.
BLOCK_LINES = 20_000
# Rows have 200 characters; of a file without line ends no more than this is taken for a line.
LINE_BYTES = 1024
REMEDY = "Put the whole catalogue there, or delete it and acquire the detection set again."


def read_truth(
    path: Path, keep: Callable[[NDArray[np.void]], NDArray[np.bool_]] | None = None
) -> NDArray[np.void]:
    """Read a truth catalogue, a block of lines at a time.

    Understood are the archive's blank-separated numbers, below a header in prose or not, and the
    CSV beside drawn mosaics. Rows whose SELECTION is 0 were never put into the image and are left
    out.

    Parameters
    ----------
    path : the catalogue
    keep : says of (n,) rows which (n,) to keep; it bounds the memory. All if absent

    Returns
    -------
    (n,) of dtype `TRUTH`: positions in deg with right ascensions in [0, 360), `flux` in Jy,
    `b_maj` and `b_min` in arcsec, `pa` in deg from the direction of longitude, clockwise as the
    image is seen with north up and east to the left

    Raises
    ------
    DataError
        If the file cannot be read, holds no rows, or a line is not what the others are.
    """
    path = Path(path)
    blocks = []
    try:
        with path.open("rb") as opened:
            every = iter(partial(opened.readline, LINE_BYTES), b"")
            n_header, width = _layout(path, list(islice(every, HEADER_LINES)))
            opened.seek(0)
            every = iter(partial(opened.readline, LINE_BYTES), b"")
            number = 1 + len(list(islice(every, n_header)))
            while lines := list(islice(every, BLOCK_LINES)):
                rows = _rows(path, lines, width, number)
                blocks.append(rows if keep is None else rows[keep(rows)])
                number += len(lines)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}). {REMEDY}") from error
    if not blocks:
        raise DataError(f"{path}: has a header and no rows. {REMEDY}")
    return np.concatenate(blocks)


def _layout(path: Path, head: list[bytes]) -> tuple[int, int]:
    """Lines before the first row, and cells of a row."""
    if head and head[0].startswith(b"ID,"):
        found = head[0].decode("utf-8", "replace").strip()
        if found != ",".join(TRUTH_COLUMNS):
            raise DataError(
                f"{path}, line 1: found {found[:80]!r}; expected {','.join(TRUTH_COLUMNS)!r}. "
                f"{REMEDY}"
            )
        return 1, len(TRUTH_COLUMNS)
    for number, line in enumerate(head):
        cells = line.split()
        if len(cells) >= N_COLUMNS and _is_numbers(cells):
            return number, len(cells)
    raise DataError(
        f"{path}: none of its first {HEADER_LINES} lines is of {N_COLUMNS} or more numbers, as the "
        f"rows of a truth catalogue are; the first is {_shown(head[0] if head else b'')}. {REMEDY}"
    )


def _rows(path: Path, lines: list[bytes], width: int, first: int) -> NDArray[np.void]:
    """Rows of some lines, the first of which has the number `first`."""
    filled = [line.replace(b",", b" ").split() for line in lines]
    if any(len(cells) not in (0, width) for cells in filled):
        raise _bad_line(path, lines, width, first)
    try:
        cells = [cell for row in filled for cell in row]
        values = np.array(cells, dtype=np.float64).reshape(-1, width)
    except ValueError:
        raise _bad_line(path, lines, width, first) from None
    if not _are_sound(values).all():
        raise _bad_line(path, lines, width, first)
    if width > SELECTION:
        values = values[values[:, SELECTION] != 0]
    rows = np.empty(len(values), TRUTH)
    for column, name in enumerate(TRUTH_FIELDS):
        rows[name] = values[:, column]
    rows["ra_core"] %= 360.0
    rows["ra_cent"] %= 360.0
    return rows


def _are_sound(values: NDArray[np.float64]) -> NDArray[np.bool_]:
    """(n,) whether rows are finite, with a place on the sky, sizes, and known codes."""
    column = dict(zip(TRUTH_FIELDS, values.T, strict=False))
    sound: NDArray[np.bool_] = np.asarray(np.isfinite(values).all(axis=1))
    for name in ("dec_core", "dec_cent"):
        sound &= np.abs(column[name]) <= 90.0
    for name in ("b_maj", "b_min"):
        sound &= column[name] >= 0.0
    for name in ("size", "class"):
        sound &= np.isin(column[name], CODES)
    return sound


def _bad_line(path: Path, lines: list[bytes], width: int, first: int) -> DataError:
    """The error that names the first of the lines that is no row."""
    for number, line in enumerate(lines, start=first):
        cells = line.replace(b",", b" ").split()
        if not cells:
            continue
        if len(cells) != width or not _is_numbers(cells):
            expected = f"{width} numbers, as the other rows have"
        elif not _are_sound(np.array([cells], dtype=np.float64))[0]:
            expected = "finite numbers, declinations in ±90, sizes from 0 on, codes 1, 2 or 3"
        else:
            continue
        return DataError(
            f"{path}, line {number}: found {_shown(line)}; expected {expected}. {REMEDY}"
        )
    raise AssertionError("called without a bad line")


def _is_numbers(cells: list[bytes]) -> bool:
    try:
        np.array(cells, dtype=np.float64)
    except ValueError:
        return False
    return True


def _shown(line: bytes) -> str:
    return repr(line.strip()[:80].decode("latin1"))
