"""Alarms: embeddings that no longer tell images apart, and numbers that are not finite."""

import logging
from dataclasses import dataclass

import torch
from torch import Tensor

from stradavit.cutouts.corpus import Corpus
from stradavit.errors import TrainingError
from stradavit.training.record import Passed

logger = logging.getLogger(__name__)

_CUTOUTS_NAMED = 8

# Unit vectors spread over the sphere score 1; a tenth of it is a narrow cone.
STD_MIN = 0.1
# Fewer than two directions in use cannot hold even two kinds of source apart.
RANK_MIN = 2.0
ROWS_MIN = 16


@dataclass(frozen=True)
class Spread:
    """How much of the embedding space a batch uses.

    Attributes
    ----------
    std : mean over dimensions of the standard deviation, in units of 1/√d; 1 on a full sphere
        (Chen and He 2021, section 4.1)
    effective_rank : exp of the entropy of the normalised singular values of the centred
        embeddings (Roy and Vetterli 2007), between 1 and min(rows − 1, d)
    rows : embeddings measured
    """

    std: float
    effective_rank: float
    rows: int

    @property
    def is_collapsed(self) -> bool:
        """Whether either is below its limit; the rank of a few rows is small in any case."""
        has_low_rank = self.rows >= ROWS_MIN and self.effective_rank < RANK_MIN
        return self.std < STD_MIN or has_low_rank


def spread(embeddings: Tensor) -> Spread:
    """Measure L2-normalised embeddings, (rows, d)."""
    rows = embeddings.detach().float()
    centred = rows - rows.mean(0)
    std = centred.square().mean(0).sqrt().mean() * rows.shape[1] ** 0.5
    singular = torch.linalg.svdvals(centred)
    shares = singular / singular.sum().clamp_min(torch.finfo(torch.float32).tiny)
    entropy = -torch.special.xlogy(shares, shares).sum()
    return Spread(float(std), float(entropy.exp()), len(rows))


def watch_spread(embeddings: Tensor, updates: int, was_collapsed: bool) -> dict[str, float | bool]:
    """How far the embeddings of a micro-batch spread, and a warning when they have collapsed.

    Parameters
    ----------
    embeddings : (rows, d) L2-normalised
    updates : updates done, for the warning
    was_collapsed : known already, so no second warning

    Returns
    -------
    Values for the record
    """
    measured = spread(embeddings)
    if measured.is_collapsed and not was_collapsed:
        logger.warning(
            "The embeddings have collapsed after update %d: standard deviation %.3f (1 when they "
            "fill the sphere), effective rank %.1f. Lower the learning rate, or raise the "
            "temperature or the batch.",
            updates,
            measured.std,
            measured.effective_rank,
        )
    return {
        "embedding_std": measured.std,
        "effective_rank": measured.effective_rank,
        "collapsed": measured.is_collapsed,
    }


def not_finite(
    epoch: int,
    step: int,
    grad_norm: float,
    passed: list[Passed],
    corpus: Corpus,
) -> TrainingError:
    """The error for an update with a loss or gradient that is not finite.

    Each device names its own cutouts: those with such a loss, or all if the gradient alone or
    another device is at fault.
    """
    faulty = [one for one in passed if not one.loss.isfinite()] or passed
    losses = ", ".join(f"{float(one.loss):g}" for one in faulty)
    numbers = [number for one in faulty for number in one.numbers.tolist()]
    named = "; ".join(corpus.describe(number) for number in numbers[:_CUTOUTS_NAMED])
    more = f"; and {len(numbers) - _CUTOUTS_NAMED} more" if len(numbers) > _CUTOUTS_NAMED else ""
    return TrainingError(
        f"epoch {epoch + 1}, step {step + 1}: loss {losses} with gradient norm {grad_norm:g} on "
        f"the cutouts {named}{more}. Nothing was saved since the last checkpoint. Look at these "
        "cutouts, lower optimiser.learning_rate, or set precision to fp32."
    )
