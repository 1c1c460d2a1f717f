"""Pixels as compiled loops over one cutout or view at a time, on the processor.

Threads take whole cutouts, so their number changes no result.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stradavit.settings.views import AnchorSettings, EmptySettings, OperatorSettings
from stradavit.views import kernels
from stradavit.views.augment import (
    draw_affine,
    draw_asinh,
    draw_bands,
    draw_dimming,
    draw_orientation,
)
from stradavit.views.pixels import Survey, without_nonsense
from stradavit.views.random import Stream, fold, quantiles
from stradavit.views.tensors import from_levels


class LoopPixels:
    """See `stradavit.views.pixels.Pixels`.

    Parameters
    ----------
    images : (b, size, size) uint16 or float32, on the processor
    """

    def __init__(self, images: Tensor) -> None:
        is_stored = images.dtype == torch.uint16
        self.size_px = images.shape[-1]
        self._unit = np.float32(65535 if is_stored else 1)
        images = images if is_stored else without_nonsense(images)
        self._images: NDArray[Any] = images.contiguous().numpy()
        self._threads = torch.get_num_threads()

    def survey(self, keys: Tensor, settings: AnchorSettings) -> Survey:
        """All at once, while a cutout is in the cache."""
        count = len(keys)
        peaks = torch.empty(count, settings.peak_grid**2)
        means = torch.empty(count, settings.mean_grid**2)
        levels = torch.empty(count, 2, dtype=torch.int64)
        self._over_threads(
            kernels.all_surveys,
            count,
            self._images,
            self._unit,
            _unsigned(keys),
            settings.peak_grid,
            settings.mean_grid,
            settings.background_samples,
            settings.background_fraction,
            peaks.numpy(),
            means.numpy(),
            levels.numpy(),
        )
        return Survey(peaks, means, *from_levels(levels[:, 0], levels[:, 1]))

    def brightest(self, corners: Tensor, side_px: int) -> Tensor:
        """(b, n, 2) brightest pixels of squares."""
        found = torch.empty_like(corners)
        kernels.all_brightest(self._images, corners.numpy(), side_px, found.numpy())
        return found

    def local_peaks(self, points: Tensor, window_px: int) -> Tensor:
        """(b, n) maxima of windows around points."""
        found = torch.empty(points.shape[:2])
        kernels.all_local_peaks(
            self._images, self._unit, points.numpy(), window_px // 2, found.numpy()
        )
        return found

    def first_informative(
        self, candidates: Tensor, side_px_max: int, bright_pixels: int, settings: EmptySettings
    ) -> Tensor:
        """(b, 4) first boxes that are not empty; none is tested after one has been found."""
        chosen = torch.empty(len(candidates), 4, dtype=torch.int64)
        self._over_threads(
            kernels.all_first_informative,
            len(candidates),
            self._images,
            self._unit,
            candidates.numpy(),
            settings.peak_max,
            np.float32(settings.bright_share),
            bright_pixels,
            chosen.numpy(),
        )
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
        is_blank = torch.empty(len(boxes), dtype=torch.bool)
        self._over_threads(
            kernels.all_views,
            len(boxes),
            self._images,
            self._unit,
            boxes.contiguous().numpy(),
            _drawn(keys, operators, out.shape[-1]),
            _quantiles(),
            empty.peak_max,
            np.float32(empty.bright_share),
            empty.bright_pixels_view,
            out.numpy(),
            is_blank.numpy(),
        )
        return is_blank

    def _over_threads(self, loop: Callable[..., None], count: int, *args: Any) -> None:
        """Call `loop(begin, end, *args)` on parts of range(count), one to a thread."""
        threads = min(self._threads, count)
        if threads < 2:
            loop(0, count, *args)
            return
        edges = [count * part // threads for part in range(threads + 1)]
        # The compiled loops do not hold the interpreter's lock.
        parts = _threads(threads, os.getpid()).map(
            lambda begin, end: loop(begin, end, *args), edges[:-1], edges[1:]
        )
        for _ in parts:  # raises what was raised in a thread
            pass


def _drawn(keys: Tensor, operators: OperatorSettings, out_px: int) -> kernels.Draws:
    turned, flips_rows, flips_columns = draw_orientation(keys, operators)
    is_stretched, a = draw_asinh(keys, operators)
    shift, zoom = draw_affine(keys, operators, out_px)
    bands = torch.empty(len(keys), 2, 0)
    if operators.bands_max:
        bands = draw_bands(keys, operators, out_px)
    return kernels.Draws(
        # Flips after a transposition are flips of the other axis before it.
        flips_y=torch.where(turned, flips_columns, flips_rows).numpy(),
        flips_x=torch.where(turned, flips_rows, flips_columns).numpy(),
        is_transposed=turned.numpy(),
        asinh_a=(a * is_stretched).float().numpy(),
        asinh_scale=(1 / a.asinh()).float().numpy(),
        shift=shift.contiguous().numpy(),
        zoom=zoom.numpy(),
        noise_keys=_unsigned(fold(keys, Stream.NOISE)),
        noise_sigma=np.float32(operators.noise_sigma),
        bands=bands.numpy(),
        dimming=(draw_dimming(keys, operators) - 1).float().numpy(),
        threshold_std=np.float32(operators.background_threshold_std),
    )


def _unsigned(keys: Tensor) -> NDArray[np.uint64]:
    unsigned: NDArray[np.uint64] = keys.contiguous().numpy().view(np.uint64)
    return unsigned


@cache
def _quantiles() -> NDArray[np.float32]:
    table: NDArray[np.float32] = quantiles(torch.device("cpu")).numpy()
    return table


@cache
def _threads(count: int, process: int) -> ThreadPoolExecutor:
    """Threads of this very process: a fork inherits none."""
    return ThreadPoolExecutor(count, thread_name_prefix="views")
