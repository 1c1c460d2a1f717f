"""One job for each GPU: real processes, two GPUs that a false nvidia-smi tells of."""

import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stradavit.errors import TrainingError
from stradavit.training import lease as module
from stradavit.training.lease import LEASES, lease, visible_devices

GPUS = {"0": "GPU-aaaa-1", "1": "GPU-bbbb-2"}
# Says what it has leased, and what it sees, when it has it; ends when told.
JOB = """
import logging, os, sys
from stradavit.training import lease
logging.basicConfig(level="INFO", format="%(message)s", stream=sys.stderr)
lease.ASK_EVERY_S, lease.TELL_EVERY_S = 0.02, 0.2
count, name, has_child = int(sys.argv[1]), sys.argv[2], len(sys.argv) > 3
leased = lease.lease("auto", count, "stradavit pretrain --out " + name)
child = None
if has_child:
    import subprocess
    code = "from stradavit.training.lease import hold_for_parent as hold; hold();"
    code += "print('held', flush=True); import time; time.sleep(600)"
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    child.stdout.readline()
said = [",".join(leased), os.environ.get("CUDA_VISIBLE_DEVICES"), child.pid if child else 0]
print(*said, flush=True)
sys.stdin.read()
"""


class Job:
    """A process that leases GPUs."""

    def __init__(self, *arguments: str, **environment: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", JOB, *arguments],
            env=os.environ | environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def leased(self) -> str:
        """What it has leased, which is all it sees."""
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], 60)
        assert ready, "the job says nothing"
        leased, sees, child = self.process.stdout.readline().split()
        assert leased == sees
        self.child = int(child)
        return str(leased)

    def told(self) -> str:
        """The next line of its log."""
        assert self.process.stderr is not None
        return self.process.stderr.readline().strip()

    def is_waiting(self) -> bool:
        """Whether it has leased nothing within half a second."""
        assert self.process.stdout is not None
        return not select.select([self.process.stdout], [], [], 0.5)[0]

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


Start = Callable[..., Job]


