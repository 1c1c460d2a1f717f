"""Where cutouts lie in a product, and which of them are not worth keeping (paper, section 3.1)."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from types import MappingProxyType
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from stradavit.cutouts.product import Product
from stradavit.cutouts.quantise import quantise
from stradavit.cutouts.zscale import Stretch, limits, scale
from stradavit.errors import MalformedProductError

Grid = Literal["tiles", "centre"]

DROP_REASONS = MappingProxyType(
    {
        "non_finite": "a pixel is NaN or infinite",
        "all_zero": "all pixels are zero",
        "constant": "the spread is below cutouts.constant_std, or nothing is left of it in [0, 1]",
    }
)
"""Short names under which cutouts are counted that are not kept, with what each means."""


@dataclass(frozen=True)
class Cutout:
    """A square of a product: its plane, its corner and its pixels, (size_px, size_px) float32."""

    plane: int
    y0: int
    x0: int
    pixels: NDArray[np.float32]


def tile_corners(shape: tuple[int, int], size_px: int, grid: Grid) -> list[tuple[int, int]]:
    """Corners (y0, x0) of the cutouts of a plane, in px, row after row.

    Parameters
    ----------
    shape : (ny, nx) of the plane
    size_px : side of a cutout
    grid : `tiles`: non-overlapping, from the first pixel on, partial tiles at the far edges left
        out; `centre`: one, from the middle

    Returns
    -------
    Empty if the plane is smaller than a cutout.
    """
    ny, nx = shape
    if grid == "centre":
        return [((ny - size_px) // 2, (nx - size_px) // 2)] if min(shape) >= size_px else []
    return [
        (y0, x0)
        for y0 in range(0, ny - size_px + 1, size_px)
        for x0 in range(0, nx - size_px + 1, size_px)
    ]


def planes_to_cut(product: Product, planes: Literal["all"] | tuple[int, ...]) -> tuple[int, ...]:
    """The planes of a product to cut.

    Raises
    ------
    MalformedProductError
        `no_such_plane`, if one is asked for that is not there.
    """
    if planes == "all":
        return tuple(range(product.n_planes))
    absent = [plane for plane in planes if not 0 <= plane < product.n_planes]
    if absent:
        raise MalformedProductError(
            "no_such_plane", f"planes {absent} asked for, the product has {product.n_planes}"
        )
    return planes


def cut(
    product: Product,
    size_px: int,
    planes: Literal["all"] | tuple[int, ...] = "all",
    grid: Grid = "tiles",
) -> Iterator[Cutout]:
    """Cut a product, one band of rows in memory at a time.

    Raises
    ------
    MalformedProductError
        `too_small` or `no_such_plane` before the first cutout, or what the reader raises.
    """
    corners = tile_corners(product.shape, size_px, grid)
    if not corners:
        ny, nx = product.shape
        detail = f"{ny} x {nx} px holds no cutout of {size_px} x {size_px} px"
        raise MalformedProductError("too_small", detail)
    for plane in planes_to_cut(product, planes):
        for y0, row in groupby(corners, key=lambda corner: corner[0]):
            band = product.read(plane, y0, y0 + size_px)
            for _, x0 in row:
                # All that follows is quicker on pixels that lie side by side.
                yield Cutout(plane, y0, x0, np.ascontiguousarray(band[:, x0 : x0 + size_px]))


def drop_reason(pixels: NDArray[np.float32], constant_std: float) -> str | None:
    """Why a cutout is not kept, one of `DROP_REASONS`, or None if it is.

    `constant_std` is in the unit of the pixels.
    """
    with np.errstate(invalid="ignore"):
        faintest, brightest = float(pixels.min()), float(pixels.max())
    if not np.isfinite(brightest - faintest):  # NaN and infinities come through
        return "non_finite"
    if faintest == brightest == 0:
        return "all_zero"
    # The spread is at least that of the two extremes alone; it is worked out where that is small.
    if brightest - faintest > 2 * constant_std * np.sqrt(2 * pixels.size):
        return None
    return "constant" if float(pixels.std(dtype=np.float64)) <= constant_std else None


def stretched(
    pixels: NDArray[np.float32], stretch: Stretch, constant_std: float
) -> tuple[NDArray[np.uint16], float, float] | str:
    """A cutout as it is stored, with the values that became 0 and 1, or why it is not kept.

    Parameters
    ----------
    pixels : (size_px, size_px) float32
    stretch : see `stradavit.cutouts.zscale.limits`
    constant_std : in the unit of the pixels

    Returns
    -------
    Levels (`stradavit.cutouts.quantise`) and the two limits, or one of `DROP_REASONS`
    """
    reason = drop_reason(pixels, constant_std)
    if reason is not None:
        return reason
    low, high = limits(pixels, stretch)
    levels = quantise(scale(pixels, low, high))
    return "constant" if levels.min() == levels.max() else (levels, low, high)
