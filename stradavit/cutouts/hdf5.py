"""HDF5 files that may be read from many processes."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py

from stradavit.errors import DataError

# Object headers of this format carry checksums, so damaged attributes and indices are noticed.
WRITTEN_FOR = ("v110", "v110")


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
        """
        try:
            yield
        except DataError:
            raise
        except (OSError, KeyError, ValueError, TypeError, RuntimeError) as error:
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
        return handle
