"""The questions the matrix can answer, planned before any result: which runs each compares.

A question is a family: its p-values are corrected together, within a protocol, over all its pairs
and all benchmarks (Holm 1979).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from stradavit.paper.cells import Configuration, Results
from stradavit.paper.deltas import reference, selected_configuration, strongest_dinov2
from stradavit.paper.encoder_rows import configurations, full_label
from stradavit.paper.names import LOSS_TITLES, encoder_title
from stradavit.settings.evaluation import Protocol
from stradavit.settings.training import ContrastiveLoss, ReconstructionLoss

PLAIN_CONTRASTIVE: ContrastiveLoss = "info_nce"
PLAIN_RECONSTRUCTION: ReconstructionLoss = "l2"


@dataclass(frozen=True)
class Pair:
    """Two encoders to be compared; `theirs_title` is what a sentence calls the second."""

    ours: Configuration
    theirs: Configuration
    theirs_title: str


Pairs = Iterator[Pair]


@dataclass(frozen=True)
class Question:
    """A planned question.

    Parameters
    ----------
    letter : of its family
    title : the question in words
    pairs : what it compares on a benchmark under a protocol
    missing : what the matrix lacks if there is no pair
    caveat : what its answer must be read with
    """

    letter: str
    title: str
    pairs: Callable[[Results, Protocol, str], Pairs]
    missing: str
    caveat: str = ""


def _every_run(results: Results) -> Iterator[Configuration]:
    for branch in ("reconstruction", "contrastive", "two_stage"):
        yield from configurations(results, branch)


def _own_start(results: Results, protocol: Protocol, benchmark: str) -> Pairs:
    for run in _every_run(results):
        title = f"its start {encoder_title(results.settings, run.start)}"
        yield Pair(run, run.own_start, title)


def _starting_points(results: Results, protocol: Protocol, benchmark: str) -> Pairs:
    chosen = selected_configuration(results.settings)
    if chosen is None:
        return
    for find, words in ((reference, "the reference"), (strongest_dinov2, "the strongest DINOv2")):
        if rival := find(results, protocol, benchmark):
            title = f"{words} ({encoder_title(results.settings, rival.start)})"
            yield Pair(chosen, Configuration("start", rival.start), title)


def _both_stages(results: Results, protocol: Protocol, benchmark: str) -> Pairs:
    for run in configurations(results, "two_stage"):
        first = replace(run, branch="reconstruction", contrastive_loss=None)
        second = replace(run, branch="contrastive", reconstruction_loss=None)
        yield Pair(run, first, f"its own first stage ({full_label(results, first)})")
        yield Pair(run, second, f"the second stage alone ({full_label(results, second)})")


def _registers(results: Results, protocol: Protocol, benchmark: str) -> Pairs:
    for run in _every_run(results):
        if run.registers:
            yield Pair(run, replace(run, registers=0), "the same without registers (R = 0)")


def _losses(results: Results, protocol: Protocol, benchmark: str) -> Pairs:
    for run in _every_run(results):
        if run.contrastive_loss not in (None, PLAIN_CONTRASTIVE):
            other = replace(run, contrastive_loss=PLAIN_CONTRASTIVE)
            yield Pair(run, other, f"the same with {LOSS_TITLES[PLAIN_CONTRASTIVE]}")
        if run.reconstruction_loss not in (None, PLAIN_RECONSTRUCTION):
            other = replace(run, reconstruction_loss=PLAIN_RECONSTRUCTION)
            yield Pair(run, other, f"the same with {LOSS_TITLES[PLAIN_RECONSTRUCTION]}")


QUESTIONS = (
    Question("a", "Is a run better than its own start?", _own_start, "any run"),
    Question(
        "b",
        "Is the selected model better than the reference, and than the strongest DINOv2?",
        _starting_points,
        "matrix.selected, with matrix.reference or matrix.dinov2_references",
        "The strongest DINOv2 was picked by its score on these very folds, which makes it harder "
        "for the selected model; a selected model that was picked so as well has it easier.",
    ),
    Question(
        "c",
        "Is a two-stage run better than its own first stage, and than the second stage alone?",
        _both_stages,
        "a two-stage run whose first stage or second stage alone is scored too",
    ),
    Question(
        "d",
        "Do registers help?",
        _registers,
        "runs with and without registers that are the same otherwise",
    ),
    Question(
        "e",
        "Is another loss better than the plain one of its kind (InfoNCE, L2)?",
        _losses,
        "runs with InfoNCE or L2 beside another loss that are the same otherwise",
    ),
)
