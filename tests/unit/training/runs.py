"""Settings of tiny runs, and what tests ask of a finished one."""

import json
import multiprocessing
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from glob import glob
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from stradavit.settings.training import (
    ContrastiveSettings,
    LoaderSettings,
    PretrainSettings,
    ReconstructionSettings,
)
from stradavit.settings.views import ViewSettings
from stradavit.training.pretrain import pretrain


def reconstruction(loss: str = "l2_l1", registers: int = 0, **phase: Any) -> PretrainSettings:
    """Three epochs of two updates: 22 cutouts in micro-batches of 4, three to an update."""
    values = {"epochs": 3, "batch_size": 4, "effective_batch": 12, "precision": "fp32"} | phase
    return PretrainSettings(
        objective="reconstruction",
        loss=loss,
        registers=registers,
        seed=7,
        phase=ReconstructionSettings(**values),
        views=ViewSettings(),
    )


def contrastive(loss: str = "soft_hcl", registers: int = 0, **phase: Any) -> PretrainSettings:
    """Three epochs of three updates; two cutouts are left out of each."""
    values = {
        "epochs": 3,
        "batch_size": 4,
        "effective_batch": 8,
        "precision": "fp32",
        "head_width": 48,
        "head_output": 16,
    }
    return PretrainSettings(
        objective="contrastive",
        loss=loss,
        registers=registers,
        seed=7,
        phase=ContrastiveSettings(**(values | phase)),
        views=ViewSettings(),
    )


def loader(**values: Any) -> LoaderSettings:
    """On the CPU, with a line and a checkpoint at every update."""
    speed = {"device": "cpu", "log_every_steps": 1, "checkpoint_every_s": 1e-9}
    return LoaderSettings(**(speed | values))


def altered(start_dir: Path, folder: Path, alter: Callable[[dict[str, Tensor]], Any]) -> Path:
    """A copy of an encoder's folder with other tensors, which `alter` changes in place."""
    shutil.copytree(start_dir, folder)
    tensors = load_file(start_dir / "model.safetensors")
    alter(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def exploding(start_dir: Path, folder: Path) -> Path:
    """A copy of an encoder that can be loaded, being finite, and whose first loss is not finite."""
    name = "decoder.decoder_pred.bias"
    return altered(start_dir, folder, lambda tensors: tensors[name].fill_(1e30))


def weights(out_dir: Path) -> dict[str, Tensor]:
    """The tensors of a finished run."""
    return load_file(out_dir / "model.safetensors")


def lines(out_dir: Path, kind: str) -> list[dict[str, Any]]:
    """Lines of one kind in metrics.jsonl, without rates."""
    texts = (out_dir / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    found = [line for line in map(json.loads, texts) if line["kind"] == kind]
    for line in found:
        for rate in ("cutouts_per_s", "stall_fraction", "tflop_per_s", "peak_fraction"):
            line.pop(rate, None)
    return found


def pretrain_command(
    settings: PretrainSettings, corpus_path: Path, start_dir: Path, out_dir: Path, speed: Any
) -> list[str]:
    """`stradavit pretrain` as the workflow gives it, in this interpreter."""
    return [
        *(sys.executable, "-m", "stradavit.cli", "pretrain"),
        *("--settings", settings.to_json(), "--loader", speed.to_json()),
        *("--corpus", str(corpus_path), "--start-from", str(start_dir / "model.safetensors")),
        *("--out", str(out_dir / "model.safetensors")),
    ]


def wait_for_update(run: "subprocess.Popen[str]", out_dir: Path, update: int) -> None:
    """Wait until a run has recorded so many updates."""
    path = out_dir / "metrics.jsonl"
    deadline = time.monotonic() + 240
    while not path.exists() or len(path.read_text(encoding="utf-8").splitlines()) < update:
        assert run.poll() is None, run.communicate()[1]
        assert time.monotonic() < deadline, "the run does not get on"
        time.sleep(0.01)


def checkpoints_now(out_dir: Path) -> list[Path]:
    """Whole checkpoints of a run at work."""
    # That of pathlib raises if the run, being done, takes a folder away while it looks.
    return [Path(name) for name in glob(f"{out_dir}/checkpoints/*/*.pt")]  # noqa: PTH207


def workers_of(launcher: int) -> list[int]:
    """Processes that a launcher has started, by number of their device."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            environment = (folder / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        ranks = [entry[5:] for entry in environment if entry.startswith(b"RANK=")]
        if parent == launcher and ranks:
            found[int(ranks[0])] = int(folder.name)
    return [found[rank] for rank in sorted(found)]


def child(target: Callable[..., None], *arguments: Any) -> BaseProcess:
    """Start a process that has torch already; for killing, and for ranks."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["stradavit.training.pretrain"])
    process = context.Process(target=target, args=arguments)
    process.start()
    return process


def run_rank(rank: int, world: int, port: int, arguments: tuple[Any, ...]) -> None:
    """What `torchrun` does for one of its processes."""
    os.environ.update(
        RANK=str(rank),
        LOCAL_RANK=str(rank),
        WORLD_SIZE=str(world),
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port),
    )
    pretrain(*arguments)


def run_ranks(world: int, settings: PretrainSettings, *arguments: Any) -> None:
    """Pretrain with several gloo processes."""
    arguments = (settings.model_copy(update={"devices": world}), *arguments)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    processes = [child(run_rank, rank, world, port, arguments) for rank in range(world)]
    for process in processes:
        process.join(400)
    assert [process.exitcode for process in processes] == [0] * world
