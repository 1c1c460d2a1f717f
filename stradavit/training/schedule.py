"""Learning rate of an update in closed form (paper, section 8.2.1)."""

import math


def warmup_epochs(epochs: int, warmup_fraction: float) -> int:
    """Whole epochs of warm-up: 15 % of 35 epochs are 5."""
    return round(epochs * warmup_fraction)


def learning_rate(update: int, n_updates: int, n_warmup: int, peak: float) -> float:
    """Linear warm-up, then a cosine to zero.

    With s the update, W the warm-up and S all updates::

        peak × (s + 1) / (W + 1)                         for s < W
        peak × (1 + cos(π (s − W) / (S − W))) / 2        for s ≥ W

    The warm-up meets the cosine at s = W. Schedules that start from s / W spend their first update
    on a rate of zero; on a run of a few updates that would be a good part of it.

    Parameters
    ----------
    update : 0 for the first update
    n_updates, n_warmup : S and W, counted in optimiser updates
    peak : the base learning rate
    """
    if update < n_warmup:
        return peak * (update + 1) / (n_warmup + 1)
    progress = (update - n_warmup) / max(n_updates - n_warmup, 1)
    return peak * 0.5 * (1.0 + math.cos(math.pi * progress))
