"""The contrastive losses as loops over queries and keys in float64, equation by equation.

Numbers of equations are those of section 7.2 of the paper. `masses` multiplies in the weights one
by one, without logarithms: slow and readable, and accurate where float64 does not overflow.
"""

import math

import torch
from torch import Tensor


def loss(
    name: str,
    queries: Tensor,
    keys: Tensor,
    query_ids: list[int],
    key_ids: list[int],
    self_index: list[int],
    temperature: float,
    beta: float = 1.0,
    alpha: float = 0.5,
    hardness: float = 0.15,
) -> Tensor:
    """Mean over the queries of −log(P / (P + N)), differentiable by autograd."""
    queries, keys = queries.double(), keys.double()
    total = torch.zeros((), dtype=torch.float64)
    for i, q in enumerate(queries):
        positives, negatives, similarities = [], [], []
        for j, k in enumerate(keys):
            if j == self_index[i]:
                continue  # the query itself is not an allowed key
            s = sum(q[d] * k[d] for d in range(len(q)))
            mass = torch.exp(s / temperature)
            if key_ids[j] == query_ids[i]:
                positives.append(mass)
            else:
                negatives.append(mass)
                similarities.append(s)
        P = sum(positives)  # (8)
        if name == "info_nce":
            N = sum(negatives)  # (9)
        elif name == "hcl":
            N = hcl_mass(negatives, beta, temperature)
        elif name == "soft_hcl":
            N = soft_hcl_mass(negatives, similarities, alpha, hardness)
        total = total - torch.log(P / (P + N))  # (10), (13)
    return total / len(queries)


def hcl_mass(negatives: list[Tensor], beta: float, temperature: float) -> Tensor:
    """Hard negative mass; the weights are differentiated."""
    mean = sum(negatives) / len(negatives)
    weights = [(m / mean) ** beta for m in negatives]  # (11)
    N = sum(w * m for w, m in zip(weights, negatives, strict=True))  # (12)
    return torch.maximum(N, torch.tensor(math.exp(-1 / temperature), dtype=torch.float64))


def soft_hcl_mass(
    negatives: list[Tensor], similarities: list[Tensor], alpha: float, hardness: float
) -> Tensor:
    """Softly reweighted negative mass; the weights are constants."""
    n = len(negatives)
    with torch.no_grad():
        e = [torch.exp(s.clamp(-1, 1) / hardness) for s in similarities]
        hard = [value / sum(e) for value in e]  # (14)
        mixed = [alpha * h + (1 - alpha) / n for h in hard]  # (15)
        scale = n / sum(mixed)  # so that the weights sum to n
    return sum(scale * w * m for w, m in zip(mixed, negatives, strict=True))  # (16)
