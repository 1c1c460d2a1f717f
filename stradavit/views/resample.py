"""Separable resampling: every output row is a weighted sum of a few input rows.

Scaling, cropping, flipping and shifting by any amount all come down to `Taps`, which rows and with
which weights; `gather_rows` applies them. Weighted sums of table rows are what an embedding bag
computes, so one fused kernel does the work on every device, sample by sample: no result depends on
the rest of the batch.
"""

from math import ceil
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Taps(NamedTuple):
    """Input rows of each output row; weights of rows that do not count are zero."""

    rows: Tensor  # (b, out, taps) int64, inside the input
    weights: Tensor  # (b, out, taps) float32


class Orientation(NamedTuple):
    """An element of the dihedral group D4: transpose or not, then flip rows and columns."""

    is_transposed: Tensor  # (b,) bool
    flips_rows: Tensor  # (b,) bool, upside down
    flips_columns: Tensor  # (b,) bool, left to right


def crop_and_resize(
    images: Tensor, boxes: Tensor, out_px: int, side_px_max: int, orientation: Orientation
) -> Tensor:
    """Crop one square box from each image, resize it and turn it.

    Parameters
    ----------
    images : (b, size, size) float32 tensor
    boxes : (b, 4) int64 tensor, (x0, y0, x1, y1), half-open, inside the images
    out_px : side of the result
    side_px_max : no box is larger
    orientation : applied to the resized crops

    Returns
    -------
    (b, out_px, out_px) float32 tensor
    """
    turned, flips_rows, flips_columns = orientation
    # Flips after a transposition are flips of the other axis before it.
    flips_y = torch.where(turned, flips_columns, flips_rows)
    flips_x = torch.where(turned, flips_rows, flips_columns)
    side, size = boxes[:, 2] - boxes[:, 0], images.shape[-1]
    rows = gather_rows(images, crop_taps(boxes[:, 1], side, flips_y, out_px, side_px_max, size))
    columns = gather_rows(
        transposed(rows), crop_taps(boxes[:, 0], side, flips_x, out_px, side_px_max, size)
    )
    # The second pass leaves the axes swapped, which is what a transposed view wants.
    return torch.where(turned[:, None, None], columns, columns.mT)


def crop_taps(
    start: Tensor, side: Tensor, is_flipped: Tensor, out_px: int, side_px_max: int, size_px: int
) -> Taps:
    """Bilinear, antialiased resize of a stretch of rows, as torch and Pillow define it.

    The triangle filter has a half-width of one output pixel when shrinking and of one input pixel
    when enlarging; it is cut at the edges of the crop and has unit sum.

    Parameters
    ----------
    start, side : (b,) int64 tensors, first row and number of rows of the crop
    is_flipped : (b,) bool tensor, turn the output upside down
    out_px : rows of the output
    side_px_max : no `side` is larger; bounds the number of taps
    size_px : rows of the input
    """
    scale = side[:, None].double() / out_px
    support = scale.clamp(min=1.0)
    place = torch.arange(out_px, device=start.device)
    place = torch.where(is_flipped[:, None], out_px - 1 - place, place)
    centre = (place + 0.5) * scale - 0.5
    first = (centre - support).floor().long() + 1
    n_taps = ceil(2 * max(1.0, side_px_max / out_px))
    rows = first[..., None] + torch.arange(n_taps, device=start.device)
    weights = (1 - (rows - centre[..., None]).abs() / support[..., None]).clamp(min=0)
    weights = weights * ((rows >= 0) & (rows < side[:, None, None]))
    weights = weights / weights.sum(dim=2, keepdim=True)
    return Taps((rows + start[:, None, None]).clamp(0, size_px - 1), weights.float())


def zoom_taps(shift: Tensor, scale: Tensor, size_px: int) -> Taps:
    """Bilinear zoom about the centre and shift, same number of rows, zeros from outside.

    Parameters
    ----------
    shift : (b,) tensor, rows the content moves by
    scale : (b,) float64 tensor, magnification
    """
    middle = (size_px - 1) / 2
    place = torch.arange(size_px, device=shift.device, dtype=torch.float64)
    source = (place - middle - shift[:, None]) / scale[:, None] + middle
    rows = source.floor()[..., None].long() + torch.arange(2, device=shift.device)
    weights = 1 - (rows - source[..., None]).abs()
    weights = weights * ((rows >= 0) & (rows < size_px))
    return Taps(rows.clamp(0, size_px - 1), weights.float())


def gather_rows(images: Tensor, taps: Taps) -> Tensor:
    """(b, rows, columns) float32 images to (b, out, columns), each output row from its taps."""
    batch, n_rows, n_columns = images.shape
    _, out, n_taps = taps.rows.shape
    first = torch.arange(batch, device=images.device) * n_rows
    # Indices of 32 bits take the vectorised kernel on the processor, ten times as fast.
    rows = (taps.rows + first[:, None, None]).to(torch.int32).view(-1, n_taps)
    weights = taps.weights.reshape(-1, n_taps)
    table = images.reshape(-1, n_columns)
    return F.embedding_bag(rows, table, mode="sum", per_sample_weights=weights).view(
        batch, out, n_columns
    )


def transposed(images: Tensor) -> Tensor:
    """(b, rows, columns) to contiguous (b, columns, rows), so that `gather_rows` does columns."""
    return images.mT.contiguous()
