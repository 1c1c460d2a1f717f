"""Anchors: the pixels of a cutout that views are placed around (paper, section 6.1)."""

from typing import NamedTuple

import torch
from torch import Tensor

from stradavit.settings.views import AnchorSettings
from stradavit.views.random import Stream, fold, positions, uniforms

_MAD_TO_SIGMA = 1.4826
_SIGMA_MIN = 1e-6  # A background without scatter; every brighter pixel is then a peak.
_LEVELS = 4096


class Anchors(NamedTuple):
    """One anchor for each cutout."""

    points: Tensor  # (b, 2) int64, pixel (x, y)
    is_fallback: Tensor  # (b,) bool, no candidate survived: the cutout's brightest pixel


class _Candidates(NamedTuple):
    points: Tensor  # (b, n, 2) int64, pixel (x, y)
    is_valid: Tensor  # (b, n) bool


def find_anchors(images: Tensor, keys: Tensor, settings: AnchorSettings) -> Anchors:
    """Propose peaks and bright tiles, drop the faint ones, draw one of the rest.

    Parameters
    ----------
    images : (b, size, size) float32 tensor in [0, 1]
    keys : (b,) int64 tensor, keys of the cutouts

    Returns
    -------
    Anchors

    Notes
    -----
    The set is drawn first: the mean set with `mean_probability` if it has survivors, else the peak
    set. If the peak set was drawn while only the mean set has survivors, the anchor is the
    cutout's centre; if neither has, it is the cutout's brightest pixel.
    """
    size = images.shape[-1]
    background, sigma = estimate_background(images, fold(keys, Stream.BACKGROUND), settings)
    peaks, brightest_peak = _peak_candidates(images, background, sigma, settings)
    means = _mean_candidates(images, settings)

    both = torch.cat((peaks.points, means.points), dim=1)
    floor = settings.local_peak_fraction * brightest_peak
    is_bright = _local_peaks(images, both, settings.local_peak_window_px) >= floor[:, None]
    n_peaks = peaks.points.shape[1]
    peaks_valid = peaks.is_valid & is_bright[:, :n_peaks]
    means_valid = is_bright[:, n_peaks:]

    draws = uniforms(fold(keys, Stream.ANCHOR), 2)
    has_peaks, has_means = peaks_valid.any(dim=1), means_valid.any(dim=1)
    use_means = has_means & (draws[:, 0] < settings.mean_probability)
    points = torch.where(
        use_means[:, None],
        _draw_valid(means.points, means_valid, draws[:, 1]),
        _draw_valid(peaks.points, peaks_valid, draws[:, 1]),
    )
    use_centre = has_means & ~use_means & ~has_peaks
    points = torch.where(use_centre[:, None], size // 2, points)
    is_fallback = ~has_means & ~has_peaks
    return Anchors(torch.where(is_fallback[:, None], peaks.points[:, 0], points), is_fallback)


def estimate_background(
    images: Tensor, keys: Tensor, settings: AnchorSettings
) -> tuple[Tensor, Tensor]:
    """Median and scaled median absolute deviation of the faintest pixels.

    Both are read off a histogram of 4096 levels. Selecting by value costs ten times as much, and
    half a level is below the scatter that taking a subset causes.

    Parameters
    ----------
    images : (b, size, size) float32 tensor in [0, 1]
    keys : (b,) int64 tensor; they choose `background_samples` pixels, with replacement. Smaller
        cutouts are used whole.

    Returns
    -------
    background, sigma : (b,) float32 tensors; of an even number of pixels the lower median is taken
    """
    samples = images.flatten(1)
    if samples.shape[1] > settings.background_samples:
        samples = samples.gather(1, positions(keys, settings.background_samples, samples.shape[1]))
    # Through int32: torch converts float straight to int64 one number at a time.
    levels = (samples * (_LEVELS - 1) + 0.5).int().long()
    counts = _histogram(levels, torch.ones_like(levels, dtype=torch.int32))
    n_faint = max(1, int(settings.background_fraction * samples.shape[1]))
    faint = counts.cumsum(dim=1, dtype=torch.int32).clamp_(max=n_faint)
    counts = faint.diff(dim=1, prepend=torch.zeros_like(faint[:, :1]))
    median = _lower_median(counts, n_faint)
    deviations = (torch.arange(_LEVELS, device=images.device) - median).abs()
    deviation = _lower_median(_histogram(deviations, counts), n_faint)
    unit = 1 / (_LEVELS - 1)
    sigma = (deviation[:, 0] * (_MAD_TO_SIGMA * unit)).clamp(min=_SIGMA_MIN)
    return (median[:, 0] * unit).float(), sigma.float()


def _histogram(levels: Tensor, counts: Tensor) -> Tensor:
    """(b, _LEVELS) int32 sums of the (b, n) int32 counts at the (b, n) int64 levels."""
    return counts.new_zeros(len(levels), _LEVELS).scatter_add_(1, levels, counts)


def _lower_median(counts: Tensor, total: int) -> Tensor:
    """(b, 1) int64 levels at which half of the `total` counts of (b, _LEVELS) is reached."""
    half = torch.full_like(counts[:, :1], (total + 1) // 2)
    return torch.searchsorted(counts.cumsum(dim=1, dtype=torch.int32), half)


def _peak_candidates(
    images: Tensor, background: Tensor, sigma: Tensor, settings: AnchorSettings
) -> tuple[_Candidates, Tensor]:
    """The highest tiles, greedily, each more than the separation from those before.

    The first candidate, valid or not, is the brightest pixel; its (b,) value is returned beside.
    """
    grid = settings.peak_grid
    bands = _tile_bands(images, grid).amax(dim=2)
    heights = _tile_bands(bands.mT, grid).amax(dim=2).mT.flatten(1)
    tile = torch.arange(grid * grid, device=images.device)
    row, column = tile // grid, tile % grid
    remaining = heights
    chosen, is_valid = [], []
    for _ in range(settings.peak_candidates):
        height, best = remaining.max(dim=1)
        chosen.append(best)
        is_valid.append((height - background) / sigma >= settings.peak_z_min)
        distance = torch.maximum(
            (row - row[best][:, None]).abs(), (column - column[best][:, None]).abs()
        )
        remaining = remaining.masked_fill(distance <= settings.peak_separation_tiles, -torch.inf)
    tiles = torch.stack(chosen, dim=1)
    starts, side = _tile_starts(images.shape[-1], grid, images.device)
    corners = starts[torch.stack((tiles % grid, tiles // grid), dim=2)]
    points = corners + _brightest_pixels(images, corners, side)
    return _Candidates(points, torch.stack(is_valid, dim=1)), heights.amax(dim=1)


def _mean_candidates(images: Tensor, settings: AnchorSettings) -> _Candidates:
    """Centres of the tiles of highest mean; pixels are not negative, so no absolute value."""
    grid, size = settings.mean_grid, images.shape[-1]
    bands = _tile_bands(images, grid).mean(dim=2)
    means = _tile_bands(bands.mT, grid).mean(dim=2).mT.flatten(1)
    tiles = means.topk(min(settings.mean_candidates, grid * grid), dim=1).indices
    tile_xy = torch.stack((tiles % grid, tiles // grid), dim=2)
    points = (2 * tile_xy + 1) * size // (2 * grid)
    return _Candidates(points, torch.ones_like(tiles, dtype=torch.bool))


def _tile_starts(size_px: int, grid: int, device: torch.device) -> tuple[Tensor, int]:
    """First pixel of each tile along an axis, and the side all tiles have.

    Where the size is no multiple of the grid, neighbouring tiles overlap by a pixel.
    """
    return torch.arange(grid, device=device) * size_px // grid, -(-size_px // grid)


def _tile_bands(images: Tensor, grid: int) -> Tensor:
    """(b, size, n) rows grouped by the tiles they belong to, (b, grid, tile side, n)."""
    starts, side = _tile_starts(images.shape[1], grid, images.device)
    if images.shape[1] != grid * side:
        rows = starts[:, None] + torch.arange(side, device=images.device)
        images = images[:, rows.flatten()]
    return images.reshape(len(images), grid, side, images.shape[2])


def _brightest_pixels(images: Tensor, corners: Tensor, side_px: int) -> Tensor:
    """(b, n, 2) places, from their (b, n, 2) corners, of the maxima of squares of one side."""
    squares = images.unfold(1, side_px, 1).unfold(2, side_px, 1)
    each = torch.arange(len(images), device=images.device)[:, None]
    place = squares[each, corners[..., 1], corners[..., 0]].flatten(2).argmax(dim=2)
    return torch.stack((place % side_px, place // side_px), dim=2)


def _local_peaks(images: Tensor, points: Tensor, window_px: int) -> Tensor:
    """(b, n) maxima of the windows around (b, n, 2) points, cut at the image's edge."""
    reach = torch.arange(window_px, device=images.device) - window_px // 2
    around = (points[..., None] + reach).clamp(0, images.shape[-1] - 1)
    rows, columns = around[:, :, 1, :, None], around[:, :, 0, None, :]
    each = torch.arange(len(images), device=images.device)[:, None, None, None]
    return images[each, rows, columns].amax(dim=(2, 3))


def _draw_valid(points: Tensor, is_valid: Tensor, draw: Tensor) -> Tensor:
    """One of the valid points of each sample, uniformly; any point where none is valid."""
    place = (draw * is_valid.sum(dim=1)).floor()
    is_chosen = is_valid & (is_valid.cumsum(dim=1) > place[:, None])
    chosen = is_chosen.int().argmax(dim=1)
    return points.gather(1, chosen[:, None, None].expand(-1, 1, 2))[:, 0]
