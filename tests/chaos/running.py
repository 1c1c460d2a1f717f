"""Faults that strike a workflow at work: killed jobs, a killed engine, a second one."""

import csv
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.chaos.faults import Fault
from tests.chaos.messages import LOCKED, messages, to_delete
from tests.chaos.small_workflow import RULES, Running, SmallWorkflow, digest, remove

Note = Callable[[Fault, str], None]

# More runs than this, and the workflow does not get on.
MOST_RUNS = 60
AGAIN = "made again by the next run, nothing else"
# Faults that end Snakemake itself.
ENGINE = ("sigkill-workflow", "sigint-workflow")


@dataclass
class Strike:
    """A fault whose job runs: when it strikes, and what it did."""

    fault: Fault
    process: psutil.Process
    at: float
    told: str = ""


@dataclass
class Strikes:
    """What happened in one run.

    Parameters
    ----------
    done : faults that struck
    interrupted : rules whose jobs ran when Snakemake died, or had ended and it had not noted it;
        it does not know whether their files are whole, and makes them again
    is_engine_killed : whether `--unlock` has to come first
    """

    done: list[Strike] = field(default_factory=list)
    interrupted: set[str] = field(default_factory=set)
    is_engine_killed: bool = False


def strike_while_running(
    workflow: SmallWorkflow, calm: SmallWorkflow, faults: list[Fault], note: Note
) -> None:
    """Run the workflow from nothing to its end, again and again, until all faults have struck.

    Parameters
    ----------
    calm : has run undisturbed, and tells how long a job takes
    faults : one whose job was too quick is tried once more, on a job of its own
    note : is told what became of each

    Raises
    ------
    AssertionError
        If a run fails though nothing struck, or makes again what was finished.
    """
    pending = list(faults)
    may_change: set[str] = set()
    for _ in range(MOST_RUNS):
        before = finished(workflow)
        running = workflow.start()
        strikes = _strike(workflow, calm, running, pending)
        if any(strike.fault.kind in ENGINE for strike in strikes.done):
            strikes.interrupted |= workflow.unfinished()
        _check_only_lost(workflow, before, may_change)
        if strikes.is_engine_killed:
            workflow.unlock()
        deleted = apply_remedies(workflow, running.text())
        for strike in strikes.done:
            healed = "Snakemake tried it again by itself" if running.status == 0 else AGAIN
            note(strike.fault, strike.told or healed)
        if running.status == 0:
            break
        assert strikes.done or deleted, f"failed though nothing struck: {running.log_path}"
        may_change = strikes.interrupted
    else:
        raise AssertionError(f"not at its end after {MOST_RUNS} runs: {workflow.folder}")
    for fault in pending:
        note(fault, _strike_alone(workflow, calm, fault))


def finished(workflow: SmallWorkflow) -> dict[Path, int]:
    """Outputs that are there, with the time they were written."""
    return {path: path.stat().st_mtime_ns for rule in RULES for path in workflow.outputs(rule)}


def apply_remedies(workflow: SmallWorkflow, text: str) -> list[Path]:
    """Delete what messages tell to delete; returns what was deleted."""
    told = [path for one in messages(text) for path in to_delete(one, workflow.folder)]
    deleted = [path for path in dict.fromkeys(told) if path.is_file()]
    for path in deleted:
        path.unlink()
    return deleted


def _strike(
    workflow: SmallWorkflow, calm: SmallWorkflow, running: Running, pending: list[Fault]
) -> Strikes:
    """Wait for the jobs that pending faults are meant for, and strike each at its moment."""
    strikes = Strikes()
    aimed: dict[str, Strike] = {}
    while running.is_running:
        for rule, process in running.stages().items():
            fault = next((fault for fault in pending if fault.where == rule), None)
            if rule not in aimed and fault is not None:
                pending.remove(fault)
                delay_s = 0.9 * fault.moment * calm.duration_s(rule)
                aimed[rule] = Strike(fault, process, time.monotonic() + delay_s)
        for rule, strike in list(aimed.items()):
            if time.monotonic() >= strike.at:
                if _hit(workflow, running, strike, strikes):
                    strikes.done.append(strike)
                else:
                    pending.append(strike.fault)
                del aimed[rule]
        time.sleep(0.05)
    pending += [strike.fault for strike in aimed.values()]
    return strikes


def _hit(workflow: SmallWorkflow, running: Running, strike: Strike, strikes: Strikes) -> bool:
    """Do it; False if the job has ended already."""
    kind = strike.fault.kind
    try:
        if not strike.process.is_running() or not running.is_running:
            return False
        words = strike.process.cmdline()
        if kind == "sigkill-stage":
            strike.process.kill()
        elif kind == "sigterm-stage":
            strike.process.terminate()
    except psutil.Error:
        return False
    if kind == "sigkill-workflow":
        strikes.interrupted |= set(running.stages())
        strikes.is_engine_killed = True
        running.kill(signal.SIGKILL)
        strike.told = "after --unlock only the jobs that ran are made again"
    elif kind == "sigint-workflow":
        strikes.interrupted |= set(running.stages())
        running.kill(signal.SIGINT)
        strike.told = "no lock stays; only the jobs that ran are made again"
    elif kind == "two-workflows":
        second = workflow.run()
        if not running.is_running:  # and so had nothing to refuse it for, by the time it looked
            return False
        assert second.status != 0 and LOCKED in second.text(), f"not refused: {second.log_path}"
        strike.told = "the second is refused by Snakemake's lock; the first goes on"
    elif kind == "vanishing-input":
        ledger = workflow.folder / words[words.index("--ledger") + 1]
        with ledger.open(encoding="utf-8", newline="") as opened:
            for row in csv.DictReader(opened):
                (ledger.parent / row["path"]).unlink(missing_ok=True)
        strike.told = "one error names file and ledger; made again after deleting the ledger"
        if running.is_running:
            running.wait()
        if not any(ledger in to_delete(m, workflow.folder) for m in messages(running.text())):
            strike.told = "it had been read already"
    return True


def _check_only_lost(
    workflow: SmallWorkflow, before: dict[Path, int], may_change: set[str]
) -> None:
    """What was finished when a run began has not been written again."""
    spared = {path for rule in may_change for path in workflow.outputs(rule)}
    again = [
        workflow.name(path)
        for path, written in before.items()
        if path not in spared and path.exists() and path.stat().st_mtime_ns != written
    ]
    assert not again, f"made again though they were finished: {again}"


def _strike_alone(workflow: SmallWorkflow, calm: SmallWorkflow, fault: Fault) -> str:
    """The same fault on one job that is asked for by name, at half the moment."""
    made = workflow.outputs(fault.where)
    target = made[int(fault.choice * len(made))]
    expected = digest(target)
    remove(target)
    running = workflow.start(workflow.name(target))
    strikes = Strikes()
    process = running.wait_for(fault.where)
    told = "the job was quicker than the fault"
    if process is not None:
        time.sleep(0.45 * fault.moment * calm.duration_s(fault.where))
        strike = Strike(fault, process, 0.0)
        if _hit(workflow, running, strike, strikes):
            told = strike.told or AGAIN
    running.wait()
    if strikes.is_engine_killed:
        workflow.unlock()
    apply_remedies(workflow, running.text())
    again = workflow.run(workflow.name(target))
    assert again.status == 0, f"not healed by a rerun: {again.log_path}"
    assert digest(target) == expected, f"{target} came out differently after {fault}"
    assert workflow.planned() == {}, f"after {fault} more is planned: {workflow.planned()}"
    return told
