"""A Slurm cluster of two nodes on this machine, for tests: munged, slurmctld and two slurmd.

Needs root, and a machine without a Slurm of its own: jobs of the executor plugin lose every
variable `SLURM_*`, so the configuration has to lie where Slurm looks by itself.
"""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import psutil

MARK = "# A cluster of stradavit's tests; may be deleted.\n"
SYSTEM = Path("/etc/slurm")
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scontrol", "scancel")
WAIT_S = 120.0  # seconds pass, on a machine with nothing else to do

# Two nodes, so that a training may span them, with processors and memory to spare: it is jobs that
# are tested, not speed. No cgroups and no accounting, as in a container. GPUs are two plain files.
CONFIG = """\
ClusterName=stradavit-tests
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmctldPidFile={folder}/slurmctld.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmdLogFile={folder}/slurmd-%n.log
SlurmdSpoolDir={folder}/spool-%n
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=batch_sched_delay=1,bf_interval=2,sched_interval=2
GresTypes=gpu
ReturnToService=2
KillWait=30
MinJobAge=3600
JobRequeue=1
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
NodeName={nodes} NodeHostname={host} NodeAddr=127.0.0.1 Port=[{ports}] CPUs=16 \
RealMemory=1000000 Gres=gpu:2
PartitionName=cpu Nodes=ALL Default=YES
PartitionName=gpu Nodes=ALL
"""
GRES = "Name=gpu File={folder}/gpu[0-1]\n"
# Machines of a training meet at the first by its name, which therefore has to be one.
HOST = socket.gethostname().partition(".")[0]
NODES = (HOST, f"{HOST}-2")


def reason_to_skip() -> str | None:
    """Why no cluster can be had here; None where one can."""
    path = os.environ["PATH"] + os.pathsep + "/usr/sbin"
    absent = [program for program in PROGRAMS if shutil.which(program, path=path) is None]
    if absent:
        packages = "slurmctld slurmd slurm-client munge"
        return f"no Slurm: {', '.join(absent)} not found (apt-get install {packages})"
    if os.geteuid() != 0:
        return "a cluster of Slurm is started by root alone"
    own = SYSTEM / "slurm.conf"
    if own.exists() and not own.read_text(encoding="utf-8").startswith(MARK):
        return f"this machine has a Slurm of its own: {own}"
    if own.exists() and answers("scontrol", "ping"):
        return "another test's cluster is at work on this machine"
    return None


def answers(*command: str) -> bool:
    """Whether a command of Slurm ends well, soon."""
    try:
        return subprocess.run(command, capture_output=True, timeout=5).returncode == 0
    except subprocess.TimeoutExpired:
        return False


@dataclass
class Cluster:
    """A cluster that is at work, and what to ask it."""

    folder: Path
    pids: list[int] = field(default_factory=list)

    def call(self, *command: str) -> str:
        """What a command of Slurm prints; raises if it fails."""
        done = subprocess.run(command, capture_output=True, text=True, timeout=WAIT_S)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    def jobs(self) -> list[dict[str, str]]:
        """Every job since the start, as `scontrol show job` prints it: one dictionary each."""
        lines = self.call("scontrol", "--oneliner", "--all", "show", "job").splitlines()
        pairs = (
            (word.partition("=") for word in line.split() if "=" in word)
            for line in lines
            if line.startswith("JobId=")
        )
        return [{key: value for key, _, value in words} for words in pairs]

    def is_pending(self, number: str) -> bool:
        """Whether a job waits to be started."""
        return self.call("squeue", "--noheader", f"--jobs={number}", "--format=%T") == "PENDING\n"

    def running(self, rule: str) -> list[str]:
        """Numbers of the jobs of a rule that are at work; the executor names it in a comment."""
        return [
            job["JobId"]
            for job in self.jobs()
            if job["JobState"] == "RUNNING" and job.get("Comment", "").startswith(f"rule_{rule}")
        ]


