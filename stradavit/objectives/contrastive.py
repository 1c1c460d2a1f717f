"""Contrastive losses: InfoNCE, HCL and soft-HCL (paper, section 7.2, equations 8 to 16).

Symbols: s_qk is the cosine similarity of query q and key k, t the temperature, m_qk = exp(s_qk/t)
the mass of a key, P the summed mass of the positives, N that of the negatives. The losses differ
only in how N is accumulated. All is done with logarithms of masses in float32, since exp(1/0.07)
already overflows half precision; a sum of masses is a `logsumexp`.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from stradavit.settings.training import ContrastiveLoss, ContrastiveSettings

# Logarithm of "no mass". Finite, since a row of −inf has a NaN gradient.
_LOG_ZERO = -1e9


def contrastive_loss(
    name: ContrastiveLoss,
    queries: Tensor,
    keys: Tensor,
    query_ids: Tensor,
    key_ids: Tensor,
    self_index: Tensor,
    temperature: float,
    settings: ContrastiveSettings,
) -> Tensor:
    """The loss called `name`: −log(P / (P + N)), mean over the queries (equations 10 and 13).

    Keys of the query's own cutout are positives (several are allowed: their masses are summed),
    the query itself is neither, every other key is a negative.

    Parameters
    ----------
    queries : (q, d) float, unit vectors of this device
    keys : (k, d) float, unit vectors of all devices, the queries among them
    query_ids, key_ids : (q,) and (k,) int64, number of the cutout each is a view of
    self_index : (q,) int64, place of each query among the keys
    temperature : t > 0
    settings : beta of HCL, alpha and hardness temperature of soft-HCL

    Returns
    -------
    () float32. A query without negatives has nothing to contrast: its N is 0 (HCL: the floor).

    Raises
    ------
    ValueError
        If the shapes do not fit, the temperature is not positive, or a query has no positive (on
        a GPU the loss is NaN then).
    """
    _check_shapes(queries, keys, query_ids, key_ids, self_index)
    if temperature <= 0:
        raise ValueError(f"the temperature is {temperature}; expected a positive number")
    same = query_ids.unsqueeze(1) == key_ids.unsqueeze(0)
    negative = ~same
    positive = same.scatter(1, self_index.unsqueeze(1), False)
    has_positive = positive.any(dim=1)
    # A GPU's answer would have to be waited for: there the loss is NaN, which stops a run as well.
    if queries.device.type == "cpu" and not has_positive.all():
        raise ValueError(
            "a query has no positive: every cutout needs at least two views among the keys"
        )
    with torch.autocast(queries.device.type, enabled=False):
        similarity = queries.float() @ keys.float().T
        log_mass = similarity / temperature
        if name == "info_nce":
            log_negative = info_nce_log_negative(log_mass, negative)
        elif name == "hcl":
            floor = -1 / temperature
            log_negative = hcl_log_negative(log_mass, negative, settings.hcl_beta, floor)
        else:
            log_negative = soft_hcl_log_negative(
                log_mass,
                similarity,
                negative,
                settings.soft_hcl_alpha,
                settings.soft_hcl_temperature,
            )
        log_positive = _log_sum(log_mass, positive)  # equation 8
        # −log(P / (P + N)) = log(1 + N / P)
        losses = F.softplus(log_negative - log_positive)
        return losses.where(has_positive, math.nan).mean()


def info_nce_log_negative(log_mass: Tensor, negative: Tensor) -> Tensor:
    """log N, the plain sum of the negative masses (equation 9).

    Parameters
    ----------
    log_mass : (q, k) float32, s/t
    negative : (q, k) bool

    Returns
    -------
    (q,) float32
    """
    return _log_sum(log_mass, negative)


def hcl_log_negative(log_mass: Tensor, negative: Tensor, beta: float, floor: float) -> Tensor:
    """log of the hard negative mass, the sum of w m with w = (m / mean m)^beta (eqs 11 and 12).

    The weights are part of the graph: for beta = 1 the sum is that of the squared masses over
    their mean, and is differentiated as such (Robinson et al. 2021, without debiasing).

    Parameters
    ----------
    log_mass : (q, k) float32, s/t
    negative : (q, k) bool
    beta : concentration; 0 gives InfoNCE
    floor : smallest value of the logarithm, −1/t: the mass of one key opposite to the query

    Returns
    -------
    (q,) float32
    """
    n = negative.sum(dim=1).clamp_min(1)
    log_mean = _log_sum(log_mass, negative) - n.log()
    log_weights = beta * (log_mass - log_mean.unsqueeze(1))
    return _log_sum(log_mass + log_weights, negative).clamp_min(floor)


def soft_hcl_log_negative(
    log_mass: Tensor, similarity: Tensor, negative: Tensor, alpha: float, hardness: float
) -> Tensor:
    """log of the softly reweighted negative mass (equations 14 to 16).

    The weights mix a hardness distribution over the negatives with the uniform one and sum to the
    number of negatives; no gradient flows through them.

    Parameters
    ----------
    log_mass : (q, k) float32, s/t
    similarity : (q, k) float32, s
    negative : (q, k) bool
    alpha : share of the hardness distribution; 0 gives InfoNCE
    hardness : temperature of the hardness distribution

    Returns
    -------
    (q,) float32
    """
    with torch.no_grad():
        n = negative.sum(dim=1, keepdim=True)
        hard = (similarity.clamp(-1, 1) / hardness).masked_fill(~negative, _LOG_ZERO).softmax(1)
        weights = alpha * n * hard + (1 - alpha)
        # A weight that underflows (alpha = 1) is no mass, not −inf.
        log_weights = weights.log().clamp_min(_LOG_ZERO)
    return _log_sum(log_mass + log_weights, negative)


def temperature_at(epoch: float, settings: ContrastiveSettings) -> float:
    """Temperature after `epoch` epochs, warmed over the same epochs as the learning rate.

    `linear` is the text of section 7.2 and moves with every step; `cosine` is the authors' code, a
    half-cosine that moves once per epoch.

    Parameters
    ----------
    epoch : epochs done, with the fraction of the present one

    Returns
    -------
    From `temperature_start` at 0 to `temperature` at the end of the warm-up, and on
    """
    warmup = round(settings.epochs * settings.warmup_fraction)
    if epoch >= warmup:
        return settings.temperature
    if settings.temperature_ramp == "linear":
        done = epoch / warmup
    else:
        done = (1 - math.cos(math.pi * math.floor(epoch) / warmup)) / 2
    return settings.temperature_start + done * (settings.temperature - settings.temperature_start)


def _log_sum(log_mass: Tensor, chosen: Tensor) -> Tensor:
    """log of the summed mass of the chosen keys of each query."""
    return log_mass.masked_fill(~chosen, _LOG_ZERO).logsumexp(dim=1)


def _check_shapes(
    queries: Tensor, keys: Tensor, query_ids: Tensor, key_ids: Tensor, self_index: Tensor
) -> None:
    q, k = len(queries), len(keys)
    fits = queries.ndim == keys.ndim == 2 and queries.shape[1] == keys.shape[1]
    if not fits or query_ids.shape != (q,) or key_ids.shape != (k,) or self_index.shape != (q,):
        raise ValueError(
            "expected queries (q, d) with ids and places (q,), keys (k, d) with ids (k,); found "
            f"{tuple(queries.shape)}, {tuple(query_ids.shape)}, {tuple(self_index.shape)}, "
            f"{tuple(keys.shape)} and {tuple(key_ids.shape)}"
        )
