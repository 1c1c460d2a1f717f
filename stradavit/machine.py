"""What computed a result: kind of machine, libraries, commit.

Nothing here names a place or a moment. Host names, addresses and dates stay out, so nodes of one
kind leave the same record, and so does a run however often it was stopped.
"""

import platform
import re
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from stradavit import __version__

REPOSITORY = Path(__file__).parents[1]

# Those whose arithmetic, readers or writers decide what is in a result.
LIBRARIES = (
    "torch",
    "torchvision",
    "numpy",
    "scipy",
    "scikit-learn",
    "astropy",
    "h5py",
    "pillow",
    "safetensors",
)


def maker(device: str = "cpu") -> dict[str, Any]:
    """Who makes a result: `version` of the package, `commit`, `machine`, `libraries`.

    Parameters
    ----------
    device : type of the device that computes; for ``cuda`` the GPU is described as well
    """
    return {
        "version": __version__,
        "commit": commit(),
        "machine": machine() | (gpu() if device == "cuda" else {}),
        "libraries": dict(libraries()),
    }


@cache
def commit() -> str:
    """Commit of the checkout the package lies in, ending in ``+`` if the package was edited.

    Empty if it lies in none, or git cannot say; the hash of the code says more in any case.
    """
    if not (REPOSITORY / ".git").exists():
        return ""
    head = _git("rev-parse", "HEAD")
    edited = _git("status", "--porcelain", "--", "stradavit")
    if head is None or edited is None:
        return ""
    return head + "+" * bool(edited)


def machine() -> dict[str, str]:
    """Operating system, processor and Python."""
    return {
        "system": _system(),
        "processor": _processor(),
        "python": platform.python_version(),
    }


def gpu() -> dict[str, str]:
    """Name of the current GPU, version of its driver, and the CUDA that torch was built for."""
    import torch

    if not torch.cuda.is_available():
        return {}
    return {
        "gpu": torch.cuda.get_device_name(),
        "driver": _driver(),
        "cuda": torch.version.cuda or "",
    }


@cache
def libraries() -> dict[str, str]:
    """Versions of those that are installed."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _system() -> str:
    try:
        name = platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        name = platform.system()
    return f"{name} ({platform.machine()})"


def _processor() -> str:
    """As Linux names it; elsewhere as well as Python can tell."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    named = re.search(r"^model name\s*: *(.+)$", text, re.MULTILINE)
    return named.group(1).strip() if named else platform.processor() or platform.machine()


def _driver() -> str:
    """Version of NVIDIA's driver; empty where the kernel does not tell."""
    try:
        text = Path("/proc/driver/nvidia/version").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    found = re.search(r"Kernel Module.*?\s(\d+\.[\d.]+)", text)
    return found.group(1) if found else ""


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(
            # Many jobs ask at once: none may wait for, or hold, the lock of the index.
            ["git", "--no-optional-locks", *arguments],
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
