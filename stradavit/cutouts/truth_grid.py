"""How a grid of cutouts divides a product: where each source lies, and which split each row is."""

import numpy as np
from numpy.typing import NDArray

from stradavit.cutouts.sky import Floats, Integers
from stradavit.errors import DataError
from stradavit.settings.detection import Split, TruthSet


def homes(middle: Floats, shape: tuple[int, int], size: int) -> Integers:
    """(n,) number of the cutout that each place (n, 2) x, y lies in; -1 if in none."""
    n_rows, n_columns = shape[0] // size, shape[1] // size
    column, row = np.floor(middle / size).astype(np.int64).T
    inside = (row >= 0) & (row < n_rows) & (column >= 0) & (column < n_columns)
    return np.where(inside, row * n_columns + column, -1)


def has_truth(corners: list[tuple[int, int]], size: int, places: Floats) -> NDArray[np.bool_]:
    """(n,) which cutouts lie on the area of a catalogue, which may be a part of the product.

    Its area is the rectangle around its places (m, 2) x, y, widened by their mean distance: between
    the edge and the outermost source there is about as much empty sky.
    """
    low, high = places.min(axis=0), places.max(axis=0)
    margin = np.sqrt(np.prod(high - low) / len(places))
    first = np.array(corners, dtype=np.float64).reshape(-1, 2)[:, ::-1]
    is_within: NDArray[np.bool_] = (
        (first >= low - margin) & (first + size <= high + margin)
    ).all(axis=1)  # fmt: skip
    return is_within


def split_rows(
    product: str, corners: list[tuple[int, int]], is_kept: NDArray[np.bool_], block: TruthSet
) -> list[Split | None]:
    """The split of each cutout: that of its row; None in rows of which nothing is kept.

    The first rows are for testing, the next for validation, at least one for each split.

    Raises
    ------
    DataError
        If there are too few rows.
    """
    rows = sorted({corner[0] for corner, kept in zip(corners, is_kept, strict=True) if kept})
    needed = 3 if block.val_fraction else 2
    if len(rows) < needed:
        raise DataError(
            f"{product}: has {len(rows)} rows of cutouts with content and truth; expected at least "
            f"{needed}, one for each split. Take larger products, smaller cutouts "
            "(cutouts.size_px), or a val_fraction of 0."
        )
    n_test = max(1, round(block.test_fraction * len(rows)))
    n_val = max(1, round(block.val_fraction * len(rows))) if block.val_fraction else 0
    while n_test + n_val >= len(rows):
        n_test, n_val = (n_test - 1, n_val) if n_test >= n_val else (n_test, n_val - 1)
    split_of: dict[int, Split] = dict.fromkeys(rows, "train")
    split_of |= dict.fromkeys(rows[: n_test + n_val], "val")
    split_of |= dict.fromkeys(rows[:n_test], "test")
    return [split_of.get(y0) for y0, _ in corners]


def touched(low: float, high: float, size: int, n: int) -> range:
    """Which of `n` intervals of a length an open interval overlaps."""
    return range(max(0, int(low // size)), min(n, int(-(-high // size))))
