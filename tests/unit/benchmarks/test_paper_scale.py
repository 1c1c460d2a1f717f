"""The plan's arithmetic, and what it calls measured."""

import pytest

from benchmarks.machine import NO_GPU
from benchmarks.paper_scale import PEAK_FLOPS, phases, render
from stradavit.models.config import EncoderConfig


def test_hours_follow_from_rates() -> None:
    for phase in phases(EncoderConfig(registers=4)):
        operations = 35 * 590_654 * phase.views * phase.view_flops
        assert phase.hours == pytest.approx(operations / (phase.utilisation * PEAK_FLOPS) / 3600)


def test_what_is_measured_is_called_so_and_the_rest_planned() -> None:
    assert "Planned, not measured" in render({})
    assert "has not been measured" in render({})
    side = {"rate": {"median": 2000.0}}
    shards = {
        "machine": {"processor": "a processor", "cores": 2},
        "comparisons": [{"name": "reads, 512 px", "sides": [side]}],
    }
    text = render({"shards": shards})
    assert "Measured on a processor with 2 cores: 2,000 cutouts/s" in text
    # 6,566 cutouts/s at 1,000 a thread.
    assert "7 of them feed the hungriest phase (reconstruction" in text


def test_a_gpu_that_was_measured_is_set_beside_the_plan() -> None:
    step = {
        "machine": {"gpu": "NVIDIA H100"},
        "comparisons": [
            {
                "name": "training step: contrastive ViT-B/16 at 224 px",
                "sides": [{"rate": {"median": 1500.0}}],
            }
        ],
    }
    text = render({"training_step": step})
    assert "Measured on NVIDIA H100" in text and "- contrastive: 1,500 cutouts/s of 2,0" in text
    step["machine"]["gpu"] = NO_GPU
    assert "have not been measured: that needs a GPU" in render({"training_step": step})
