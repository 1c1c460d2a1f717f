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
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from stradavit.files import atomic_path, sha256_of, sha256_of_text, write_json
from stradavit.models.weights import weight_file
from stradavit.settings.base import Block
from stradavit.training.optimiser import AdamW
from stradavit.training.record import Window

logger = logging.getLogger(__name__)

KEEP = 2
_NAME = re.compile(r"(?P<updates>\d{9})-(?P<sha256>[0-9a-f]{64})\.pt")


@dataclass
class RunState:
    """All that a run carries from one update to the next.

    Randomness is not among it: it is a function of the position. Neither are rates.

    Attributes
    ----------
    modules, optimiser : written and restored in place
    code : hash of the code; another one is only warned about
    updates : optimiser updates done; epoch and place within it follow from it
    since_step, since_epoch : sums for the next line of each kind
    outcome : values of the last epoch
    is_collapsed : whether the embeddings had collapsed when they were last measured
    makers : every kind of machine, library and commit the run has been on, in order
    """

    modules: dict[str, nn.Module]
    optimiser: AdamW
    code: str
    updates: int = 0
    since_step: Window = field(default_factory=Window)
    since_epoch: Window = field(default_factory=Window)
    outcome: dict[str, Any] = field(default_factory=dict)
    is_collapsed: bool = False
    makers: list[dict[str, Any]] = field(default_factory=list)

    def add_maker(self, maker: dict[str, Any]) -> None:
        """Note what goes on with the run, unless it is as before.

        A run that was stopped and went on where it was is not told from one that was not; one that
        went on elsewhere, or under another commit, is.
        """
        if maker not in self.makers:
            self.makers.append(maker)

    def to_dict(self) -> dict[str, Any]:
        """Tensors and plain containers."""
        return {
            "modules": {name: module.state_dict() for name, module in self.modules.items()},
            "optimiser": self.optimiser.state_dict(),
            "code": self.code,
            "updates": self.updates,
            "since_step": self.since_step.sums,
            "since_epoch": self.since_epoch.sums,
            "outcome": self.outcome,
            "is_collapsed": self.is_collapsed,
            "makers": self.makers,
        }

    def restore(self, saved: dict[str, Any] | None) -> None:
        """Take over a checkpoint, if there is one."""
        if saved is None:
            return
        if saved["code"] != self.code:
            logger.warning(
                "The checkpoint was written by other code. Delete the folder `checkpoints` to "
                "start over, or let the run be a mixture of both."
            )
        for name, module in self.modules.items():
            module.load_state_dict(saved["modules"][name])
        self.optimiser.load_state_dict(saved["optimiser"])
        self.updates, self.outcome = saved["updates"], saved["outcome"]
        self.is_collapsed = saved["is_collapsed"]
        self.makers = list(saved.get("makers", []))  # those of before had none
        self.since_step, self.since_epoch = (
            Window(saved["since_step"]),
            Window(saved["since_epoch"]),
        )


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

    def save(self, state: RunState) -> Path:
        """Write the state, then forget all checkpoints but the newest `KEEP`.

        Whatever claims to be as far or farther was damaged, or the run would have started there.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        for abandoned in self.folder.glob(".*"):
            abandoned.unlink()  # half-written when a former process was killed
        write_json(self.folder / "identity.json", self.identity)
        buffer = io.BytesIO()
        torch.save(state.to_dict(), buffer)
        digest = hashlib.sha256(buffer.getbuffer()).hexdigest()
        path = self.folder / f"{state.updates:09d}-{digest}.pt"
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


def identity_of(settings: Block, corpus_path: Path, start_dir: Path) -> dict[str, Any]:
    """All that decides the weights of a run, as JSON: settings, corpus, start.

    For a detector the corpus is its detection set, and the start the encoder within it.
    """
    start_files = ("config.json", "preprocessor_config.json", weight_file(start_dir).name)
    return {
        "settings": settings.model_dump(mode="json"),
        "corpus": sha256_of(corpus_path),
        "start": {name: sha256_of(start_dir / name) for name in start_files},
    }
