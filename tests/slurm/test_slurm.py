"""The small workflow on a real Slurm through `profiles/slurm`, with its trainings disturbed.

One run serves all tests here, since it takes minutes: a training is put back into the queue by
Slurm, another is cancelled, started again by Snakemake, and then told that its time runs out. What
they end with is compared with the same workflow on this machine, undisturbed.
"""

import json
import re
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml

from tests.slurm.cluster import Cluster, wait_for
from tests.slurm.conftest import (
    CONTRASTIVE,
    HERE,
    RECONSTRUCTION,
    Undisturbed,
    finish,
    small_workflow,
    start_snakemake,
)

pytestmark = [pytest.mark.slurm, pytest.mark.slow, pytest.mark.timeout(1800)]

LONG_S = 600.0  # on a machine that has other things to do


@dataclass
class Run:
    """A workflow that has run on the cluster, and what was seen of it."""

    folder: Path
    output: str = ""
    resumed_at: dict[str, list[int]] = field(default_factory=dict)  # updates, of each start
    jobs: list[dict[str, str]] = field(default_factory=list)
    requeued: str = ""

    def of(self, rule: str) -> list[dict[str, str]]:
        """Slurm's jobs of a rule, each task of an array by itself."""
        return [job for job in self.jobs if re.match(rf"rule_{rule}(_|$)", job["Comment"])]


