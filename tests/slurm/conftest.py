"""The cluster, a small workflow on it that is disturbed, and the same undisturbed."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.slurm.cluster import Cluster, reason_to_skip, started
from tests.workflow.conftest import BIN, copy_workflow

RECONSTRUCTION = "reconstruction_vit-tiny_l2_l1_r4_all_s42"
CONTRASTIVE = "contrastive_vit-tiny_soft_hcl_r4_all_s42"
# This cluster keeps no accounts to ask, and nobody else asks it anything.
HERE = ("--slurm-status-command=squeue", "--slurm-init-seconds-before-status-checks=2")
# As in an activated environment, and one thread each: nodes claim more processors than there are.
ENVIRONMENT = os.environ | {
    "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
    "OMP_NUM_THREADS": "1",
}


@dataclass
class Undisturbed:
    """The small workflow by Snakemake alone, which may still be at work."""

    folder: Path
    process: subprocess.Popen[bytes]


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster of two nodes with two GPUs each, which are no GPUs."""
    reason = reason_to_skip()
    if reason is not None:
        pytest.skip(reason)
    with started(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


def small_workflow(repository: Path, folder: Path) -> Path:
    """A copy of the workflow whose config.yaml is the small one."""
    copy_workflow(repository, folder)
    shutil.copy(repository / "tests" / "slurm" / "small.yaml", folder / "config.yaml")
    return folder


def start_snakemake(
    folder: Path, *arguments: str, target: str = "results/tables"
) -> subprocess.Popen[bytes]:
    """Snakemake in the background; what it prints goes to `output.log`."""
    with (folder / "output.log").open("wb") as log:
        return subprocess.Popen(
            [BIN / "snakemake", target, *arguments],
            cwd=folder,
            env=ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )


def finish(process: subprocess.Popen[bytes], folder: Path) -> str:
    """Wait for Snakemake to end well; returns what it printed."""
    status = process.wait()
    output = (folder / "output.log").read_text(encoding="utf-8")
    assert status == 0, output
    return output


@pytest.fixture(scope="session")
def undisturbed(
    cluster: Cluster, repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Undisturbed]:
    """What the cluster's results are compared with; begun before them, and not waited for."""
    folder = small_workflow(repository, tmp_path_factory.mktemp("undisturbed"))
    process = start_snakemake(folder, "--cores=2")
    try:
        yield Undisturbed(folder, process)
    finally:
        process.terminate()
        process.wait()
