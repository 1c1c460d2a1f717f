"""The backbone computes what the encoder does, on any size."""

import pytest
import torch

from stradavit.detection.backbone import Backbone, Dinov2Backbone, global_blocks, make_backbone
from stradavit.detection.windows import DropPath
from stradavit.errors import SettingsError
from stradavit.models.dinov2 import draw_dinov2
from stradavit.settings.detection import DetectorSettings
from stradavit.settings.encoders import Dinov2Architecture
from tests.unit.detection.encoders import tiny_config, tiny_encoder, tiny_settings


def plain(**changes: object) -> DetectorSettings:
    """As the encoder is: global attention, no positions, no drop path."""
    values = {"window": 0, "relative_positions": False, "drop_path": 0.0}
    return tiny_settings(**(values | changes))


@pytest.mark.parametrize("final_norm", [True, False])
@pytest.mark.parametrize("registers", [0, 3])
@pytest.mark.parametrize("window", [0, 6, 20])
@pytest.mark.parametrize("size", [(48, 48), (24, 40)])
def test_features_are_the_encoders_patch_tokens(
    size: tuple[int, int], window: int, registers: int, final_norm: bool
) -> None:
    config = tiny_config(registers, 3, final_norm)
    encoder = tiny_encoder(config)
    pixels = torch.randn(2, 3, *size)
    with torch.no_grad():
        tokens = encoder(pixels)[:, 1:]
        found = Backbone(encoder, plain(window=window)).train()(pixels)
    rows, columns = size[0] // 8, size[1] // 8
    assert found.shape == (2, 32, rows, columns)
    for row in range(rows):
        for column in range(columns):
            assert torch.equal(found[:, :, row, column], tokens[:, row * columns + column])


@pytest.mark.parametrize("window", [0, 6])
def test_fresh_positions_change_nothing(window: int) -> None:
    encoder = tiny_encoder(tiny_config(2))
    pixels = torch.randn(2, 1, 48, 48)
    with torch.no_grad():
        tokens = encoder(pixels)[:, 1:]
        found = Backbone(encoder, plain(window=window, relative_positions=True))(pixels)
    torch.testing.assert_close(found.flatten(2).mT, tokens, rtol=1e-4, atol=1e-5)


def test_windows_see_each_other_in_global_blocks_only() -> None:
    settings = tiny_settings(window=4, global_blocks=1)
    blocks = Backbone(tiny_encoder(tiny_config()), settings).eval().blocks
    tokens = torch.randn(1, 1 + 64, 32)
    changed = tokens.clone()
    changed[:, 1:].view(1, 8, 8, 32)[:, 4:, 4:] += torch.randn(32)
    inside = torch.zeros(8, 8, dtype=torch.bool)
    inside[4:, 4:] = True
    reached = []
    with torch.no_grad():
        for block in blocks:
            difference = block(changed, 1, 8, 8) != block(tokens, 1, 8, 8)
            assert difference[:, 0].any(), "the class token sees everything"
            reached.append(difference[0, 1:].any(dim=1).view(8, 8))
    assert all(torch.equal(found, inside) for found in reached[:-1])
    assert reached[-1].all()


def test_checkpointing_changes_no_gradient() -> None:
    gradients = []
    for is_on in (False, True):
        settings = tiny_settings(activation_checkpointing=is_on, drop_path=0.4)
        backbone = Backbone(tiny_encoder(tiny_config(2)), settings).train()
        torch.manual_seed(3)
        pixels = torch.randn(3, 1, 72, 48)
        backbone(pixels).square().mean().backward()
        assert all(p.grad is not None for p in backbone.parameters())
        gradients.append({name: p.grad for name, p in backbone.named_parameters()})
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        assert torch.equal(gradient, gradients[1][name]), name


def test_drop_path_grows_linearly_and_rests_outside_training() -> None:
    settings = tiny_settings(drop_path=0.3)
    backbone = Backbone(tiny_encoder(tiny_config()), settings)
    assert [block.drop_path.rate for block in backbone.blocks] == pytest.approx([0, 0.1, 0.2, 0.3])
    pixels = torch.randn(8, 1, 48, 48)
    with torch.no_grad():
        still = backbone.eval()(pixels)
        assert torch.equal(still, backbone(pixels))
        assert not torch.equal(still, backbone.train()(pixels))


