"""Whether there is anything to see (paper, section 7.1.1; tested on [0, 1], unnormalised)."""

import torch
from torch import Tensor

from stradavit.settings.views import EmptySettings


def is_empty(pixels: Tensor, bright_pixels: int, settings: EmptySettings) -> Tensor:
    """Which images show nothing: no value above a floor, or a peak that stands alone.

    Parameters
    ----------
    pixels : (b, h, w) float tensor in [0, 1]
    bright_pixels : pixels that must reach `settings.bright_share` of the image's peak

    Returns
    -------
    (b,) bool tensor
    """
    peak = pixels.amax(dim=(1, 2))
    bright = pixels >= (settings.bright_share * peak)[:, None, None]
    # The sum over a contiguous last axis in int32 is far faster than torch's default int64.
    count = bright.flatten(1).sum(dim=1, dtype=torch.int32)
    return (peak <= settings.peak_max) | (count < bright_pixels)


def crop_is_empty(
    images: Tensor, boxes: Tensor, side_px_max: int, bright_pixels: int, settings: EmptySettings
) -> Tensor:
    """`is_empty` of one crop of each image, at the image's own resolution.

    Parameters
    ----------
    images : (b, size, size) float tensor in [0, 1]
    boxes : (b, 4) int64 tensor, square (x0, y0, x1, y1) boxes inside the images
    side_px_max : no box is larger; boxes of many sizes are tested inside windows of this side
    bright_pixels : as for `is_empty`

    Returns
    -------
    (b,) bool tensor
    """
    corner = boxes[:, :2].clamp(max=images.shape[-1] - side_px_max)
    windows = images.unfold(1, side_px_max, 1).unfold(2, side_px_max, 1)
    each = torch.arange(len(images), device=images.device)
    pixels = windows[each, corner[:, 1], corner[:, 0]]
    inside = corner[:, :, None] + torch.arange(side_px_max, device=images.device)
    inside = (inside >= boxes[:, :2, None]) & (inside < boxes[:, 2:, None])
    # Zeros outside the box change neither its peak nor the pixels that reach a share of it.
    pixels.mul_(inside[:, 1, :, None]).mul_(inside[:, 0, None, :])
    return is_empty(pixels, bright_pixels, settings)
