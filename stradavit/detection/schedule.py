"""Learning rate of an update in closed form: linear warm-up, then steps by epochs.

What MMDetection's 1x schedule does, and with it the SAR paper (section III-C): warm-up counts
updates, decay counts epochs, and both may act at once.
"""

from stradavit.settings.detection import DetectorTraining


def learning_rate(update: int, updates_per_epoch: int, settings: DetectorTraining) -> float:
    """The rate of update `update`.

    With s the update, W the warm-up, w its factor, d the decay and k the number of
    `decay_epochs` that lie behind::

        peak × (w + (1 − w) s / W) × d^k        for s < W
        peak × d^k                              for s ≥ W

    Parameters
    ----------
    update : 0 for the first update
    updates_per_epoch : of the whole training set, the last and smaller update included
    """
    peak, n_warmup = settings.optimiser.learning_rate, settings.warmup_updates
    epoch = update // updates_per_epoch
    n_decays = sum(epoch >= decay_epoch for decay_epoch in settings.decay_epochs)
    rate = peak * settings.decay_factor**n_decays
    if update < n_warmup:
        rate *= settings.warmup_factor + (1.0 - settings.warmup_factor) * update / n_warmup
    return rate
