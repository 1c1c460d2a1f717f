"""A process of a training on two devices is lost: all end soon, and the same command goes on."""

import os
import signal
import subprocess
import time
from pathlib import Path

from tests.unit.training.runs import (
    contrastive,
    lines,
    loader,
    pretrain_command,
    run_ranks,
    wait_for_update,
    workers_of,
)


def test_a_lost_process_ends_the_run_which_goes_on_when_started_again(
    corpus_path: Path, start_dir: Path, tmp_path: Path
) -> None:
    # Seconds of updates: the signal must not come when all are done.
    settings = contrastive(epochs=50).model_copy(update={"devices": 2})
    undisturbed, out_dir = tmp_path / "undisturbed", tmp_path / "run"
    run_ranks(2, settings, corpus_path, start_dir, undisturbed, loader())
    command = pretrain_command(settings, corpus_path, start_dir, out_dir, loader())

    run = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    wait_for_update(run, out_dir, 4)
    os.kill(workers_of(run.pid)[1], signal.SIGKILL)
    killed_at = time.monotonic()
    _, log = run.communicate(timeout=240)
    # The other one notices by itself; torchrun would kill it after two minutes.
    assert time.monotonic() - killed_at < 90
    assert run.returncode == 1
    last = log.splitlines()[-1]
    assert last == (
        "stradavit pretrain: the process of device 1 was killed by SIGKILL. Start the job "
        "again to go on from the last checkpoint."
    )
    assert "Traceback" not in log
    assert not (out_dir / "model.safetensors").exists()

    again = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert again.returncode == 0, again.stderr
    assert f"Resuming from {out_dir / 'checkpoints'}" in again.stderr
    name = "model.safetensors"
    assert (out_dir / name).read_bytes() == (undisturbed / name).read_bytes()
    for kind in ("step", "epoch", "end"):
        assert lines(out_dir, kind) == lines(undisturbed, kind)
