"""Two processes must give the value and the gradient of one."""

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn.functional as F
from torch import Tensor

from stradavit.objectives.contrastive import contrastive_loss
from stradavit.objectives.distributed import gather_keys
from stradavit.settings.training import ContrastiveSettings

IDS = torch.tensor([0, 1, 0, 1, 2, 3, 2, 3])  # ranks hold the first and the last four rows
SETTINGS = ContrastiveSettings()
VARIANTS = [(name, flow) for name in ("info_nce", "hcl", "soft_hcl") for flow in (False, True)]


def inputs_and_weights() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(8, 5, generator=generator, dtype=torch.float64).float()
    return rows, torch.randn(5, 4, generator=generator)


def rank_loss(name: str, z: Tensor, ids: Tensor, flow: bool) -> Tensor:
    keys = gather_keys(z, ids, flow)
    return contrastive_loss(name, z, keys.embeddings, ids, keys.ids, keys.self_index, 0.2, SETTINGS)


def work(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    rows, weights = inputs_and_weights()
    mine = slice(4 * rank, 4 * rank + 4)
    results = {}
    for name, flow in VARIANTS:
        w = weights.clone().requires_grad_()
        loss = rank_loss(name, F.normalize(rows[mine] @ w, dim=-1), IDS[mine], flow)
        loss.backward()
        # What data-parallel training does: the mean over devices.
        value, gradient = loss.detach(), w.grad
        for tensor in (value, gradient):
            dist.all_reduce(tensor)
            tensor /= 2
        results[name, flow] = (value, gradient)
    if rank == 0:
        torch.save(results, f"{folder}/results.pt")
    dist.destroy_process_group()


def single_process(name: str, flow: bool) -> tuple[Tensor, Tensor]:
    """Both halves in one process; remote keys are detached by hand unless gradients flow."""
    rows, weights = inputs_and_weights()
    w = weights.requires_grad_()
    z = F.normalize(rows @ w, dim=-1)
    losses = []
    for rank in range(2):
        own = torch.arange(4 * rank, 4 * rank + 4)
        keys = z if flow else z.detach().index_copy(0, own, z[own])
        losses.append(contrastive_loss(name, z[own], keys, IDS[own], IDS, own, 0.2, SETTINGS))
    loss = sum(losses) / 2
    loss.backward()
    return loss.detach(), w.grad


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, bool], tuple]:
    folder = tmp_path_factory.mktemp("gloo")
    mp.spawn(work, args=(str(folder),), nprocs=2)
    return torch.load(Path(folder) / "results.pt", weights_only=True)


@pytest.mark.parametrize(("name", "flow"), VARIANTS)
def test_two_processes_equal_one(
    name: str, flow: bool, two_processes: dict[tuple[str, bool], tuple]
) -> None:
    value, gradient = two_processes[name, flow]
    expected_value, expected_gradient = single_process(name, flow)
    torch.testing.assert_close(value, expected_value, rtol=1e-6, atol=0)
    # Sums over ranks run in another order than in one process.
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-5, atol=1e-7)


def test_stopping_remote_gradients_matters() -> None:
    _, with_gradient = single_process("hcl", True)
    _, stopped = single_process("hcl", False)
    assert (with_gradient - stopped).abs().max() > 1e-3


def test_alone_it_is_the_identity() -> None:
    z, ids = torch.randn(4, 3), torch.arange(4)
    keys = gather_keys(z, ids, with_gradient=True)
    assert keys.embeddings is z
    assert keys.ids is ids
    assert keys.self_index.tolist() == [0, 1, 2, 3]
