"""One pretraining on several devices: who starts whom, and how all of them end.

``stradavit pretrain`` with `devices` above 1 is a launcher. On one machine it leases the devices
and becomes ``torchrun``, which starts the same command once for each of them. On several machines
it starts itself on each by ``srun``; there it leases and becomes ``torchrun`` as above. They meet
at the first machine of the job, at a port that follows from the job's number.

Asked to stop, the launcher asks the workers once and waits for their checkpoint. When a worker
dies, ``torchrun`` ends the others; when a machine does, ``srun`` ends those on the others. When the
launcher itself is killed, its workers write a checkpoint and end. In each case the same command
goes on from the last checkpoint.
"""

import ctypes
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from stradavit.errors import SettingsError, TrainingError
from stradavit.settings.training import LoaderSettings
from stradavit.training.lease import hold_for_parent, lease
from stradavit.training.signals import EXIT_TERMINATED, STOPS, handled, ignore

logger = logging.getLogger(__name__)

# How a launcher that srun has started knows that it is one of several, and where to meet.
RENDEZVOUS = "STRADAVIT_RENDEZVOUS"
_LAUNCHER = "STRADAVIT_LAUNCHER"
# Between asking a worker to stop and killing it; an update and a checkpoint must fit.
_GRACE_S = 120
_PDEATHSIG = 1  # of prctl(2)


@dataclass(frozen=True)
class Place:
    """Where this launcher stands: machine `node` of `nodes`, which meet at `host` and `port`."""

    node: int
    nodes: int
    host: str
    port: int


def is_worker() -> bool:
    """Whether a launcher has started this process, ours or a ``torchrun`` written by hand."""
    return "RANK" in os.environ


