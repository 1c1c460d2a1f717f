"""Sums that are looked at one update late change nothing but when they are looked at."""

import threading
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch

from stradavit.errors import TrainingError
from stradavit.training import pretrain as loop
from stradavit.training.pretrain import pretrain
from stradavit.training.updates import Updates
from tests.unit.training.runs import contrastive, exploding, lines, loader, reconstruction, weights


@pytest.fixture
def late(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a GPU does, on a processor."""
    monkeypatch.setattr(loop, "Updates", lambda is_late: Updates(is_late=True))


@pytest.mark.parametrize("every", [1, 2, 100])
def test_late_looks_leave_the_same_run(
    every: int, corpus_path: Path, start_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = contrastive()
    often = loader(log_every_steps=every)
    pretrain(settings, corpus_path, start_dir, tmp_path / "prompt", often)
    monkeypatch.setattr(loop, "Updates", lambda is_late: Updates(is_late=True))
    pretrain(settings, corpus_path, start_dir, tmp_path / "late", often)
    for kind in ("step", "epoch", "end"):
        assert lines(tmp_path / "late", kind) == lines(tmp_path / "prompt", kind)
    expected = weights(tmp_path / "prompt")
    assert all(t.equal(expected[name]) for name, t in weights(tmp_path / "late").items())


@pytest.mark.usefixtures("late")
def test_an_update_that_is_not_finite_is_never_saved(
    corpus_path: Path, start_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken_dir = exploding(start_dir, tmp_path / "broken")
    run = reconstruction(), corpus_path, broken_dir, tmp_path / "run"
    # It is the first update that is named, although a second one has been made.
    with pytest.raises(TrainingError, match="epoch 1, step 3: loss nan"):
        pretrain(*run, loader(log_every_steps=100))
    assert not list((tmp_path / "run").glob("checkpoints/*/*.pt"))


@pytest.mark.usefixtures("late")
def test_a_request_to_stop_is_answered_with_a_checkpoint(
    corpus_path: Path, start_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, out_dir = contrastive(), tmp_path / "run"
    rarely = loader(log_every_steps=100, checkpoint_every_s=1e9, checkpoint_every_epochs=100)
    pretrain(settings, corpus_path, start_dir, tmp_path / "whole", rarely)
    with monkeypatch.context() as patch:
        asked = threading.Event()
        asked.set()  # as if SIGTERM had come before the first update
        patch.setattr(loop, "terminated", lambda: nullcontext(asked))
        with pytest.raises(SystemExit) as stopped:
            pretrain(settings, corpus_path, start_dir, out_dir, rarely)
    assert stopped.value.code == 143
    (checkpoint,) = out_dir.glob("checkpoints/*/*.pt")
    # Asked in the first update, known in the second.
    assert checkpoint.name[:9] == "000000002"
    pretrain(settings, corpus_path, start_dir, out_dir, rarely)
    expected = weights(tmp_path / "whole")
    assert all(t.equal(expected[name]) for name, t in weights(out_dir).items())


@pytest.mark.usefixtures("late")
def test_a_checkpoint_is_due_by_the_clock(
    corpus_path: Path, start_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = []
    whole = loop.Checkpoints.save
    monkeypatch.setattr(
        loop.Checkpoints, "save", lambda self, run: (saved.append(run.updates), whole(self, run))
    )
    rarely = loader(log_every_steps=100, checkpoint_every_s=1e-9, checkpoint_every_epochs=100)
    pretrain(reconstruction(effective_batch=4), corpus_path, start_dir, tmp_path / "run", rarely)
    # Six updates an epoch: asked for in one and made in the next, or where an epoch ends.
    assert saved == [2, 4, 6, 8, 10, 12, 14, 16, 18]


def test_nothing_waits_on_a_processor() -> None:
    updates = Updates(is_late=False)
    updates.add(None, [], 0.0, torch.zeros(5), torch.tensor(1.0))  # type: ignore[arg-type]
    assert len(updates.take(is_all=False)) == 1
    assert updates.take(is_all=True) == []