@pytest.fixture
def two_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with the GPUs 0 and 1, and no leases."""
    program = tmp_path / "bin" / "nvidia-smi"
    program.parent.mkdir()
    listed = "".join(f"{number}, {uuid}\n" for number, uuid in GPUS.items())
    program.write_text(f"#!/bin/sh\nprintf '{listed}'\n")
    program.chmod(0o755)
    leases = tmp_path / "leases"
    leases.mkdir()
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("STRADAVIT_LEASE_DIR", str(leases))
    for name in ("CUDA_VISIBLE_DEVICES", LEASES):
        # First set, so that what a test leases is forgotten after it.
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setattr(module, "_held", {})
    return leases


@pytest.fixture
def start(two_gpus: Path) -> Iterator[Start]:
    """Start jobs, which are ended after the test."""
    jobs: list[Job] = []

    def one(*arguments: str, **environment: str) -> Job:
        jobs.append(Job(*arguments, **environment))
        return jobs[-1]

    yield one
    for job in jobs:
        job.end()


def test_a_third_job_waits_until_one_of_two_is_killed(start: Start) -> None:
    first, second = start("1", "a"), start("1", "b")
    assert {first.leased(), second.leased()} == set(GPUS.values())
    third = start("1", "c")
    told = third.told()
    assert told.startswith("Waiting for 1 of 2 GPUs; held by process ")
    assert f"process {first.process.pid} (stradavit pretrain --out a)" in told
    assert f"process {second.process.pid} (stradavit pretrain --out b)" in told
    assert third.is_waiting()
    second.process.send_signal(signal.SIGKILL)
    assert third.leased() in GPUS.values()
    assert third.process.poll() is None


def test_a_job_sees_only_what_it_may_use(start: Start) -> None:
    first = start("1", "a", CUDA_VISIBLE_DEVICES="1")
    assert first.leased() == GPUS["1"]
    # By another name of the same device.
    second = start("1", "b", CUDA_VISIBLE_DEVICES="GPU-bbbb-2")
    assert second.is_waiting()
    third = start("1", "c")
    assert third.leased() == GPUS["0"]


def test_two_devices_are_leased_at_once_or_not_at_all(start: Start) -> None:
    first = start("1", "a", CUDA_VISIBLE_DEVICES="0")
    assert first.leased() == GPUS["0"]
    both = start("2", "b")
    assert both.is_waiting()
    # It does not sit on the free one meanwhile.
    other = start("1", "c")
    assert other.leased() == GPUS["1"]
    first.end()
    other.end()
    assert both.leased() == ",".join(GPUS.values())


def test_a_child_keeps_the_lease_when_its_parent_is_killed(start: Start) -> None:
    parent = start("2", "a", "with a child")
    assert parent.leased() == ",".join(GPUS.values())
    try:
        waiting = start("1", "b")
        parent.process.kill()
        parent.process.wait()
        assert waiting.is_waiting()
    finally:
        os.kill(parent.child, signal.SIGKILL)
    assert waiting.leased() == GPUS["0"]


def test_a_child_that_comes_too_late_is_told(two_gpus: Path, start: Start) -> None:
    job = start("1", "a")
    job.leased()
    path = two_gpus / f"stradavit-{GPUS['0']}.lock"
    job.end()
    with path.open("r+") as opened:
        module.fcntl.flock(opened, module.fcntl.LOCK_EX)
        os.environ[LEASES] = str(path)
        with pytest.raises(TrainingError, match="another job is about to take this GPU"):
            module.hold_for_parent()


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (None, list(GPUS.values())),
        ("1,0", [GPUS["1"], GPUS["0"]]),
        ("1, 1", [GPUS["1"]]),
        ("GPU-b", [GPUS["1"]]),
        ("MIG-7/2", ["MIG-7/2"]),
        ("GPU-elsewhere", ["GPU-elsewhere"]),
        ("0,7,1", [GPUS["0"]]),  # CUDA ignores what follows an unknown one
        ("-1", []),
        ("", []),
        ("NoDevFiles", []),
    ],
)
def test_devices_are_called_by_uuid(
    asked: str | None, expected: list[str], two_gpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if asked is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", asked)
    assert visible_devices() == expected


def test_without_gpus_there_is_nothing_to_lease(
    two_gpus: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert lease("cpu", 1, "a job") == ()
    with monkeypatch.context() as children:
        children.setenv(LEASES, "/somewhere.lock")  # the parent has leased
        assert lease("auto", 1, "a job") == ()
    broken = two_gpus.parent / "bin" / "nvidia-smi"
    broken.write_text("#!/bin/sh\nexit 9\n")
    assert lease("auto", 1, "a job") == ()
    assert "nvidia-smi does not say which GPUs there are" in caplog.text
    monkeypatch.setenv("PATH", str(two_gpus))
    assert lease("cuda", 1, "a job") == ()
    assert list(two_gpus.iterdir()) == []
    assert "CUDA_VISIBLE_DEVICES" not in os.environ


def test_more_devices_than_there_are_is_an_error(
    two_gpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(TrainingError, match=r"3 GPUs are to be used .* there are 2 .* not set\)"):
        lease("auto", 3, "a job")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    with pytest.raises(TrainingError, match=r"2 GPUs .* 1 \(GPU-bbbb-2; CUDA_VISIBLE_DEVICES is 1"):
        lease("cuda", 2, "a job")


def test_a_second_lease_of_one_process_is_its_first(two_gpus: Path) -> None:
    assert lease("auto", 1, "a job") == (GPUS["0"],)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == GPUS["0"]
    del os.environ[LEASES]
    assert lease("auto", 1, "a job") == (GPUS["0"],)
    lock = two_gpus / f"stradavit-{GPUS['0']}.lock"
    assert lock.read_text() == f"process {os.getpid()} (a job)"
    assert lock.stat().st_mode & 0o777 == 0o666  # all users of the machine share it


def test_what_is_no_lock_file_is_an_error(two_gpus: Path) -> None:
    lock = two_gpus / f"stradavit-{GPUS['0']}.lock"
    precious = two_gpus.parent / "precious"
    precious.write_text("mine")
    lock.symlink_to(precious)
    with pytest.raises(TrainingError, match="cannot be used as the lock file of a GPU"):
        lease("auto", 1, "a job")
    lock.unlink()
    os.link(precious, lock)
    with pytest.raises(TrainingError, match="is no plain file with one name"):
        lease("auto", 1, "a job")
    lock.unlink()
    lock.mkdir()
    with pytest.raises(TrainingError, match="cannot be used as the lock file of a GPU"):
        lease("auto", 1, "a job")
    assert precious.read_text() == "mine"
