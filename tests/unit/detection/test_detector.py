"""The detector: built, trained for a step, used, saved, read."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from stradavit.detection.detector import (
    Detector,
    DetectorConfig,
    build_detector,
    detector_config,
    load_detector,
    save_detector,
)
from stradavit.errors import DataError, SettingsError
from stradavit.files import read_json
from stradavit.models.config import EncoderConfig
from stradavit.models.dinov2 import draw_dinov2
from stradavit.models.encoder import ViTEncoder
from stradavit.models.hub import load_encoder, save_encoder
from stradavit.models.preprocessing import Preprocessing
from stradavit.settings.detection import DetectorSettings
from stradavit.settings.encoders import Dinov2Architecture
from tests.unit.detection.encoders import tiny_config, tiny_settings, write_encoder

LOSSES = {"loss_classifier", "loss_box_reg", "loss_objectness", "loss_rpn_box_reg"}


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def target(*boxes: tuple[float, float, float, float]) -> dict[str, Tensor]:
    return {
        "boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        "labels": torch.ones(len(boxes), dtype=torch.int64),
    }


def tiny_detector(folder: Path, **changes: object) -> Detector:
    encoder = write_encoder(folder / "encoder", tiny_config())
    return build_detector(encoder, ["ship", "tank"], tiny_settings(**changes), 1)


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("channels", "registers"), [(1, 0), (3, 2)])
def test_a_training_step_is_finite(
    channels: int, registers: int, precision: torch.dtype, tmp_path: Path
) -> None:
    encoder = write_encoder(tmp_path, tiny_config(registers, channels))
    model = build_detector(encoder, ["ship", "tank"], tiny_settings(), 1)
    assert model.training
    # No box, one box, several; odd sizes, larger and smaller than the network's.
    images = [torch.rand(channels, *size) for size in ((72, 72), (61, 83), (101, 37))]
    targets = [target(), target((3, 4, 40, 50)), target((0, 0, 37, 101), (5.5, 6, 9, 11))]
    with torch.autocast("cpu", precision, enabled=precision != torch.float32):
        for batch in ([0], [1], [0, 1, 2]):
            losses = model([images[i] for i in batch], [targets[i] for i in batch])
            assert losses.keys() == LOSSES
            assert all(torch.isfinite(loss) for loss in losses.values())
    sum(losses.values()).backward()
    for name, p in model.named_parameters():
        assert p.grad is not None and torch.isfinite(p.grad).all(), name
    assert any(p.grad.any() for p in model.backbone.vit.blocks[0].relative.parameters())


def test_boxes_lie_inside_their_images(tmp_path: Path) -> None:
    model = tiny_detector(tmp_path, max_detections=7).eval()
    # Scores of fresh heads are all near 1 / 3; large changes make boxes that reach outside.
    torch.nn.init.normal_(model.roi_heads.box_predictor.bbox_pred.weight, std=1.0)
    sizes = [(72, 72), (61, 83), (200, 30)]
    with torch.no_grad():
        found = model([torch.rand(1, *size) for size in sizes])
    for (ny, nx), image in zip(sizes, found, strict=True):
        assert image.keys() == {"boxes", "scores", "labels"}
        assert len(image["boxes"]) == 7
        x0, y0, x1, y1 = image["boxes"].T
        # Boxes are scaled back in float32.
        assert min(x0.min(), y0.min()) >= 0 and x1.max() <= nx + 1e-4 and y1.max() <= ny + 1e-4
        assert (x1 > x0).all() and (y1 > y0).all()
        assert set(image["labels"].tolist()) <= {1, 2}


def test_images_are_normalised_and_brought_to_one_size(tmp_path: Path) -> None:
    model = tiny_detector(tmp_path)
    image = torch.rand(1, 61, 83)
    batch, targets = model.transform([image, image], [target((8.3, 6.1, 41.5, 61)), target()])
    assert batch.tensors.shape == (2, 1, 72, 72)
    assert batch.image_sizes == [(72, 72), (72, 72)]
    expected = torch.nn.functional.interpolate(
        (image[None] - 0.4) / 0.2, size=(72, 72), mode="bilinear", align_corners=False
    )
    torch.testing.assert_close(batch.tensors[:1], expected)
    torch.testing.assert_close(targets[0]["boxes"], torch.tensor([[7.2, 7.2, 36.0, 72.0]]))


def test_two_images_can_be_learned(tmp_path: Path) -> None:
    model = tiny_detector(
        tmp_path, image_px=48, window=3, drop_path=0.0, pyramid_width=32, head_width=64
    )
    # Pooling boxes takes most of the time; there is one to be found.
    model.roi_heads.fg_bg_sampler.batch_size_per_image = 64
    boxes = [(10, 12, 34, 36), (40, 20, 64, 52)]
    images = torch.full((2, 1, 72, 72), 0.2)
    for image, (x0, y0, x1, y1) in zip(images, boxes, strict=True):
        image[0, y0:y1, x0:x1] = 1.0
    targets = [target(box) for box in boxes]
    targets[1]["labels"] += 1
    optimiser = torch.optim.AdamW(model.parameters(), lr=5e-3)
    torch.manual_seed(0)
    for _ in range(80):
        optimiser.zero_grad()
        sum(model(list(images), targets).values()).backward()
        optimiser.step()
    with torch.no_grad():
        found = model.eval()(list(images))
    for image, box, label in zip(found, boxes, (1, 2), strict=True):
        assert image["scores"][0] > 0.5
        assert image["labels"][0] == label
        assert (image["scores"][1:] < image["scores"][0]).all()
        # Within two pixels of the network's, for sides of 24 and 32 of the image.
        torch.testing.assert_close(
            image["boxes"][0], torch.tensor(box, dtype=torch.float32), rtol=0.0, atol=3.0
        )


def test_encoders_of_one_shape_get_the_same_heads(tmp_path: Path) -> None:
    folders = [write_encoder(tmp_path / str(i), tiny_config(), seed=i) for i in range(2)]
    folders.append(write_encoder(tmp_path / "registers", tiny_config(registers=2)))
    torch.manual_seed(5)
    before = torch.get_rng_state()
    states = [build_detector(f, ["a"], tiny_settings(), 1).state_dict() for f in folders]
    other = build_detector(folders[0], ["a"], tiny_settings(), 2).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    encoders = [load_encoder(folder).encoder.state_dict() for folder in folders]
    fresh = [
        name for name in states[0] if not name.startswith("backbone.vit.") or ".relative." in name
    ]
    for name in fresh:
        assert torch.equal(states[0][name], states[1][name]), name
        assert torch.equal(states[0][name], states[2][name]), name
        if states[0][name].any() and not (states[0][name] == 1).all():
            assert not torch.equal(states[0][name], other[name]), name
    query = "attention.attention.query.weight"
    for state, encoder in zip(states, encoders, strict=True):
        found = state[f"backbone.vit.blocks.1.block.{query}"]
        assert torch.equal(found, encoder[f"encoder.layer.1.{query}"])


def test_fresh_weights_have_their_spread(tmp_path: Path) -> None:
    state = tiny_detector(tmp_path, head_width=400, pyramid_width=64).state_dict()
    for name, std in (
        ("rpn.head.conv.0.0.weight", 0.01),
        ("rpn.head.bbox_pred.weight", 0.01),
        ("roi_heads.box_predictor.cls_score.weight", 0.01),
        ("roi_heads.box_predictor.bbox_pred.weight", 0.001),
        # Xavier: the root of 2 over inputs and outputs.
        ("roi_heads.box_head.fc7.weight", (2 / 800) ** 0.5),
        ("backbone.pyramid.finish.1.2.weight", (2 / (64 * 9 * 2)) ** 0.5),
    ):
        # At least 768 draws: a standard error of 2.6 %.
        assert state[name].std().item() == pytest.approx(std, rel=0.1), name
    assert all(not t.any() for n, t in state.items() if ".relative." in n)
    assert all(not t.any() for n, t in state.items() if n.endswith("bias") and "vit" not in n)
    assert (state["backbone.pyramid.finish.0.1.weight"] == 1).all()


def test_a_detector_is_read_as_it_was_saved(tmp_path: Path) -> None:
    model = tiny_detector(tmp_path)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.01 * torch.randn_like(p))
    save_detector(tmp_path / "detector", model, {"seed": 3, "set": "sar"})
    shutil.rmtree(tmp_path / "encoder")
    before = torch.get_rng_state()
    read, meta = load_detector(tmp_path / "detector")
    assert torch.equal(torch.get_rng_state(), before)
    assert meta == {"seed": 3, "set": "sar"}
    assert not read.training
    assert read.config == model.config
    assert read.config.classes == ("ship", "tank")
    assert read.config.settings == tiny_settings()
    assert (read.config.mean, read.config.std) == ((0.4,), (0.2,))
    assert detector_config(tmp_path / "detector") == (model.config, meta)
    images = [torch.rand(1, 61, 83)]
    with torch.no_grad():
        expected, found = model.eval()(images), read(images)
    for name in ("boxes", "scores", "labels"):
        assert torch.equal(expected[0][name], found[0][name])
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert trained == {name for name, p in read.named_parameters() if p.requires_grad}


@pytest.mark.parametrize("registers", [0, 4])
def test_dinov2_with_its_patch_of_14_px(registers: int, tmp_path: Path) -> None:
    values = {"image_px": 42, "patch_px": 14, "width": 32, "layers": 2, "heads": 2}
    encoder = draw_dinov2(Dinov2Architecture.parse(values | {"registers": registers}), 0)
    save_encoder(tmp_path / "e", encoder, preprocessing=Preprocessing.identity(42, 3), card={})
    settings = tiny_settings(image_px=70, window=0, relative_positions=False)
    before = torch.get_rng_state()
    model = build_detector(tmp_path / "e", ["a"], settings, 1)
    assert torch.equal(torch.get_rng_state(), before)
    losses = model([torch.rand(3, 61, 83)], [target((3, 4, 40, 50))])
    assert all(torch.isfinite(loss) for loss in losses.values())
    save_detector(tmp_path / "d", model, {})
    assert str(tmp_path) not in (tmp_path / "d" / "config.json").read_text()
    before = torch.get_rng_state()
    read, _ = load_detector(tmp_path / "d")
    assert torch.equal(torch.get_rng_state(), before)
    images = [torch.rand(3, 70, 70)]
    with torch.no_grad():
        expected, found = model.eval()(images), read(images)
    assert torch.equal(expected[0]["boxes"], found[0]["boxes"])
    with pytest.raises(
        SettingsError, match=r"image_px is 72; expected .* 14 px. The nearest is 70"
    ):
        build_detector(tmp_path / "e", ["a"], tiny_settings(window=0, relative_positions=False), 1)


def test_a_vit_b_of_the_sar_paper_has_106_million_parameters() -> None:
    config = EncoderConfig()
    settings = DetectorSettings()
    with torch.device("meta"):
        encoder = ViTEncoder(config)
        of_encoder = sum(p.numel() for p in encoder.parameters())
        model = Detector(encoder, DetectorConfig(("a",) * 6, settings, {}, (0.0,) * 3, (1.0,) * 3))
    # Eight blocks with windows of 14, four with all 50 rows and columns; heads of width 64.
    relative = 64 * 2 * (8 * 27 + 4 * 99)
    resize = 4 * 768 * 384 + 384 + 2 * 384 + 4 * 384 * 192 + 192 + 4 * 768 * 384 + 384
    finish = (192 + 384 + 768 + 768) * 256 + 4 * (9 * 256 * 256 + 4 * 256)
    proposals = 9 * 256 * 256 + 256 + 257 * 3 * 5
    boxes = (256 * 49 + 1) * 1024 + 1025 * 1024 + 1025 * 7 * 5
    expected = of_encoder + relative + resize + finish + proposals + boxes
    assert sum(p.numel() for p in model.parameters()) == expected == 105_811_186


def test_a_size_between_patches_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"image_px is 75; .* 8 px. The nearest is 72"):
        tiny_detector(tmp_path, image_px=75)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "vit_mae"}, "model_type is 'vit_mae', expected 'stradavit_detector'"),
        ({"classes": None}, "is not the config.json of a detector"),
        ({"detector": {"image_pixels": 72}}, "image_pixels"),
    ],
)
def test_another_config_is_an_error(
    change: dict[str, object], message: str, tmp_path: Path
) -> None:
    save_detector(tmp_path / "d", tiny_detector(tmp_path), {})
    path = tmp_path / "d" / "config.json"
    path.write_text(json.dumps(read_json(path) | change))
    with pytest.raises(DataError, match=message):
        load_detector(tmp_path / "d")


def test_lacking_files_and_strange_weights_are_errors(tmp_path: Path) -> None:
    folder = tmp_path / "d"
    with pytest.raises(DataError, match=r"is not the config.json of a detector"):
        load_detector(folder)
    save_detector(folder, tiny_detector(tmp_path), {})
    path = folder / "model.safetensors"
    state = load_file(path)
    fewer = {name: t for name, t in state.items() if name != "rpn.head.cls_logits.bias"}
    save_file(fewer, path)
    with pytest.raises(DataError, match=r"missing rpn.head.cls_logits.bias"):
        load_detector(folder)
    save_file(state | {"more": torch.zeros(1)}, path)
    with pytest.raises(DataError, match="unexpected more"):
        load_detector(folder)
    path.write_bytes(b"not weights")
    with pytest.raises(DataError, match="cannot be read as weights"):
        load_detector(folder)
    path.unlink()
    # No other file of weights is looked for, least of all a pickle.
    torch.save(state, folder / "pytorch_model.bin")
    with pytest.raises(DataError, match=r"holds no model.safetensors; .* Train it first"):
        load_detector(folder)


def test_how_much_is_proposed_and_learned_from_is_set(tmp_path: Path) -> None:
    model = tiny_detector(tmp_path, proposals=50, sampled_regions=12, max_detections=7)
    assert [model.rpn._pre_nms_top_n[mode] for mode in ("training", "testing")] == [50, 25]
    assert [model.rpn._post_nms_top_n[mode] for mode in ("training", "testing")] == [50, 25]
    assert model.roi_heads.fg_bg_sampler.batch_size_per_image == 12
    assert model.roi_heads.detections_per_img == 7
