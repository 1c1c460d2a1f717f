"""Starting points brought into `encoders/`: drawn, copied, or from the hub's cache."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from stradavit.errors import DataError, SettingsError
from stradavit.files import sha256_of
from stradavit.models.hub import load_encoder, load_mae
from stradavit.models.stages import acquire_encoder
from stradavit.settings.encoders import HubEncoder, LocalEncoder, ScratchEncoder

SCRATCH = ScratchEncoder.parse(
    {
        "source": "scratch",
        "title": "Tiny",
        "registers": 2,
        "architecture": {
            "image_px": 32,
            "channels": 1,
            "width": 16,
            "layers": 2,
            "heads": 2,
            "mlp_width": 24,
            "decoder_width": 8,
            "decoder_layers": 1,
            "decoder_heads": 2,
            "decoder_mlp_width": 12,
        },
    }
)
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def test_scratch_is_a_function_of_the_seed(tmp_path: Path) -> None:
    for folder, seed in (("a", 1), ("b", 1), ("c", 2)):
        acquire_encoder("tiny", SCRATCH, seed, tmp_path / folder)
    a, b, c = (load_file(tmp_path / f / "model.safetensors") for f in "abc")
    name = "vit.encoder.layer.1.output.dense.weight"
    assert all(torch.equal(a[key], b[key]) for key in a)
    assert not torch.equal(a[name], c[name])
    loaded = load_encoder(tmp_path / "a")
    assert loaded.encoder.config.registers == 2
    assert loaded.encoder.config.final_norm is True
    assert loaded.preprocessing.mean == (0.0,)
    assert loaded.preprocessing.std == (1.0,)
    assert loaded.card["seed"] == 1
    assert loaded.card["settings"]["architecture"]["width"] == 16
    readme = (tmp_path / "a" / "README.md").read_text()
    assert "# Tiny" in readme and "register tokens" in readme
    with pytest.raises(SettingsError, match=r"encoders\.tiny: a scratch start needs a seed"):
        acquire_encoder("tiny", SCRATCH, None, tmp_path / "d")


def test_a_local_folder_is_checked_and_copied(tmp_path: Path) -> None:
    source = tmp_path / "source"
    acquire_encoder("tiny", SCRATCH, 1, source)
    path = source / "model.safetensors"
    # As elsewhere: no prefix, a projector left behind, no flag of ours.
    weights = {k.removeprefix("vit."): v.clone() for k, v in load_file(path).items()}
    save_file(weights | {"projector_head.fc1.bias": torch.zeros(3)}, path)
    config = json.loads((source / "config.json").read_text())
    del config["stradavit_final_norm"], config["seal"]
    (source / "config.json").write_text(json.dumps(config))

    local = LocalEncoder(source="local", path=str(source))
    acquire_encoder("mine", local, None, tmp_path / "copy")
    assert load_encoder(tmp_path / "copy").encoder.config.final_norm is False
    ours, theirs = load_mae(tmp_path / "copy", 2, 0), load_mae(source, 2, 0)
    assert all(
        torch.equal(tensor, theirs.state_dict()[name]) for name, tensor in ours.state_dict().items()
    )
    written = load_file(tmp_path / "copy" / "model.safetensors")
    assert all(name.startswith(("vit.", "decoder.")) for name in written)
    card = load_encoder(tmp_path / "copy").card
    assert card["weights"] == {"file": "model.safetensors", "sha256": sha256_of(path)}
    assert card["title"] == "mine"


def test_a_copy_without_decoder_has_none(tmp_path: Path) -> None:
    source = tmp_path / "source"
    acquire_encoder("tiny", SCRATCH, 1, source)
    path = source / "model.safetensors"
    kept = {k: v.clone() for k, v in load_file(path).items() if not k.startswith("decoder")}
    save_file(kept, path)
    acquire_encoder("mine", LocalEncoder(source="local", path=str(source)), None, tmp_path / "copy")
    assert not any("decoder" in name for name in load_file(tmp_path / "copy" / "model.safetensors"))


def test_a_local_folder_that_is_none(tmp_path: Path) -> None:
    local = LocalEncoder(source="local", path=str(tmp_path / "absent"))
    with pytest.raises(DataError, match=r"absent/config\.json: cannot be read"):
        acquire_encoder("mine", local, None, tmp_path / "copy")
    assert not (tmp_path / "copy" / "model.safetensors").exists()


def test_the_hub_is_read_through_its_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    hub = HubEncoder(source="hub", repo="someone/tiny", revision="main")
    with pytest.raises(DataError, match=r"someone/tiny at main could not be downloaded.*`source: "):
        acquire_encoder("tiny", hub, None, tmp_path / "out")

    repo = tmp_path / "cache" / "models--someone--tiny"
    acquire_encoder("tiny", SCRATCH, 1, repo / "snapshots" / COMMIT)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(COMMIT)
    acquire_encoder("tiny", hub, None, tmp_path / "out")
    assert load_encoder(tmp_path / "out").card["commit"] == COMMIT
