"""What the system says when it cannot read or write a file: which one, why, what now.

One place turns these into `DiskError`s, whichever library met them: h5py and safetensors dress
them up in exceptions of their own, from whose text the number of the error is taken.
"""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

from stradavit.errors import DiskError, StradavitError

AGAIN = "and run the same command again; it goes on with what is missing."

_FULL = ("Free space there, or move the folder to a larger disk,", AGAIN)
_FAILED = ("Look after the disk or its server,", AGAIN)
_DENIED = ("Repair the owner or the permissions (`ls -ld` shows them),", AGAIN)
_LOST = ("Put it back, or make it again by the command that writes it,", AGAIN)

# By number of the error: what it means, and what to do.
TROUBLES = MappingProxyType(
    {
        errno.ENOSPC: ("the disk is full", _FULL),
        errno.EDQUOT: ("the quota on this disk is used up", _FULL),
        errno.EFBIG: ("the file is larger than this disk or `ulimit -f` allows", _FULL),
        errno.EROFS: ("the disk is mounted read-only", ("Mount it for writing,", AGAIN)),
        errno.EACCES: ("access is denied", _DENIED),
        errno.EPERM: ("access is denied", _DENIED),
        errno.ENOENT: ("there is no such file or folder", _LOST),
        errno.ENOTDIR: ("a part of this path is a file, not a folder", _LOST),
        errno.EISDIR: ("is a folder, expected a file", ("Move it away,", AGAIN)),
        errno.EIO: ("the disk failed", _FAILED),
        errno.ESTALE: ("its server has lost it", _FAILED),
        errno.ETIMEDOUT: ("its server does not answer", _FAILED),
        errno.ENOTCONN: ("its server does not answer", _FAILED),
        errno.EMFILE: ("too many files are open", ("Raise `ulimit -n`,", AGAIN)),
        errno.ENFILE: ("too many files are open", ("Close other programs,", AGAIN)),
    }
)

# A disk that is full or fails is the cause also of what goes wrong while tidying up after it.
_GRAVE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO})

# What is no property of the file itself: deleting it would be the wrong remedy.
_NOT_OF_THE_FILE = frozenset(TROUBLES) - {errno.ENOENT, errno.ENOTDIR, errno.EISDIR}

# As h5py and safetensors write the number into their messages.
_NUMBER = re.compile(r"(?:errno\s*=\s*|\(os error |\[Errno )(\d+)")


def error_number(error: BaseException) -> int | None:
    """The number of the system's error behind an exception; None if there is none we can name."""
    found = error.errno if isinstance(error, OSError) else None
    if found is None:
        match = _NUMBER.search(str(error))
        found = int(match[1]) if match else None
    if found in TROUBLES:
        return found
    if error.__cause__ is not None:
        return error_number(error.__cause__)
    behind = None if error.__context__ is None else error_number(error.__context__)
    return behind if behind in _GRAVE else None


def disk_error(error: BaseException, path: Path | None = None) -> DiskError | None:
    """What a user is told instead of `error`; None if the system's refusal is not behind it.

    Parameters
    ----------
    error : as caught
    path : file that was written or read, where the error does not name one

    Returns
    -------
    An error to raise `from` the given one. Ours are left as they are: they say more.
    """
    if isinstance(error, StradavitError):
        return None
    number = error_number(error)
    if number is None:
        return None
    named = getattr(error, "filename", None)
    if path is None and isinstance(named, str | bytes):
        path = Path(os.fsdecode(named))
    what, (first, then) = TROUBLES[number]
    where = "a file" if path is None else str(path)
    room = _room(path) if number in (errno.ENOSPC, errno.EDQUOT) and path is not None else ""
    return DiskError(f"{where}: {what} ({os.strerror(number)}){room}. {first} {then}")


@contextmanager
def named_refusals(path: Path) -> Iterator[None]:
    """What the system refuses inside is told as a `DiskError` that names `path`."""
    try:
        yield
    except Exception as error:
        refusal = disk_error(error, path)
        if refusal is None:
            raise
        raise refusal from error


def outside_fault(error: BaseException, path: Path) -> DiskError | None:
    """As `disk_error`, for a file that is read; None where the file itself is to blame.

    A file that is gone or damaged is made again; one that the disk does not hand out is not.
    """
    return disk_error(error, path) if error_number(error) in _NOT_OF_THE_FILE else None


def _room(path: Path) -> str:
    """How much room there is in the folder of a file, or in the nearest that exists."""
    folder = next((parent for parent in Path(path).absolute().parents if parent.is_dir()), None)
    if folder is None:
        return ""
    found = os.statvfs(folder)
    if found.f_files and not found.f_favail:
        return f"; {folder} takes no further file, however small"
    return f"; {found.f_bavail * found.f_frsize:,} bytes are free in {folder}"
