"""Learning rates are those of torch's own schedulers, chained."""

import pytest
import torch
from torch.optim.lr_scheduler import LinearLR, MultiStepLR

from stradavit.detection.schedule import learning_rate
from stradavit.settings.detection import DetectorTraining
from stradavit.settings.training import OptimiserSettings


@pytest.mark.parametrize(("n_warmup", "per_epoch"), [(500, 160), (5, 3), (40, 7), (0, 4)])
def test_rates_are_those_of_chained_torch_schedulers(n_warmup, per_epoch):
    settings = DetectorTraining(warmup_updates=n_warmup)
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimiser = torch.optim.SGD([parameter], lr=1e-4)
    schedulers = [
        MultiStepLR(optimiser, [epoch * per_epoch for epoch in (8, 11)], gamma=0.1),
    ]
    if n_warmup:
        schedulers.append(LinearLR(optimiser, 1e-3, total_iters=n_warmup))
    for update in range(12 * per_epoch):
        expected = optimiser.param_groups[0]["lr"]
        assert learning_rate(update, per_epoch, settings) == pytest.approx(expected, rel=1e-6)
        optimiser.step()
        for scheduler in schedulers:
            scheduler.step()


def test_the_paper_s_values():
    settings = DetectorTraining(optimiser=OptimiserSettings(learning_rate=1e-4))
    rates = {update: learning_rate(update, 100, settings) for update in (0, 250, 500, 800, 1100)}
    assert rates == pytest.approx({0: 1e-7, 250: 5.005e-5, 500: 1e-4, 800: 1e-5, 1100: 1e-6})
    assert learning_rate(799, 100, settings) == pytest.approx(1e-4)
