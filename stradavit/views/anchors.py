"""Anchors: the pixels of a cutout that views are placed around (paper, section 6.1)."""

from typing import NamedTuple

import torch
from torch import Tensor

from stradavit.settings.views import AnchorSettings
from stradavit.views.pixels import Pixels, Survey
from stradavit.views.random import Stream, fold, uniforms


class Anchors(NamedTuple):
    """One anchor for each cutout."""

    points: Tensor  # (b, 2) int64, pixel (x, y)
    is_fallback: Tensor  # (b,) bool, no candidate survived: the cutout's brightest pixel


class _Candidates(NamedTuple):
    points: Tensor  # (b, n, 2) int64, pixel (x, y)
    is_valid: Tensor  # (b, n) bool


def find_anchors(pixels: Pixels, keys: Tensor, settings: AnchorSettings) -> Anchors:
    """Propose peaks and bright tiles, drop the faint ones, draw one of the rest.

    Parameters
    ----------
    pixels : of the b cutouts
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
    seen = pixels.survey(fold(keys, Stream.BACKGROUND), settings)
    peaks = _peak_candidates(pixels, seen, settings)
    means = _mean_candidates(pixels.size_px, seen.means, settings)

    both = torch.cat((peaks.points, means.points), dim=1)
    floor = settings.local_peak_fraction * seen.peaks.amax(dim=1)
    is_bright = pixels.local_peaks(both, settings.local_peak_window_px) >= floor[:, None]
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
    points = torch.where(use_centre[:, None], pixels.size_px // 2, points)
    is_fallback = ~has_means & ~has_peaks
    return Anchors(torch.where(is_fallback[:, None], peaks.points[:, 0], points), is_fallback)


def _peak_candidates(pixels: Pixels, seen: Survey, settings: AnchorSettings) -> _Candidates:
    """The highest tiles, greedily, each more than the separation from those before.

    The first candidate, valid or not, is the brightest pixel.
    """
    grid = settings.peak_grid
    tile = torch.arange(grid * grid, device=seen.peaks.device)
    row, column = tile // grid, tile % grid
    remaining = seen.peaks
    chosen, is_valid = [], []
    for _ in range(settings.peak_candidates):
        height, best = remaining.max(dim=1)
        chosen.append(best)
        is_valid.append((height - seen.background) / seen.sigma >= settings.peak_z_min)
        distance = torch.maximum(
            (row - row[best][:, None]).abs(), (column - column[best][:, None]).abs()
        )
        remaining = remaining.masked_fill(distance <= settings.peak_separation_tiles, -torch.inf)
    tiles = torch.stack(chosen, dim=1)
    starts, side = tile_starts(pixels.size_px, grid, tiles.device)
    corners = starts[torch.stack((tiles % grid, tiles // grid), dim=2)]
    return _Candidates(pixels.brightest(corners, side), torch.stack(is_valid, dim=1))


def _mean_candidates(size_px: int, means: Tensor, settings: AnchorSettings) -> _Candidates:
    """Centres of the tiles of highest mean; pixels are not negative, so no absolute value."""
    grid = settings.mean_grid
    tiles = means.topk(min(settings.mean_candidates, grid * grid), dim=1).indices
    tile_xy = torch.stack((tiles % grid, tiles // grid), dim=2)
    points = (2 * tile_xy + 1) * size_px // (2 * grid)
    return _Candidates(points, torch.ones_like(tiles, dtype=torch.bool))


def tile_starts(size_px: int, grid: int, device: torch.device) -> tuple[Tensor, int]:
    """First pixel of each tile along an axis, and the side all tiles have.

    Where the size is no multiple of the grid, neighbouring tiles overlap by a pixel.
    """
    return torch.arange(grid, device=device) * size_px // grid, -(-size_px // grid)


def _draw_valid(points: Tensor, is_valid: Tensor, draw: Tensor) -> Tensor:
    """One of the valid points of each sample, uniformly; any point where none is valid."""
    place = (draw * is_valid.sum(dim=1)).floor()
    is_chosen = is_valid & (is_valid.cumsum(dim=1) > place[:, None])
    chosen = is_chosen.int().argmax(dim=1)
    return points.gather(1, chosen[:, None, None].expand(-1, 1, 2))[:, 0]
