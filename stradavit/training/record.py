"""What a run leaves to look at: JSON lines, TensorBoard curves, and the sums they are made of."""

import json
import time
from pathlib import Path
from typing import Any

from stradavit.files import atomic_path


class Sums:
    """Running sums since a point of the run; they are part of a checkpoint."""

    FIELDS = ("cutouts", "loss", "updates", "grad_norm", "resampled", "still_empty")

    def __init__(self, state: dict[str, float] | None = None) -> None:
        self._state = dict.fromkeys(self.FIELDS, 0.0) if state is None else dict(state)

    def add(self, **values: float) -> None:
        """Add to the named sums."""
        for name, value in values.items():
            self._state[name] += value

    def means(self) -> dict[str, float]:
        """Loss per cutout, gradient norm per update, and the counts."""
        state = self._state
        return {
            "loss": state["loss"] / max(state["cutouts"], 1),
            "grad_norm": state["grad_norm"] / max(state["updates"], 1),
            "n_cutouts": int(state["cutouts"]),
            "n_resampled": int(state["resampled"]),
            "n_still_empty": int(state["still_empty"]),
        }

    def state(self) -> dict[str, float]:
        """For a checkpoint."""
        return dict(self._state)


class Clock:
    """Time since the last reading, and how much of it went into waiting for the reader."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._waited = 0.0
        self._cutouts = 0

    def waited(self, seconds: float) -> None:
        """Count time spent waiting for the reader."""
        self._waited += seconds

    def passed(self, cutouts: int) -> None:
        """Count cutouts, over all devices."""
        self._cutouts += cutouts

    def read(self) -> dict[str, float]:
        """Cutouts per second and the share of time waiting, then start anew."""
        elapsed = max(time.monotonic() - self._started, 1e-9)
        values = {
            "cutouts_per_s": self._cutouts / elapsed,
            "stall_fraction": self._waited / elapsed,
        }
        self.__init__()  # type: ignore[misc]
        return values


class Record:
    """``metrics.jsonl`` and ``tensorboard/`` of a run, written by one process.

    A resumed run drops what lies after its checkpoint, so no line appears twice.

    Parameters
    ----------
    out_dir : folder of the encoder
    updates_done : updates the run has behind it; later lines are dropped
    """

    def __init__(self, out_dir: Path, updates_done: int) -> None:
        # Slow to import, and of no use to the other ranks.
        from torch.utils.tensorboard import SummaryWriter

        self._path = Path(out_dir) / "metrics.jsonl"
        kept = [line for line in self._lines() if line["update"] <= updates_done]
        with atomic_path(self._path) as temporary:
            temporary.write_text("".join(map(_line, kept)), encoding="utf-8")
        self._board: Any = SummaryWriter(
            str(Path(out_dir) / "tensorboard"), purge_step=updates_done + 1
        )

    def write(self, kind: str, update: int, epoch: int, values: dict[str, Any]) -> None:
        """Append a line; `update` and `epoch` count from 1 and are complete when written."""
        line = {"kind": kind, "update": update, "epoch": epoch, **values}
        with self._path.open("a", encoding="utf-8") as opened:
            opened.write(_line(line))
        for name, value in values.items():
            self._board.add_scalar(f"{kind}/{name}", value, update)
        self._board.flush()

    def close(self) -> None:
        """Finish the TensorBoard file."""
        self._board.close()

    def _lines(self) -> list[dict[str, Any]]:
        if not self._path.exists():
            return []
        lines = []
        for text in self._path.read_text(encoding="utf-8").splitlines():
            try:
                lines.append(json.loads(text))
            except json.JSONDecodeError:
                break  # cut off by a kill
        return lines


def _line(values: dict[str, Any]) -> str:
    return json.dumps(values, allow_nan=False) + "\n"
