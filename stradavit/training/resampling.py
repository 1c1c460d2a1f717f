"""Views of a micro-batch, with another cutout where nothing can be seen (paper, section 7.1.1)."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from stradavit.cutouts.corpus import Corpus
from stradavit.training.loader import read_cutouts
from stradavit.training.sampler import MicroBatch, replacements
from stradavit.views.recipes import Views

# (cutouts, slots, epoch, attempt=attempt) to views; settings, seed and size are bound already.
Recipe = Callable[..., Views]


@dataclass(frozen=True)
class DrawnViews:
    """Views of a micro-batch and the cutouts they really show.

    Attributes
    ----------
    pixels : (views, b, 1, out_px, out_px) float32 in [0, 1]
    slots : (b,) int64, the cutouts the plan asked for; every random draw is keyed by them
    numbers : (b,) int64, the cutouts that are shown; equal to `slots` but for replacements
    n_resampled : replacements made
    n_still_empty : slots whose last replacement is empty as well; it is kept
    """

    pixels: Tensor
    slots: Tensor
    numbers: Tensor
    n_resampled: int
    n_still_empty: int


def draw_views(
    recipe: Recipe,
    corpus: Corpus,
    batch: MicroBatch,
    cutouts: Tensor,
    *,
    seed: int,
    resamplings: int,
    device: torch.device,
) -> DrawnViews:
    """Draw the views of a micro-batch; an empty one is drawn again from another cutout.

    Parameters
    ----------
    cutouts : (b, 1, size, size) uint16, the cutouts of the batch as stored
    seed : of the run
    resamplings : replacements tried for one slot (5 in the paper)
    device : where views are made
    """
    slots = torch.from_numpy(batch.numbers).to(device)
    attempt = torch.zeros_like(slots)
    views = recipe(cutouts.to(device, non_blocking=True), slots, batch.epoch, attempt=attempt)
    numbers, n_resampled = slots.clone(), 0
    for _ in range(resamplings):
        empty = views.is_empty.nonzero()[:, 0]
        if len(empty) == 0:
            break
        attempt[empty] += 1
        n_resampled += len(empty)
        numbers[empty] = replacements(seed, batch.epoch, slots[empty], attempt[empty], len(corpus))
        others = read_cutouts(corpus, numbers[empty].cpu().numpy()).to(device)
        again = recipe(others, slots[empty], batch.epoch, attempt=attempt[empty])
        views.pixels[:, empty] = again.pixels
        views = replace(views, is_empty=views.is_empty.index_copy(0, empty, again.is_empty))
    return DrawnViews(views.pixels, slots, numbers, n_resampled, int(views.is_empty.sum()))
