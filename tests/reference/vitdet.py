"""Attention in windows with decomposed relative positions, pair by pair.

Written from Li et al. 2022 (ViTDet), section 3, and Li et al. 2022 (MViTv2), section 4.1. What the
papers do not have are tokens before the patches: those attend to all, and all attend to them.
"""

import math

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def windowed_attention(
    query: Array,
    key: Array,
    value: Array,
    prefix: int,
    grid: tuple[int, int],
    window: int,
    by_row: Array | None,
    by_column: Array | None,
) -> Array:
    """One head of one image.

    Parameters
    ----------
    query, key, value : (prefix + rows * columns, d), patches row by row
    grid : (rows, columns)
    window : patches along a side; 0: the whole image
    by_row, by_column : (2 * n - 1, d), the vector of distance 0 in the middle; None: without

    Returns
    -------
    (prefix + rows * columns, d)
    """
    rows, columns = grid
    assert len(query) == prefix + rows * columns
    result = np.zeros_like(value)
    for i in range(len(query)):
        seen, scores = [], []
        for j in range(len(key)):
            score = float(query[i] @ key[j]) / math.sqrt(query.shape[1])
            if i >= prefix and j >= prefix:
                here, there = divmod(i - prefix, columns), divmod(j - prefix, columns)
                in_rows, in_columns = (
                    window == 0 or a // window == b // window
                    for a, b in zip(here, there, strict=True)
                )
                if not (in_rows and in_columns):
                    continue
                if by_row is not None and by_column is not None:
                    up = by_row[here[0] - there[0] + len(by_row) // 2]
                    along = by_column[here[1] - there[1] + len(by_column) // 2]
                    score += float(query[i] @ (up + along))
            seen.append(j)
            scores.append(score)
        weights = [math.exp(score - max(scores)) for score in scores]
        for j, weight in zip(seen, weights, strict=True):
            result[i] += weight / sum(weights) * value[j]
    return result


def resized(table: Array, length: int) -> Array:
    """(n, d) to (length, d): linear between the centres of equal intervals, ends held."""
    found = np.zeros((length, table.shape[1]))
    for i in range(length):
        place = (i + 0.5) * len(table) / length - 0.5
        place = min(max(place, 0.0), len(table) - 1.0)
        low = min(int(place), len(table) - 2)
        found[i] = (1 - (place - low)) * table[low] + (place - low) * table[low + 1]
    return found
