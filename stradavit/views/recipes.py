"""The two recipes: one reconstruction view, or a contrastive pair, from every cutout of a batch.

What is drawn, and where crops lie, is decided here in small tensors where the cutouts lie, without
ever waiting for a value, so a device is not stalled; `stradavit.views.pixels` does what touches
pixels. Replicating to three channels and normalising are left to the model's input.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from stradavit.settings.views import OperatorSettings, ViewSettings
from stradavit.views.anchors import Anchors, find_anchors
from stradavit.views.crops import (
    crops_around,
    first_overlapping,
    largest_crop_px,
    region,
    wide_field,
)
from stradavit.views.pixels import Pixels, pixels_of
from stradavit.views.random import Stream, cutout_keys, fold, uniforms


@dataclass(frozen=True)
class Views:
    """Views of a batch of b cutouts.

    Attributes
    ----------
    pixels : (views, b, 1, out_px, out_px) float32 tensor in [0, 1], not normalised
    is_empty : (b,) bool tensor; some view of the cutout shows nothing, draw another cutout
    boxes : (views, b, 4) float32 tensor, (x0, y0, x1, y1) of the crops in cutout pixels
    anchors : (b, 2) float32 tensor, pixel (x, y) of the cutout
    """

    pixels: Tensor
    is_empty: Tensor
    boxes: Tensor
    anchors: Tensor


@torch.no_grad()
def reconstruction_views(
    cutouts: Tensor,
    numbers: Tensor,
    epoch: int,
    seed: int,
    settings: ViewSettings,
    out_px: int,
    attempt: Tensor | None = None,
) -> Views:
    """One view of each cutout: wide-field, or tight around an anchor (paper, section 6.1).

    Parameters
    ----------
    cutouts : (b, 1, size, size) tensor, float32 in [0, 1] or uint16 in units of 1/65535. A float
        that is not finite counts as 0, as in the stretch.
    numbers : (b,) int64 tensor, numbers of the cutouts in the corpus. A cutout that replaces an
        empty one keeps the number of the slot it fills.
    epoch, seed : with `numbers` and `attempt` they decide every random draw
    settings : ViewSettings
    out_px : side of the views
    attempt : (b,) int64 tensor, how often the slot was refilled; None is zeros

    Returns
    -------
    Views, with one view

    Raises
    ------
    ValueError
        If the cutouts are no batch of square, single-channel images of float32 or uint16, or
        `numbers` or `attempt` do not fit them.

    Notes
    -----
    Only the tight crop is retried while it is empty: a wide-field crop has nowhere else to look.
    """
    pixels = pixels_of(cutouts)
    with _undivided(cutouts.device):
        scene = _look(pixels, cutouts, numbers, epoch, seed, settings, attempt)
        crops, size_px = settings.crops, pixels.size_px
        tight, _ = _anchored_crop(scene, 0, crops.tight_side)
        wide = wide_field(fold(scene.keys, Stream.WIDE_FIELD), size_px, crops)
        is_wide = uniforms(fold(scene.keys, Stream.REGIME), 1) < crops.wide_probability
        boxes = torch.where(is_wide, wide, tight)
        return _render(scene, [boxes], [size_px], [settings.reconstruction], out_px)


@torch.no_grad()
def contrastive_views(
    cutouts: Tensor,
    numbers: Tensor,
    epoch: int,
    seed: int,
    settings: ViewSettings,
    out_px: int,
    attempt: Tensor | None = None,
) -> Views:
    """A wide and an additional view of each cutout, tied to one anchor (paper, section 7.1).

    The additional view lies mostly inside the wide one (equation 7). Around a fallback anchor its
    side has the range of the wide view's. Parameters and errors as for `reconstruction_views`.

    Returns
    -------
    Views, with two views: wide, additional
    """
    pixels = pixels_of(cutouts)
    with _undivided(cutouts.device):
        scene = _look(pixels, cutouts, numbers, epoch, seed, settings, attempt)
        wide, wide_px = _anchored_crop(scene, 0, settings.crops.wide_side)
        additional, additional_px = _overlapping_crop(scene, 1, wide)
        return _render(
            scene,
            [wide, additional],
            [wide_px, additional_px],
            [settings.contrastive_wide, settings.contrastive_additional],
            out_px,
        )


@dataclass(frozen=True)
class _Scene:
    """What all views of a cutout share."""

    pixels: Pixels
    keys: Tensor  # (b,) int64
    anchors: Anchors
    regions: Tensor  # (b, 4) int64
    settings: ViewSettings

    def view_keys(self, view: int) -> Tensor:
        return fold(fold(self.keys, Stream.VIEW), view)


@contextmanager
def _undivided(device: torch.device) -> Iterator[None]:
    """Keep a processor's small operations in one thread.

    Drawing takes hundreds of operations on a few thousand numbers. Shared among threads, some of
    them wait longer for each other than all views take. Loops over pixels have their own threads.
    """
    threads = torch.get_num_threads()
    if device.type != "cpu" or threads == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _look(
    pixels: Pixels,
    cutouts: Tensor,
    numbers: Tensor,
    epoch: int,
    seed: int,
    settings: ViewSettings,
    attempt: Tensor | None,
) -> _Scene:
    for name, value in (("numbers", numbers), ("attempt", attempt)):
        if value is not None and (value.shape != cutouts.shape[:1] or value.dtype != torch.int64):
            raise ValueError(
                f"{name} is {tuple(value.shape)} of {value.dtype}; expected one int64 for each "
                f"of the {len(cutouts)} cutouts"
            )
    keys = cutout_keys(seed, epoch, numbers, attempt)
    anchors = find_anchors(pixels, keys, settings.anchors)
    regions = region(fold(keys, Stream.REGION), anchors.points, pixels.size_px, settings.crops)
    return _Scene(pixels, keys, anchors, regions, settings)


def _anchored_crop(scene: _Scene, view: int, side_range: tuple[float, float]) -> tuple[Tensor, int]:
    """A crop around the anchor that is not empty, (b, 4), and the largest side it can have."""
    crops, empty = scene.settings.crops, scene.settings.empty
    side_px_max = largest_crop_px(scene.pixels.size_px, side_range[1], crops)
    candidates = crops_around(
        fold(scene.view_keys(view), Stream.CROP),
        empty.crop_tries,
        scene.anchors.points,
        scene.regions,
        side_range,
        crops.jitter_wide,
        crops,
    )
    chosen = scene.pixels.first_informative(
        candidates, side_px_max, empty.bright_pixels_wide, empty
    )
    return chosen, side_px_max


def _overlapping_crop(scene: _Scene, view: int, wide: Tensor) -> tuple[Tensor, int]:
    """The same for the additional view: most of it lies in the (b, 4) wide crop."""
    crops, empty = scene.settings.crops, scene.settings.empty
    is_fallback = scene.anchors.is_fallback[:, None]
    low, high = (
        torch.where(is_fallback, at_fallback, usual).double()
        for at_fallback, usual in zip(crops.wide_side, crops.additional_side, strict=True)
    )
    side_px_max = largest_crop_px(
        scene.pixels.size_px, max(crops.wide_side[1], crops.additional_side[1]), crops
    )
    placements = crops_around(
        fold(scene.view_keys(view), Stream.CROP),
        empty.crop_tries * crops.ioa_tries,
        scene.anchors.points,
        scene.regions,
        (low, high),
        crops.jitter_additional,
        crops,
    )
    candidates = first_overlapping(
        placements.view(-1, empty.crop_tries, crops.ioa_tries, 4), wide, crops.ioa_min
    )
    chosen = scene.pixels.first_informative(
        candidates, side_px_max, empty.bright_pixels_additional, empty
    )
    return chosen, side_px_max


def _render(
    scene: _Scene,
    boxes: list[Tensor],
    side_px_max: list[int],
    operators: list[OperatorSettings],
    out_px: int,
) -> Views:
    pixels = scene.anchors.points.new_empty(
        (len(boxes), len(scene.keys), out_px, out_px), dtype=torch.float32
    )
    blanks = []
    for view, (box, side_px, each) in enumerate(zip(boxes, side_px_max, operators, strict=True)):
        keys, empty = scene.view_keys(view), scene.settings.empty
        blanks.append(scene.pixels.view(box, side_px, keys, each, empty, out=pixels[view]))
    return Views(
        pixels=pixels[:, :, None],
        is_empty=torch.stack(blanks).any(dim=0),
        boxes=torch.stack(boxes).float(),
        anchors=scene.anchors.points.float(),
    )
