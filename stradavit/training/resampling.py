"""Views of a micro-batch, with another cutout where nothing can be seen (paper, section 7.1.1)."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from stradavit.cutouts.corpus import Corpus
from stradavit.training.loader import read_cutouts
from stradavit.training.record import timed
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
    empty = views.is_empty.nonzero()[:, 0]
    for _ in range(resamplings):
        if len(empty) == 0:
            break
        attempt[empty] += 1
        n_resampled += len(empty)
        numbers[empty] = replacements(seed, batch.epoch, slots[empty], attempt[empty], len(corpus))
        others = read_cutouts(corpus, numbers[empty].cpu().numpy()).to(device)
        again = recipe(others, slots[empty], batch.epoch, attempt=attempt[empty])
        views.pixels[:, empty] = again.pixels
        empty = empty[again.is_empty]
    return DrawnViews(views.pixels, slots, numbers, n_resampled, len(empty))


def draw_ahead(
    batches: Iterable[tuple[MicroBatch, Tensor]],
    draw: Callable[[MicroBatch, Tensor], DrawnViews],
    device: torch.device,
) -> Iterator[tuple[MicroBatch, DrawnViews | None, float]]:
    """Each micro-batch with its views and the seconds its cutouts were waited for.

    On a GPU, drawing has to wait for which views are empty. It does so on a stream of its own, so
    the wait is for the views alone, while the network is still busy with the micro-batches before:
    at most two, since views of more would fill the memory. On a processor, one thing comes after
    the other. The values are the same.

    Parameters
    ----------
    batches : with their stored cutouts, in page-locked memory if they go to a GPU
    draw : makes the views of a micro-batch; one without cutouts has no views
    """
    if device.type != "cuda":
        for waited_s, (batch, cutouts) in timed(batches):
            yield batch, draw(batch, cutouts) if len(batch.numbers) else None, waited_s
        return
    network, aside = torch.cuda.current_stream(device), torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    queued: deque[torch.cuda.Event] = deque()
    for waited_s, (batch, cutouts) in timed(batches):
        views = None
        if len(batch.numbers):
            with torch.cuda.stream(aside):
                views = draw(batch, cutouts)
            network.wait_stream(aside)
            for tensor in (views.pixels, views.slots, views.numbers):
                tensor.record_stream(network)  # not to be reused before the network is done
        yield batch, views, waited_s
        queued.append(network.record_event())
        if len(queued) == 2:
            queued.popleft().synchronize()
