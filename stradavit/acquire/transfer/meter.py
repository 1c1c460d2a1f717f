"""Progress of many transfers at once: bytes where their sum is known, files where it is not."""

import threading
from types import TracebackType
from typing import Any, Self

from tqdm import tqdm

from stradavit.progress import progress


class Meter:
    """A bar several threads may move.

    Parameters
    ----------
    what : label
    n_bytes : expected in all; None counts files instead
    n_files : expected in all; None if unknown
    """

    def __init__(self, what: str, n_bytes: int | None, n_files: int | None) -> None:
        self.counts_bytes = n_bytes is not None or n_files is None
        self._bar: tqdm[Any] = progress(
            total=n_bytes if self.counts_bytes else n_files,
            desc=what,
            unit="B" if self.counts_bytes else "file",
            unit_scale=self.counts_bytes,
        )
        self._lock = threading.Lock()

    def add(self, n_bytes: int) -> None:
        """Bytes came; those that are thrown away again count too, for they took time."""
        if self.counts_bytes:
            with self._lock:
                self._bar.update(n_bytes)

    def done(self) -> None:
        """A file is settled."""
        if not self.counts_bytes:
            with self._lock:
                self._bar.update(1)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.close()
