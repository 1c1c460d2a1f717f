"""What the numbers were measured on: enough to compare, nothing that names a place."""

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

REPOSITORY = Path(__file__).parents[1]

# Instruction sets that decide how fast matrix products are, most capable last.
FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile", "amx_bf16")
LIBRARIES = (
    "torch",
    "numpy",
    "h5py",
    "torchvision",
    "lightly",
    "transformers",
    "webdataset",
    "zarr",
    "astropy",
    "snakemake",
)
NO_GPU = "no GPU: GPU targets not measured"


def describe_machine() -> dict[str, Any]:
    """Processor, memory, operating system and GPU of this machine."""
    cpu = _cpu_info()
    return {
        "processor": cpu.get("model name", platform.machine()),
        "cores": n_cores(),
        "instructions": [flag for flag in FLAGS if flag in cpu.get("flags", "").split()],
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": f"{platform.system()} {platform.release()}",
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else NO_GPU,
    }


def describe_versions() -> dict[str, str]:
    """Python and the libraries on either side of a comparison; absent ones are left out."""
    versions = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions


def describe_commit() -> str:
    """Short hash of the checkout, and whether tracked files differ from it."""
    commit = _git("rev-parse", "--short=12", "HEAD")
    if commit is None:
        return "unknown"
    # The report itself changes with every run; it decides no number.
    changed = _git("status", "--porcelain", "--", ".", ":!docs/performance.*")
    return f"{commit} with uncommitted changes" if changed else commit


def n_cores() -> int:
    """Processor cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _cpu_info() -> dict[str, str]:
    """The first processor in /proc/cpuinfo; empty where there is no such file."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return {}
    first = text.split("\n\n", 1)[0]
    pairs = (line.split(":", 1) for line in first.splitlines() if ":" in line)
    return {key.strip(): value.strip() for key, value in pairs}


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=REPOSITORY, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
