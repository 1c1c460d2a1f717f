"""HDF5 files that may be read from many processes, and that a full disk does not break."""

import hashlib
import io
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from stradavit.cutouts.self_contained import fault_of
from stradavit.disk import outside_fault
from stradavit.errors import DataError, StradavitError
from stradavit.files import atomic_path

# Object headers of this format carry checksums, so damaged indices and numbers are noticed.
WRITTEN_FOR = ("v110", "v110")

# Texts, those of attributes too, lie where HDF5 guards nothing: so each file has a digest of its
# attributes, of a fixed length, which lies in a header. Files of before have none.
SEAL = "attributes_digest"


class LazyFile:
    """An HDF5 file that is opened on first use in each process.

    A handle that is inherited by a fork, or shared between workers, corrupts what it reads; so
    it is dropped on pickling and opened anew when the process is another one. Threads share it
    one after the other.

    Parameters
    ----------
    path : file
    kind : what its attribute `format` must say
    version : what its attribute `version` must say
    remedy : what a user should do if the file is missing or damaged
    """

    def __init__(self, path: Path, kind: str, version: int, remedy: str) -> None:
        self.path = Path(path)
        self.remedy = remedy
        self._kind = kind
        self._version = version
        self._handle: Any = None
        self._process = 0
        self._turn = threading.RLock()

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k != "_turn"} | {"_handle": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _turn=threading.RLock())

    @contextmanager
    def opened(self) -> Iterator[Any]:
        """The open `h5py.File`; whatever fails inside is told with the file and the remedy.

        Raises
        ------
        DataError
        """
        if self._process != os.getpid():
            # A thread of the parent may have held the lock for ever when we were forked.
            self._handle, self._turn, self._process = None, threading.RLock(), os.getpid()
        with self.named_failures(), self._turn:
            if self._handle is None:
                self._handle = self._open()
            yield self._handle

    @contextmanager
    def named_failures(self) -> Iterator[None]:
        """Whatever fails inside is told with the file and the remedy.

        Raises
        ------
        DataError
            If the file is missing or damaged.
        DiskError
            If the disk fails or denies access, for which the file is not to blame.
        """
        try:
            yield
        except StradavitError:
            raise
        except (OSError, KeyError, ValueError, TypeError, RuntimeError) as error:
            if fault := outside_fault(error, self.path):
                raise fault from error
            raise self.damaged(f"{type(error).__name__}: {error}") from error

    def damaged(self, what: str) -> DataError:
        """The error for a file that is not what it should be."""
        return DataError(f"{self.path}: {what}. {self.remedy}")

    def close(self) -> None:
        """Close the handle of this process; the next use opens it again."""
        if self._handle is not None and self._process == os.getpid():
            self._handle.close()
        self._handle = None

    def _open(self) -> Any:
        # Locks fail on some cluster disks, and nobody writes to a finished file.
        handle = h5py.File(self.path, "r", locking=False)
        found = handle.attrs.get("format"), handle.attrs.get("version")
        if found != (self._kind, self._version):
            handle.close()
            raise self.damaged(f"expected {self._kind} {self._version}, found {found}")
        if fault := fault_of(handle) or _fault_of_attributes(handle):
            handle.close()
            raise self.damaged(fault)
        return handle


class _Disk(io.RawIOBase):
    """A file for HDF5 to write into, which never learns that the disk is full.

    HDF5 cannot close a file whose last bytes it cannot write: it tries again when the interpreter
    ends, and dies of it. So the first failure is kept, and all that comes later is taken for
    written; the file is thrown away in the end.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb+", buffering=0)
        self._place = self._size = 0  # as HDF5 believes them to be
        self.failure: OSError | None = None

    def write(self, content: Any) -> int:
        rest = memoryview(content).cast("B")
        end = self._place + len(rest)
        try:
            while self.failure is None and len(rest):
                rest = rest[os.pwrite(self._file.fileno(), rest, end - len(rest)) :]
        except OSError as error:
            self.failure = error
        written, self._place, self._size = end - self._place, end, max(self._size, end)
        return written

    def truncate(self, size: int | None = None) -> int:
        self._size = self._place if size is None else size
        try:
            if self.failure is None:
                self._file.truncate(self._size)
        except OSError as error:
            self.failure = error
        return self._size

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        begin = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._size}[whence]
        self._place = begin + offset
        return self._place

    def tell(self) -> int:
        return self._place

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        found = os.pread(self._file.fileno(), len(view), self._place)
        # What was never written is zero, as in a file with holes.
        view[:] = found + bytes(len(view) - len(found))
        self._place += len(view)
        return len(view)

    def close(self) -> None:
        self._file.close()
        super().close()

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True


class NewFile(h5py.File):  # type: ignore[misc]
    """An HDF5 file that is being written; made by `new_file`."""

    def __init__(self, disk: _Disk) -> None:
        super().__init__(disk, "w", libver=WRITTEN_FOR)
        self._disk = disk

    def check(self) -> None:
        """Raise what the disk has refused so far; to be called now and then by long writers.

        Raises
        ------
        OSError
        """
        if self._disk.failure is not None:
            raise self._disk.failure


@contextmanager
def new_file(path: Path) -> Iterator[NewFile]:
    """Write an HDF5 file at a temporary path; see `stradavit.files.atomic_path` for its name.

    Raises
    ------
    OSError
        If the disk refused anything, at the latest when the block ends.
    """
    disk = _Disk(path)
    try:
        with NewFile(disk) as file:
            yield file
            seal_attributes(file)
            file.flush()
    except Exception as error:
        if disk.failure is None or error is disk.failure:
            raise
        raise disk.failure from error
    else:
        if disk.failure is not None:
            raise disk.failure
    finally:
        disk.close()


@contextmanager
def new_atomic_file(path: Path) -> Iterator[NewFile]:
    """Write an HDF5 file that appears under `path` only when it is whole.

    Raises
    ------
    DiskError
    """
    with atomic_path(path) as temporary, new_file(temporary) as file:
        yield file


def seal_attributes(file: Any) -> None:
    """Note the digest of what the attributes of an open file are now."""
    file.attrs[SEAL] = np.bytes_(_attributes_digest(file))


def _attributes_digest(file: Any) -> str:
    """Of names and values of the attributes of a file, in the order of their names."""
    columns: dict[str, Any] = {}
    for name in sorted(set(file.attrs) - {SEAL}):
        value = file.attrs[name]
        columns[name] = [value] if isinstance(value, str) else np.asarray(value)
    return table_digest(columns)


def _fault_of_attributes(file: Any) -> str | None:
    noted = file.attrs.get(SEAL)
    if noted is None or bytes(noted).decode("ascii", "replace") == _attributes_digest(file):
        return None
    return "its attributes do not have their checksum"


def table_digest(columns: Mapping[str, NDArray[Any] | Sequence[str]]) -> str:
    """128 bits of BLAKE2 over names, types, shapes and bytes of columns; text by its words.

    HDF5 guards what it writes for itself, not what is in a dataset.
    """
    hasher = hashlib.blake2b(digest_size=16)
    for name, column in columns.items():
        if isinstance(column, np.ndarray):
            hasher.update(f"{name} {column.dtype.str} {column.shape}\n".encode())
            hasher.update(np.ascontiguousarray(column).tobytes())
            continue
        hasher.update(f"{name} {len(column)}\n".encode())
        for word in column:
            encoded = word.encode("utf-8", "surrogateescape")
            hasher.update(f"{len(encoded)} ".encode() + encoded)
    return hasher.hexdigest()
