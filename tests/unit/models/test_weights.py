"""Weight files carry their own checksum, and the same tensors give the same file."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from stradavit.errors import DataError
from stradavit.models.weights import check_weights, read_weights, write_weights

TENSORS = {
    "b.weight": torch.arange(12.0).reshape(3, 4),
    "a.bias": torch.tensor([1.5, -2.0], dtype=torch.bfloat16),
    "count": torch.tensor(7),
    "none": torch.zeros(0, 3),
}


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "new" / "model.safetensors"
    write_weights(path, TENSORS)
    found = read_weights(path)
    assert found.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        wanted = tensor.float() if tensor.is_floating_point() else tensor
        assert torch.equal(found[name], wanted)
    # Others read it too: the framework is named, and the tensors are as they were.
    assert load_file(path)["a.bias"].dtype == torch.bfloat16
    with safe_open(path, framework="pt") as file:
        assert file.metadata()["format"] == "pt"
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_the_same_tensors_give_the_same_bytes_in_every_process(tmp_path: Path) -> None:
    code = (
        "import sys, torch; from pathlib import Path; "
        "from stradavit.models.weights import write_weights; "
        "write_weights(Path(sys.argv[1]), {'a': torch.arange(5.0), 'b': torch.ones(2, 2)})"
    )
    for number in range(2):
        subprocess.run([sys.executable, "-c", code, tmp_path / f"{number}.safetensors"], check=True)
    files = [path.read_bytes() for path in sorted(tmp_path.iterdir())]
    # Within a process safetensors shuffles anew for each file.
    for _ in range(8):
        write_weights(tmp_path / "x.safetensors", {"b": torch.ones(2, 2), "a": torch.arange(5.0)})
        files.append((tmp_path / "x.safetensors").read_bytes())
    assert len(set(files)) == 1


def test_every_flipped_bit_of_the_tensors_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    write_weights(path, {"weight": torch.arange(6.0).reshape(2, 3)})
    whole = path.read_bytes()
    for place in range(len(whole) - 24, len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(DataError, match=r"model\.safetensors: the weights have changed.*Delet"):
            read_weights(path)


def test_every_flipped_byte_of_the_header_is_noticed_or_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    tensors = {"weight": torch.arange(6.0).reshape(2, 3)}
    write_weights(path, tensors)
    whole = path.read_bytes()
    n_noticed = 0
    for place in range(len(whole) - 24):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        try:
            found = read_weights(path)
        except DataError as error:
            assert str(error).startswith(f"{path}: ")
            n_noticed += 1
        else:
            # The name of an entry that says nothing about the tensors.
            assert torch.equal(found["weight"], tensors["weight"])
    assert n_noticed > 100


def test_published_files_have_no_checksum_and_are_taken_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file({"weight": torch.ones(2)}, path)
    check_weights(path)
    assert torch.equal(read_weights(path)["weight"], torch.ones(2))


def test_an_absent_or_cut_file_is_told(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    with pytest.raises(DataError, match=r"cannot be read as weights.*Delete it, and fetch"):
        check_weights(path)
    write_weights(path, TENSORS)
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(DataError, match="cannot be read as weights"):
        check_weights(path)
