"""A run that is stopped anywhere and started again ends with the same bits."""

import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from stradavit.settings.training import PretrainSettings
from stradavit.training.pretrain import pretrain
from stradavit.training.record import Record
from stradavit.training.signals import STOPS
from tests.unit.training.runs import (
    checkpoints_now,
    child,
    contrastive,
    lines,
    loader,
    reconstruction,
    weights,
)

RUNS = {
    "reconstruction": reconstruction(registers=2),
    "contrastive": contrastive(precision="bf16"),
    # Seconds of updates: what a test does meanwhile must not come when all are done.
    "long": contrastive(precision="bf16", epochs=60),
}
# No checkpoint is due before the end.
RARELY = loader(checkpoint_every_s=1e9, checkpoint_every_epochs=1000)


@pytest.fixture(scope="module", params=("reconstruction", "contrastive"))
def undisturbed(
    request: pytest.FixtureRequest,
    corpus_path: Path,
    start_dir: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[PretrainSettings, Path]:
    """Settings, and the folder of a run nobody interrupted."""
    settings = RUNS[request.param]
    out_dir = tmp_path_factory.mktemp("undisturbed") / "run"
    speed = RARELY if request.param == "long" else loader()
    pretrain(settings, corpus_path, start_dir, out_dir, speed)
    return settings, out_dir


class _PowerCutError(Exception):
    """The end of a process, as far as the files can tell."""


@pytest.fixture
def cut_power(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Make the run die when it is about to record a line of some update."""

    def at(kind: str, update: int) -> None:
        whole = Record.write

        def write(self: Record, kind_: str, update_: int, *rest: Any) -> None:
            if (kind_, update_) == (kind, update):
                raise _PowerCutError
            whole(self, kind_, update_, *rest)

        monkeypatch.setattr(Record, "write", write)

    yield at


def assert_same(out_dir: Path, other_dir: Path) -> None:
    for name in ("model.safetensors", "config.json", "preprocessor_config.json", "README.md"):
        assert (out_dir / name).read_bytes() == (other_dir / name).read_bytes(), name
    for kind in ("step", "epoch", "end"):
        assert lines(out_dir, kind) == lines(other_dir, kind)
    assert not (out_dir / "checkpoints").exists()


@pytest.mark.parametrize(("kind", "update"), [("step", 1), ("step", 4), ("epoch", 6), ("end", -1)])
def test_three_and_three_steps_are_six(
    kind: str,
    update: int,
    undisturbed: tuple[PretrainSettings, Path],
    cut_power: Any,
    corpus_path: Path,
    start_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings, expected_dir = undisturbed
    if update < 0:
        update = lines(expected_dir, kind)[-1]["update"]
    out_dir = tmp_path / "run"
    with pytest.raises(_PowerCutError):
        cut_power(kind, update)
        pretrain(settings, corpus_path, start_dir, out_dir, loader())
    monkeypatch.undo()
    pretrain(settings, corpus_path, start_dir, out_dir, loader())
    assert_same(out_dir, expected_dir)


@pytest.mark.parametrize("undisturbed", ["contrastive"], indirect=True)
def test_kills_at_any_moment_change_nothing(
    undisturbed: tuple[PretrainSettings, Path], corpus_path: Path, start_dir: Path, tmp_path: Path
) -> None:
    settings, expected_dir = undisturbed
    out_dir = tmp_path / "run"
    arguments = (settings, corpus_path, start_dir, out_dir, loader())
    chance = random.Random()  # a moment is not reproducible anyway
    reached = 0
    for _ in range(3):
        process = child(pretrain, *arguments)
        seen = _wait_for_checkpoint(out_dir, reached)
        time.sleep(chance.uniform(0, 0.15))
        process.kill()
        process.join()
        reached = max(seen, reached)
    process = child(pretrain, *arguments)
    process.join()
    assert process.exitcode == 0
    assert_same(out_dir, expected_dir)


@pytest.mark.parametrize("undisturbed", ["long"], indirect=True)
@pytest.mark.parametrize("stop", STOPS)
def test_a_signal_to_stop_writes_a_checkpoint_and_exits_with_143(
    stop: signal.Signals,
    undisturbed: tuple[PretrainSettings, Path],
    corpus_path: Path,
    start_dir: Path,
    tmp_path: Path,
) -> None:
    settings, expected_dir = undisturbed
    out_dir = tmp_path / "run"
    process = child(pretrain, settings, corpus_path, start_dir, out_dir, RARELY)
    while process.is_alive() and not is_begun(out_dir):
        time.sleep(0.005)
    assert process.pid is not None
    os.kill(process.pid, stop)
    process.join()
    assert process.exitcode == 143
    assert len(list((out_dir / "checkpoints").glob("*/*.pt"))) == 1
    pretrain(settings, corpus_path, start_dir, out_dir, RARELY)
    assert_same(out_dir, expected_dir)


@pytest.mark.parametrize("undisturbed", ["contrastive"], indirect=True)
def test_a_damaged_checkpoint_gives_way_to_the_older_one(
    undisturbed: tuple[PretrainSettings, Path],
    cut_power: Any,
    corpus_path: Path,
    start_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    settings, expected_dir = undisturbed
    out_dir = tmp_path / "run"
    with pytest.raises(_PowerCutError):
        cut_power("step", 5)
        pretrain(settings, corpus_path, start_dir, out_dir, loader())
    monkeypatch.undo()
    older, newest = sorted((out_dir / "checkpoints").glob("*/*.pt"))
    assert (older.name[:9], newest.name[:9]) == ("000000003", "000000004")
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    # Nothing but tensors and plain containers: no code would run.
    assert torch.load(older, weights_only=True)["updates"] == 3
    with caplog.at_level("INFO"):
        pretrain(settings, corpus_path, start_dir, out_dir, loader())
    assert f"{newest} is damaged" in caplog.text
    assert f"Resuming from {older}" in caplog.text
    assert_same(out_dir, expected_dir)


@pytest.mark.parametrize("change", ["settings", "corpus", "start"])
def test_checkpoints_of_another_run_are_left_alone(
    change: str,
    cut_power: Any,
    corpus_path: Path,
    half_blank_corpus_path: Path,
    start_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    out_dir = tmp_path / "run"
    settings = reconstruction()
    with pytest.raises(_PowerCutError):
        cut_power("step", 3)
        pretrain(settings, corpus_path, start_dir, out_dir, loader())
    monkeypatch.undo()
    if change == "settings":
        settings = reconstruction(mask_ratio=0.5)
    elif change == "corpus":
        corpus_path = half_blank_corpus_path
    else:
        first_dir, start_dir = start_dir, tmp_path / "other_start"
        pretrain(reconstruction(epochs=1), corpus_path, first_dir, start_dir, loader())
    caplog.clear()
    with caplog.at_level("INFO"):
        pretrain(settings, corpus_path, start_dir, out_dir, loader())
    assert "Resuming" not in caplog.text
    pretrain(settings, corpus_path, start_dir, tmp_path / "fresh", loader())
    fresh = weights(tmp_path / "fresh")
    assert all(tensor.equal(fresh[name]) for name, tensor in weights(out_dir).items())
    # Those of the first run are still there, and say what they belong to.
    (identity,) = (out_dir / "checkpoints").glob("*/identity.json")
    assert "devices" in identity.read_text(encoding="utf-8")


def is_begun(out_dir: Path) -> bool:
    """Whether a run has recorded an update; the last line may not be whole yet."""
    path = out_dir / "metrics.jsonl"
    return path.exists() and "\n" in path.read_text(encoding="utf-8")


def _wait_for_checkpoint(out_dir: Path, reached: int) -> int:
    """Wait until a checkpoint lies farther than `reached` updates, or the run is over."""
    while not (out_dir / "model.safetensors").exists():
        newest = max((int(path.name[:9]) for path in checkpoints_now(out_dir)), default=0)
        if newest > reached:
            return newest
        time.sleep(0.002)
    return reached
