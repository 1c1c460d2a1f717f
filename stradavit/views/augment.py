"""The six operators of Table 3, in its order (paper, section 6.1.1).

Each function takes (b, n, n) float32 views and the (b,) int64 keys of the views and draws from its
own stream, so switching one operator off leaves the draws of the others alone.
"""

import torch
from torch import Tensor

from stradavit.settings.views import OperatorSettings
from stradavit.views.random import Stream, fold, normals, uniforms
from stradavit.views.resample import Orientation, gather_rows, transposed, zoom_taps


def draw_orientation(keys: Tensor, settings: OperatorSettings) -> Orientation:
    """Operator 1: a rotation by k × 90°, k uniform, then a horizontal flip.

    A rotation by 90° (counter-clockwise) is a transposition and a flip of the rows, by 180° both
    flips, by 270° a transposition and a flip of the columns. Resampling applies it for free.
    """
    draws = uniforms(fold(keys, Stream.DIHEDRAL), 2)
    quarter_turns = (4 * draws[:, 0]).floor().long()
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


def asinh_stretch(views: Tensor, keys: Tensor, settings: OperatorSettings) -> Tensor:
    """Operator 2: asinh(a x) / asinh(a) with some probability, which lifts faint emission."""
    draws = uniforms(fold(keys, Stream.ASINH), 2)
    is_applied = draws[:, 0] < settings.asinh_probability
    low, high = settings.asinh_a
    a = low + (high - low) * draws[:, 1]
    scaled = views * _per_view(a)
    # log(y + sqrt(y² + 1)) is asinh(y) for y >= 0, and torch's asinh is not vectorised.
    stretched = scaled.square().add_(1).sqrt_().add_(scaled).log_()
    stretched.mul_(_per_view(1 / a.asinh()))
    return torch.where(is_applied[:, None, None], stretched, views)


def affine_jitter(views: Tensor, keys: Tensor, settings: OperatorSettings) -> Tensor:
    """Operator 3: a shift by whole pixels and a zoom, bilinear, zeros from outside."""
    size = views.shape[-1]
    draws = 2 * uniforms(fold(keys, Stream.AFFINE), 3) - 1
    shift = (draws[:, :2] * (settings.translation * size) + 0.5).floor()
    scale = 1 + settings.scale * draws[:, 2]
    views = gather_rows(views, zoom_taps(shift[:, 1], scale, size))
    return transposed(gather_rows(transposed(views), zoom_taps(shift[:, 0], scale, size)))


def add_noise(views: Tensor, keys: Tensor, settings: OperatorSettings) -> Tensor:
    """Operator 4: independent Gaussian noise on every pixel."""
    noise = normals(fold(keys, Stream.NOISE), views[0].numel())
    return noise.view(views.shape).mul_(settings.noise_sigma).add_(views)


def add_bands(views: Tensor, keys: Tensor, settings: OperatorSettings) -> Tensor:
    """Operator 5: one to `bands_max` horizontal or vertical stripes of constant offset."""
    size = views.shape[-1]
    width = max(1, int(settings.band_width * size))
    stream = fold(keys, Stream.BANDS)
    draws = uniforms(stream, 1 + 3 * settings.bands_max)
    count = 1 + (draws[:, 0] * settings.bands_max).floor()
    place = torch.arange(size, device=views.device)
    # (b, 2, n): what is added to each row and to each column.
    profiles = torch.zeros(len(views), 2, size, device=views.device, dtype=torch.float64)
    for band in range(settings.bands_max):
        axis, start, offset = draws[:, 1 + 3 * band : 4 + 3 * band].unbind(dim=1)
        start = (start * (size - width + 1)).floor()[:, None]
        offset = (2 * offset - 1) * settings.band_offset * (band < count)
        stripe = ((place >= start) & (place < start + width)) * offset[:, None]
        is_horizontal = (axis < 0.5)[:, None]
        profiles += torch.stack((stripe * is_horizontal, stripe * ~is_horizontal), dim=1)
    rows, columns = profiles.float().unbind(dim=1)
    return views + rows[:, :, None] + columns[:, None, :]


def dim_background(views: Tensor, keys: Tensor, settings: OperatorSettings) -> Tensor:
    """Operator 6: with some probability one factor on all pixels below a threshold.

    The threshold is the view's mean plus a multiple of its (population) standard deviation.
    """
    draws = uniforms(fold(keys, Stream.FLUX), 2)
    low, high = settings.background_factor
    factor = low + (high - low) * draws[:, 1]
    factor = torch.where(draws[:, 0] < settings.background_probability, factor, 1.0)
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
