"""Ten million cutouts: what the index costs to open, and an epoch's order to draw.

The index is written as `write_corpus` lays it out. Its shards are hundred paths to one small real
shard, so that opening the index, drawing the order and reading the first micro-batch are the real
code on real files. Every figure is taken in a process of its own.
"""

import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.harness import Comparison, Side, Spread, Target, fresh_processes
from stradavit.cutouts.corpus import Corpus, write_corpus
from stradavit.cutouts.shards import ROW, Shard, new_shard
from stradavit.settings.training import LoaderSettings
from stradavit.training.loader import read_ahead
from stradavit.training.sampler import Plan, epoch_order

N_CUTOUTS = 10**7
N_SHARDS = 100
SIZE_PX = 4
BATCH = 256
MB = 1e6


def compare(work_dir: Path, device: torch.device, rounds: int) -> Comparison:
    """Seconds and memory of opening, ordering and resuming at ten million cutouts."""
    folder = work_dir / "scale"
    index_path = folder / "corpus.h5"
    if not index_path.exists():
        _write(folder, index_path)
    opened = [_alone(_open, index_path) for _ in range(rounds)]
    ordered = [_alone(_order, index_path) for _ in range(rounds)]
    blocks = [_alone(_order_of_blocks, index_path) for _ in range(rounds)]
    resumed = [_alone(_resume, index_path) for _ in range(rounds)]

    def side(name: str, what: str, results: list[dict[str, float]], scale: float) -> Side:
        rates = [scale / result["seconds"] for result in results]
        return Side(name, what, Spread.of(rates))

    def worst(results: list[dict[str, float]], figure: str) -> float:
        return max(result[figure] for result in results)

    return Comparison(
        name="Ten million cutouts",
        question=(
            "What do an index of ten million cutouts, an epoch's order and resuming in the middle "
            "of an epoch cost?"
        ),
        unit="million cutouts/s",
        sides=[
            side("open the index", "Corpus(path), every entry checked", opened, N_CUTOUTS / 1e6),
            side("order of an epoch", "a full permutation", ordered, N_CUTOUTS / 1e6),
            side("block-shuffled order", "blocks of 16", blocks, N_CUTOUTS / 1e6),
        ],
        targets=[
            Target("seconds to open the index", 5.0, worst(opened, "seconds"), at_least=False),
            Target("MB of the opened index, peak", 1000.0, worst(opened, "MB"), at_least=False),
        ],
        notes=[
            "Memory is the peak of a fresh process less what it held after its imports.",
            f"The shards are {N_SHARDS} paths to one real file of {N_CUTOUTS // N_SHARDS} cutouts "
            f"of {SIZE_PX} px; the first micro-batch of {BATCH} opens nearly all of them.",
        ],
        figures={
            "open": opened,
            "order": ordered,
            "block-shuffled order": blocks,
            "first micro-batch when resuming in the middle of an epoch": resumed,
            "bytes of the index file": index_path.stat().st_size,
        },
    )


def _write(folder: Path, index_path: Path) -> None:
    (folder / "shards").mkdir(parents=True, exist_ok=True)
    per_shard = N_CUTOUTS // N_SHARDS
    given = ("product", "checksum")
    row = {name: np.zeros((), ROW[name]) for name in ROW.names or () if name not in given}
    paths = [folder / "shards" / f"{number}.h5" for number in range(N_SHARDS)]
    pixels = np.random.default_rng(0).integers(0, 1 << 16, (per_shard, SIZE_PX, SIZE_PX))
    attributes = {"survey": "noise", "part": "0", "settings": "{}", "ledger_sha256": ""}
    with new_shard(paths[0], SIZE_PX, attributes) as shard, shard.product("noise", ""):
        for levels in pixels.astype(np.uint16):
            shard.append(levels, **row)
    for path in paths[1:]:
        path.unlink(missing_ok=True)
        path.hardlink_to(paths[0])
    shards = [Shard(path) for path in paths]
    write_corpus(index_path, shards, [np.arange(per_shard)] * N_SHARDS, {})


# -- one figure per process --------------------------------------------------------------------


def _alone(work: Callable[[Path], None], index_path: Path) -> dict[str, float]:
    """Seconds and peak memory of something in a fresh process."""
    with fresh_processes(1) as process:
        return process.submit(_measured, work, index_path).result()


def _measured(work: Callable[[Path], Any], index_path: Path) -> dict[str, float]:
    before = _held_mb()
    started = time.perf_counter()
    kept = work(index_path)
    seconds = time.perf_counter() - started
    peak = _peak_mb()
    del kept
    return {"seconds": round(seconds, 3), "MB": round(peak - before, 1)}


def _held_mb() -> float:
    """Memory of this process now (Linux)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / MB


def _peak_mb() -> float:
    """Most memory this process has held; `getrusage` counts what its parent held before it."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024 / MB
    raise OSError("the system does not tell the peak of a process's memory")


def _open(index_path: Path) -> Any:
    return Corpus(index_path)


def _order(index_path: Path) -> Any:
    return epoch_order(0, 0, N_CUTOUTS)


def _order_of_blocks(index_path: Path) -> Any:
    return epoch_order(0, 0, N_CUTOUTS, 16)


def _resume(index_path: Path) -> Any:
    """The first micro-batch from the middle of the second epoch, with its cutouts."""
    corpus = Corpus(index_path)
    plan = Plan(len(corpus), BATCH, BATCH, drop_last=True, seed=0)
    done = plan.updates_per_epoch * 3 // 2
    loader = LoaderSettings(workers=2, prefetch=1)
    batches = plan.micro_batches(2, done)
    return next(iter(read_ahead(index_path, batches, loader, pin_memory=False)))
