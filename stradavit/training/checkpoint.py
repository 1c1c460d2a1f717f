"""Checkpoints of one run, in a folder named by everything that decides its weights.

``checkpoints/<identity>/identity.json`` says in words what the hash stands for. A checkpoint is
``<updates>-<sha256 of the file>.pt``: bytes and digest get their name in one rename, so a kill
between the two cannot happen. Only tensors and plain containers are inside; it is read with
`weights_only`, which runs no code from the file.
"""

import hashlib
import io
import json
import logging
import re
from pathlib import Path
from typing import Any

import torch

from stradavit.files import atomic_path, sha256_of, sha256_of_text, write_json

logger = logging.getLogger(__name__)

KEEP = 2
_NAME = re.compile(r"(?P<updates>\d{9})-(?P<sha256>[0-9a-f]{64})\.pt")


class Checkpoints:
    """The checkpoints of the run with this identity.

    Parameters
    ----------
    out_dir : folder of the encoder that is trained
    identity : JSON value of all that decides the weights; another identity, another folder
    """

    def __init__(self, out_dir: Path, identity: dict[str, Any]) -> None:
        self.identity = identity
        name = sha256_of_text(json.dumps(identity, sort_keys=True))[:16]
        self.folder = Path(out_dir) / "checkpoints" / name

    def save(self, updates: int, state: dict[str, Any]) -> Path:
        """Write the state after so many updates, then forget all but the newest `KEEP`.

        Whatever claims to be as far or farther was damaged, or the run would have started there.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        for abandoned in self.folder.glob(".*"):
            abandoned.unlink()  # half-written when a former process was killed
        write_json(self.folder / "identity.json", self.identity)
        buffer = io.BytesIO()
        torch.save(state, buffer)
        digest = hashlib.sha256(buffer.getbuffer()).hexdigest()
        path = self.folder / f"{updates:09d}-{digest}.pt"
        with atomic_path(path) as temporary:
            temporary.write_bytes(buffer.getbuffer())
        older = [other for other in self.paths() if other.name[:9] < path.name[:9]]
        for other in self.paths():
            if other != path and other not in older[: KEEP - 1]:
                other.unlink()
        return path

    def load(self) -> dict[str, Any] | None:
        """The state of the newest undamaged checkpoint, on the CPU; None if there is none."""
        for path in self.paths():
            expected = _parts(path)["sha256"]
            found = sha256_of(path)
            if found != expected:
                logger.warning(
                    "%s is damaged: its SHA-256 is %s, its name promises %s. Trying an older one.",
                    path,
                    found[:16],
                    expected[:16],
                )
                continue
            logger.info("Resuming from %s", path)
            state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
            return state
        return None

    def remove(self) -> None:
        """Delete the folder; a finished run has no use for it."""
        if not self.folder.is_dir():
            return
        for path in self.folder.iterdir():
            path.unlink()
        self.folder.rmdir()
        if not any(self.folder.parent.iterdir()):
            self.folder.parent.rmdir()

    def paths(self) -> list[Path]:
        """All checkpoints, newest first."""
        found = [path for path in self.folder.glob("*.pt") if _NAME.fullmatch(path.name)]
        return sorted(found, key=lambda path: path.name, reverse=True)


def _parts(path: Path) -> dict[str, str]:
    match = _NAME.fullmatch(path.name)
    assert match is not None
    return match.groupdict()
