"""DINOv2 starts of random weights: what is drawn, and that every stage takes them."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from stradavit.errors import SettingsError
from stradavit.models.hub import load_encoder
from stradavit.models.stages import acquire_encoder
from stradavit.settings.encoders import ScratchDinov2Encoder

SHAPE = {"image_px": 42, "width": 64, "layers": 2, "heads": 4, "mlp_ratio": 2, "layer_scale": 0.5}
QUERY = "encoder.layer.1.attention.attention.query.weight"


def scratch(**shape: float) -> ScratchDinov2Encoder:
    return ScratchDinov2Encoder.parse({"source": "scratch_dinov2", "architecture": SHAPE | shape})


def draw(folder: Path, seed: int, **shape: float) -> dict[str, torch.Tensor]:
    acquire_encoder("tiny", scratch(**shape), seed, folder)
    return load_file(folder / "model.safetensors")


def test_each_tensor_is_a_function_of_the_seed_and_its_name(tmp_path: Path) -> None:
    # Whatever else draws random numbers in the process.
    torch.manual_seed(5)
    a = draw(tmp_path / "a", 1)
    torch.manual_seed(6)
    b, other = draw(tmp_path / "b", 1), draw(tmp_path / "c", 2)
    with_registers = draw(tmp_path / "d", 1, registers=3)
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert not torch.equal(a[QUERY], other[QUERY])
    assert with_registers.keys() - a.keys() == {"embeddings.register_tokens"}
    assert all(torch.equal(a[name], with_registers[name]) for name in a)
    assert not torch.equal(a[QUERY], a[QUERY.replace("query", "key")])


def test_what_is_drawn(tmp_path: Path) -> None:
    drawn = draw(tmp_path, 3, registers=4, width=256)
    # Xavier: uniform in ± sqrt(6 / (fan in + fan out)).
    bound = (6 / (256 + 256)) ** 0.5
    assert drawn[QUERY].abs().max() <= bound
    assert drawn[QUERY].std().item() == pytest.approx(bound / 3**0.5, rel=0.02)
    positions = drawn["embeddings.position_embeddings"]
    assert positions.shape == (1, 10, 256)
    assert positions.std().item() == pytest.approx(0.02, rel=0.1)
    # Equal registers would get equal gradients and stay equal.
    tokens = drawn["embeddings.register_tokens"][0]
    assert len({tuple(token.tolist()) for token in tokens}) == 4
    for name, tensor in drawn.items():
        if name.endswith("lambda1"):
            assert (tensor == 0.5).all()
        elif name.endswith(("bias", "mask_token")):
            assert (tensor == 0).all()
        elif "norm" in name:
            assert (tensor == 1).all()


@pytest.mark.parametrize("registers", [0, 4])
def test_the_forward_pass_is_transformers(registers: int, tmp_path: Path) -> None:
    from transformers import Dinov2Model, Dinov2WithRegistersModel

    acquire_encoder("tiny", scratch(registers=registers), 1, tmp_path)
    loaded = load_encoder(tmp_path)
    assert loaded.encoder.registers == registers
    assert loaded.preprocessing.mean == (0.0, 0.0, 0.0)
    assert loaded.card["seed"] == 1
    kind = Dinov2WithRegistersModel if registers else Dinov2Model
    theirs = kind.from_pretrained(tmp_path).eval()
    native, larger = torch.rand(2, 1, 42, 42), torch.rand(2, 3, 70, 70)
    with torch.no_grad():
        expected = theirs(native.expand(-1, 3, -1, -1)).last_hidden_state[:, 0]
        torch.testing.assert_close(loaded.embed(native), expected, rtol=1e-5, atol=1e-6)
        # Other sizes than the native one: positions are resized.
        expected = theirs(larger).last_hidden_state[:, 0]
        torch.testing.assert_close(loaded.encoder.readout(larger), expected, rtol=1e-5, atol=1e-6)
    # The readout tells images apart before any training.
    assert loaded.embed(native)[0].sub(loaded.embed(native)[1]).abs().max() > 1e-3


def test_the_defaults_are_dinov2_base() -> None:
    """As in the config.json of facebook/dinov2-base."""
    from stradavit.models.config import dinov2_config

    values = dinov2_config(ScratchDinov2Encoder(source="scratch_dinov2").architecture)
    assert values == {
        "model_type": "dinov2",
        "image_size": 518,
        "patch_size": 14,
        "num_channels": 3,
        "hidden_size": 768,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "mlp_ratio": 4,
        "layerscale_value": 1.0,
    }


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ({"image_px": 50}, "image_px 50 is not divisible by patch_px 14; choose 42"),
        ({"heads": 5}, "a width of 64 cannot be shared by 5 heads"),
        ({"decoder_width": 8}, "decoder_width: unknown key"),
    ],
)
def test_impossible_shapes(shape: dict[str, float], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        scratch(**shape)


def test_blocks_have_layer_wise_rates(tmp_path: Path) -> None:
    from stradavit.evaluation.layer_rates import parameter_groups
    from stradavit.settings.evaluation import FinetuneSettings

    acquire_encoder("tiny", scratch(registers=4), 1, tmp_path)
    encoder = load_encoder(tmp_path).encoder
    groups = parameter_groups(encoder, torch.nn.Linear(64, 2), FinetuneSettings())
    assert len({group["peak"] for group in groups}) == 3  # two blocks and the head
    n_tuned = sum(p.numel() for group in groups for p in group["params"])
    n_mask_token, n_head = 64, 64 * 2 + 2
    assert n_tuned == sum(p.numel() for p in encoder.parameters()) - n_mask_token + n_head
