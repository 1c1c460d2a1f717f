"""Processes that judge one case after another; one that dies or hangs is replaced."""

import logging
import multiprocessing
import os
import resource
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from stradavit import machine
from tests.fuzz.cases import make_case
from tests.fuzz.originals import originals
from tests.fuzz.outcome import Judge, Outcome, memory_mb

# Address space over what a worker has when it starts: a claim is refused, not this machine.
ADDRESS_MB = 2048

# On the clock, for a machine that does other things too; the time that counts is the processor's.
MOST_WALL_S = 120.0

Work = Callable[[Connection, int, Path], None]


@dataclass
class Worker:
    """A process and the case it is at."""

    process: Any
    connection: Connection
    folder: Path
    number: int | None = None
    since: float = 0.0


def judge_all(
    seed: int, numbers: list[int], n_workers: int, work: Work | None = None
) -> Iterator[tuple[int, Outcome]]:
    """Outcomes of cases, in the order in which they are ready.

    Parameters
    ----------
    seed, numbers : of the cases
    n_workers : processes
    work : what each of them does; the tests of this module put something worse there
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.fuzz.outcome", "tests.fuzz.cases"])
    waiting = list(reversed(numbers))
    workers: list[Worker] = []
    # Files are written and synchronised a dozen times for each case: best where no disk is.
    memory = Path("/dev/shm")
    place = memory if os.access(memory, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="fuzz", dir=place) as root:
        try:
            while waiting or workers:
                while waiting and len(workers) < n_workers:
                    workers.append(_start(context, work or judge_what_comes, seed, Path(root)))
                for worker in workers:
                    if worker.number is None and waiting:
                        worker.number, worker.since = waiting.pop(), time.monotonic()
                        worker.connection.send(worker.number)
                busy = [w for w in workers if w.number is not None]
                for worker in [w for w in workers if w not in busy]:
                    _stop(worker)
                    workers.remove(worker)
                ready = wait([w.connection for w in busy], timeout=1.0)
                for worker in busy:
                    outcome = _answer(worker, worker.connection in ready)
                    if outcome is None:
                        continue
                    assert worker.number is not None
                    yield worker.number, outcome
                    worker.number = None
                    if not worker.process.is_alive():
                        _stop(worker)
                        workers.remove(worker)
        finally:
            for worker in workers:
                _stop(worker)


def _answer(worker: Worker, is_ready: bool) -> Outcome | None:
    """What a worker has to say, or what its silence means; None if it is at work."""
    if is_ready:
        try:
            found: Outcome = worker.connection.recv()
            return found
        except (EOFError, ConnectionError):
            worker.process.join(10)
            code = worker.process.exitcode
            if code == -signal.SIGXCPU:
                return Outcome(faults=["hangs: the processor's time was up"])
            return Outcome(faults=[f"the process died: exit code {code}"])
    if time.monotonic() - worker.since > MOST_WALL_S:
        worker.process.kill()
        worker.process.join(10)
        return Outcome(faults=[f"hangs: no answer in {MOST_WALL_S:.0f} s"])
    return None


def _start(context: Any, work: Work, seed: int, root: Path) -> Worker:
    ours, theirs = context.Pipe()
    folder = Path(tempfile.mkdtemp(dir=root))
    process = context.Process(target=work, args=(theirs, seed, folder), daemon=True)
    process.start()
    theirs.close()
    return Worker(process, ours, folder)


def _stop(worker: Worker) -> None:
    worker.connection.close()
    worker.process.join(5)
    if worker.process.is_alive():
        worker.process.kill()
        worker.process.join(5)
    shutil.rmtree(worker.folder, ignore_errors=True)


def judge_what_comes(connection: Connection, seed: int, folder: Path) -> None:
    """Judge what comes until nothing comes."""
    # Warnings of ours are counted; nobody wants to read two thousand of them, or of progress.
    logging.getLogger().addHandler(logging.NullHandler())
    # What is installed does not change from file to file, and is slow to find out.
    machine.libraries = cache(machine.libraries)
    with (folder / "stderr.txt").open("w") as stream:
        os.dup2(stream.fileno(), 2)
    sources = originals()
    good = next(source.content for source in sources if source.name == "plain")
    judge = Judge(folder / "work", good)
    # Everything is imported once before memory is counted.
    for source in sources:
        if source.name in ("plain.gz", "RICE_1 of floats", "GZIP_1 of integers", "PNG", "JPEG"):
            judge.judge(source.content)
    address = int((memory_mb("VmSize") + ADDRESS_MB) * 2**20)
    resource.setrlimit(resource.RLIMIT_AS, (address, resource.RLIM_INFINITY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    while True:
        try:
            number = connection.recv()
        except (EOFError, ConnectionError):
            return
        connection.send(judge.judge(make_case(seed, number, sources).content))
