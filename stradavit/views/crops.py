"""Where in a cutout a view looks: boxes around an anchor (paper, sections 6.1 and 7.1).

Boxes are int64 tensors (..., 4) of (x0, y0, x1, y1), half-open, in pixels of the cutout, square
and inside it. Lengths are computed in float64 and rounded half up.
"""

import torch
from torch import Tensor

from stradavit.settings.views import CropSettings
from stradavit.views.random import uniforms


def wide_field(keys: Tensor, size_px: int, settings: CropSettings) -> Tensor:
    """(b, 4) boxes anywhere in the cutout that cover a uniform share of its area."""
    draws = uniforms(keys, 3)
    side = _side((_between(settings.wide_area, draws[:, 0])).sqrt() * size_px, size_px, settings)
    corner = (draws[:, 1:] * (size_px - side + 1)[:, None]).floor().long()
    return _boxes(corner, side)


def region(keys: Tensor, anchors: Tensor, size_px: int, settings: CropSettings) -> Tensor:
    """The region of interest: (b, 4) boxes centred on (b, 2) anchors, moved into the cutout."""
    side = _side(_between(settings.roi_side, uniforms(keys, 1)[:, 0]) * size_px, size_px, settings)
    corner = _round(anchors + 0.5 - side[:, None] / 2)
    return _boxes(torch.minimum(corner.clamp(min=0), (size_px - side)[:, None]), side)


def crops_around(
    keys: Tensor,
    count: int,
    anchors: Tensor,
    regions: Tensor,
    side_range: tuple[float | Tensor, float | Tensor],
    jitter: float,
    settings: CropSettings,
) -> Tensor:
    """Boxes inside the regions that contain the anchors.

    Parameters
    ----------
    keys : (b,) int64 tensor
    count : boxes for each sample
    anchors : (b, 2) int64 tensor, pixel (x, y)
    regions : (b, 4) int64 tensor
    side_range : share of the region's side, numbers or (b, 1) float64 tensors
    jitter : the centre is off the anchor by up to this share of the side, along each axis

    Returns
    -------
    (b, count, 4) int64 tensor
    """
    draws = uniforms(keys, count, 3)
    region_side = (regions[:, 2] - regions[:, 0])[:, None]
    side = _side(_between(side_range, draws[..., 0]) * region_side, region_side, settings)
    anchors, span = anchors[:, None], side[..., None]
    corner = _round(anchors + 0.5 + (2 * draws[..., 1:] - 1) * jitter * span - span / 2)
    lowest = torch.maximum(regions[:, None, :2], anchors - span + 1)
    highest = torch.minimum(regions[:, None, 2:] - span, anchors)
    return _boxes(torch.minimum(torch.maximum(corner, lowest), highest), side)


def intersection_over_area(inner: Tensor, outer: Tensor) -> Tensor:
    """Share of the inner box that lies in the outer one (paper, equation 7); float64."""
    overlap = torch.minimum(inner[..., 2:], outer[..., 2:]) - torch.maximum(
        inner[..., :2], outer[..., :2]
    )
    area = (inner[..., 2:] - inner[..., :2]).prod(dim=-1)
    return overlap.clamp(min=0).prod(dim=-1).double() / area


def first_overlapping(candidates: Tensor, outer: Tensor, ioa_min: float) -> Tensor:
    """The first of (b, n, k, 4) boxes along k that lies enough in (b, 4) `outer`, else the best.

    The authors score the best also by how concentrated its light is; the text does not, nor do we.
    """
    overlap = intersection_over_area(candidates, outer[:, None, None])
    # Above any real share, and argmax takes the first of equals.
    chosen = overlap.masked_fill(overlap >= ioa_min, 2.0).argmax(dim=2)
    return candidates.gather(2, chosen[..., None, None].expand(-1, -1, 1, 4))[:, :, 0]


def largest_crop_px(size_px: int, side_share: float, settings: CropSettings) -> int:
    """The largest side that `region`, then `crops_around` up to this share, can draw."""
    roi_px = max(settings.side_px_min, int(settings.roi_side[1] * size_px + 0.5))
    return min(size_px, max(settings.side_px_min, int(side_share * roi_px + 0.5)))


def _between(interval: tuple[float | Tensor, float | Tensor], draw: Tensor) -> Tensor:
    low, high = interval
    return low + (high - low) * draw


def _side(length: Tensor, longest: int | Tensor, settings: CropSettings) -> Tensor:
    return _round(length).clamp(min=settings.side_px_min).clamp(max=longest)


def _round(length: Tensor) -> Tensor:
    return (length + 0.5).floor().long()


def _boxes(corner: Tensor, side: Tensor) -> Tensor:
    return torch.cat((corner, corner + side[..., None]), dim=-1)
