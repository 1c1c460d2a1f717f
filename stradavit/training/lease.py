"""One job for each GPU of a machine.

``snakemake --resources gpu=N`` starts no more GPU jobs at once than N, but it does not say which
job gets which device, and it knows nothing of a second workflow, of another user, or of a stage
started by hand. So each GPU job leases devices before it computes: it takes those among its own
that nobody else has leased, waits while there are too few, and sees no others.

A lease is a lock file for each device, locked by `flock`: the kernel frees it when the last process
that holds it ends, however it ends. The files lie in ``/tmp``, which all users of a machine share,
or in the folder that `STRADAVIT_LEASE_DIR` names, which containers can share. They are never
deleted: a new file of the same name would be another lock.

A holder has a shared lock, so that its child processes can hold it too (`hold_for_parent`): a
device stays leased while any of them lives. Who wants a device tries for an exclusive one. All
this goes on behind a lock of its own, one job at a time, so no two see a device as free.
"""

import fcntl
import logging
import os
import re
import stat
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from stradavit.errors import TrainingError

logger = logging.getLogger(__name__)

ASK_EVERY_S = 1.0
TELL_EVERY_S = 60.0
# How children learn which lock files their parent holds.
LEASES = "STRADAVIT_LEASES"
_VISIBLE = "CUDA_VISIBLE_DEVICES"
_HOLDER_BYTES = 400

# Open descriptors of lock files by device: of this process, until it ends.
_held: dict[str, int] = {}


def lease(device: Literal["auto", "cpu", "cuda"], count: int, job: str) -> tuple[str, ...]:
    """Wait for `count` GPUs and make them the only ones this process and its children see.

    To be called before torch looks for devices. Nothing happens where `device` is cpu, where
    there is no ``nvidia-smi``, or in a child of a process that has a lease.

    Parameters
    ----------
    device : `loader.device`
    job : what others are told about the holder

    Returns
    -------
    The leased devices, by UUID; empty if there is nothing to lease

    Raises
    ------
    TrainingError
        If this process may not use so many devices, or a lock file cannot be used.
    """
    if device == "cpu" or LEASES in os.environ:
        return ()
    if len(_held) >= count:
        return tuple(_held)
    names = visible_devices()
    if not names:
        return ()
    if count > len(names):
        raise TrainingError(
            f"{count} GPUs are to be used on this machine, and there are {len(names)} "
            f"({', '.join(names)}; {_VISIBLE} is {os.environ.get(_VISIBLE, 'not set')}). Ask for "
            "more of them (the resource gpu), or lower training.devices."
        )
    told_at = float("-inf")
    while True:
        taken, holders = _try(names, count, f"process {os.getpid()} ({job})")
        if taken:
            break
        if time.monotonic() - told_at > TELL_EVERY_S:
            told_at = time.monotonic()
            held = "; ".join(dict.fromkeys(holders))
            logger.info("Waiting for %d of %d GPUs; held by %s", count, len(names), held)
        time.sleep(ASK_EVERY_S)
    _held.update(taken)
    os.environ[_VISIBLE] = ",".join(_held)
    os.environ[LEASES] = os.pathsep.join(str(_lock_path(name)) for name in _held)
    logger.info("Leased %s", ", ".join(_held))
    return tuple(_held)


