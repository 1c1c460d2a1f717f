"""What a failed run says: the stage's one message, the files it names, and what it tells to do."""

import os
import re
from pathlib import Path

MESSAGE = re.compile(r"^\s*(stradavit [a-z-]+: .+)$", re.MULTILINE)
NAMED = re.compile(r"[^\s'\"`:;,()]*results/[^\s'\"`:;,()]*[^\s'\"`:;,().]")
# Snakemake's words when another one works in the folder, or died there.
LOCKED = "cannot be locked"
# And when a file it has read is newer than what it made of it.
CLOCK_SKEW = "has older modification time"
NO_SPACE = "No space left on device"
READ_ONLY = "Read-only file system"


def messages(text: str) -> list[str]:
    """The messages of stages that failed, each once."""
    return list(dict.fromkeys(MESSAGE.findall(text)))


def named_files(message: str, folder: Path) -> list[Path]:
    """Files below `folder` that a message names, in its order, whether they exist or not."""
    found = [Path(os.path.normpath(folder / name)) for name in NAMED.findall(message)]
    return list(dict.fromkeys(path for path in found if path.is_relative_to(folder)))


def to_delete(message: str, folder: Path) -> list[Path]:
    """The files a message tells to delete: the one it is about, unless it says which.

    "Delete it", "delete the file" mean the file named first; "delete the ledger" and "delete the
    manifest" the table it names; "delete both" all that are named.
    """
    named = named_files(message, folder)
    if re.search(r"delete both", message, re.IGNORECASE):
        return named
    if re.search(r"delete the (ledger|manifest|labels)", message, re.IGNORECASE):
        return [path for path in named if path.suffix == ".csv"]
    if re.search(r"delete ", message, re.IGNORECASE):
        return named[:1]
    return []
