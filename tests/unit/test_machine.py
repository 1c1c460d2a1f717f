"""The record of who made a result: enough to tell machines apart, nothing that names one."""

import json
import platform
import socket
import subprocess
from pathlib import Path

import pytest
import torch

from stradavit import machine, provenance
from stradavit.files import sha256_of


def test_the_record_is_the_same_each_time_and_names_no_host() -> None:
    record = machine.maker()
    assert record == machine.maker()
    assert set(record) == {"version", "commit", "machine", "libraries"}
    assert set(record["machine"]) == {"system", "processor", "python"}
    assert record["machine"]["python"] == platform.python_version()
    assert {"torch", "numpy", "h5py", "astropy"} <= set(record["libraries"])
    if len(socket.gethostname()) > 3:
        assert socket.gethostname() not in json.dumps(record)


def test_a_gpu_is_described_where_one_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA H100")
    monkeypatch.setattr(machine, "_driver", lambda: "550.54.15")
    gpu = machine.maker("cuda")["machine"]
    assert (gpu["gpu"], gpu["driver"]) == ("NVIDIA H100", "550.54.15")
    assert "cuda" in gpu
    assert "gpu" not in machine.maker("cpu")["machine"]


@pytest.mark.parametrize(
    ("text", "driver"),
    [
        ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar 5\n", "550.54.15"),
        (
            "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.86.10  Release Build\n",
            "570.86.10",
        ),
        ("something else", ""),
    ],
)
def test_the_driver_is_read_from_the_kernel(
    text: str, driver: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: text)
    assert machine._driver() == driver


def test_an_unknown_processor_is_named_by_its_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> str:
        raise OSError

    monkeypatch.setattr(Path, "read_text", refuse)
    assert machine._processor()
    assert machine._driver() == ""


def test_the_commit_says_whether_the_package_was_edited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "REPOSITORY", tmp_path)
    machine.commit.cache_clear()
    try:
        assert machine.commit() == "", "not a checkout"
        (tmp_path / "stradavit").mkdir()
        (tmp_path / "stradavit" / "a.py").write_text("a = 1\n")
        who = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
        for words in (["init", "-q"], ["add", "."], [*who, "commit", "-q", "-m", "first"]):
            subprocess.run(["git", *words], cwd=tmp_path, check=True)
        machine.commit.cache_clear()
        clean = machine.commit()
        assert len(clean) == 40
        (tmp_path / "elsewhere.txt").write_text("no part of the package")
        machine.commit.cache_clear()
        assert machine.commit() == clean
        (tmp_path / "stradavit" / "b.py").write_text("b = 1\n")
        machine.commit.cache_clear()
        assert machine.commit() == f"{clean}+"
        (tmp_path / ".git" / "HEAD").unlink()
        machine.commit.cache_clear()
        assert machine.commit() == "", "git cannot say"
    finally:
        machine.commit.cache_clear()


def test_a_note_lies_beside_its_file_and_leaves_it_alone(tmp_path: Path) -> None:
    path = tmp_path / "shard.h5"
    path.write_bytes(b"pixels")
    provenance.note_maker(path, "stradavit.cutouts.stages", settings={"seed": 3})
    note = provenance.read_maker(path)
    assert path.read_bytes() == b"pixels"
    assert note == machine.maker() | {
        "file": "shard.h5",
        "sha256": sha256_of(path),
        "module": "stradavit.cutouts.stages",
        "code": provenance.code_hash("stradavit.cutouts.stages"),
        "settings": {"seed": 3},
    }
    for broken in ("", "[]", "{"):
        provenance.maker_path(path).write_text(broken)
        assert provenance.read_maker(path) == {}
    provenance.maker_path(path).unlink()
    assert provenance.read_maker(path) == {}
