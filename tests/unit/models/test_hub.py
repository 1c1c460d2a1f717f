"""Folders written and read: what is kept, what is tolerated, what is refused."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from stradavit.errors import DataError
from stradavit.files import read_json
from stradavit.models.card import read_card
from stradavit.models.config import EncoderConfig
from stradavit.models.encoder import ViTEncoder
from stradavit.models.hub import load_encoder, load_mae, save_encoder
from stradavit.models.mae import MaskedAutoencoder
from stradavit.models.preprocessing import Preprocessing

IMAGENET = Preprocessing(48, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), "bilinear")
CARD = {"title": "A test", "settings": {"source": "scratch"}, "seed": 3}


def write(folder: Path, config: EncoderConfig, with_decoder: bool = True) -> MaskedAutoencoder:
    torch.manual_seed(0)
    mae = MaskedAutoencoder(ViTEncoder(config))
    torch.nn.init.normal_(mae.vit.embeddings.cls_token)
    if config.registers:
        torch.nn.init.normal_(mae.vit.register_tokens)
    decoder = mae if with_decoder else None
    save_encoder(folder, mae.vit, decoder, preprocessing=IMAGENET, card=CARD)
    return mae.eval()


def edit_config(folder: Path, **values: object) -> None:
    path = folder / "config.json"
    config = read_json(path) | values
    path.write_text(json.dumps({k: v for k, v in config.items() if v != "absent"}))


def edit_weights(folder: Path, edit: object) -> None:
    path = folder / "model.safetensors"
    # Cloned, since what is read may be a window into the file that is written.
    save_file(edit({name: tensor.clone() for name, tensor in load_file(path).items()}), path)


def pixels() -> Tensor:
    return torch.rand(2, 1, 48, 48, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("registers", [0, 4])
def test_write_then_read(tiny: EncoderConfig, registers: int, tmp_path: Path) -> None:
    mae = write(tmp_path, replace(tiny, registers=registers))
    loaded = load_encoder(tmp_path)
    assert loaded.encoder.config == mae.config
    assert loaded.preprocessing == IMAGENET
    assert loaded.card == CARD
    assert not loaded.encoder.training
    state, again = mae.vit.state_dict(), loaded.encoder.state_dict()
    assert state.keys() == again.keys()
    assert all(torch.equal(state[name], again[name]) for name in state)
    x = (pixels().expand(-1, 3, -1, -1) - torch.tensor(IMAGENET.mean).view(3, 1, 1)) / torch.tensor(
        IMAGENET.std
    ).view(3, 1, 1)
    with torch.no_grad():
        torch.testing.assert_close(loaded.embed(pixels()), mae.vit(x)[:, 1:].mean(1))
    reread = load_mae(tmp_path, registers, seed=0)
    assert all(
        torch.equal(tensor, reread.state_dict()[name]) for name, tensor in mae.state_dict().items()
    )
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "README.md",
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
    ]


def test_weights_are_written_last(tiny: EncoderConfig, tmp_path: Path) -> None:
    class Unwritable(ViTEncoder):
        def state_dict(self, *_: object, **__: object) -> dict[str, Tensor]:
            raise RuntimeError("stop here")

    with pytest.raises(RuntimeError, match="stop here"):
        save_encoder(tmp_path, Unwritable(tiny), preprocessing=IMAGENET, card=CARD)
    assert not (tmp_path / "model.safetensors").exists()


def test_a_missing_decoder_is_drawn_from_the_seed(
    tiny: EncoderConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    mae = write(tmp_path, tiny, with_decoder=False)
    caplog.set_level("INFO")
    first, again, other = (load_mae(tmp_path, 0, seed) for seed in (1, 1, 2))
    assert "has no decoder; drawing a fresh one" in caplog.text
    assert torch.equal(first.vit.embeddings.cls_token, mae.vit.embeddings.cls_token)
    assert torch.equal(first.decoder.decoder_pred.weight, again.decoder.decoder_pred.weight)
    assert not torch.equal(first.decoder.decoder_pred.weight, other.decoder.decoder_pred.weight)


def test_registers_can_be_added_but_not_changed(tiny: EncoderConfig, tmp_path: Path) -> None:
    mae = write(tmp_path / "plain", tiny)
    grown = load_mae(tmp_path / "plain", 4, seed=1)
    assert grown.config == replace(tiny, registers=4)
    tokens = grown.vit.register_tokens
    assert tokens.shape == (1, 4, 32)
    assert 0.01 < tokens.std() < 0.03
    assert torch.equal(grown.decoder.mask_token, mae.decoder.mask_token)
    alone = load_encoder(tmp_path / "plain", 4, seed=1).encoder
    assert torch.equal(alone.register_tokens, tokens)
    assert not torch.equal(load_mae(tmp_path / "plain", 4, seed=2).vit.register_tokens, tokens)
    write(tmp_path / "four", replace(tiny, registers=4))
    for wanted in (0, 2):
        with pytest.raises(DataError, match=f"has 4 register tokens, {wanted} are wanted"):
            load_mae(tmp_path / "four", wanted, seed=1)


def test_registers_the_config_does_not_count_are_refused(
    tiny: EncoderConfig, tmp_path: Path
) -> None:
    write(tmp_path, replace(tiny, registers=4))
    edit_config(tmp_path, n_registers=0)
    for registers in (None, 4):
        with pytest.raises(DataError, match="has register_tokens although n_registers is 0"):
            load_encoder(tmp_path, registers)


def test_the_released_checkpoint_skips_the_final_norm(tiny: EncoderConfig, tmp_path: Path) -> None:
    mae = write(tmp_path, replace(tiny, registers=4, final_norm=False), with_decoder=False)
    # The published file: no key of ours, no `vit.` on some exports, a projector left behind.
    edit_config(tmp_path, stradavit_final_norm="absent", drop_path_rate=0.1, mask_ratio=0.0)
    edit_weights(
        tmp_path,
        lambda weights: (
            {k.removeprefix("vit."): v for k, v in weights.items()}
            | {"projector_head.fc1.weight": torch.zeros(2, 2)}
        ),
    )
    loaded = load_encoder(tmp_path)
    assert loaded.encoder.config.final_norm is False
    x = torch.randn(2, 3, 48, 48)
    with torch.no_grad():
        assert torch.equal(loaded.encoder(x), mae.vit(x))
    save_encoder(tmp_path / "copy", loaded.encoder, preprocessing=loaded.preprocessing, card={})
    assert load_encoder(tmp_path / "copy").encoder.config.final_norm is False


def test_new_models_with_registers_keep_the_final_norm(tiny: EncoderConfig, tmp_path: Path) -> None:
    write(tmp_path, replace(tiny, registers=4))
    assert json.loads((tmp_path / "config.json").read_text())["stradavit_final_norm"] is True
    assert load_encoder(tmp_path).encoder.config.final_norm is True


def test_pickled_weights_are_read_only_as_tensors(tiny: EncoderConfig, tmp_path: Path) -> None:
    mae = write(tmp_path, tiny)
    path = tmp_path / "model.safetensors"
    torch.save(load_file(path), tmp_path / "pytorch_model.bin")
    path.unlink()
    loaded = load_encoder(tmp_path).encoder
    assert torch.equal(loaded.embeddings.cls_token, mae.vit.embeddings.cls_token)

    torch.save({"code": Path("x")}, tmp_path / "pytorch_model.bin")
    with pytest.raises(DataError, match=r"pytorch_model\.bin: is refused as weights"):
        load_encoder(tmp_path)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda w: {k: v for k, v in w.items() if "layernorm.bias" not in k},
         r"missing vit\.layernorm\.bias|missing layernorm\.bias"),
        (lambda w: w | {"vit.encoder.extra": torch.zeros(1)}, r"unexpected (vit\.)?encoder\.extra"),
        (lambda w: w | {"vit.layernorm.bias": torch.zeros(7)}, r"has shape \(7,\), expected \(32,"),
        (lambda w: w | {"layernorm.bias": torch.zeros(32)}, r"vit\.layernorm\.bias twice"),
        (lambda w: w | {"vit.layernorm.bias": torch.full((32,), torch.nan)}, "not finite"),
        (lambda w: {k: v for k, v in w.items() if "register" not in k}, "has no register_tokens"),
        (lambda w: {k: v for k, v in w.items() if "decoder_pred" not in k},
         r"missing decoder\.decoder_pred"),
    ],
)  # fmt: skip
def test_weights_that_do_not_fit_are_named(
    tiny: EncoderConfig, edit: object, message: str, tmp_path: Path
) -> None:
    write(tmp_path, replace(tiny, registers=4))
    edit_weights(tmp_path, edit)
    with pytest.raises(DataError, match=message):
        load_mae(tmp_path, 4, seed=0)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"use_dino_encoder": True}, "use_dino_encoder is True"),
        ({"hidden_act": "relu"}, "hidden_act is 'relu'"),
        ({"model_type": "resnet"}, "model_type is 'resnet'; expected one of vit_mae, dinov2"),
        ({"hidden_size": "32"}, "hidden_size is '32'; expected a whole number"),
        ({"hidden_size": -4}, "hidden_size is -4"),
        ({"num_attention_heads": 5}, "multiple of 4 and of its 5 heads"),
        ({"image_size": [48, 64]}, r"image_size is \[48, 64\]"),
        ({"image_size": 50}, "image_size 50 is not a multiple"),
        ({"n_registers": True}, "n_registers is True"),
        ({"layer_norm_eps": None}, "layer_norm_eps is None"),
    ],
)
def test_configs_that_make_no_sense_are_named(
    tiny: EncoderConfig, values: dict[str, object], message: str, tmp_path: Path
) -> None:
    write(tmp_path, tiny)
    edit_config(tmp_path, **values)
    with pytest.raises(DataError, match=message):
        load_encoder(tmp_path)


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("config.json", None, r"config\.json: cannot be read"),
        ("config.json", "{", r"config\.json: cannot be read"),
        ("config.json", "[1]", "expected a JSON object, found list"),
        ("model.safetensors", None, "holds neither model.safetensors nor pytorch_model.bin"),
        ("model.safetensors", "<html>", "cannot be read as weights"),
        ("preprocessor_config.json", None, r"preprocessor_config\.json: cannot be read"),
        ("preprocessor_config.json", '{"image_mean": [0.5]}', "expected a list of 3 numbers"),
        ("preprocessor_config.json",
         '{"image_mean": [0, 0, 0], "image_std": [1, 0, 1]}', "expected positive numbers"),
        ("preprocessor_config.json",
         '{"image_mean": [0, 0, 0], "image_std": [1, 1, 1], "resample": 0}', "resample is 0"),
    ],
)  # fmt: skip
def test_damaged_folders_are_named(
    tiny: EncoderConfig, file: str, text: str | None, message: str, tmp_path: Path
) -> None:
    write(tmp_path, tiny)
    (tmp_path / file).unlink()
    if text is not None:
        (tmp_path / file).write_text(text)
    with pytest.raises(DataError, match=message):
        load_encoder(tmp_path)


def test_cards_from_elsewhere_say_nothing(tmp_path: Path) -> None:
    assert read_card(tmp_path) == {}
    (tmp_path / "README.md").write_text("# A model\n```json\n{broken\n```\n")
    assert read_card(tmp_path) == {}


def test_normalise_repeats_the_channel() -> None:
    x = pixels()
    found = IMAGENET.normalise(x, 3)
    assert found.shape == (2, 3, 48, 48)
    torch.testing.assert_close(found[:, 1], (x[:, 0] - 0.456) / 0.224)
    assert torch.equal(Preprocessing.identity(48, 1).normalise(x, 1), x)
    with pytest.raises(ValueError, match="3 this preprocessing is for"):
        IMAGENET.normalise(x, 1)
    unnormalised = Preprocessing.from_hf({"do_normalize": False}, 48, 3, "here")
    assert torch.equal(unnormalised.normalise(x, 3), x.expand(-1, 3, -1, -1))