@contextmanager
def started(folder: Path) -> Iterator[Cluster]:
    """A cluster whose state and logs lie in `folder`; gone at the end, with all its jobs."""
    folder.chmod(0o755)
    for name in ("state", *(f"spool-{node}" for node in NODES)):
        (folder / name).mkdir()
    for name in ("gpu0", "gpu1"):
        (folder / name).touch()
    key = folder / "munge.key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o600)
    controller_port, *node_ports = free_ports(1 + len(NODES))
    config = CONFIG.format(
        folder=folder,
        host=HOST,
        controller_port=controller_port,
        nodes=",".join(NODES),
        ports=",".join(map(str, node_ports)),
    )
    SYSTEM.mkdir(exist_ok=True)
    (SYSTEM / "slurm.conf").write_text(MARK + config, encoding="utf-8")
    (SYSTEM / "gres.conf").write_text(MARK + GRES.format(folder=folder), encoding="utf-8")
    cluster = Cluster(folder)
    try:
        start_daemons(cluster)
        yield cluster
    finally:
        try:
            stop_daemons(cluster)
        finally:
            for name in ("slurm.conf", "gres.conf"):
                (SYSTEM / name).unlink()


def free_ports(number: int) -> list[int]:
    """Ports nobody listens at."""
    sockets = [socket.socket() for _ in range(number)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def start_daemons(cluster: Cluster) -> None:
    """The four processes, each of which goes to the background by itself."""
    folder = cluster.folder
    files = {"socket": "socket", "key-file": "key", "log-file": "log", "pid-file": "pid"}
    munge = [f"--{option}={folder}/munge.{name}" for option, name in files.items()]
    daemons = (
        (["munged", "--force", *munge], "munge.pid"),
        (["slurmctld", "-c"], "slurmctld.pid"),
        *((["slurmd", "-N", node], f"slurmd-{node}.pid") for node in NODES),
    )
    path = os.environ["PATH"] + os.pathsep + "/usr/sbin"
    for command, pid_file in daemons:
        # Output to a file: a daemon keeps a pipe open, and we would wait for it for ever.
        with (folder / "start.log").open("ab") as log:
            subprocess.run(
                [shutil.which(command[0], path=path) or command[0], *command[1:]],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                timeout=WAIT_S,
                check=True,
            )
        path_of_pid = folder / pid_file
        wait_for(partial(is_written, path_of_pid), f"{path_of_pid}")
        cluster.pids.append(int(path_of_pid.read_text(encoding="utf-8")))
    idle = ["sinfo", "--noheader", "--partition=gpu", "--states=idle", "--format=%D"]
    wait_for(lambda: cluster.call(*idle).strip() == "2", f"two idle nodes, see {folder}/*.log")


def stop_daemons(cluster: Cluster) -> None:
    """End jobs and daemons, those last started first."""
    if len(cluster.pids) == 2 + len(NODES):
        subprocess.run(["scancel", "--user=root"], capture_output=True, timeout=WAIT_S)
        deadline = time.monotonic() + WAIT_S
        while time.monotonic() < deadline and cluster.call("squeue", "--noheader").strip():
            time.sleep(0.5)
    # Without cgroups Slurm loses sight of a process whose parent has died.
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get("SLURM_CLUSTER_NAME") == "stradavit-tests":
                process.kill()
    for pid in reversed(cluster.pids):
        os.kill(pid, signal.SIGTERM)
        wait_for(partial(is_gone, pid), f"process {pid} to end")


def is_written(path: Path) -> bool:
    """Whether a file is there and has a line."""
    return path.exists() and path.read_text(encoding="utf-8").endswith("\n")


def is_gone(pid: int) -> bool:
    """Whether a process has ended."""
    return not Path(f"/proc/{pid}").exists()


def wait_for(condition: Callable[[], bool], what: str, seconds: float = WAIT_S) -> None:
    """Look five times a second.

    Raises
    ------
    TimeoutError
        Naming what did not come.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds:.0f} s in vain for {what}")
        time.sleep(0.2)
