"""A drawn DINOv2 trains by the contrastive grid, at its native size, and is scored."""

from pathlib import Path

import pytest
import torch

from stradavit.models.hub import load_encoder
from stradavit.models.stages import acquire_encoder
from stradavit.settings.encoders import ScratchDinov2Encoder
from stradavit.training.pretrain import pretrain
from tests.unit.training.runs import contrastive, lines, loader, weights


@pytest.mark.parametrize("registers", [0, 2])
def test_it_trains(registers: int, corpus_path: Path, tmp_path: Path) -> None:
    shape = {"image_px": 28, "width": 32, "layers": 2, "heads": 2, "registers": registers}
    block = {"source": "scratch_dinov2", "architecture": shape}
    start, out = tmp_path / "start", tmp_path / "run"
    acquire_encoder("tiny", ScratchDinov2Encoder.parse(block), 1, start)
    # The grid says 0 registers, which leaves those of the architecture as they are.
    settings = contrastive("hcl", registers=0, head_output_norm=False)
    pretrain(settings, corpus_path, start, out, loader())
    before, after = weights(start), weights(out)
    still = {name for name in before if torch.equal(before[name], after[name])}
    # The mask token belongs to DINOv2's own pretraining; key biases have no gradient.
    assert all(name.endswith(("mask_token", "key.bias")) for name in still)
    encoder = load_encoder(out).encoder
    assert (encoder.registers, encoder.image_px) == (registers, 28)
    losses = [line["loss"] for line in lines(out, "step")]
    assert len(losses) == 9 and all(0 < loss < 10 for loss in losses)
