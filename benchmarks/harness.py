"""How things are timed: sides in turn, several rounds, ratios round by round.

A machine's speed drifts with its neighbours and its temperature. Sides that are measured in turn
drift together, so the median of the ratios within rounds is steadier than the ratio of medians.
"""

import multiprocessing
import statistics
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Spread:
    """Median and range of what the rounds gave."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: list[float]) -> "Spread":
        """The spread of some values."""
        return cls(statistics.median(values), min(values), max(values))


@dataclass(frozen=True)
class Side:
    """One of the things compared.

    `rate` is in the comparison's unit, and `what` says in a few words what ran.
    """

    name: str
    what: str
    rate: Spread


@dataclass(frozen=True)
class Target:
    """A promise beside what was measured; `measured` is a ratio, rate or share as `what` says."""

    what: str
    wanted: float
    measured: float
    at_least: bool = True  # False: at most

    @property
    def is_met(self) -> bool:
        """Whether the promise holds."""
        return self.measured >= self.wanted if self.at_least else self.measured <= self.wanted


@dataclass(frozen=True)
class Comparison:
    """The outcome of one benchmark.

    Attributes
    ----------
    name : short heading
    question : one sentence on what is compared and on which input
    unit : of the rates
    sides : the first is ours
    ratios : by the other side's name, our rate over theirs, round by round
    targets : what was promised
    notes : what a reader must know to trust the numbers; each one sentence or a few
    figures : anything else worth keeping, by name
    """

    name: str
    question: str
    unit: str
    sides: list[Side]
    ratios: dict[str, Spread] = field(default_factory=dict)
    targets: list[Target] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        plain = asdict(self)
        for target, kept in zip(self.targets, plain["targets"], strict=True):
            kept["is_met"] = target.is_met
        return plain


def fresh_processes(count: int) -> ProcessPoolExecutor:
    """Processes that begin as the jobs of the workflow do, with nothing of this one."""
    return ProcessPoolExecutor(count, mp_context=multiprocessing.get_context("spawn"))


def in_turn(
    sides: Mapping[str, tuple[str, Callable[[], float]]], rounds: int
) -> tuple[list[Side], dict[str, Spread]]:
    """Measure sides in turn, after one round that is not counted.

    Parameters
    ----------
    sides : by name, what it is and a function that does the work once and returns how much it did
        (views, cutouts, bytes); the first side is ours
    rounds : counted

    Returns
    -------
    Each side's rate (work per second of wall-clock time), and for every other side the ratio
    of our rate to its rate.
    """
    rates: dict[str, list[float]] = {name: [] for name in sides}
    for counted in range(rounds + 1):
        for name, (_, work) in sides.items():
            started = time.perf_counter()
            done = work()
            seconds = time.perf_counter() - started
            if counted:
                rates[name].append(done / seconds)
    ours, *others = sides
    return (
        [Side(name, what, Spread.of(rates[name])) for name, (what, _) in sides.items()],
        {
            other: Spread.of([a / b for a, b in zip(rates[ours], rates[other], strict=True)])
            for other in others
        },
    )
