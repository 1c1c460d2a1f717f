"""One pretraining on two machines of a real Slurm ends with the weights it has on one."""

import re
import shutil
from pathlib import Path

import pytest
import yaml

from tests.slurm.cluster import NODES, Cluster
from tests.slurm.conftest import HERE, RECONSTRUCTION, Undisturbed, finish, start_snakemake

pytestmark = [pytest.mark.slurm, pytest.mark.slow, pytest.mark.timeout(1800)]

WEIGHTS = Path("results", "encoders", RECONSTRUCTION, "model.safetensors")


def with_two_devices(folder: Path, source: Path, nodes: int) -> Path:
    """A copy of a workflow's folder in which one training is to be made anew, by two devices."""
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns("locks", "incomplete"))
    shutil.rmtree(folder / WEIGHTS.parent)
    path = folder / "config.yaml"
    config = yaml.safe_load(path.read_text(encoding="utf-8"))
    config["training"]["devices"] = 2
    config["training"]["reconstruction"]["epochs"] = 3
    config["loader"]["nodes"] = nodes
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    return folder


def uncomment_machines(folder: Path) -> None:
    """What docs/cluster.md says to uncomment for two machines, which have a GPU each here."""
    path = folder / "profiles" / "slurm" / "config.yaml"
    text = path.read_text(encoding="utf-8")
    text, replaced = re.subn(r"^    gpu: 1\n(?=    # Several)", "", text, flags=re.MULTILINE)
    lines = r"^    # (gpu: |gres: |nodes: |mpi: |tasks: |tasks_per_gpu: )"
    text, uncommented = re.subn(lines, r"    \1", text, flags=re.MULTILINE)
    assert (replaced, uncommented) == (1, 6)
    path.write_text(text.replace("gpu:4", "gpu:1"), encoding="utf-8")


def test_two_machines_train_as_one_does(
    cluster: Cluster, undisturbed: Undisturbed, tmp_path: Path
) -> None:
    source = undisturbed.folder
    finish(undisturbed.process, source)
    one = with_two_devices(tmp_path / "one", source, nodes=1)
    two = with_two_devices(tmp_path / "two", source, nodes=2)
    uncomment_machines(two)
    on_one = start_snakemake(one, "--cores=2", target=str(WEIGHTS))
    on_two = start_snakemake(two, "--profile=profiles/slurm", *HERE, target=str(WEIGHTS))
    finish(on_one, one)
    finish(on_two, two)
    assert (two / WEIGHTS).read_bytes() == (one / WEIGHTS).read_bytes()
    (job,) = [job for job in cluster.jobs() if job["WorkDir"] == str(two)]
    assert (job["NumNodes"], job["NodeList"]) == ("2", ",".join(NODES))
    assert job["TresPerNode"] == "gres:gpu:1"
    log = two / "results" / "logs" / "pretrain_reconstruction" / f"{RECONSTRUCTION}.log"
    assert f"Starting on {', '.join(NODES)}" in log.read_text(encoding="utf-8")
