"""Spreads and ratios against numbers worked out by hand, on a clock that is told what to say."""

from collections.abc import Callable, Iterator

import pytest

from benchmarks import harness
from benchmarks.harness import Comparison, Side, Spread, Target, in_turn


def test_spread_is_median_and_range() -> None:
    assert Spread.of([3.0, 1.0, 10.0]) == Spread(3.0, 1.0, 10.0)
    assert Spread.of([1.0, 2.0]) == Spread(1.5, 1.0, 2.0)


def _side(name: str, seconds: Iterator[float], clock: list[float], calls: list[str]) -> Callable:
    def work() -> float:
        calls.append(name)
        clock[0] += next(seconds)
        return 6.0

    return work


def test_sides_take_turns_and_ratios_are_taken_within_rounds(monkeypatch) -> None:
    clock, calls = [0.0], []
    monkeypatch.setattr(harness.time, "perf_counter", lambda: clock[0])
    # The machine is twice as slow in the second round that counts; the ratio is not touched.
    ours = _side("ours", iter([99.0, 1.0, 2.0, 1.0]), clock, calls)
    peer = _side("peer", iter([1.0, 3.0, 6.0, 2.0]), clock, calls)
    sides, ratios = in_turn({"ours": ("o", ours), "peer": ("p", peer)}, rounds=3)
    assert calls == ["ours", "peer"] * 4, "one round that does not count, then three"
    assert sides == [
        Side("ours", "o", Spread(6.0, 3.0, 6.0)),
        Side("peer", "p", Spread(2.0, 1.0, 3.0)),
    ]
    assert ratios == {"peer": Spread(3.0, 2.0, 3.0)}


@pytest.mark.parametrize(
    ("wanted", "measured", "at_least", "is_met"),
    [
        (4.0, 4.0, True, True),
        (4.0, 3.99, True, False),
        (0.3, 0.3, False, True),
        (0.3, 0.31, False, False),
    ],
)
def test_a_target_is_met_from_its_own_value_on(wanted, measured, at_least, is_met) -> None:
    target = Target("a ratio", wanted, measured, at_least)
    assert target.is_met is is_met
    kept = Comparison("n", "q", "u", [], targets=[target]).to_json()
    assert kept["targets"] == [
        {
            "what": "a ratio",
            "wanted": wanted,
            "measured": measured,
            "at_least": at_least,
            "is_met": is_met,
        }
    ]