def hold_for_parent() -> None:
    """Hold the parent's lease too, so that its devices stay leased should it be killed.

    Raises
    ------
    TrainingError
        If another job has a device already, since the parent is gone.
    """
    for text in filter(None, os.environ.get(LEASES, "").split(os.pathsep)):
        opened = _open(Path(text))
        try:
            fcntl.flock(opened, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            raise TrainingError(
                f"{text}: another job is about to take this GPU, so the process that leased it for "
                "this one must have been killed; start the job again."
            ) from None


def visible_devices() -> list[str]:
    """The GPUs this process may use, by UUID, in the order of `CUDA_VISIBLE_DEVICES`.

    UUIDs, because numbers depend on who counts: a container and CUDA itself may number otherwise
    than ``nvidia-smi``. A part of a GPU (MIG), which ``nvidia-smi`` does not list here, is called
    what the variable calls it. As for CUDA, the list ends before the first unknown device.
    """
    by_number = _numbered()
    if not by_number:
        return []
    asked = os.environ.get(_VISIBLE)
    if asked is None:
        return list(by_number.values())
    names: list[str] = []
    for word in map(str.strip, asked.split(",")):
        beginning = [uuid for uuid in by_number.values() if word and uuid.startswith(word)]
        if word in by_number:
            name = by_number[word]
        elif len(beginning) == 1:
            name = beginning[0]
        elif word.startswith(("GPU-", "MIG-")):
            name = word
        else:
            break
        if name not in names:
            names.append(name)
    return names


def _numbered() -> dict[str, str]:
    """UUIDs of this machine's GPUs by number."""
    command = ["nvidia-smi", "--query-gpu=index,uuid", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    except FileNotFoundError:
        return {}
    except (OSError, subprocess.SubprocessError) as error:
        logger.warning("nvidia-smi does not say which GPUs there are, so none is leased: %s", error)
        return {}
    found = re.findall(r"^\s*(\d+)\s*,\s*(\S+)\s*$", done.stdout, re.M)
    return dict(found)


# -- lock files -----------------------------------------------------------------------------------


def _try(names: Sequence[str], count: int, holder: str) -> tuple[dict[str, int], list[str]]:
    """Lock files of `count` free devices, opened and locked, and who has others.

    None if fewer are free. `holder` is written into them.
    """
    gate = _open(_folder() / "stradavit-gpus.lock")
    taken: dict[str, int] = {}
    holders = []
    try:
        fcntl.flock(gate, fcntl.LOCK_EX)
        for name in names:
            opened = _open(_lock_path(name))
            try:
                fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holders.append(os.pread(opened, _HOLDER_BYTES, 0).decode(errors="replace"))
                os.close(opened)
                continue
            taken[name] = opened
            if len(taken) == count:
                break
        if len(taken) < count:
            for opened in taken.values():
                os.close(opened)
            return {}, holders
        for opened in taken.values():
            text = holder.encode()[:_HOLDER_BYTES]
            os.ftruncate(opened, 0)
            os.pwrite(opened, text, 0)
            # Behind the gate nobody can come between the one lock and the other.
            fcntl.flock(opened, fcntl.LOCK_SH)
        return taken, holders
    finally:
        os.close(gate)


def _folder() -> Path:
    # Not the usual temporary folder: TMPDIR is often a job's or a user's own.
    return Path(os.environ.get("STRADAVIT_LEASE_DIR", "/tmp"))


def _lock_path(name: str) -> Path:
    return _folder() / f"stradavit-{re.sub(r'[^A-Za-z0-9-]', '_', name)}.lock"


def _open(path: Path) -> int:
    """A lock file that every user of the machine may open, made if it is not there.

    In a folder where anybody may put files, links are not followed, and an existing file is not
    opened as if it might be created: the kernel can refuse that for another user's file
    (``fs.protected_regular``).
    """
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        try:
            opened = os.open(path, flags)
        except FileNotFoundError:
            try:
                opened = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o666)
                os.fchmod(opened, 0o666)  # whatever the umask
            except FileExistsError:  # another job was quicker
                opened = os.open(path, flags)
    except OSError as error:
        raise TrainingError(
            f"{path}: cannot be used as the lock file of a GPU ({error.strerror}). Delete it when "
            "no job runs on this machine, or name a folder by STRADAVIT_LEASE_DIR."
        ) from error
    state = os.fstat(opened)
    if not stat.S_ISREG(state.st_mode) or state.st_nlink > 1:
        os.close(opened)
        raise TrainingError(
            f"{path}: is no plain file with one name; expected the lock file of a GPU. Delete it, "
            "or name a folder by STRADAVIT_LEASE_DIR."
        )
    return opened
