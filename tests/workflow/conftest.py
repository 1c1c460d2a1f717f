"""A copy of the workflow in a folder of its own, and a way to run it."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Snakemake = Callable[..., subprocess.CompletedProcess[str]]

BIN = Path(sys.executable).parent


def copy_workflow(repository: Path, folder: Path) -> Path:
    """The files Snakemake needs; results of the checkout stay where they are."""
    for name in ("Snakefile", "config.yaml"):
        shutil.copy(repository / name, folder / name)
    for name in ("workflow", "profiles", "envs"):
        shutil.copytree(repository / name, folder / name)
    return folder


def run_snakemake(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Snakemake in `folder`, both streams as text, whatever its exit status."""
    return subprocess.run(
        [BIN / "snakemake", "--cores", "2", *arguments],
        cwd=folder,
        # The rules call `stradavit` by name, as they do in an activated environment.
        env=os.environ | {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def workflow(repository: Path, tmp_path: Path) -> Path:
    """A fresh copy of the workflow."""
    return copy_workflow(repository, tmp_path)