def test_positions_fit_the_windows_and_the_image() -> None:
    settings = tiny_settings(window=4, global_blocks=2, image_px=72)
    backbone = Backbone(tiny_encoder(tiny_config()), settings)
    sizes = [tuple(block.relative.rows.shape) for block in backbone.blocks]
    assert sizes == [(7, 8), (17, 8), (7, 8), (17, 8)]
    assert [block.window for block in backbone.blocks] == [4, 0, 4, 0]
    # A window never needs more than the image has.
    whole = Backbone(tiny_encoder(tiny_config()), tiny_settings(window=14, image_px=72))
    assert whole.blocks[0].relative.rows.shape == (17, 8)


def test_the_residual_stream_is_float32_under_autocast() -> None:
    backbone = Backbone(tiny_encoder(tiny_config(2)), tiny_settings()).eval()
    pixels = torch.randn(2, 1, 72, 72)
    with torch.no_grad():
        expected = backbone(pixels)
        with torch.autocast("cpu", torch.bfloat16):
            block = backbone.blocks[0]
            assert block(torch.randn(1, 1 + 81, 32), 1, 9, 9).dtype == torch.float32
            found = backbone(pixels).float()
    # Normed features of order 1 after four blocks of bfloat16 products.
    torch.testing.assert_close(found, expected, rtol=0.0, atol=0.1)


@pytest.mark.parametrize(
    ("layers", "groups", "expected"),
    [
        (12, 4, {2, 5, 8, 11}),
        (24, 4, {5, 11, 17, 23}),
        (10, 4, {1, 4, 6, 9}),
        (4, 4, {0, 1, 2, 3}),
        (3, 4, {0, 1, 2}),
        (12, 1, {11}),
    ],
)
def test_global_blocks_end_their_groups(layers: int, groups: int, expected: set[int]) -> None:
    assert global_blocks(layers, groups) == expected


@pytest.mark.parametrize("shape", [(1, 1, 48, 44), (1, 1, 44, 48), (1, 3, 48, 48)])
def test_pixels_that_do_not_fit_are_an_error(shape: tuple[int, ...]) -> None:
    backbone = Backbone(tiny_encoder(tiny_config()), tiny_settings())
    with pytest.raises(ValueError, match="expected 1 channels and sides that are multiples of 8"):
        backbone(torch.zeros(shape))


def dinov2_shape(registers: int) -> Dinov2Architecture:
    values = {"image_px": 42, "patch_px": 14, "width": 32, "layers": 3, "heads": 2}
    return Dinov2Architecture.parse(values | {"registers": registers})


@pytest.mark.parametrize("registers", [0, 4])
@pytest.mark.parametrize("size", [(42, 42), (28, 56)])
def test_dinov2_features_are_its_patch_tokens(registers: int, size: tuple[int, int]) -> None:
    encoder = draw_dinov2(dinov2_shape(registers), 0).eval()
    pixels = torch.randn(2, 3, *size)
    with torch.no_grad():
        expected = encoder.model(pixel_values=pixels).last_hidden_state[:, 1 + registers :]
        backbone = make_backbone(encoder, plain())
        found = backbone(pixels)
    assert isinstance(backbone, Dinov2Backbone)
    assert found.shape == (2, 32, size[0] // 14, size[1] // 14)
    assert torch.equal(found.flatten(2).mT, expected)
    with pytest.raises(ValueError, match="multiples of 14 px"):
        backbone(torch.zeros(1, 3, 42, 48))


def test_dinov2_has_drop_path_and_checkpointing() -> None:
    gradients = []
    for is_on in (False, True):
        settings = plain(drop_path=0.4, activation_checkpointing=is_on)
        backbone = Dinov2Backbone(draw_dinov2(dinov2_shape(4), 0), settings).train()
        rates = [m.rate for m in backbone.modules() if isinstance(m, DropPath)]
        assert rates == pytest.approx([0, 0.2, 0.4])
        torch.manual_seed(3)
        backbone(torch.randn(4, 3, 28, 42)).square().mean().backward()
        gradients.append([p.grad for p in backbone.parameters() if p.requires_grad])
    for one, other in zip(*gradients, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("changes", [{"window": 14}, {"relative_positions": True}])
def test_dinov2_refuses_another_attention(changes: dict[str, object]) -> None:
    encoder = draw_dinov2(dinov2_shape(0), 0)
    with pytest.raises(SettingsError, match="Set window: 0 and relative_positions: false"):
        make_backbone(encoder, plain(**changes))
