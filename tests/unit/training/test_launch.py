"""`stradavit pretrain` on several devices: what is started, and how it ends."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from stradavit.errors import SettingsError, TrainingError
from stradavit.settings.training import PretrainSettings
from stradavit.training import launch as module
from stradavit.training.launch import (
    RENDEZVOUS,
    Place,
    become_worker,
    how_it_ended,
    is_worker,
    job_hosts,
    launch,
    place_of,
    rendezvous_of,
    shared_equally,
    srun_command,
    torchrun_arguments,
)
from stradavit.training.lease import LEASES
from stradavit.training.pretrain import pretrain
from tests.unit.training.runs import (
    contrastive,
    lines,
    loader,
    pretrain_command,
    run_ranks,
    wait_for_update,
    workers_of,
)

# Seconds of updates: a test that interrupts them must not come when all are done.
TWO = contrastive(epochs=60).model_copy(update={"devices": 2})
# A line for each update, and no checkpoint before the end.
RARELY = {"checkpoint_every_s": 1e9, "checkpoint_every_epochs": 1000}


def program(folder: Path, name: str, script: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!{sys.executable}\n{script}")
    (folder / name).chmod(0o755)


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on the path with programs that answer as Slurm's do, for job 7 on two machines."""
    folder = tmp_path / "slurm"
    program(folder, "squeue", "import sys; assert sys.argv[1:] == ['-h', '-j', '7', '-o%N']\n")
    with (folder / "squeue").open("a") as opened:
        opened.write("print('localhost[1-2]')")
    program(folder, "scontrol", "import sys; assert sys.argv[1:3] == ['show', 'hostnames']\n")
    with (folder / "scontrol").open("a") as opened:
        opened.write("print('localhost\\nlocalhost' if '[1-2]' in sys.argv[3] else sys.argv[3])")
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    return folder


# -- what is started ------------------------------------------------------------------------------


def test_torchrun_starts_a_process_for_each_device() -> None:
    command = ["pretrain", "--out=a b"]
    rest = ["-m", "stradavit.cli", "pretrain", "--out=a b"]
    assert torchrun_arguments(4, None, command) == [
        *("--standalone", "--local-addr=127.0.0.1", "--nproc-per-node=4"),
        *rest,
    ]
    assert torchrun_arguments(2, Place(1, 3, "n1", 12345), command) == [
        *("--nnodes=3", "--node-rank=1", "--master-addr=n1", "--master-port=12345"),
        *("--nproc-per-node=2", *rest),
    ]


def test_srun_starts_a_launcher_on_each_machine() -> None:
    assert srun_command(2, ["pretrain", "--out=a b"]) == [
        *("srun", "--nodes=2", "--ntasks=2", "--ntasks-per-node=1", "--kill-on-bad-exit=1"),
        *("--overlap", "--cpu-bind=none", sys.executable, "-m", "stradavit.cli"),
        *("pretrain", "--out=a b"),
    ]


def test_machines_meet_at_the_first_at_a_port_of_the_job() -> None:
    assert rendezvous_of("7", ["n1", "n2"]) == "n1:10007"
    ports = [int(rendezvous_of(str(job), ["n1"]).split(":")[1]) for job in (19999, 20000, 10**8)]
    assert ports == [29999, 10000, 10000]
    there = {RENDEZVOUS: "n1:10007", "SLURM_NODEID": "1"}
    assert place_of(there, 2) == Place(1, 2, "n1", 10007)
    assert place_of(there, 1) is None
    assert place_of({}, 2) is None


def test_the_machines_of_a_job(slurm: Path) -> None:
    named = {"SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "n1"}
    assert job_hosts(named, 1) == ["n1"]
    # Snakemake's executor has taken the list away.
    assert job_hosts({"SLURM_JOB_ID": "7"}, 2) == ["localhost", "localhost"]
    with pytest.raises(SettingsError, match=r"nodes is 3, and the Slurm job 7 has 2 .* \[1-2\]"):
        job_hosts({"SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": " [1-2]"}, 3)
    with pytest.raises(SettingsError, match=r"loader.nodes is 2, and this is no job of Slurm"):
        job_hosts({}, 2)
    program(slurm, "squeue", "import sys; sys.exit('Invalid job id specified')")
    with pytest.raises(TrainingError, match="`squeue -h -j 7 -o%N` failed: Invalid job id"):
        job_hosts({"SLURM_JOB_ID": "7"}, 2)


def test_without_slurms_programs_it_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        TrainingError, match=r"`squeue .*` failed: .*No such file.* Is this a Slurm"
    ):
        job_hosts({"SLURM_JOB_ID": "7"}, 2)


def test_devices_are_shared_equally() -> None:
    assert shared_equally(8, 2) == 4
    expected = r"training.devices is 3, which 2 machines \(loader.nodes\) cannot share equally"
    with pytest.raises(SettingsError, match=expected):
        launch(3, loader(nodes=2), ["pretrain"], "a job", Path("none"))


# -- how it ends ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [
        ({0: 1, 1: -9}, "device 1 was killed by SIGKILL. Start the job again"),
        ({0: -15, 1: -9}, "device 1 was killed by SIGKILL"),
        ({0: 1, 1: 1}, "device 0 ended with 1; what failed stands above"),
        ({0: -15, 3: 2}, "device 3 ended with 2"),
        ({0: -6, 1: -6}, "device 0 was killed by SIGABRT"),
    ],
)
def test_the_first_cause_is_named(statuses: dict[int, int], expected: str) -> None:
    ended = how_it_ended(statuses)
    assert isinstance(ended, TrainingError)
    assert expected in str(ended)


