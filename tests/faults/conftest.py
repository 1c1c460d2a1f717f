"""A small world of files that all stages have made, and disks that can be full or read-only."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from .stages import WORLD, run


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of every kind, from the simulated sky; not to be changed."""
    folder = tmp_path_factory.mktemp("world")
    for stage, place in WORLD.items():
        assert run(stage, folder, folder / place) == 0, stage
    return folder


@pytest.fixture(scope="session")
def seed() -> int:
    """Of the moments and bytes that are drawn; STRADAVIT_FAULT_SEED draws others."""
    return int(os.environ.get("STRADAVIT_FAULT_SEED", "20"))


@dataclass(frozen=True)
class SmallDisk:
    """A disk in memory."""

    path: Path

    def resize(self, kib: int) -> None:
        """Make it larger or smaller, with all that is on it."""
        _mount("-o", f"remount,size={kib}k", str(self.path))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """An empty disk of 64 MiB; only root may mount one."""
    with _mounted(tmp_path / "disk", "size=65536k") as folder:
        yield SmallDisk(folder)


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    """A folder that cannot be written to, whoever tries; only root may make one."""
    with _mounted(tmp_path / "sealed", "ro,size=64k") as folder:
        yield folder


@contextmanager
def _mounted(folder: Path, options: str) -> Iterator[Path]:
    folder.mkdir()
    try:
        _mount("-t", "tmpfs", "-o", options, "tmpfs", str(folder))
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"a disk cannot be mounted here: {error}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True, capture_output=True, text=True)
