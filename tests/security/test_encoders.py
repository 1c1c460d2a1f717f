"""Encoder folders from elsewhere: weights and shapes, and nothing that runs or fetches."""

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from stradavit.errors import DataError
from stradavit.models import dinov2
from stradavit.models.config import EncoderConfig, known_dinov2
from stradavit.models.hub import load_encoder, read_json_object
from stradavit.models.weights import read_weights
from tests.unit.models.test_dinov2 import write

HUGE = 10**9


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("num_hidden_layers", HUGE), ("decoder_num_hidden_layers", 1001), ("hidden_size", HUGE),
        ("n_registers", HUGE), ("image_size", HUGE), ("num_channels", 2**16 + 1),
    ],
)  # fmt: skip
def test_networks_of_no_size_are_not_built(key: str, value: int) -> None:
    with pytest.raises(DataError, match=rf"c\.json: {key} is above \d+, which is more than any"):
        EncoderConfig.from_hf({key: value}, "c.json")


def test_positions_without_number_are_not_made() -> None:
    with pytest.raises(DataError, match="image_size 65536 in patches of 1; expected at most"):
        EncoderConfig.from_hf({"image_size": 65536, "patch_size": 1}, "c.json")
    values = {"model_type": "dinov2", "image_size": 65536, "patch_size": 1}
    with pytest.raises(DataError, match="image_size 65536 in patches of 1"):
        known_dinov2(values, "c.json")
    with pytest.raises(DataError, match="image_size 224 in patches of 0"):
        known_dinov2({"model_type": "dinov2", "patch_size": 0, "image_size": 224}, "c.json")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('{"hidden_size": ' + "9" * 5000 + "}", "Exceeds the limit"),
        ("[" * 100_000, "recursion"),
        ("[1]", "expected a JSON object, found list"),
        (" " * (2**24 + 1), "at most 16777216 are read"),
    ],
)
def test_odd_json_is_named(tmp_path: Path, text: str, found: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(DataError, match=rf"config\.json: .*{found}"):
        read_json_object(tmp_path / "config.json")


def test_transformers_gets_the_shape_and_the_weights_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, "dinov2")
    config = json.loads((tmp_path / "config.json").read_text())
    config |= {
        "auto_map": {"AutoModel": "evil.Model"},
        "quantization_config": {"quant_method": "bitsandbytes", "load_in_8bit": True},
        "attn_implementation": "someone/kernels",
        "_attn_implementation": "someone/kernels",
        "_name_or_path": "someone/other",
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "evil.py").write_text("raise SystemExit")
    adapter = {"base_model_name_or_path": "someone/other", "peft_type": "LORA"}
    (tmp_path / "adapter_config.json").write_text(json.dumps(adapter))
    seen: dict[str, Any] = {}
    real = dinov2._transformers_class("dinov2").from_pretrained

    def noted(folder: Path, **options: Any) -> Any:
        seen["files"] = sorted(path.name for path in folder.iterdir())
        seen["config"] = json.loads((folder / "config.json").read_text())
        return real(folder, **options)

    monkeypatch.setattr(dinov2._transformers_class("dinov2"), "from_pretrained", noted)
    assert load_encoder(tmp_path).encoder.width == 32
    assert seen["files"] == ["config.json", "model.safetensors"]
    assert set(seen["config"]) & {"auto_map", "quantization_config", "_name_or_path"} == set()
    assert not any("attn_impl" in key for key in seen["config"])


@pytest.mark.parametrize("value", [[1], {"a": 1}, None])
def test_values_of_a_dinov2_are_single(value: object) -> None:
    with pytest.raises(DataError, match=r"c\.json: hidden_act is a .*, not one value"):
        known_dinov2({"model_type": "dinov2", "hidden_act": value}, "c.json")


# -- weights ------------------------------------------------------------------------------------


def test_one_number_is_no_matrix(tmp_path: Path) -> None:
    path = tmp_path / "pytorch_model.bin"
    torch.save({"a": torch.zeros(1).expand(10**6, 10**6)}, path)
    assert path.stat().st_size < 5000
    with pytest.raises(DataError, match="'a' is no plain tensor of numbers in the file, or claims"):
        read_weights(path)


def test_sparse_tensors_are_no_weights(tmp_path: Path) -> None:
    path = tmp_path / "pytorch_model.bin"
    indices = torch.tensor([[10**6 - 1], [10**6 - 1]])
    shape = (10**6, 10**6)
    tensor = torch.sparse_coo_tensor(indices, torch.ones(1), shape, check_invariants=True)
    torch.save({"a": tensor}, path)
    with pytest.raises(DataError, match=r"pytorch_model\.bin: .*('a' is no plain tensor|refused)"):
        read_weights(path)


def test_packed_weights_are_refused_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, path = tmp_path / "plain.bin", tmp_path / "pytorch_model.bin"
    torch.save({"a": torch.zeros(10**6)}, plain)
    with (
        zipfile.ZipFile(plain) as source,
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out,
    ):
        for name in source.namelist():
            out.writestr(name, source.read(name))
    assert path.stat().st_size < 50_000
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("it was read"))
    with pytest.raises(DataError, match="is packed, which no program that writes weights does"):
        read_weights(path)


@pytest.mark.parametrize(
    "change",
    [
        {"shape": [10**9, 10**9]},
        {"data_offsets": [0, 10**15]},
        {"data_offsets": [4, 0]},
        {"data_offsets": [-8, 8]},
        {"shape": [-1]},
    ],
    ids=["shape", "end", "backwards", "negative", "negative shape"],
)
def test_headers_of_safetensors_are_checked_by_their_reader(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    path = tmp_path / "model.safetensors"
    save_file({"a": torch.ones(4)}, path)
    raw = path.read_bytes()
    header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
    header["a"] |= change
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(16))
    with pytest.raises(DataError, match=r"model\.safetensors: cannot be read as weights"):
        read_weights(path)


def test_tensors_of_safetensors_do_not_overlap(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    tensors = {name: {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]} for name in "ab"}
    text = json.dumps(tensors).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(16))
    with pytest.raises(DataError, match="cannot be read as weights"):
        read_weights(path)


def test_good_weights_are_read(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(4)}, tmp_path / "pytorch_model.bin")
    save_file({"a": torch.ones(4)}, tmp_path / "model.safetensors")
    for path in tmp_path.iterdir():
        assert torch.equal(read_weights(path)["a"], torch.ones(4))
    assert set(load_file(tmp_path / "model.safetensors")) == {"a"}
