"""One process or several that act as one: start-up, sums over devices, synchronised BatchNorm."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn

from stradavit.errors import TrainingError

# How long a device waits for another before the run is given up. The longest waiting is for rank 0
# to write a checkpoint and for all to compile.
_PATIENCE = timedelta(minutes=10)


@dataclass(frozen=True)
class Team:
    """This process among all that train one encoder; rank 0 alone writes files."""

    rank: int
    world: int
    device: torch.device

    @property
    def is_writer(self) -> bool:
        """Whether this process writes."""
        return self.rank == 0

    def barrier(self) -> None:
        """Wait for all."""
        if self.world > 1:
            dist.barrier()

    def sum_gradients(self, parameters: list[nn.Parameter], tally: Tensor) -> None:
        """Replace gradients, and a float32 `tally` beside them, by their sums over all devices.

        One message for all; a gradient that is missing here (no cutouts were left) counts as zero.
        """
        if self.world == 1:
            return
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        tensors = [*(p.grad for p in parameters if p.grad is not None), tally]
        message = torch.cat([tensor.reshape(-1) for tensor in tensors])
        dist.all_reduce(message)
        sums = torch.split(message, [tensor.numel() for tensor in tensors])
        for tensor, total in zip(tensors, sums, strict=True):
            tensor.copy_(total.view_as(tensor))


def choose_device(device: Literal["auto", "cpu", "cuda"], number: int = 0) -> torch.device:
    """The device that `loader.device` means: CUDA device `number`, or the processor.

    Raises
    ------
    TrainingError
        If a CUDA device is asked for and there is none.
    """
    has_cuda = torch.cuda.is_available()
    if device == "cuda" and not has_cuda:
        raise TrainingError(
            "loader.device is cuda, but torch finds no CUDA device here. Set it to auto or cpu, "
            "or run on a machine with a GPU and a CUDA build of torch."
        )
    if device == "cpu" or not has_cuda:
        chosen = torch.device("cpu")
    else:
        chosen = torch.device("cuda", number)
        torch.cuda.set_device(chosen)
    return chosen


@contextmanager
def team(device: Literal["auto", "cpu", "cuda"], devices: int) -> Iterator[Team]:
    """Join the processes `torchrun` started, or be the only one.

    Parameters
    ----------
    devices : that the settings ask for

    Raises
    ------
    TrainingError
        If a CUDA device is asked for and there is none, there are not as many processes as
        `devices`, or another process is lost on the way.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world != devices:
        raise TrainingError(
            f"training.devices is {devices}, and {world} process(es) were started (WORLD_SIZE); "
            "expected one for each device. `stradavit pretrain` starts them itself."
        )
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    chosen = choose_device(device, local_rank)
    if world == 1:
        yield Team(0, 1, chosen)
        return
    dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo", timeout=_PATIENCE)
    try:
        yield Team(dist.get_rank(), world, chosen)
    except RuntimeError as error:
        # Gloo has no kind of error of its own.
        if not isinstance(error, dist.DistError) and "gloo" not in str(error):
            raise
        raise TrainingError(
            f"device {os.environ.get('RANK')} waits in vain for the others: {error}. One of them "
            "failed or was killed. Start the job again to go on from the last checkpoint."
        ) from error
    finally:
        dist.destroy_process_group()


class _SumOverTeam(torch.autograd.Function):
    """Sum over devices, whose gradient is the sum of the devices' gradients."""

    @staticmethod
    def forward(ctx: Any, local: Tensor) -> Tensor:
        total = local.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.contiguous().clone()
        dist.all_reduce(total)
        return total


class TeamBatchNorm(nn.BatchNorm1d):
    """BatchNorm over the rows of all devices, as if one had them all (paper, section 8.2.2).

    `torch.nn.SyncBatchNorm` runs on CUDA only. This is the same arithmetic on every backend, so
    what the tests prove with two processes on a CPU is what runs on GPUs. Statistics are float32
    whatever the precision of the rest.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Normalise (rows, features); the number of rows may differ between devices."""
        if not self.training:
            return super().forward(input)
        rows = input.float()
        n = rows.new_tensor(len(rows))
        dist.all_reduce(n)
        mean = _SumOverTeam.apply(rows.sum(0)) / n
        variance = _SumOverTeam.apply((rows - mean).square().sum(0)) / n
        self._update_running_statistics(mean.detach(), (variance * n / (n - 1)).detach())
        normalised: Tensor = (rows - mean) * torch.rsqrt(variance + self.eps)
        if self.affine:
            normalised = normalised * self.weight + self.bias
        return normalised

    def _update_running_statistics(self, mean: Tensor, variance: Tensor) -> None:
        if not self.track_running_stats:
            return
        assert self.running_mean is not None and self.running_var is not None
        assert self.num_batches_tracked is not None and self.momentum is not None
        self.num_batches_tracked += 1
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance, self.momentum)


def synchronise_batch_norms(module: nn.Module) -> None:
    """Replace every BatchNorm1d inside `module` by one that sees the rows of all devices."""
    for name, child in list(module.named_children()):
        if isinstance(child, nn.BatchNorm1d):
            synchronised = TeamBatchNorm(
                child.num_features,
                child.eps,
                child.momentum,
                child.affine,
                child.track_running_stats,
            ).to(next(iter(child.state_dict().values())).device)
            synchronised.load_state_dict(child.state_dict())
            setattr(module, name, synchronised)
        else:
            synchronise_batch_norms(child)
