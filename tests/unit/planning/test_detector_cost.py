"""Operations and parameters of detectors, against those of real ones."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from stradavit.detection.detector import Detector, build_detector
from stradavit.detection.heads import POOLED
from stradavit.models.config import EncoderConfig
from stradavit.models.stages import acquire_encoder
from stradavit.planning.detector_cost import (
    DetectorShape,
    detector_flops,
    detector_parameters,
    learning_flops,
)
from stradavit.planning.networks import Network, read_network
from stradavit.settings.detection import DetectorSettings
from stradavit.settings.encoders import Architecture, ScratchEncoder

CLASSES = ("ship", "tank")
# 40 px in patches of 8: five by five patches, so windows of two or three do not fit.
SHAPE = {"image_px": 32, "patch_px": 8, "width": 32, "layers": 3, "heads": 2, "mlp_width": 48}
SMALL = {"image_px": 40, "global_blocks": 1, "pyramid_width": 8, "head_width": 12}
VARIANTS: list[tuple[dict[str, Any], int]] = [
    ({"window": 2}, 0),
    ({"window": 3, "anchor_ratios": (1.0,)}, 4),
    ({"window": 3, "relative_positions": False}, 4),
    ({"window": 0, "global_blocks": 7}, 0),
    ({"window": 9, "relative_positions": False, "global_blocks": 2}, 0),
]


def drawn(folder: Path, overlay: dict[str, Any], registers: int) -> tuple[Detector, DetectorShape]:
    """A detector, and what the plan knows of it."""
    architecture = Architecture(**SHAPE)
    encoder = ScratchEncoder(source="scratch", architecture=architecture, registers=registers)
    acquire_encoder("tiny", encoder, 1, folder)
    settings = DetectorSettings.parse(SMALL | overlay)
    network = read_network(folder)
    assert network is not None
    model = build_detector(folder, CLASSES, settings, seed=1)
    return model.eval(), DetectorShape(network, settings, len(CLASSES))


def counted(work: Callable[[], Any]) -> float:
    """FLOPs of the matrix products and convolutions that happen."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        work()
    return float(counter.get_total_flops())


@pytest.mark.parametrize(("overlay", "registers"), VARIANTS)
def test_operations_and_parameters_are_those_of_a_detector(
    overlay: dict[str, Any], registers: int, tmp_path: Path
) -> None:
    torch.set_num_threads(1)
    model, shape = drawn(tmp_path / "encoder", overlay, registers)
    assert detector_parameters(shape) == sum(t.numel() for t in model.state_dict().values())

    pixels = torch.zeros(1, 3, 40, 40)
    levels = model.backbone(pixels)
    assert shape.places == tuple(level.shape[-2] * level.shape[-1] for level in levels.values())
    per_image = counted(lambda: model.backbone(pixels))
    per_image += counted(lambda: model.rpn.head(list(levels.values())))
    boxes = torch.zeros(7, shape.settings.pyramid_width, POOLED, POOLED)
    heads = model.roi_heads
    per_box = counted(lambda: heads.box_predictor(heads.box_head(boxes))) / 7
    looked_at = detector_flops(shape, is_learning=False)
    assert looked_at == pytest.approx(per_image + per_box * model.rpn.post_nms_top_n())
    learned = detector_flops(shape, is_learning=True)
    sampler = heads.fg_bg_sampler
    assert learned == pytest.approx(per_image + per_box * sampler.batch_size_per_image)


def test_learning_costs_three_passes_and_checkpointing_a_part_of_a_fourth() -> None:
    network = Network(EncoderConfig(), False, "counted", "")
    shape = DetectorShape(network, DetectorSettings(), 6)
    forward = detector_flops(shape, is_learning=True)
    assert learning_flops(shape) == 3 * forward
    repeating = DetectorSettings(activation_checkpointing=True)
    again = learning_flops(DetectorShape(network, repeating, 6))
    # The blocks are most of it, but for heads and pyramid.
    assert 3.5 * forward < again < 4 * forward


def test_the_detector_of_the_sar_paper() -> None:
    network = Network(EncoderConfig(), False, "counted", "")
    shape = DetectorShape(network, DetectorSettings(), 6)
    assert shape.places == (200**2, 100**2, 50**2, 25**2, 13**2)
    # Of 12 blocks: 4 with 2501 tokens, 8 with windows of 14 that fill 56 by 56 places, each with
    # the class token; 7.08 million weights a token in each.
    weights = 12 * 2501 * (4 * 768**2 + 2 * 768 * 3072)
    everywhere = 4 * (2 * 2501**2 + 2 * 2500 * 50)
    windows = 8 * (2 * (56**2 * 197 + 2501) + 2 * 56**2 * 14)
    blocks = 2 * (weights + 768 * (everywhere + windows))
    rest = detector_flops(shape, is_learning=True) - blocks
    patches = 2 * 2500 * 768 * 768
    pyramid = 2 * (2500 * 4 * (2 * 768 * 384) + 10_000 * 4 * 384 * 192)
    pyramid += 2 * (40_000 * 192 + 10_000 * 384 + (2500 + 625) * 768) * 256
    pyramid += 2 * 9 * 53_125 * 256**2
    proposals = 2 * 53_294 * (9 * 256**2 + 15 * 256)
    boxes = 512 * 2 * (256 * 49 * 1024 + 1024**2 + 5 * 7 * 1024)
    assert rest == pytest.approx(patches + pyramid + proposals + boxes)
