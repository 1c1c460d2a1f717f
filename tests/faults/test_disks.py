"""Disks that are full, read-only or out of reach: one message with file and remedy."""

import errno
import logging
import os
import re
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from stradavit import cli
from stradavit.cutouts.hdf5 import new_atomic_file
from stradavit.disk import TROUBLES, disk_error
from stradavit.errors import DataError, DiskError
from stradavit.files import atomic_path, write_json

from .conftest import SmallDisk
from .stages import STAGES, contents, run

FULL = r"the disk is full \(No space left on device\); [\d,]+ bytes are free in .*Free space there"
# Such as first write what is beside their output may meet the full disk there.
LEAVES = {"acquire-part", "acquire-benchmark", "acquire-detection", "train-detector"}


# TensorBoard writes from a thread, which says so too.
@pytest.mark.filterwarnings(
    "ignore:Exception in thread:pytest.PytestUnhandledThreadExceptionWarning"
)
@pytest.mark.parametrize("stage", STAGES)
def test_a_full_disk_is_named_and_the_rerun_goes_on(
    stage: str,
    world: Path,
    small_disk: SmallDisk,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.ERROR)
    folder = small_disk.path / "out"
    folder.mkdir()
    small_disk.resize(8)
    filler = small_disk.path / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while file.write(bytes(1024)):
                pass
        except OSError:
            pass
    assert run(stage, world, folder) == 1
    message = capfd.readouterr().err
    assert re.search(f"stradavit {stage}: {small_disk.path}.*{FULL}", message), message
    if stage not in LEAVES:
        assert not any(path.is_file() for path in folder.rglob("*"))
    assert not (folder / STAGES[stage].output).exists()

    filler.unlink()
    small_disk.resize(65536)
    assert run(stage, world, folder) == 0
    assert run(stage, world, tmp_path / "elsewhere") == 0
    found, expected = contents(folder), contents(tmp_path / "elsewhere")
    assert sorted(found) == sorted(expected)
    if stage not in ("acquire-detection", "cut-corpus"):  # which name where files lie
        assert found == expected


@pytest.mark.parametrize("kib", [8, 64, 200, 300, 400, 500])
def test_hdf5_survives_a_disk_that_fills_up_anywhere(small_disk: SmallDisk, kib: int) -> None:
    """HDF5 itself dies of a file it cannot close, some time later."""

    def write(path: Path) -> None:
        with new_atomic_file(path) as file:
            pixels = file.create_dataset("cutouts", (0, 64, 64), "<u2", maxshape=(None, 64, 64),
                                         chunks=(1, 64, 64))  # fmt: skip
            for number in range(40):
                file.check()
                pixels.resize(number + 1, axis=0)
                pixels[number] = number
            words = [f"{number:>40}" for number in range(2000)]
            file.create_dataset("names", data=words, dtype=h5py.string_dtype())
            for number in range(50):
                file[f"column{number}"] = np.arange(100)

    path = small_disk.path / "a.h5"
    small_disk.resize(kib)
    with pytest.raises(DiskError, match=f"{path}: {FULL}"):
        write(path)
    assert not list(small_disk.path.iterdir())
    small_disk.resize(4096)
    write(path)
    with h5py.File(path) as file:
        assert file["cutouts"][:, 0, 0].tolist() == list(range(40))
        assert len(file["names"]) == 2000