@pytest.fixture(scope="module")
def run(
    cluster: Cluster,
    undisturbed: Undisturbed,
    repository: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Run:
    """The small workflow on the cluster, disturbed, and seen to its end."""
    run = Run(small_workflow(repository, tmp_path_factory.mktemp("disturbed")))
    submit_sleeper(cluster, run)
    process = start_snakemake(run.folder, "--profile=profiles/slurm", *HERE)
    try:
        disturb(cluster, run)
        run.output = finish(process, run.folder)
    finally:
        process.terminate()
        process.wait()
    run.jobs = [job for job in cluster.jobs() if job["WorkDir"] == str(run.folder)]
    assert run.jobs
    return run


def submit_sleeper(cluster: Cluster, run: Run) -> None:
    """A job with the profile's options whose time limit is near; Slurm looks every 30 s."""
    profile = yaml.safe_load((run.folder / "profiles/slurm/config.yaml").read_text("utf-8"))
    extra = profile["default-resources"]["slurm_extra"].strip("'")
    script = "trap 'echo warned; exit' TERM; while true; do sleep 0.2; done"
    options = [extra, "--time=5", "--mem=100", f"--output={run.folder}/sleeper.log"]
    cluster.call("sbatch", *options, f'--wrap=srun -n1 bash -c "{script}"')


def disturb(cluster: Cluster, run: Run) -> None:
    """Requeue one training; cancel another, and tell its second try that time runs out."""
    await_progress(run, RECONSTRUCTION, 0)
    (run.requeued,) = cluster.running("pretrain_reconstruction")
    cluster.call("scontrol", "requeue", run.requeued)
    await_progress(run, CONTRASTIVE, 0)
    (cancelled,) = cluster.running("pretrain_contrastive")
    cluster.call("scancel", cancelled)
    wait_for(lambda: cluster.is_pending(run.requeued), f"job {run.requeued} to be queued again")
    # Slurm lets a requeued job wait for two minutes, in case its node is ill.
    cluster.call("scontrol", "update", f"JobId={run.requeued}", "StartTime=now")
    await_resuming(run, CONTRASTIVE)
    await_progress(run, CONTRASTIVE, run.resumed_at[CONTRASTIVE][0])
    (late,) = cluster.running("pretrain_contrastive")
    assert late != cancelled
    # As before a time limit: to the steps of the job, and not to its script.
    cluster.call("scancel", "--signal=TERM", late)
    await_resuming(run, RECONSTRUCTION)
    await_resuming(run, CONTRASTIVE)


def log_of(run: Run, encoder: str) -> Path:
    """Log of a training."""
    rule = f"pretrain_{encoder.partition('_')[0]}"
    return run.folder / "results" / "logs" / rule / f"{encoder}.log"


def await_progress(run: Run, encoder: str, after: int) -> None:
    """Wait until a training has recorded ten updates beyond `after`."""
    path = run.folder / "results" / "encoders" / encoder / "metrics.jsonl"

    def has_progressed() -> bool:
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        return any(json.loads(line)["update"] >= after + 10 for line in lines if line[-1:] == "}")

    wait_for(has_progressed, f"update {after + 10} of {encoder} in {path}", LONG_S)


def await_resuming(run: Run, encoder: str) -> None:
    """Wait until a training says that it goes on, from a later update than last time."""
    path, seen = log_of(run, encoder), run.resumed_at.setdefault(encoder, [])

    def resumed() -> bool:
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        found = re.search(r"Resuming from \S*?(\d+)-\w+\.pt", text)
        if found is None or int(found[1]) in seen:
            return False
        seen.append(int(found[1]))
        return True

    wait_for(resumed, f"{encoder} to resume, see {path}", LONG_S)


def test_tables_are_those_of_an_undisturbed_run(run: Run, undisturbed: Undisturbed) -> None:
    folder = undisturbed.folder
    finish(undisturbed.process, folder)
    expected = {path.name: path.read_bytes() for path in (folder / "results/tables").glob("*.csv")}
    assert len(expected) >= 10
    for name, content in expected.items():
        assert (run.folder / "results" / "tables" / name).read_bytes() == content, name


@pytest.mark.parametrize("encoder", [RECONSTRUCTION, CONTRASTIVE])
def test_weights_are_those_of_an_undisturbed_run(
    run: Run, undisturbed: Undisturbed, encoder: str
) -> None:
    folder = undisturbed.folder
    finish(undisturbed.process, folder)
    weights = Path("results", "encoders", encoder, "model.safetensors")
    assert (run.folder / weights).read_bytes() == (folder / weights).read_bytes()


def test_each_start_went_on_from_a_checkpoint_the_signal_asked_for(run: Run) -> None:
    # No other checkpoints are written: the small config says so.
    (after_requeue,) = run.resumed_at[RECONSTRUCTION]
    assert after_requeue >= 10
    after_cancel, after_warning = run.resumed_at[CONTRASTIVE]
    assert after_warning >= after_cancel + 10 >= 20


def test_a_requeued_job_keeps_its_number_and_snakemake_waits_for_it(run: Run) -> None:
    (job,) = run.of("pretrain_reconstruction")
    assert job["JobId"] == run.requeued
    assert (job["Restarts"], job["JobState"]) == ("1", "COMPLETED")


def test_snakemake_starts_again_what_was_cancelled_or_out_of_time(run: Run) -> None:
    states = [job["JobState"] for job in run.of("pretrain_contrastive")]
    # The early signal ends a job before its limit does: Slurm sees it fail, not time out.
    assert states == ["CANCELLED", "FAILED", "COMPLETED"]


def test_the_warning_comes_before_the_time_limit(run: Run) -> None:
    log = run.folder / "sleeper.log"
    wait_for(lambda: log.exists() and "warned" in log.read_text("utf-8"), f"'warned' in {log}", 90)


def test_jobs_of_a_gpu_got_one_in_their_partition(run: Run) -> None:
    for rule in ("pretrain_reconstruction", "pretrain_contrastive", "features"):
        for job in run.of(rule):
            assert job["Partition"] == "gpu"
            assert job["TresPerJob"] == "gres:gpu:1"
    for rule in ("cut_part", "probe", "tables"):
        for job in run.of(rule):
            assert job["Partition"] == "cpu"
            assert "TresPerJob" not in job


def test_jobs_of_two_encoders_are_tasks_of_one_array(run: Run) -> None:
    tasks = [job for job in run.of("features") if "ArrayTaskId" in job]
    assert len({job["ArrayJobId"] for job in tasks}) == 1
    assert sorted(job["ArrayTaskId"] for job in tasks) == ["1", "2"]


def test_an_array_of_the_largest_size_fits_a_command_line(run: Run, cluster: Cluster) -> None:
    (job, _) = [job for job in run.of("features") if "ArrayTaskId" in job]
    path = run.folder / "array.sh"
    cluster.call("scontrol", "write", "batch_script", job["ArrayJobId"], str(path))
    profile = yaml.safe_load((run.folder / "profiles/slurm/config.yaml").read_text("utf-8"))
    # The first task is a command of its own, the other one is packed.
    packed = re.search(r"--slurm-jobstep-array-execs=(\S+)", path.read_text("utf-8"))
    assert packed is not None
    assert len(packed[1]) * profile["slurm-array-limit"] < 128 * 1024 * 0.9


def test_jobs_of_seconds_share_a_job_of_the_cluster(run: Run) -> None:
    groups = [job for job in run.jobs if job["Comment"].startswith("rule_splits")]
    assert len(groups) < 4


def test_memory_grows_with_each_try(run: Run) -> None:
    asked = [job["MinMemoryNode"] for job in run.of("pretrain_contrastive")]
    assert asked == ["32000M", "62.50G", "96000M"]  # as Slurm writes 32000, 64000 and 96000 MiB
