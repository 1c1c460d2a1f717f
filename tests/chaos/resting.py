"""Faults that strike what is finished: flipped bytes, lost files, clocks, full disks."""

import contextlib
import os
import time
from glob import glob
from pathlib import Path

import psutil

from tests.chaos.damage import DAMAGE
from tests.chaos.disk import Disk
from tests.chaos.faults import DAMAGES, SILENT, Fault
from tests.chaos.messages import (
    CLOCK_SKEW,
    LOCKED,
    NO_SPACE,
    READ_ONLY,
    messages,
    named_files,
    to_delete,
)
from tests.chaos.running import finished
from tests.chaos.small_workflow import Running, SmallWorkflow, digest, remove

DAY_S = 86_400
# A quick training is killed in time in one of these.
TRIES = 4
LONG_AGO = 315_532_800  # 1980
SKIPPED = "skipped: nothing may be mounted here"


def strike_at_rest(workflow: SmallWorkflow, disk: Disk, fault: Fault) -> str:
    """Strike a finished workflow, heal it, and see that nothing is left to do.

    Returns
    -------
    What was seen, in a few words.

    Raises
    ------
    AssertionError
        If damage got into a result unnoticed, if no message named the file and a remedy, or if a
        training ran again that had lost nothing.
    """
    trained = {path: path.stat().st_mtime_ns for path in _weights(workflow)}
    if fault.kind in SILENT and fault.where == "checkpoint":
        spared, told = _damaged_checkpoint(workflow, fault)
    elif fault.kind in SILENT:
        spared, told = _damaged(workflow, fault)
    elif fault.kind == "clock-jump":
        spared, told = _clock(workflow, fault)
    else:
        spared, told = _disk(workflow, disk, fault)
    again = [
        workflow.name(path)
        for path, written in trained.items()
        if path not in spared and path.stat().st_mtime_ns != written
    ]
    assert not again, f"{fault}: trained again though nothing of them was lost: {again}"
    assert workflow.planned() == {}, f"{fault}: more is planned: {workflow.planned()}"
    return told


def _damaged(workflow: SmallWorkflow, fault: Fault) -> tuple[set[Path], str]:
    """Damage a file, have it read, and do what the message says."""
    hit, reader = _hit_and_reader(workflow, fault)
    expected, made = digest(reader), set(finished(workflow))
    before, times = hit.read_bytes(), hit.stat()
    DAMAGE[fault.kind](hit, fault.moment)
    if fault.kind == "delete":
        plan = workflow.planned()
        assert plan == {}, f"{fault}: planned though nobody asks for {hit.name}: {plan}"
    remove(reader)
    first = workflow.run(workflow.name(reader))
    if first.status == 0:
        assert digest(reader) == expected, f"{fault}: nobody noticed, and {reader} is another one"
        told = "no difference to what is read"
        if fault.kind == "delete":
            told = "made again by itself" if hit.exists() else "not needed"
        else:
            # The next fault shall not find it: Snakemake compares contents of remade files.
            hit.write_bytes(before)
            os.utime(hit, ns=(times.st_atime_ns, times.st_mtime_ns))
        return {hit, reader}, told
    about = [m for m in messages(first.text()) if hit in named_files(m, workflow.folder)]
    assert about, f"{fault}: no message names {workflow.name(hit)}: {first.log_path}"
    remedy = to_delete(about[0], workflow.folder)
    assert remedy, f"{fault}: does not say what to delete: {about[0]}"
    for path in remedy:
        path.unlink(missing_ok=True)
    # What was lost first, so that only what reads it follows.
    targets = [workflow.name(path) for path in remedy if path in made]
    again = workflow.run(*targets, workflow.name(reader))
    assert again.status == 0, f"{fault}: not healed: {again.log_path}"
    assert digest(reader) == expected, f"{fault}: {reader} came out differently"
    what = " and ".join(sorted({path.suffix for path in remedy}))
    return {hit, reader, *remedy}, f"one error names it; made again after deleting {what}"


def _hit_and_reader(workflow: SmallWorkflow, fault: Fault) -> tuple[Path, Path]:
    """The file a fault strikes, and something that is made from it."""
    damage = DAMAGES[fault.where]
    found = sorted(workflow.results.glob(damage.files))
    found = [path for path in found if not path.name.endswith(".detections.json")]
    hit = found[int(fault.choice * len(found))]
    part = "*"
    for ledger in workflow.results.glob("raw/lotss/*.csv"):
        if hit.name in ledger.read_text(encoding="utf-8"):
            part = ledger.stem
    reader = damage.reader.format(parent=hit.parent.name, stem=hit.stem, part=part)
    return hit, next(workflow.results.glob(reader))


