"""The six operators of Table 3, in its order (paper, section 6.1.1).

The `draw_` functions take the (b,) int64 keys of the views; each has its own stream, so switching
one operator off leaves the draws of the others alone. The others apply what was drawn to (b, n, n)
float32 views, on any device; `stradavit.views.kernels` does the same on the processor.
"""

import torch
from torch import Tensor

from stradavit.settings.views import OperatorSettings
from stradavit.views.random import Stream, fold, normals, uniforms
from stradavit.views.resample import Orientation, gather_rows, transposed, zoom_taps


def draw_orientation(keys: Tensor, settings: OperatorSettings) -> Orientation:
    """Operator 1: a rotation by k × 90°, k uniform or always 0, then a horizontal flip.

    A rotation by 90° (counter-clockwise) is a transposition and a flip of the rows, by 180° both
    flips, by 270° a transposition and a flip of the columns. Resampling applies it for free.
    """
    draws = uniforms(fold(keys, Stream.DIHEDRAL), 2)
    quarter_turns = (4 * draws[:, 0] * settings.quarter_turns).floor().long()
    flips = draws[:, 1] < settings.flip_probability
    return Orientation(
        is_transposed=quarter_turns % 2 == 1,
        flips_rows=(quarter_turns == 1) | (quarter_turns == 2),
        flips_columns=(quarter_turns >= 2) ^ flips,
    )


def augment(views: Tensor, keys: Tensor, settings: OperatorSettings) -> Tensor:
    """Operators 2 to 6 on views that are oriented already; (b, n, n) float32 in [0, 1]."""
    views = asinh_stretch(views.clamp(0, 1), keys, settings)
    views = affine_jitter(views, keys, settings)
    views = add_noise(views, keys, settings)
    if settings.bands_max:
        views = add_bands(views, keys, settings)
    return dim_background(views, keys, settings).clamp_(0, 1)


def draw_asinh(keys: Tensor, settings: OperatorSettings) -> tuple[Tensor, Tensor]:
    """Operator 2: (b,) bool, which views are stretched, and (b,) float64 strengths a."""
    draws = uniforms(fold(keys, Stream.ASINH), 2)
    low, high = settings.asinh_a
    return draws[:, 0] < settings.asinh_probability, low + (high - low) * draws[:, 1]


def asinh_stretch(views: Tensor, keys: Tensor, settings: OperatorSettings) -> Tensor:
    """Operator 2: asinh(a x) / asinh(a) with some probability, which lifts faint emission."""
    is_applied, a = draw_asinh(keys, settings)
    scaled = views * _per_view(a)
    # log(y + sqrt(y² + 1)) is asinh(y) for y >= 0, and torch's asinh is not vectorised.
    stretched = scaled.square().add_(1).sqrt_().add_(scaled).log_()
    stretched.mul_(_per_view(1 / a.asinh()))
    return torch.where(is_applied[:, None, None], stretched, views)


def draw_affine(keys: Tensor, settings: OperatorSettings, size_px: int) -> tuple[Tensor, Tensor]:
    """Operator 3: (b, 2) float64 shifts (x, y) by whole pixels and (b,) float64 zooms."""
    draws = 2 * uniforms(fold(keys, Stream.AFFINE), 3) - 1
    shift = (draws[:, :2] * (settings.translation * size_px) + 0.5).floor()
    return shift, 1 + settings.scale * draws[:, 2]


def affine_jitter(views: Tensor, keys: Tensor, settings: OperatorSettings) -> Tensor:
    """Operator 3: a shift by whole pixels and a zoom, bilinear, zeros from outside."""
    size = views.shape[-1]
    shift, scale = draw_affine(keys, settings, size)
    views = gather_rows(views, zoom_taps(shift[:, 1], scale, size))
    return transposed(gather_rows(transposed(views), zoom_taps(shift[:, 0], scale, size)))


def add_noise(views: Tensor, keys: Tensor, settings: OperatorSettings) -> Tensor:
    """Operator 4: independent Gaussian noise on every pixel."""
    noise = normals(fold(keys, Stream.NOISE), views[0].numel())
    return noise.view(views.shape).mul_(settings.noise_sigma).add_(views)


def draw_bands(keys: Tensor, settings: OperatorSettings, size_px: int) -> Tensor:
    """Operator 5: (b, 2, size_px) float32, what is added to each row and to each column."""
    width = max(1, int(settings.band_width * size_px))
    draws = uniforms(fold(keys, Stream.BANDS), 1 + 3 * settings.bands_max)
    count = 1 + (draws[:, 0] * settings.bands_max).floor()
    place = torch.arange(size_px, device=keys.device)
    profiles = torch.zeros(len(keys), 2, size_px, device=keys.device, dtype=torch.float64)
    for band in range(settings.bands_max):
        axis, start, offset = draws[:, 1 + 3 * band : 4 + 3 * band].unbind(dim=1)
        start = (start * (size_px - width + 1)).floor()[:, None]
        offset = (2 * offset - 1) * settings.band_offset * (band < count)
        stripe = ((place >= start) & (place < start + width)) * offset[:, None]
        is_horizontal = (axis < 0.5)[:, None]
        profiles += torch.stack((stripe * is_horizontal, stripe * ~is_horizontal), dim=1)
    return profiles.float()


def add_bands(views: Tensor, keys: Tensor, settings: OperatorSettings) -> Tensor:
    """Operator 5: one to `bands_max` horizontal or vertical stripes of constant offset."""
    rows, columns = draw_bands(keys, settings, views.shape[-1]).unbind(dim=1)
    return views + rows[:, :, None] + columns[:, None, :]


def draw_dimming(keys: Tensor, settings: OperatorSettings) -> Tensor:
    """Operator 6: (b,) float64 factors on the faint pixels, 1 where they are left alone."""
    draws = uniforms(fold(keys, Stream.FLUX), 2)
    low, high = settings.background_factor
    factor = low + (high - low) * draws[:, 1]
    return torch.where(draws[:, 0] < settings.background_probability, factor, 1.0)


def dim_background(views: Tensor, keys: Tensor, settings: OperatorSettings) -> Tensor:
    """Operator 6: with some probability one factor on all pixels below a threshold.

    The threshold is the view's mean plus a multiple of its (population) standard deviation.
    """
    factor = draw_dimming(keys, settings)
    mean = _mean(views)
    std = _mean((views - mean[:, None, None]).square_()).sqrt()
    threshold = mean + settings.background_threshold_std * std
    is_faint = (views < threshold[:, None, None]).float()
    # Arithmetic, not torch.where: a branch for every pixel of noise is ten times slower.
    return views * is_faint.mul_(_per_view(factor - 1)).add_(1)


def _mean(views: Tensor) -> Tensor:
    """(b,) means, by rows first: the order of summation must not depend on the batch."""
    return views.mean(dim=2).mean(dim=1)


def _per_view(values: Tensor) -> Tensor:
    return values.float()[:, None, None]
