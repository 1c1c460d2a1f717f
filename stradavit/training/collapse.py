"""Alarms for a contrastive run whose embeddings stop telling images apart."""

from dataclasses import dataclass

import torch
from torch import Tensor

# Unit vectors spread over the sphere score 1; a tenth of it is a narrow cone.
STD_MIN = 0.1
# Fewer than two directions in use cannot hold even two kinds of source apart.
RANK_MIN = 2.0


@dataclass(frozen=True)
class Spread:
    """How much of the embedding space a batch uses.

    Attributes
    ----------
    std : mean over dimensions of the standard deviation, in units of 1/√d; 1 on a full sphere
        (Chen and He 2021, section 4.1)
    effective_rank : exp of the entropy of the normalised singular values of the centred
        embeddings (Roy and Vetterli 2007), between 1 and min(rows − 1, d)
    """

    std: float
    effective_rank: float

    @property
    def is_collapsed(self) -> bool:
        """Whether either is below its limit."""
        return self.std < STD_MIN or self.effective_rank < RANK_MIN


def spread(embeddings: Tensor) -> Spread:
    """Measure L2-normalised embeddings, (rows, d)."""
    rows = embeddings.detach().float()
    centred = rows - rows.mean(0)
    std = centred.square().mean(0).sqrt().mean() * rows.shape[1] ** 0.5
    singular = torch.linalg.svdvals(centred)
    shares = singular / singular.sum().clamp_min(torch.finfo(torch.float32).tiny)
    entropy = -torch.special.xlogy(shares, shares).sum()
    return Spread(float(std), float(entropy.exp()))
