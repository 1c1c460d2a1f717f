"""SIGTERM and SIGUSR1: a training is told, everything else ends at once and tidily."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from stradavit.training.signals import STOPS, leaves_when_told, terminated

# Half-writes a file and says so; on the way out it is sent the signal again.
JOB = """
import logging, os, signal, sys, time
from pathlib import Path
from stradavit.files import atomic_path
from stradavit.training.signals import leaves_when_told
logging.basicConfig(format="%(message)s")
with leaves_when_told(), atomic_path(Path(sys.argv[1])) as temporary:
    temporary.write_text("half")
    print("ready", flush=True)
    try:
        time.sleep(60)
    finally:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.1)
"""


@pytest.mark.parametrize("stop", STOPS)
def test_a_job_that_is_told_to_stop_leaves_nothing_half_written(
    stop: signal.Signals, tmp_path: Path
) -> None:
    command = [sys.executable, "-c", JOB, str(tmp_path / "result")]
    job = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert job.stdout is not None
    assert job.stdout.readline() == "ready\n"
    job.send_signal(stop)
    _, log = job.communicate(timeout=60)
    assert job.returncode == 143
    assert log == f"Stopped by {stop.name}; start again to go on\n"
    assert list(tmp_path.iterdir()) == []


# Told to stop on its way out, when all is done.
DONE = """
import atexit, os, sys
from stradavit.cli import program
stop = int(sys.argv.pop())
atexit.register(lambda: os.kill(os.getpid(), stop))
sys.exit(program())
"""


@pytest.mark.parametrize("stop", STOPS)
@pytest.mark.parametrize(("arguments", "status"), [((), 0), (("--config", "none"), None)])
def test_told_to_stop_when_all_is_done_it_ends_well(
    arguments: tuple[str, ...], status: int | None, stop: signal.Signals, tmp_path: Path
) -> None:
    command = [sys.executable, "-c", DONE, "settings", *arguments, str(int(stop))]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=60)
    # What has failed may be ended by a signal as well.
    assert ended.returncode == (-stop if status is None else status), ended.stderr


@pytest.mark.parametrize("stop", STOPS)
def test_a_training_is_told_and_goes_on(stop: signal.Signals) -> None:
    before = signal.getsignal(stop)
    with leaves_when_told(), terminated() as told:
        assert not told.is_set()
        os.kill(os.getpid(), stop)
        assert told.wait(10)
    assert signal.getsignal(stop) is before


def test_other_threads_leave_signals_alone() -> None:
    before = [signal.getsignal(stop) for stop in STOPS]
    during: list[object] = []

    def look() -> None:
        with leaves_when_told(), terminated() as told:
            assert not told.is_set()
            during.extend(signal.getsignal(stop) for stop in STOPS)

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert during == before
