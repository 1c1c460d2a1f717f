"""The chaos run: one workflow undisturbed, one under faults, and the same tables in the end.

A fault must end in one of two ways: a plain rerun heals it, or one message names the file and
what to delete, and a rerun after just that heals it. Whatever was finished stays as it is.
"""

import sys
import time
from dataclasses import dataclass
from pathlib import Path

from stradavit.progress import progress
from tests.chaos.disk import Disk
from tests.chaos.faults import WHILE_RUNNING, Fault
from tests.chaos.resting import strike_at_rest
from tests.chaos.running import strike_while_running
from tests.chaos.small_workflow import EVERY_RULE, Size, SmallWorkflow


@dataclass(frozen=True)
class Outcome:
    """What became of a fault: `told` is what was seen, in the words of the table."""

    fault: Fault
    told: str


@dataclass(frozen=True)
class Result:
    """A chaos run that ended well; one that does not raises AssertionError."""

    outcomes: list[Outcome]
    n_files: int
    n_runs: int
    wall_s: float


def run_chaos(faults: list[Fault], folder: Path, size: Size = EVERY_RULE) -> Result:
    """Run the workflow twice, the second time under the faults, and compare.

    Parameters
    ----------
    faults : of `tests.chaos.faults.draw`; those while running first
    folder : empty; what is left in it after a failure shows what happened

    Raises
    ------
    AssertionError
        If the tables differ, if a finished file was made again, or if a fault was not told.
    """
    began = time.monotonic()
    # Both in one place, one after the other: where a file lies is in some records.
    calm = SmallWorkflow(folder / "work", size)
    calm_run = calm.run()
    assert calm_run.status == 0, f"the undisturbed run failed: {calm_run.log_path}"
    calm.move(folder / "calm")

    harried = SmallWorkflow(folder / "work", size, twin=calm)
    disk = Disk(harried.results)
    bar = progress(total=len(faults), desc="chaos", unit="fault")
    outcomes: list[Outcome] = []

    def note(fault: Fault, told: str) -> None:
        outcomes.append(Outcome(fault, told))
        print(f"{fault.kind} {fault.where}: {told}", file=sys.stderr)
        bar.update()

    try:
        running = [fault for fault in faults if fault.kind in WHILE_RUNNING]
        strike_while_running(harried, calm, running, note)
        for fault in faults:
            if fault not in running:
                note(fault, strike_at_rest(harried, disk, fault))
        bar.close()
        assert harried.planned() == {}, f"something is still planned: {harried.planned()}"
        expected, found = calm.tables(), harried.tables()
        differing = sorted(n for n in expected | found if expected.get(n) != found.get(n))
        assert not differing, f"tables differ after {len(outcomes)} faults: {differing}"
    except BaseException:
        disk.close(keep=folder / "results-at-failure")
        raise
    disk.close()
    return Result(outcomes, len(expected), harried.n_runs, time.monotonic() - began)