def _damaged_checkpoint(workflow: SmallWorkflow, fault: Fault) -> tuple[set[Path], str]:
    """Damage the newest checkpoint of a killed training; it goes on from the one before."""
    weights = next(workflow.results.glob(DAMAGES["checkpoint"].files))
    expected = digest(weights)
    newest = None
    for _ in range(TRIES):
        weights.unlink()
        newest = _checkpoint_of_a_killed_training(workflow, weights)
        if newest is not None:
            DAMAGE[fault.kind](newest, fault.moment)
        again = workflow.run(workflow.name(weights))
        assert again.status == 0, f"{fault}: not healed: {again.log_path}"
        assert digest(weights) == expected, f"{fault}: the training came out differently"
        if newest is not None:
            return {weights}, "passed over for the checkpoint before; the same weights"
    return {weights}, "the training was quicker than the fault"


def _checkpoint_of_a_killed_training(workflow: SmallWorkflow, weights: Path) -> Path | None:
    """Kill a training as soon as it has two checkpoints; None if it was done before."""
    running = workflow.start(workflow.name(weights))
    process = running.wait_for("pretrain_contrastive")
    assert process is not None, f"no training began: {running.log_path}"
    found: list[str] = []
    while running.is_running and len(found) < 2:
        # That of pathlib raises if the training, being done, takes a folder away meanwhile.
        found = glob(f"{weights.parent}/checkpoints/*/*.pt")  # noqa: PTH207
        time.sleep(0.005)
    with contextlib.suppress(psutil.Error):
        process.kill()
    running.wait()
    return max(weights.parent.glob("checkpoints/*/*.pt"), default=None)


def _clock(workflow: SmallWorkflow, fault: Fault) -> tuple[set[Path], str]:
    """Give a file a time ahead or long ago, and then have it read."""
    readable = [name for name in DAMAGES if name not in ("checkpoint", "raw FITS", "raw image")]
    where = readable[int(fault.moment * len(readable))]
    hit, reader = _hit_and_reader(workflow, Fault("clock-jump", where, 0.0, fault.choice))
    when = time.time() + 400 * DAY_S if fault.where == "future" else LONG_AGO
    os.utime(hit, (when, when))
    assert workflow.planned() == {}, f"{fault}, {hit.name}: planned {workflow.planned()}"
    expected = digest(reader)
    remove(reader)
    told = "nothing planned; what reads it is made as ever"
    if fault.where == "future":
        failed = workflow.run(workflow.name(reader))
        text = failed.text()
        is_told = CLOCK_SKEW in text and workflow.name(hit) in text
        assert failed.status != 0 and is_told, f"{fault}: not told: {failed.log_path}"
        hit.touch()
        told = "nothing planned; Snakemake's error names what is newer than now; made after a touch"
    again = workflow.run(workflow.name(reader))
    assert again.status == 0, f"{fault}: failed: {again.log_path}"
    assert digest(reader) == expected, f"{fault}: {reader} came out differently"
    return {hit, reader}, told


def _disk(workflow: SmallWorkflow, disk: Disk, fault: Fault) -> tuple[set[Path], str]:
    """Let the disk be full, or read-only, while an encoder is trained."""
    reader = next(workflow.results.glob(DAMAGES["corpus"].reader))
    expected = digest(reader)
    reader.unlink()
    is_full = fault.kind == "full-disk"
    # Enough for a log, and for less than the first checkpoint.
    is_done = disk.fill(int((0.1 + fault.moment) * 2**18)) if is_full else disk.set_read_only(True)
    told = SKIPPED
    if is_done:
        failed = workflow.run(workflow.name(reader))
        assert failed.status != 0, f"{fault}: nobody noticed: {failed.log_path}"
        cause = NO_SPACE if is_full else READ_ONLY
        assert cause in failed.text(), f"{fault}: not told: {failed.log_path}"
        is_message = any(cause in one for one in messages(failed.text()))
        told = "one error of the stage" if is_message else "Snakemake's error"
        told += " says so; made again once there is " + ("space" if is_full else "leave to write")
        if is_full:
            disk.empty()
        else:
            disk.set_read_only(False)
    again = _run_unlocked(workflow, workflow.name(reader))
    assert again.status == 0, f"{fault}: not healed: {again.log_path}"
    assert digest(reader) == expected, f"{fault}: {reader} came out differently"
    return {reader}, told


def _run_unlocked(workflow: SmallWorkflow, *targets: str) -> Running:
    """Run; unlock first where Snakemake died of the fault itself."""
    running = workflow.run(*targets)
    if LOCKED in running.text():
        workflow.unlock()
        running = workflow.run(*targets)
    return running


def _weights(workflow: SmallWorkflow) -> list[Path]:
    """What trainings have made."""
    rules = ("pretrain_reconstruction", "pretrain_contrastive", "train_detector")
    return [path for rule in rules for path in workflow.outputs(rule)]
