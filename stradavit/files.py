"""Files that are either whole or absent: written under a temporary name, then renamed."""

import hashlib
import json
import os
import re
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stradavit.disk import disk_error
from stradavit.errors import DataError

# Key of a sealed JSON object: the SHA-256 of all the rest.
SEAL = "seal"

# What a killed process has left is `.<process>-<machine>.<name>`; without a machine in old ones.
_LEFTOVER = re.compile(r"\.(?P<process>[1-9]\d*)(-(?P<machine>[0-9a-f]{8}))?\..+")
_MACHINE = hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]

# A writer of another machine that has been silent for so long is dead, by the clock of the disk.
_SILENT_S = 3600.0

# Folders that this process has looked through.
_swept: set[Path] = set()


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that takes its name only if the block succeeds.

    The suffixes are kept (writers choose a format by them); a failed block leaves nothing behind,
    and what killed processes have left in the folder is removed.

    Raises
    ------
    DiskError
        If the system refuses to write: the disk is full, read-only, out of reach.
    """
    path = Path(path)
    temporary = temporary_beside(path)
    try:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            sweep(path.parent)
            yield temporary
            with temporary.open("rb+") as written:
                # The rename must not reach the disk before the bytes do.
                os.fsync(written.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except Exception as error:
        named = getattr(error, "filename", None)
        is_another = isinstance(named, str) and Path(named) not in (temporary, path)
        trouble = disk_error(error, None if is_another else path)
        if trouble is None:
            raise
        raise trouble from error


def temporary_beside(path: Path) -> Path:
    """The name under which this process makes what is going to be `path`."""
    return Path(path).with_name(f".{os.getpid()}-{_MACHINE}.{Path(path).name}")


def sweep(folder: Path) -> None:
    """Remove what killed processes have left in a folder; looks once in each process.

    A process of this machine is asked for; of another one, only what nobody has written to for an
    hour is removed. Were its writer alive after all, it would end in an error, not in a wrong file.
    """
    folder = Path(folder).absolute()
    if folder in _swept or not folder.is_dir():
        return
    _swept.add(folder)
    now: float | None = None
    for entry in os.scandir(folder):
        match = _LEFTOVER.fullmatch(entry.name)
        if match is None:
            continue
        try:
            if match["machine"] == _MACHINE:
                is_dead = not _is_running(int(match["process"]))
            else:
                now = _time_of_disk(folder) if now is None else now
                is_dead = now - entry.stat(follow_symlinks=False).st_mtime > _SILENT_S
            if is_dead:
                _remove(entry)
        except OSError:
            continue  # another process sweeps too, or the folder may not be written to


def _remove(entry: "os.DirEntry[str]") -> None:
    if entry.is_dir(follow_symlinks=False):
        shutil.rmtree(entry.path, ignore_errors=True)
    else:
        Path(entry.path).unlink(missing_ok=True)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True  # of another user
    return True


def _time_of_disk(folder: Path) -> float:
    """Seconds since the epoch by the clock that stamps the files of a folder."""
    probe = temporary_beside(folder / "clock")
    try:
        probe.touch()
        return probe.stat().st_mtime
    finally:
        probe.unlink(missing_ok=True)


def write_json(path: Path, value: Any, *, sealed: bool = False) -> None:
    """Write sorted, indented JSON atomically; NaN is refused since JSON has none.

    Parameters
    ----------
    sealed : whether an object gets a digest of its content, which `read_json` compares
    """
    with atomic_path(path) as temporary:
        if sealed:
            assert isinstance(value, dict) and SEAL not in value
            value = {**value, SEAL: _seal(json.loads(json.dumps(value, allow_nan=False)))}
        text = json.dumps(value, sort_keys=True, indent=1, allow_nan=False, ensure_ascii=False)
        temporary.write_text(text + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """The value of a JSON file, without its seal.

    Raises
    ------
    DataError
        If it was sealed and has changed since. Files without a seal are read as they are.
    OSError, ValueError
        If it cannot be read, or is no JSON.
    """
    return without_seal(json.loads(Path(path).read_text(encoding="utf-8")), path)


def without_seal(value: Any, path: Path) -> Any:
    """What `path` says, compared with its seal if it has one.

    Raises
    ------
    DataError
    """
    if isinstance(value, dict) and SEAL in value:
        expected = value.pop(SEAL)
        if _seal(value) != expected:
            raise DataError(
                f"{path}: is damaged, or was changed by hand: its content does not have the digest "
                "it was written with. Delete it and run the command that makes it; if it was "
                f'changed on purpose, take its key "{SEAL}" out.'
            )
    return value


def _seal(value: Any) -> str:
    """Over the content, not the bytes: another layout of the same JSON has the same seal."""
    return sha256_of_text(json.dumps(value, sort_keys=True))


def sha256_of(path: Path) -> str:
    """Hex SHA-256 of a file's bytes, read in blocks."""
    with Path(path).open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def sha256_of_text(text: str) -> str:
    """Hex SHA-256 of a text in UTF-8."""
    return hashlib.sha256(text.encode()).hexdigest()
