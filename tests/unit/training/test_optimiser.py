"""Our AdamW against torch's own, and what it is there for."""

import copy
import subprocess
import sys

import pytest
import torch
from torch import nn

from stradavit.settings.training import OptimiserSettings
from stradavit.training.optimiser import AdamW, adamw

BETAS, EPS = (0.8, 0.9), 1e-3


def network() -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(6, 5), nn.LayerNorm(5), nn.Linear(5, 3))


def groups_of(net: nn.Sequential) -> list[dict[str, object]]:
    matrices = [p for p in net.parameters() if p.ndim > 1]
    others = [p for p in net.parameters() if p.ndim == 1]
    return [
        {"params": matrices, "lr": 0.02, "weight_decay": 0.3, "peak": 7.0},
        {"params": others, "lr": 0.01, "weight_decay": 0.0, "peak": 8.0},
    ]


def train(net: nn.Sequential, optimiser: AdamW | torch.optim.Optimizer, steps: range) -> None:
    for step in steps:
        x = torch.randn(4, 6, generator=torch.Generator().manual_seed(step))
        for group in optimiser.param_groups:
            group["lr"] = group["peak"] * 0.001 * (step + 1)
        # The last layer has no gradient in the first step, as an unused part of a network.
        (net[:2](x) if step == 0 else net(x)).square().sum().backward()
        optimiser.step()
        optimiser.zero_grad()


def test_it_is_torchs_to_the_bit_and_goes_on_from_a_checkpoint() -> None:
    theirs, ours = network(), network()
    reference = torch.optim.AdamW(groups_of(theirs), betas=BETAS, eps=EPS, fused=True)
    optimiser = AdamW(groups_of(ours), BETAS, EPS)
    train(theirs, reference, range(6))
    train(ours, optimiser, range(3))
    # Both ways: from our checkpoint, and from one that torch's class wrote.
    for saved in (optimiser.state_dict(), _torch_state_after(3)):
        saved = copy.deepcopy(saved)
        resumed = network()
        resumed.load_state_dict(ours.state_dict())
        again = AdamW(groups_of(resumed), BETAS, EPS)
        again.load_state_dict(saved)
        train(resumed, again, range(3, 6))
        for mine, wanted in zip(resumed.parameters(), theirs.parameters(), strict=True):
            assert torch.equal(mine, wanted)


def _torch_state_after(steps: int) -> dict[str, object]:
    net = network()
    optimiser = torch.optim.AdamW(groups_of(net), betas=BETAS, eps=EPS, fused=True)
    train(net, optimiser, range(steps))
    return optimiser.state_dict()


def test_steps_follow_the_formula() -> None:
    """Loshchilov and Hutter (2019), algorithm 2, written out for one number."""
    w, gradient_mean, square_mean = 1.5, 0.0, 0.0
    parameter = nn.Parameter(torch.tensor([w]))
    groups = [{"params": [parameter], "lr": 0.1, "weight_decay": 0.2}]
    optimiser = AdamW(groups, BETAS, EPS)
    for t in range(1, 5):
        parameter.square().sum().backward()
        optimiser.step()
        optimiser.zero_grad()
        gradient = 2 * w
        gradient_mean = BETAS[0] * gradient_mean + (1 - BETAS[0]) * gradient
        square_mean = BETAS[1] * square_mean + (1 - BETAS[1]) * gradient**2
        corrected = (square_mean / (1 - BETAS[1] ** t)) ** 0.5 + EPS
        w -= 0.1 * (gradient_mean / (1 - BETAS[0] ** t) / corrected + 0.2 * w)
        assert parameter.item() == pytest.approx(w, rel=1e-5)


def test_what_is_decayed() -> None:
    settings = OptimiserSettings(weight_decay=0.3)
    optimiser, parameters = adamw({"net": network()}, settings)
    decayed, plain = optimiser.param_groups
    assert {p.ndim for p in decayed["params"]} == {2} and {p.ndim for p in plain["params"]} == {1}
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.3, 0.0)
    assert len(parameters) == 6


def test_no_training_job_pays_for_importing_torchs_compiler() -> None:
    code = (
        "import sys, torch; from stradavit.training.optimiser import AdamW; "
        "import stradavit.training.pretrain, stradavit.evaluation.finetune; "
        "w = torch.nn.Parameter(torch.ones(2)); w.sum().backward(); "
        "AdamW([{'params': [w], 'lr': 0.1, 'weight_decay': 0.0}], (0.9, 0.99)).step(); "
        "slow = {'torch._dynamo', 'sympy', 'transformers'} & set(sys.modules); "
        "assert not slow, slow"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