def become_worker() -> None:
    """Tie this process to its launcher; all but the first report what is wrong, and nothing else.

    Raises
    ------
    TrainingError
        If the launcher is gone already.
    """
    hold_for_parent()
    launcher = os.environ.get(_LAUNCHER)
    if launcher is not None and sys.platform == "linux":
        # torchrun puts workers into sessions of their own, where they would outlive it.
        ctypes.CDLL(None).prctl(_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != int(launcher):
            raise TrainingError("the launcher of this process is gone; start the job again.")
    if os.environ["RANK"] != "0":
        logging.getLogger().setLevel(logging.WARNING)


def launch(
    devices: int, loader: LoaderSettings, command: Sequence[str], job: str, out_path: Path
) -> None:
    """Run `command` once for each device, and wait for all.

    Parameters
    ----------
    devices : on all machines together
    command : of `stradavit`, with its arguments
    job : as others are told who has a GPU
    out_path : what `command` writes when all is done

    Raises
    ------
    SettingsError
        If machines cannot share the devices, or there is no Slurm to give several.
    TrainingError
        If a worker failed, naming it.
    SystemExit
        With status 143, if all were asked to stop and have.
    """
    before = _version(out_path)
    try:
        _launch(devices, loader, command, job)
    except SystemExit:
        # Asked to stop when all was done, it ends well: Snakemake would delete the encoder.
        if _version(out_path) in (None, before):
            raise


def _launch(devices: int, loader: LoaderSettings, command: Sequence[str], job: str) -> None:
    here = shared_equally(devices, loader.nodes)
    if loader.nodes > 1 and RENDEZVOUS not in os.environ:
        _srun(loader.nodes, command)
        return
    place = place_of(os.environ, loader.nodes)
    lease(loader.device, here, job)
    _torchrun(torchrun_arguments(here, place, command))


def _version(path: Path) -> tuple[int, int] | None:
    """Differs when a file has been replaced; None if there is none."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns


def shared_equally(devices: int, nodes: int) -> int:
    """Devices on each machine.

    Raises
    ------
    SettingsError
        If there would be unequally many.
    """
    if devices % nodes:
        raise SettingsError(
            f"training.devices is {devices}, which {nodes} machines (loader.nodes) cannot share "
            "equally; choose a multiple."
        )
    return devices // nodes


def torchrun_arguments(here: int, place: Place | None, command: Sequence[str]) -> list[str]:
    """What ``torchrun`` is told, to start `command` on `here` devices of this machine."""
    if place is None:
        # Its own free port; by number, since a machine need not know its own name.
        where = ["--standalone", "--local-addr=127.0.0.1"]
    else:
        # Numbered by Slurm and not by who comes first: the same sums on every start.
        where = [
            f"--nnodes={place.nodes}",
            f"--node-rank={place.node}",
            f"--master-addr={place.host}",
            f"--master-port={place.port}",
        ]
    return [*where, f"--nproc-per-node={here}", "-m", "stradavit.cli", *command]


def srun_command(nodes: int, command: Sequence[str]) -> list[str]:
    """Start `command` once on each machine of this job, and end all when one ends badly."""
    return [
        "srun",
        f"--nodes={nodes}",
        f"--ntasks={nodes}",
        "--ntasks-per-node=1",
        "--kill-on-bad-exit=1",
        "--overlap",  # with the step this runs in, if it is one
        "--cpu-bind=none",
        sys.executable,
        "-m",
        "stradavit.cli",
        *command,
    ]


def rendezvous_of(job_id: str, hosts: Sequence[str]) -> str:
    """``host:port`` where the machines of a job meet; jobs side by side get different ports."""
    return f"{hosts[0]}:{10000 + int(job_id) % 20000}"


def place_of(environment: Mapping[str, str], nodes: int) -> Place | None:
    """Where srun has put this launcher; None on one machine."""
    meeting = environment.get(RENDEZVOUS)
    if nodes == 1 or meeting is None:
        return None
    host, _, port = meeting.rpartition(":")
    return Place(int(environment["SLURM_NODEID"]), nodes, host, int(port))


def job_hosts(environment: Mapping[str, str], nodes: int) -> list[str]:
    """The machines of the Slurm job this runs in.

    Raises
    ------
    SettingsError
        If this is no Slurm job, or not one of so many machines.
    """
    job_id = environment.get("SLURM_JOB_ID")
    if job_id is None:
        raise SettingsError(
            f"loader.nodes is {nodes}, and this is no job of Slurm (SLURM_JOB_ID is not set), "
            "which alone can give several machines. Submit it, or set loader.nodes to 1."
        )
    # Snakemake's executor clears the list from the environment, and leaves the number.
    listed = environment.get("SLURM_JOB_NODELIST") or _asked("squeue", "-h", "-j", job_id, "-o%N")
    hosts = _asked("scontrol", "show", "hostnames", listed).split()
    if len(hosts) != nodes:
        raise SettingsError(
            f"loader.nodes is {nodes}, and the Slurm job {job_id} has {len(hosts)} machines "
            f"({listed}). Ask for {nodes} (the resource nodes), or change loader.nodes."
        )
    return hosts


def _asked(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    except subprocess.CalledProcessError as error:
        reason = error.stderr.strip()
    except (OSError, subprocess.SubprocessError) as error:
        reason = str(error)
    else:
        return done.stdout.strip()
    raise TrainingError(f"`{' '.join(command)}` failed: {reason}. Is this a Slurm job?")


# -- running them ---------------------------------------------------------------------------------


def _srun(nodes: int, command: Sequence[str]) -> None:
    """Start a launcher on each machine, and pass on what this one is told."""
    hosts = job_hosts(os.environ, nodes)
    meeting = rendezvous_of(os.environ["SLURM_JOB_ID"], hosts)
    logger.info("Starting on %s; they meet at %s", ", ".join(hosts), meeting)
    stopped = False

    def pass_on(*_: object) -> None:
        nonlocal stopped
        if not stopped:
            stopped = True
            process.send_signal(signal.SIGTERM)

    environment = os.environ | {RENDEZVOUS: meeting}
    process = subprocess.Popen(srun_command(nodes, command), env=environment)
    with handled(pass_on):
        status = process.wait()
    if stopped or status == EXIT_TERMINATED:
        raise SystemExit(EXIT_TERMINATED)
    if status:
        raise TrainingError(
            f"srun on {', '.join(hosts)} ended with status {status}; what failed stands above. "
            "Start the job again to go on from the last checkpoint."
        )


def _torchrun(arguments: list[str]) -> None:
    """Be ``torchrun`` until all workers have ended."""
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import main

    stops = (*STOPS, signal.SIGINT)

    def stop(number: int, _: FrameType | None) -> None:
        # Once: torchrun would leave its workers alone when it is interrupted while it waits for
        # them, and Slurm sends the signal to every process and again by srun.
        ignore(stops)
        raise SignalException(f"stopped by signal {number}", signal.SIGTERM)

    os.environ[_LAUNCHER] = str(os.getpid())
    # Those it should handle itself: not the ones we do, and at least one must be named.
    os.environ["PET_SIGNALS_TO_HANDLE"] = "SIGQUIT"
    os.environ.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", str(_GRACE_S))
    # What matters of its own messages is said below.
    logging.getLogger("torch.distributed").setLevel(logging.CRITICAL)
    with handled(stop, stops):
        try:
            main(arguments)
        except SignalException:
            raise SystemExit(EXIT_TERMINATED) from None
        except ChildFailedError as error:
            statuses = {rank: failure.exitcode for rank, failure in error.failures.items()}
            raise how_it_ended(statuses) from None


def how_it_ended(statuses: Mapping[int, int]) -> BaseException:
    """What the launcher makes of the workers' exit statuses, negative for signals.

    When one fails, ``torchrun`` sends SIGTERM to the others, and those that wait for the lost one
    fail too. So one that was killed by another signal is the cause, then one that failed.
    """
    own = {rank: s for rank, s in statuses.items() if s not in (-signal.SIGTERM, EXIT_TERMINATED)}
    if not own:
        return SystemExit(EXIT_TERMINATED)
    rank, status = min(own.items(), key=lambda item: (item[1] > 0, item[0]))
    how = f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with {status}"
    why = "" if status < 0 else "; what failed stands above"
    return TrainingError(
        f"the process of device {rank} {how}{why}. Start the job again to go on from the last "
        "checkpoint."
    )
