"""The view generator one image at a time, from the paper's sections 6.1, 6.1.1, 7.1 and 7.1.1.

Slow and plain: numpy in float64, loops over tiles, tries, bands and pixels. Only the random numbers
are shared with the engine, drawn here for a batch of one; what they are used for is written anew.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch

from stradavit.settings.views import OperatorSettings, ViewSettings
from stradavit.views import random
from stradavit.views.random import Stream

LEVELS = 4096


@dataclass
class ReferenceView:
    pixels: np.ndarray  # (out, out)
    box: tuple[int, int, int, int]
    is_empty: bool
    near_threshold: np.ndarray  # (out, out) bool: rounding may put the pixel on either side


class Draws:
    """The random numbers of one cutout."""

    def __init__(self, seed: int, epoch: int, number: int, attempt: int) -> None:
        self.key = random.cutout_keys(seed, epoch, torch.tensor([number]), torch.tensor([attempt]))

    def _stream(self, stream: Stream, view: int | None) -> torch.Tensor:
        key = self.key
        if view is not None:
            key = random.fold(random.fold(key, Stream.VIEW), view)
        return random.fold(key, stream)

    def uniforms(self, stream: Stream, *shape: int, view: int | None = None) -> np.ndarray:
        return random.uniforms(self._stream(stream, view), *shape)[0].numpy()

    def normals(self, stream: Stream, count: int, view: int | None = None) -> np.ndarray:
        return random.normals(self._stream(stream, view), count)[0].double().numpy()

    def positions(self, stream: Stream, count: int, below: int) -> np.ndarray:
        return random.positions(self._stream(stream, None), count, below)[0].numpy()


def half_up(x: float) -> int:
    return int(np.floor(x + 0.5))


def lower_median(x: np.ndarray) -> float:
    return float(np.sort(x)[(len(x) - 1) // 2])


def tile(n: int, grid: int, size: int) -> slice:
    """Tile n of a grid; neighbours share a pixel row where the size is no multiple."""
    return slice(n * size // grid, n * size // grid + math.ceil(size / grid))


# ---------------------------------------------------------------- anchors


def background(image: np.ndarray, draws: Draws, settings: ViewSettings) -> tuple[float, float]:
    s = settings.anchors
    samples = image.ravel()
    if samples.size > s.background_samples:
        samples = samples[draws.positions(Stream.BACKGROUND, s.background_samples, samples.size)]
    levels = np.floor(samples * np.float32(LEVELS - 1) + np.float32(0.5)).astype(int)
    faint = np.sort(levels)[: max(1, int(s.background_fraction * len(levels)))]
    median = lower_median(faint)
    deviation = lower_median(np.abs(faint - median))
    return median / (LEVELS - 1), max(1e-6, 1.4826 * deviation / (LEVELS - 1))


def peak_anchors(image: np.ndarray, draws: Draws, settings: ViewSettings) -> list[tuple[int, int]]:
    s, size = settings.anchors, len(image)
    median, sigma = background(image, draws, settings)
    tiles = []
    for row in range(s.peak_grid):
        for column in range(s.peak_grid):
            rows, columns = tile(row, s.peak_grid, size), tile(column, s.peak_grid, size)
            pixels = image[rows, columns]
            y, x = np.unravel_index(pixels.argmax(), pixels.shape)
            z = (float(pixels.max()) - median) / sigma
            tiles.append((z, row, column, columns.start + int(x), rows.start + int(y)))
    tiles.sort(key=lambda t: -t[0])  # Stable: the first of equal tiles leads.
    kept: list[tuple[float, int, int, int, int]] = []
    for candidate in tiles:
        if len(kept) == s.peak_candidates or candidate[0] < s.peak_z_min:
            break
        apart = [max(abs(candidate[1] - k[1]), abs(candidate[2] - k[2])) for k in kept]
        if all(distance > s.peak_separation_tiles for distance in apart):
            kept.append(candidate)
    return [(x, y) for _, _, _, x, y in kept]


def mean_anchors(image: np.ndarray, settings: ViewSettings) -> list[tuple[int, int]]:
    s, size = settings.anchors, len(image)
    tiles = []
    for row in range(s.mean_grid):
        for column in range(s.mean_grid):
            pixels = image[tile(row, s.mean_grid, size), tile(column, s.mean_grid, size)]
            mean = float(np.abs(pixels.astype(np.float64)).mean())
            centre = (
                int((column + 0.5) * size / s.mean_grid),
                int((row + 0.5) * size / s.mean_grid),
            )
            tiles.append((mean, centre))
    tiles.sort(key=lambda t: -t[0])
    return [centre for _, centre in tiles[: s.mean_candidates]]


def local_peak(image: np.ndarray, x: int, y: int, window: int) -> float:
    r = window // 2
    return float(image[max(0, y - r) : y + r + 1, max(0, x - r) : x + r + 1].max())


def find_anchor(
    image: np.ndarray, draws: Draws, settings: ViewSettings
) -> tuple[tuple[int, int], bool]:
    s, size = settings.anchors, len(image)
    floor = np.float32(s.local_peak_fraction) * image.max()

    def survivors(anchors: list[tuple[int, int]]) -> list[tuple[int, int]]:
        return [a for a in anchors if local_peak(image, *a, s.local_peak_window_px) >= floor]

    peaks = survivors(peak_anchors(image, draws, settings))
    means = survivors(mean_anchors(image, settings))
    coin, pick = draws.uniforms(Stream.ANCHOR, 2)
    if not peaks and not means:
        y, x = np.unravel_index(image.argmax(), image.shape)
        return (int(x), int(y)), True
    chosen = means if means and coin < s.mean_probability else peaks
    if not chosen:
        return (size // 2, size // 2), False
    return chosen[int(pick * len(chosen))], False


# ---------------------------------------------------------------- crops


def nothing_to_see(pixels: np.ndarray, k: int, settings: ViewSettings) -> bool:
    s = settings.empty
    peak = pixels.max()
    return bool(peak <= s.peak_max) or int((pixels >= s.bright_share * peak).sum()) < k


def side_of(length: float, longest: int, settings: ViewSettings) -> int:
    return min(longest, max(settings.crops.side_px_min, half_up(length)))


def find_region(
    anchor: tuple[int, int], size: int, draws: Draws, settings: ViewSettings
) -> tuple[int, int, int]:
    low, high = settings.crops.roi_side
    u = draws.uniforms(Stream.REGION, 1)[0]
    side = side_of((low + (high - low) * u) * size, size, settings)
    x0, y0 = (min(max(0, half_up(a + 0.5 - side / 2)), size - side) for a in anchor)
    return x0, y0, side


def crop_around(
    anchor: tuple[int, int],
    roi: tuple[int, int, int],
    side_range: tuple[float, float],
    jitter: float,
    u: np.ndarray,
    settings: ViewSettings,
) -> tuple[int, int, int, int]:
    low, high = side_range
    *roi_corner, roi_side = roi
    side = side_of((low + (high - low) * u[0]) * roi_side, roi_side, settings)
    corner = []
    for axis in (0, 1):
        start = half_up(anchor[axis] + 0.5 + (2 * u[1 + axis] - 1) * jitter * side - side / 2)
        # The allowed starts keep the anchor in the crop and the crop in the region.
        first = max(roi_corner[axis], anchor[axis] - side + 1)
        last = min(roi_corner[axis] + roi_side - side, anchor[axis])
        corner.append(min(max(start, first), last))
    return corner[0], corner[1], corner[0] + side, corner[1] + side


def ioa(inner: tuple[int, int, int, int], outer: tuple[int, int, int, int]) -> float:
    width = max(0, min(inner[2], outer[2]) - max(inner[0], outer[0]))
    height = max(0, min(inner[3], outer[3]) - max(inner[1], outer[1]))
    return width * height / ((inner[2] - inner[0]) * (inner[3] - inner[1]))


def crop(image: np.ndarray, box: tuple[int, int, int, int]) -> np.ndarray:
    return image[box[1] : box[3], box[0] : box[2]]


def anchored_crop(
    image: np.ndarray,
    anchor: tuple[int, int],
    roi: tuple[int, int, int],
    side_range: tuple[float, float],
    draws: Draws,
    settings: ViewSettings,
) -> tuple[int, int, int, int]:
    tries = settings.empty.crop_tries
    for u in draws.uniforms(Stream.CROP, tries, 3, view=0):
        box = crop_around(anchor, roi, side_range, settings.crops.jitter_wide, u, settings)
        if not nothing_to_see(crop(image, box), settings.empty.bright_pixels_wide, settings):
            break
    return box


def overlapping_crop(
    image: np.ndarray,
    anchor: tuple[int, int],
    is_fallback: bool,
    roi: tuple[int, int, int],
    wide: tuple[int, int, int, int],
    draws: Draws,
    settings: ViewSettings,
) -> tuple[int, int, int, int]:
    s = settings.crops
    side_range = s.wide_side if is_fallback else s.additional_side
    shape = (settings.empty.crop_tries * s.ioa_tries, 3)
    numbers = draws.uniforms(Stream.CROP, *shape, view=1)
    for attempt in range(settings.empty.crop_tries):
        best, best_ioa = None, -1.0
        for u in numbers[attempt * s.ioa_tries : (attempt + 1) * s.ioa_tries]:
            box = crop_around(anchor, roi, side_range, s.jitter_additional, u, settings)
            if ioa(box, wide) > best_ioa:
                best, best_ioa = box, ioa(box, wide)
            if ioa(box, wide) >= s.ioa_min:
                best = box
                break
        if not nothing_to_see(crop(image, best), settings.empty.bright_pixels_additional, settings):
            break
    return best


# ---------------------------------------------------------------- pixels


def resize_rows(image: np.ndarray, out: int) -> np.ndarray:
    """Antialiased bilinear resize along axis 0: a triangle as wide as the larger pixel."""
    scale = len(image) / out
    reach = max(1.0, scale)
    rows = []
    for i in range(out):
        centre = (i + 0.5) * scale
        weights = np.array([max(0.0, 1 - abs(j + 0.5 - centre) / reach) for j in range(len(image))])
        rows.append(weights @ image / weights.sum())
    return np.array(rows)


def affine(image: np.ndarray, tx: int, ty: int, scale: float) -> np.ndarray:
    """Output pixel (y, x) reads the input at ((y, x) - centre - shift) / scale + centre."""
    n = len(image)
    middle = (n - 1) / 2
    out = np.zeros_like(image)
    for y in range(n):
        for x in range(n):
            sy = (y - middle - ty) / scale + middle
            sx = (x - middle - tx) / scale + middle
            for j in (int(np.floor(sy)), int(np.floor(sy)) + 1):
                for i in (int(np.floor(sx)), int(np.floor(sx)) + 1):
                    if 0 <= j < n and 0 <= i < n:
                        out[y, x] += (1 - abs(sy - j)) * (1 - abs(sx - i)) * image[j, i]
    return out


def augment(
    image: np.ndarray, s: OperatorSettings, draws: Draws, view: int
) -> tuple[np.ndarray, np.ndarray]:
    n = len(image)

    turn, flip = draws.uniforms(Stream.DIHEDRAL, 2, view=view)
    if s.quarter_turns:
        image = np.rot90(image, int(4 * turn))
    if flip < s.flip_probability:
        image = image[:, ::-1]

    coin, u = draws.uniforms(Stream.ASINH, 2, view=view)
    if coin < s.asinh_probability:
        a = s.asinh_a[0] + (s.asinh_a[1] - s.asinh_a[0]) * u
        image = np.arcsinh(a * np.clip(image, 0, 1)) / np.arcsinh(a)

    ux, uy, us = 2 * draws.uniforms(Stream.AFFINE, 3, view=view) - 1
    reach = s.translation * n
    image = affine(image, half_up(ux * reach), half_up(uy * reach), 1 + s.scale * us)

    image = image + s.noise_sigma * draws.normals(Stream.NOISE, n * n, view=view).reshape(n, n)

    if s.bands_max:
        u = draws.uniforms(Stream.BANDS, 1 + 3 * s.bands_max, view=view)
        width = max(1, int(s.band_width * n))
        for band in range(1 + int(u[0] * s.bands_max)):
            axis, place, offset = u[1 + 3 * band : 4 + 3 * band]
            start = int(place * (n - width + 1))
            offset = (2 * offset - 1) * s.band_offset
            if axis < 0.5:
                image[start : start + width, :] += offset
            else:
                image[:, start : start + width] += offset

    coin, u = draws.uniforms(Stream.FLUX, 2, view=view)
    near = np.zeros(image.shape, dtype=bool)
    if coin < s.background_probability:
        threshold = image.mean() + s.background_threshold_std * image.std()
        factor = s.background_factor[0] + (s.background_factor[1] - s.background_factor[0]) * u
        near = np.abs(image - threshold) < 1e-5
        image = np.where(image < threshold, factor * image, image)
    return np.clip(image, 0, 1), near


def render(
    image: np.ndarray,
    box: tuple[int, int, int, int],
    out_px: int,
    operators: OperatorSettings,
    draws: Draws,
    view: int,
    settings: ViewSettings,
) -> ReferenceView:
    resized = resize_rows(resize_rows(crop(image, box).astype(np.float64), out_px).T, out_px).T
    is_empty = nothing_to_see(resized, settings.empty.bright_pixels_view, settings)
    pixels, near = augment(resized, operators, draws, view)
    return ReferenceView(pixels, box, is_empty, near)


# ---------------------------------------------------------------- recipes


def reconstruction_view(
    image: np.ndarray, draws: Draws, settings: ViewSettings, out_px: int
) -> ReferenceView:
    size, s = len(image), settings.crops
    anchor, _ = find_anchor(image, draws, settings)
    if draws.uniforms(Stream.REGIME, 1)[0] < s.wide_probability:
        area, ux, uy = draws.uniforms(Stream.WIDE_FIELD, 3)
        share = s.wide_area[0] + (s.wide_area[1] - s.wide_area[0]) * area
        side = side_of(np.sqrt(share) * size, size, settings)
        x0, y0 = int(ux * (size - side + 1)), int(uy * (size - side + 1))
        box = (x0, y0, x0 + side, y0 + side)
    else:
        roi = find_region(anchor, size, draws, settings)
        box = anchored_crop(image, anchor, roi, s.tight_side, draws, settings)
    return render(image, box, out_px, settings.reconstruction, draws, 0, settings)


def contrastive_pair(
    image: np.ndarray, draws: Draws, settings: ViewSettings, out_px: int
) -> tuple[ReferenceView, ReferenceView]:
    anchor, is_fallback = find_anchor(image, draws, settings)
    roi = find_region(anchor, len(image), draws, settings)
    wide = anchored_crop(image, anchor, roi, settings.crops.wide_side, draws, settings)
    additional = overlapping_crop(image, anchor, is_fallback, roi, wide, draws, settings)
    return (
        render(image, wide, out_px, settings.contrastive_wide, draws, 0, settings),
        render(image, additional, out_px, settings.contrastive_additional, draws, 1, settings),
    )
