"""The keys of all devices: what the contrastive loss compares local queries with."""

from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor


class Keys(NamedTuple):
    """Embeddings of all devices in the order of their ranks.

    `embeddings` (k, d), `ids` (k,) and the places `self_index` (n,) of this device's rows.
    """

    embeddings: Tensor
    ids: Tensor
    self_index: Tensor


def gather_keys(local: Tensor, ids: Tensor, with_gradient: bool) -> Keys:
    """Gather the embeddings of all devices (paper, section 8.2.2).

    The local rows keep their gradient. Remote rows are constants (the text) unless
    `with_gradient`: then each row collects the gradients of the losses of all devices, so that
    after the mean over devices that data-parallel training takes, the gradient is exactly that of
    one device with all rows. Without processes to gather from, this is the identity.

    Parameters
    ----------
    local : (n, d) float32, with the same n on every device
    ids : (n,) int64, numbers of the cutouts
    with_gradient : whether gradients flow to remote rows

    Returns
    -------
    Keys with k = n times the number of devices
    """
    places = torch.arange(len(local), device=local.device)
    if not dist.is_available() or not dist.is_initialized() or dist.get_world_size() == 1:
        return Keys(local, ids, places)
    if with_gradient:
        embeddings: Tensor = _GatherWithGradient.apply(local)
    else:
        parts = _gather(local.detach())
        parts[dist.get_rank()] = local
        embeddings = torch.cat(parts)
    return Keys(embeddings, torch.cat(_gather(ids)), places + dist.get_rank() * len(local))


def _gather(local: Tensor) -> list[Tensor]:
    local = local.contiguous()
    parts = [torch.empty_like(local) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, local)
    return parts


class _GatherWithGradient(torch.autograd.Function):
    """All rows of all devices; backward sums the gradients every device has for our rows."""

    @staticmethod
    def forward(ctx: Any, local: Tensor) -> Tensor:
        ctx.rows = len(local)
        return torch.cat(_gather(local))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.contiguous().clone()
        dist.all_reduce(total)
        return total[dist.get_rank() * ctx.rows :][: ctx.rows]
