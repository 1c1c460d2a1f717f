"""DINOv2 with and without registers: read, read out, trained, written."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from stradavit.errors import DataError
from stradavit.models.hub import load_encoder, load_mae, save_encoder

KINDS = ("dinov2", "dinov2_with_registers")


def write(folder: Path, kind: str) -> torch.nn.Module:
    from transformers import (
        Dinov2Config,
        Dinov2Model,
        Dinov2WithRegistersConfig,
        Dinov2WithRegistersModel,
    )

    shape = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 42,
        "patch_size": 14,
    }
    torch.manual_seed(0)
    if kind == "dinov2":
        model = Dinov2Model(Dinov2Config(**shape))
    else:
        model = Dinov2WithRegistersModel(Dinov2WithRegistersConfig(**shape, num_register_tokens=4))
    model.save_pretrained(folder)
    # As published: the processor's size is a crop of photographs, not the network's.
    processor = {
        "image_mean": [0.485, 0.456, 0.406],
        "image_std": [0.229, 0.224, 0.225],
        "resample": 3,
        "size": {"shortest_edge": 256},
        "crop_size": {"height": 224, "width": 224},
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return model.eval()


@pytest.mark.parametrize("kind", KINDS)
def test_readout_is_the_normed_class_token(kind: str, tmp_path: Path) -> None:
    theirs, loaded = write(tmp_path, kind), load_encoder(tmp_path)
    encoder = loaded.encoder
    assert (encoder.width, encoder.channels, encoder.image_px) == (32, 3, 42)
    assert encoder.registers == (0 if kind == "dinov2" else 4)
    assert loaded.preprocessing.image_px == 42
    assert loaded.preprocessing.resample == "bicubic"
    x = torch.randn(2, 3, 42, 42)
    with torch.no_grad():
        expected = theirs(x).last_hidden_state[:, 0]
        torch.testing.assert_close(encoder.readout(x), expected, rtol=1e-5, atol=1e-6)
        assert encoder.readout(torch.randn(2, 3, 70, 70)).shape == (2, 32)
        assert loaded.embed(torch.rand(2, 1, 42, 42)).shape == (2, 32)


@pytest.mark.parametrize("kind", KINDS)
def test_it_trains_and_is_written_under_published_names(kind: str, tmp_path: Path) -> None:
    write(tmp_path / "start", kind)
    loaded = load_encoder(tmp_path / "start")
    encoder = loaded.encoder.train()
    encoder(torch.randn(2, 3, 42, 42)).square().mean().backward()
    trained = [p for p in encoder.parameters() if p.requires_grad]
    assert all(p.grad is not None for p in trained)
    with torch.no_grad():
        for p in trained:
            p.add_(0.01)
    save_encoder(tmp_path / "run", encoder, preprocessing=loaded.preprocessing, card={"a": 1})
    start = load_file(tmp_path / "start" / "model.safetensors")
    run = load_file(tmp_path / "run" / "model.safetensors")
    assert start.keys() == run.keys()
    assert "encoder.layer.0.attention.attention.query.weight" in run
    name = "layernorm.bias"
    torch.testing.assert_close(run[name], start[name] + 0.01)
    again = load_encoder(tmp_path / "run")
    assert again.card == {"a": 1}
    x = torch.randn(2, 3, 42, 42)
    with torch.no_grad():
        assert torch.equal(again.encoder.readout(x), encoder.eval().readout(x))
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == [
        "README.md",
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
    ]


def test_weights_that_do_not_fit_are_named(tmp_path: Path) -> None:
    write(tmp_path, "dinov2")
    path = tmp_path / "model.safetensors"
    weights = load_file(path)
    del weights["layernorm.bias"]
    save_file(weights | {"strange": torch.zeros(1)}, path, metadata={"format": "pt"})
    with pytest.raises(DataError, match=r"missing layernorm\.bias; unexpected strange"):
        load_encoder(tmp_path)
    path.write_text("<html>")
    with pytest.raises(DataError, match="cannot be read as"):
        load_encoder(tmp_path)


def test_what_dinov2_cannot_do_is_said(tmp_path: Path) -> None:
    write(tmp_path, "dinov2_with_registers")
    assert load_encoder(tmp_path, registers=0).encoder.registers == 4
    with pytest.raises(DataError, match="has 4 register tokens, 2 are wanted"):
        load_encoder(tmp_path, registers=2)
    with pytest.raises(DataError, match="has no reconstruction decoder"):
        load_mae(tmp_path, 0, seed=0)
