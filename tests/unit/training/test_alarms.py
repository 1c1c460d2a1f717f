"""Spread of embeddings where it is known."""

import pytest
import torch

from stradavit.training.alarms import spread


def test_a_cross_fills_its_space() -> None:
    axes = torch.eye(12)
    measured = spread(torch.cat([axes, -axes]))
    assert measured.std == pytest.approx(1)
    assert measured.effective_rank == pytest.approx(12, rel=1e-5)
    assert not measured.is_collapsed


def test_a_point_is_collapsed() -> None:
    measured = spread(torch.full((24, 16), 0.25))
    assert measured.std == 0
    assert measured.effective_rank == pytest.approx(1)
    assert measured.is_collapsed


def test_a_line_is_collapsed_although_it_is_long() -> None:
    ends = torch.zeros(24, 16)
    ends[:12, 0], ends[12:, 0] = 1, -1
    measured = spread(ends)
    assert measured.std == pytest.approx(0.25)
    assert measured.effective_rank == pytest.approx(1, rel=1e-4)
    assert measured.is_collapsed
    # Of two rows nothing else could be said.
    assert not spread(ends[11:13]).is_collapsed
