"""A run says on which kinds of machine it has been, however often it was stopped."""

import torch
from torch import nn

from stradavit.settings.training import ReconstructionSettings
from stradavit.training.checkpoint import RunState
from stradavit.training.optimiser import adamw

HERE, THERE = {"machine": {"processor": "here"}}, {"machine": {"processor": "there"}}


def run_on(*makers: dict[str, dict[str, str]], saved: dict | None = None) -> RunState:
    modules: dict[str, nn.Module] = {"net": nn.Linear(2, 2)}
    optimiser, _ = adamw(modules, ReconstructionSettings().optimiser)
    state = RunState(modules, optimiser, "code")
    state.restore(saved)
    for maker in makers:
        state.add_maker(maker)
    return state


def test_going_on_as_before_leaves_no_trace_and_another_machine_does() -> None:
    torch.manual_seed(0)
    first = run_on(HERE)
    assert run_on(HERE, saved=first.to_dict()).makers == [HERE]
    moved = run_on(THERE, saved=first.to_dict())
    assert moved.makers == [HERE, THERE]
    assert run_on(HERE, saved=moved.to_dict()).makers == [HERE, THERE]


def test_a_checkpoint_of_before_has_no_makers() -> None:
    saved = run_on(HERE).to_dict()
    del saved["makers"]
    assert run_on(THERE, saved=saved).makers == [THERE]
