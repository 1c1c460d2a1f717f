"""What a run leaves to look at: JSON lines, TensorBoard curves, and the sums they are made of."""

import json
import logging
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from torch import Tensor

from stradavit.disk import named_refusals
from stradavit.files import atomic_path, sweep

logger = logging.getLogger(__name__)

Item = TypeVar("Item")


class Passed(NamedTuple):
    """A micro-batch that went through the network.

    `numbers` (b,) int64 of the cutouts shown, () `loss`, and what `DrawnViews` counts.
    """

    numbers: Tensor
    loss: Tensor
    n_resampled: int
    n_still_empty: int


class Window:
    """Sums over the updates since the last line of a kind; they survive in a checkpoint.

    Rates do not: they are of this process alone.
    """

    def __init__(self, sums: dict[str, float] | None = None) -> None:
        self._restart()
        self.sums.update(sums or {})

    def add(self, cutouts: int, waited_s: float, **sums: float) -> None:
        """Add an update of so many cutouts; `sums` are `loss` (over cutouts) and counts."""
        for name, value in {"updates": 1, "cutouts": cutouts, **sums}.items():
            self.sums[name] = self.sums.get(name, 0) + value
        self._cutouts += cutouts
        self._waited_s += waited_s

    def rates(self) -> dict[str, float]:
        """Cutouts a second, and the share of the time spent waiting for the reader."""
        elapsed_s = max(time.monotonic() - self._started, 1e-9)
        return {
            "cutouts_per_s": self._cutouts / elapsed_s,
            "stall_fraction": self._waited_s / elapsed_s,
        }

    def close(self) -> dict[str, float]:
        """The values of a line; the window starts anew.

        `loss` is the mean over cutouts, `grad_norm` over updates, names with ``n_`` are counts.
        """
        sums = self.sums
        values: dict[str, float] = {
            "loss": sums["loss"] / sums["cutouts"],
            "grad_norm": sums["grad_norm"] / sums["updates"],
            "n_cutouts": int(sums["cutouts"]),
            "n_resampled": int(sums["resampled"]),
            "n_still_empty": int(sums["still_empty"]),
            **self.rates(),
        }
        self._restart()
        return values

    def _restart(self) -> None:
        self.sums: dict[str, float] = {}
        self._started = time.monotonic()
        self._cutouts, self._waited_s = 0, 0.0


def timed(items: Iterable[Item]) -> Iterator[tuple[float, Item]]:
    """Each item with the seconds it was waited for."""
    iterator = iter(items)
    while True:
        asked = time.monotonic()
        try:
            item = next(iterator)
        except StopIteration:
            return
        yield time.monotonic() - asked, item


class Record:
    """``metrics.jsonl`` and ``tensorboard/`` of a run; the writer's alone.

    Lines are written before the checkpoint of the same update. A resumed run drops what lies
    after its checkpoint, so none is lost and none appears twice.

    Parameters
    ----------
    out_dir : folder of the encoder
    updates_done : updates the run has behind it
    is_writer : False makes an object that writes nothing
    """

    def __init__(self, out_dir: Path, updates_done: int, is_writer: bool) -> None:
        self._path = Path(out_dir) / "metrics.jsonl"
        self._board: Any = None
        if not is_writer:
            return
        # Slow to import, and of no use to the others.
        from torch.utils.tensorboard import SummaryWriter

        sweep(Path(out_dir))
        kept = [
            line
            for line in _read_lines(self._path)
            if line["update"] <= updates_done and line["kind"] != "end"
        ]
        with atomic_path(self._path) as temporary:
            temporary.write_text("".join(map(_line, kept)), encoding="utf-8")
        with named_refusals(self._path):
            self._board = SummaryWriter(
                str(Path(out_dir) / "tensorboard"), purge_step=updates_done + 1
            )

    def write(self, kind: str, update: int, epoch: int, values: dict[str, Any]) -> None:
        """Append a line of kind `step`, `epoch` or `end`.

        `update` and `epoch` count from 1.

        Raises
        ------
        DiskError
            If the disk is full; the run goes on from its last checkpoint once there is room.
        """
        if self._board is None:
            return
        line = {"kind": kind, "update": update, "epoch": epoch, **values}
        with named_refusals(self._path):
            with self._path.open("a", encoding="utf-8") as opened:
                opened.write(_line(line))
            for name, value in values.items():
                self._board.add_scalar(f"{kind}/{name}", float(value), update)
            self._board.flush()

    def close(self) -> None:
        """Finish the TensorBoard file."""
        if self._board is not None:
            with named_refusals(self._path):
                self._board.close()


def _read_lines(path: Path) -> list[dict[str, Any]]:
    lines: list[dict[str, Any]] = []
    if not path.exists():
        return lines
    for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            line = json.loads(text)
            int(line["update"]), str(line["kind"])
        except (ValueError, TypeError, KeyError):
            # A kill or a full disk cut it off, or it is damaged: the record is to look at, and no
            # reason to train again.
            logger.warning("%s: a line cannot be read and is left out: %.60r", path, text)
            continue
        lines.append(line)
    return lines


def _line(values: dict[str, Any]) -> str:
    return json.dumps(values, allow_nan=False) + "\n"