@pytest.mark.parametrize("statuses", [{0: 143, 1: -15}, {1: -15}, {0: 143}])
def test_who_was_asked_to_stop_has_not_failed(statuses: dict[int, int]) -> None:
    ended = how_it_ended(statuses)
    assert isinstance(ended, SystemExit)
    assert ended.code == 143


def test_another_number_of_processes_is_an_error(
    corpus_path: Path, start_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(TrainingError, match=r"devices is 2, and 1 process\(es\) were started"):
        pretrain(TWO, corpus_path, start_dir, tmp_path / "run", loader())
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(TrainingError, match=r"devices is 1, and 2 process\(es\) were started"):
        pretrain(contrastive(), corpus_path, start_dir, tmp_path / "run", loader())


def test_a_worker_does_not_outlive_its_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not is_worker()
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv(module._LAUNCHER, "1")
    assert is_worker()
    monkeypatch.setattr(module.ctypes, "CDLL", lambda _: module)
    monkeypatch.setattr(module, "prctl", lambda *_: 0, raising=False)
    with pytest.raises(TrainingError, match="the launcher of this process is gone"):
        become_worker()


# -- real processes -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def undisturbed(
    corpus_path: Path, start_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The folder of a run on two devices that nobody launched or interrupted."""
    out_dir = tmp_path_factory.mktemp("undisturbed") / "run"
    run_ranks(2, TWO, corpus_path, start_dir, out_dir, loader(**RARELY))
    return out_dir


def assert_same(out_dir: Path, other_dir: Path) -> None:
    name = "model.safetensors"
    assert (out_dir / name).read_bytes() == (other_dir / name).read_bytes()
    for kind in ("step", "epoch", "end"):
        assert lines(out_dir, kind) == lines(other_dir, kind)


def start_run(
    settings: PretrainSettings, corpus_path: Path, start_dir: Path, out_dir: Path, **speed: object
) -> "subprocess.Popen[str]":
    command = pretrain_command(
        settings, corpus_path, start_dir, out_dir, loader(**(RARELY | speed))
    )
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ)
    )


def test_two_machines_end_as_two_processes(
    slurm: Path, undisturbed: Path, corpus_path: Path, start_dir: Path, tmp_path: Path
) -> None:
    # What srun does, but that both tasks are on this machine.
    program(
        slurm,
        "srun",
        "import os, subprocess, sys\n"
        "command = sys.argv[sys.argv.index('--cpu-bind=none') + 1 :]\n"
        "tasks = [subprocess.Popen(command, env=os.environ | {'SLURM_NODEID': str(node)})\n"
        "         for node in range(2)]\n"
        "sys.exit(max(task.wait() for task in tasks))\n",
    )
    out_dir = tmp_path / "run"
    process = start_run(TWO, corpus_path, start_dir, out_dir, nodes=2)
    said, log = process.communicate(timeout=240)
    assert process.returncode == 0, log
    assert said.splitlines()[-1] == f"encoder: {out_dir}"
    assert "Starting on localhost, localhost; they meet at localhost:10007" in log
    assert_same(out_dir, undisturbed)


def test_asked_to_stop_all_end_with_a_checkpoint_and_go_on_from_it(
    undisturbed: Path,
    corpus_path: Path,
    start_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    program(tmp_path / "bin", "nvidia-smi", "print('0, GPU-a\\n1, GPU-b')")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("STRADAVIT_LEASE_DIR", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.delenv(LEASES, raising=False)
    out_dir = tmp_path / "run"
    process = start_run(TWO, corpus_path, start_dir, out_dir, device="auto")
    wait_for_update(process, out_dir, 4)
    # As Slurm does it: to all processes, and again by srun.
    for told in (process.pid, *workers_of(process.pid), process.pid):
        # Told by the launcher, a worker may have ended before this comes.
        with suppress(ProcessLookupError):
            os.kill(told, signal.SIGUSR1)
    _, log = process.communicate(timeout=240)
    assert process.returncode == 143, log
    assert "Leased GPU-a, GPU-b" in log
    assert log.count("Terminated after update") == 1
    assert "Traceback" not in log
    (checkpoint,) = (out_dir / "checkpoints").glob("*/*.pt")
    process = start_run(TWO, corpus_path, start_dir, out_dir, device="auto")
    _, log = process.communicate(timeout=240)
    assert process.returncode == 0, log
    assert f"Resuming from {checkpoint}" in log
    assert_same(out_dir, undisturbed)


def test_asked_to_stop_when_all_is_done_it_ends_well(
    undisturbed: Path, corpus_path: Path, start_dir: Path, tmp_path: Path
) -> None:
    out_dir = tmp_path / "run"
    process = start_run(TWO, corpus_path, start_dir, out_dir)
    while process.poll() is None and not (out_dir / "model.safetensors").exists():
        time.sleep(0.01)
    # Workers and launcher take seconds to end; Snakemake deletes what a failed job has made.
    process.send_signal(signal.SIGTERM)
    _, log = process.communicate(timeout=240)
    assert process.returncode == 0, log
    assert_same(out_dir, undisturbed)


def test_workers_of_a_killed_launcher_save_and_end(
    corpus_path: Path, start_dir: Path, tmp_path: Path
) -> None:
    out_dir = tmp_path / "run"
    longer = contrastive(epochs=400).model_copy(update={"devices": 2})
    process = start_run(longer, corpus_path, start_dir, out_dir)
    wait_for_update(process, out_dir, 2)
    workers = workers_of(process.pid)
    assert len(workers) == 2
    process.kill()
    process.communicate()  # until the workers, too, have closed what they write to
    assert len(list((out_dir / "checkpoints").glob("*/*.pt"))) == 1
    deadline = time.monotonic() + 30
    while any(Path(f"/proc/{worker}/fd").exists() and _runs(worker) for worker in workers):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _runs(process: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{process}/status").read_text()
    except OSError:
        return False