@pytest.mark.filterwarnings(
    "ignore:Exception in thread:pytest.PytestUnhandledThreadExceptionWarning"
)
def test_a_training_on_a_full_disk_keeps_its_checkpoint(
    world: Path, small_disk: SmallDisk, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Its record or the next checkpoint does not fit any more; with room it goes on from there."""
    from stradavit.settings.training import (
        LoaderSettings,
        PretrainSettings,
        ReconstructionSettings,
    )
    from stradavit.settings.views import ViewSettings
    from stradavit.training import pretrain as stage

    phase = ReconstructionSettings(epochs=3, batch_size=4, effective_batch=4, precision="fp32")
    settings = PretrainSettings(
        objective="reconstruction", loss="l2_l1", registers=0, seed=7, phase=phase,
        views=ViewSettings(),
    )  # fmt: skip
    loader = LoaderSettings(
        device="cpu", threads=1, workers=0, log_every_steps=1, checkpoint_every_s=1e-9
    )
    corpus, begin = world / "corpora/sky.h5", world / "encoders/start"
    stage.pretrain(settings, corpus, begin, tmp_path / "undisturbed", loader)

    folder = small_disk.path / "run"
    # Room for a checkpoint or two, which are 400 kB each, and not for three.
    small_disk.resize(1000)
    with pytest.raises(DiskError, match=f"{folder}/.*{FULL}"):
        stage.pretrain(settings, corpus, begin, folder, loader)
    assert not (folder / "model.safetensors").exists()
    assert len(list(folder.glob("checkpoints/*/*.pt"))) >= 1

    small_disk.resize(65536)
    stage.pretrain(settings, corpus, begin, folder, loader)
    expected = (tmp_path / "undisturbed" / "model.safetensors").read_bytes()
    assert (folder / "model.safetensors").read_bytes() == expected


@pytest.mark.parametrize("stage", STAGES)
def test_a_read_only_output_folder_is_named(
    stage: str, world: Path, read_only: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(stage, world, read_only / "out") == 1
    message = capfd.readouterr().err
    expected = f"stradavit {stage}: {read_only}.*: the disk is mounted read-only .*Mount it for"
    assert re.search(expected, message), message


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a disk")
def test_no_stage_writes_beside_its_input(world: Path, read_only: Path, tmp_path: Path) -> None:
    """All inputs on a disk that refuses to be written to."""
    import subprocess

    subprocess.run(["mount", "-o", "remount,rw,size=65536k", str(read_only)], check=True)
    shutil.copytree(world, read_only, dirs_exist_ok=True)
    subprocess.run(["mount", "-o", "remount,ro", str(read_only)], check=True)
    for stage in STAGES:
        assert run(stage, read_only, tmp_path / stage) == 0, stage


@pytest.mark.parametrize("stage", [name for name, about in STAGES.items() if about.input])
def test_an_input_that_is_gone_is_named(
    stage: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(stage, tmp_path, tmp_path / "out") == 1
    message = capfd.readouterr().err
    assert re.search(f"stradavit {stage}: .*{tmp_path}/", message), message
    assert "Traceback" not in message
    assert not (tmp_path / "out" / STAGES[stage].output).exists()


@pytest.mark.parametrize("number", sorted(TROUBLES))
def test_every_refusal_of_the_system_becomes_one_message(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(_: object) -> str:
        raise OSError(number, os.strerror(number), str(tmp_path / "a b.fits"))

    parsed = type("Parsed", (), {"run": staticmethod(fails), "command": "cut-part"})
    parser = type("Parser", (), {"parse_args": lambda *_: parsed})
    monkeypatch.setattr(cli, "build_parser", parser)
    assert cli.main([]) == 1
    what, (first, then) = TROUBLES[number]
    told = capsys.readouterr().err
    assert told.startswith(
        f"stradavit cut-part: {tmp_path}/a b.fits: {what} ({os.strerror(number)}"
    )
    assert told.endswith(f". {first} {then}\n")


def test_how_libraries_dress_up_a_full_disk(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    safetensors = RuntimeError("I/O error: No space left on device (os error 28)")
    hdf5 = RuntimeError("Can't decrement id ref count (file write failed: errno = 28, error ...)")
    behind = ValueError("cannot write")
    behind.__cause__ = OSError(errno.EDQUOT, "Disk quota exceeded")
    while_tidying = RuntimeError("it was not open")
    while_tidying.__context__ = OSError(errno.EIO, "Input/output error")
    for error, words in (
        (safetensors, "the disk is full"),
        (hdf5, "the disk is full"),
        (behind, "the quota on this disk is used up"),
        (while_tidying, "the disk failed"),
    ):
        told = disk_error(error, path)
        assert told is not None and str(told).startswith(f"{path}: {words} (")


def test_what_is_no_refusal_of_the_system_is_left_alone(tmp_path: Path) -> None:
    bug = KeyError("name")
    bug.__context__ = FileNotFoundError(errno.ENOENT, "No such file or directory")
    for error in (bug, OSError("without a number"), DataError("ours says more")):
        assert disk_error(error, tmp_path) is None
    with pytest.raises(KeyError), atomic_path(tmp_path / "a") as temporary:
        temporary.write_text("half")
        raise KeyError
    assert not list(tmp_path.iterdir())


def test_another_file_than_the_one_that_is_written_is_named(tmp_path: Path) -> None:
    gone = tmp_path / "input.csv"
    with (
        pytest.raises(DiskError, match=f"{gone}: there is no such file or folder .*Put it back"),
        atomic_path(tmp_path / "output.csv"),
    ):
        gone.read_text()


def test_a_folder_that_takes_no_more_files_is_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = type("Room", (), {"f_files": 9, "f_favail": 0})
    monkeypatch.setattr(os, "statvfs", lambda _: room)
    told = disk_error(OSError(errno.ENOSPC, "No space left on device"), tmp_path / "a")
    assert f"; {tmp_path} takes no further file, however small. Free space" in str(told)


def test_json_that_does_not_fit_leaves_the_old_file(small_disk: SmallDisk) -> None:
    path = small_disk.path / "a.json"
    write_json(path, {"old": 1}, sealed=True)
    small_disk.resize(16)
    with pytest.raises(DiskError, match=f"{path}: {FULL}"):
        write_json(path, ["new"] * 10**5)
    assert '"old"' in path.read_text()
    assert [found.name for found in small_disk.path.iterdir()] == ["a.json"]
