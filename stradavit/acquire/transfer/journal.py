"""What a folder already holds, whole and checked: one line a file, added as each is done."""

import fcntl
import json
import os
import threading
from dataclasses import dataclass
from pathlib import Path

from stradavit.acquire.transfer.content import Checked
from stradavit.acquire.transfer.remote import Outcome, Remote

JOURNAL = ".journal.jsonl"


@dataclass(frozen=True)
class Entry:
    """A file that was fetched and checked."""

    bytes: int
    sha256: str
    checksum: str


class Journal:
    """The journal of a folder; several processes may add to it at once."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder).absolute()
        self.path = self.folder / JOURNAL
        self._lock = threading.Lock()
        self._entries: dict[str, Entry] = {}
        text = self.path.read_text(encoding="utf-8", errors="replace") if self.path.exists() else ""
        for line in text.splitlines():
            # A line torn by a crash is no entry; its file is checked and entered again.
            try:
                row = json.loads(line)
                entry = Entry(int(row["bytes"]), str(row["sha256"]), str(row["checksum"]))
                self._entries[str(row["name"])] = entry
            except (ValueError, KeyError, TypeError):
                continue

    def entry(self, name: str) -> Entry | None:
        """What is noted of a file, whether it is still there or not."""
        return self._entries.get(name)

    def fetched(self, remote: Remote) -> Outcome | None:
        """The outcome of a file that is here as it was noted and is still the one wanted."""
        entry = self._entries.get(remote.name)
        if (
            entry is None
            or remote.checksum not in ("", entry.checksum)
            or remote.bytes not in (None, entry.bytes)
        ):
            return None
        path = self.folder / remote.name
        try:
            if not path.is_file() or path.stat().st_size != entry.bytes:
                return None
        except OSError:
            return None
        return Outcome(remote.name, "fetched", "", path, entry.bytes, entry.sha256)

    def add(self, remote: Remote, checked: Checked) -> Outcome:
        """Note a file that lies under its name."""
        row = {
            "name": remote.name,
            "bytes": checked.bytes,
            "sha256": checked.sha256,
            "checksum": remote.checksum,
        }
        line = json.dumps(row, sort_keys=True) + "\n"
        with self._lock, self.path.open("a+b") as journal:
            fcntl.flock(journal, fcntl.LOCK_EX)
            end = journal.seek(0, os.SEEK_END)
            if end:
                journal.seek(end - 1)
                # A crash left a line without its end.
                line = line if journal.read(1) == b"\n" else "\n" + line
            journal.write(line.encode("utf-8"))
            journal.flush()
            self._entries[remote.name] = Entry(checked.bytes, checked.sha256, remote.checksum)
        path = self.folder / remote.name
        return Outcome(remote.name, "fetched", "", path, checked.bytes, checked.sha256)
