"""Pixels as whole-batch tensors: the same code on every device, and it never waits for a value."""

import torch
from torch import Tensor

from stradavit.settings.views import AnchorSettings, EmptySettings, OperatorSettings
from stradavit.views.anchors import tile_starts
from stradavit.views.augment import augment, draw_orientation
from stradavit.views.emptiness import crop_is_empty, is_empty
from stradavit.views.pixels import Survey, without_nonsense
from stradavit.views.random import positions
from stradavit.views.resample import crop_and_resize

_UINT16_MAX = 65535
_MAD_TO_SIGMA = 1.4826
_SIGMA_MIN = 1e-6  # A background without scatter; every brighter pixel is then a peak.
_LEVELS = 4096


class TensorPixels:
    """See `stradavit.views.pixels.Pixels`.

    Parameters
    ----------
    images : (b, size, size) uint16 or float32
    """

    def __init__(self, images: Tensor) -> None:
        if images.dtype == torch.uint16:
            self.images = images.to(torch.float32).div_(_UINT16_MAX)
        else:
            self.images = without_nonsense(images)
        self.size_px = images.shape[-1]

    def survey(self, keys: Tensor, settings: AnchorSettings) -> Survey:
        """Tiles by their bands; the background by counting, a tenth of what selecting costs."""
        peaks = _tile_bands(self.images, settings.peak_grid).amax(dim=2)
        means = _tile_bands(self.images, settings.mean_grid).mean(dim=2)
        return Survey(
            _tile_bands(peaks.mT, settings.peak_grid).amax(dim=2).mT.flatten(1),
            _tile_bands(means.mT, settings.mean_grid).mean(dim=2).mT.flatten(1),
            *self._background(keys, settings),
        )

    def _background(self, keys: Tensor, settings: AnchorSettings) -> tuple[Tensor, Tensor]:
        samples = self.images.flatten(1)
        n_samples = settings.background_samples
        if samples.shape[1] > n_samples:
            samples = samples.gather(1, positions(keys, n_samples, samples.shape[1]))
        # Through int32: torch converts float straight to int64 one number at a time.
        levels = (samples * (_LEVELS - 1) + 0.5).int().long()
        counts = _histogram(levels, torch.ones_like(levels, dtype=torch.int32))
        n_faint = max(1, int(settings.background_fraction * samples.shape[1]))
        faint = counts.cumsum(dim=1, dtype=torch.int32).clamp_(max=n_faint)
        counts = faint.diff(dim=1, prepend=torch.zeros_like(faint[:, :1]))
        median = _lower_median(counts, n_faint)
        deviations = (torch.arange(_LEVELS, device=samples.device) - median).abs()
        deviation = _lower_median(_histogram(deviations, counts), n_faint)
        return from_levels(median[:, 0], deviation[:, 0])

    def brightest(self, corners: Tensor, side_px: int) -> Tensor:
        """(b, n, 2) brightest pixels of squares."""
        squares = self.images.unfold(1, side_px, 1).unfold(2, side_px, 1)
        each = torch.arange(len(self.images), device=corners.device)[:, None]
        place = squares[each, corners[..., 1], corners[..., 0]].flatten(2).argmax(dim=2)
        return corners + torch.stack((place % side_px, place // side_px), dim=2)

    def local_peaks(self, points: Tensor, window_px: int) -> Tensor:
        """(b, n) maxima of windows around points."""
        reach = torch.arange(window_px, device=points.device) - window_px // 2
        around = (points[..., None] + reach).clamp(0, self.size_px - 1)
        rows, columns = around[:, :, 1, :, None], around[:, :, 0, None, :]
        each = torch.arange(len(self.images), device=points.device)[:, None, None, None]
        return self.images[each, rows, columns].amax(dim=(2, 3))

    def first_informative(
        self, candidates: Tensor, side_px_max: int, bright_pixels: int, settings: EmptySettings
    ) -> Tensor:
        """(b, 4) first boxes that are not empty; all are tested, so nothing waits for a result."""
        *earlier, chosen = candidates.unbind(dim=1)
        for boxes in reversed(earlier):
            empty = crop_is_empty(self.images, boxes, side_px_max, bright_pixels, settings)
            chosen = torch.where(empty[:, None], chosen, boxes)
        return chosen

    def view(
        self,
        boxes: Tensor,
        side_px_max: int,
        keys: Tensor,
        operators: OperatorSettings,
        empty: EmptySettings,
        out: Tensor,
    ) -> Tensor:
        """Fill (b, out_px, out_px) views; (b,) whether they were empty."""
        orientation = draw_orientation(keys, operators)
        crop = crop_and_resize(self.images, boxes, out.shape[-1], side_px_max, orientation)
        out.copy_(augment(crop, keys, operators))
        return is_empty(crop, empty.bright_pixels_view, empty)


def from_levels(median: Tensor, deviation: Tensor) -> tuple[Tensor, Tensor]:
    """(b,) float32 background and sigma from (b,) int64 levels of the histogram."""
    unit = 1 / (_LEVELS - 1)
    sigma = (deviation * (_MAD_TO_SIGMA * unit)).clamp(min=_SIGMA_MIN)
    return (median * unit).float(), sigma.float()


def _histogram(levels: Tensor, counts: Tensor) -> Tensor:
    """(b, _LEVELS) int32 sums of the (b, n) int32 counts at the (b, n) int64 levels."""
    return counts.new_zeros(len(levels), _LEVELS).scatter_add_(1, levels, counts)


def _lower_median(counts: Tensor, total: int) -> Tensor:
    """(b, 1) int64 levels at which half of the `total` counts of (b, _LEVELS) is reached."""
    half = torch.full_like(counts[:, :1], (total + 1) // 2)
    return torch.searchsorted(counts.cumsum(dim=1, dtype=torch.int32), half)


def _tile_bands(images: Tensor, grid: int) -> Tensor:
    """(b, size, n) rows grouped by the tiles they belong to, (b, grid, tile side, n)."""
    starts, side = tile_starts(images.shape[1], grid, images.device)
    if images.shape[1] != grid * side:
        rows = starts[:, None] + torch.arange(side, device=images.device)
        images = images[:, rows.flatten()]
    return images.reshape(len(images), grid, side, images.shape[2])
