"""The schedule at the places where its value is known."""

import math

import pytest

from stradavit.training.schedule import learning_rate, warmup_epochs


def test_warm_up_of_the_paper_is_five_epochs() -> None:
    assert warmup_epochs(35, 0.15) == 5


def test_the_warm_up_is_a_straight_line_to_the_peak() -> None:
    rates = [learning_rate(s, 100, 9, 2.0) for s in range(10)]
    assert rates == pytest.approx([0.2 * (s + 1) for s in range(10)])


def test_the_cosine_is_half_way_in_the_middle_and_ends_at_zero() -> None:
    assert learning_rate(10, 110, 10, 3.0) == pytest.approx(3.0)
    assert learning_rate(60, 110, 10, 3.0) == pytest.approx(1.5)
    assert learning_rate(35, 110, 10, 3.0) == pytest.approx(1.5 * (1 + math.cos(math.pi / 4)))
    assert learning_rate(110, 110, 10, 3.0) == pytest.approx(0.0, abs=1e-12)
    # The last update is made with a small rate, not with none.
    assert 0 < learning_rate(109, 110, 10, 3.0) < 3.0 * 1e-3


def test_a_run_without_warm_up_starts_at_the_peak() -> None:
    assert learning_rate(0, 6, 0, 1.0) == 1.0


def test_a_run_that_only_warms_up_has_no_cosine() -> None:
    assert learning_rate(5, 6, 6, 1.0) == pytest.approx(6 / 7)
