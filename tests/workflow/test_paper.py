"""The configuration of the paper at full scale plans every job, and soon."""

import re
import resource
from collections import Counter
from pathlib import Path

import pytest

from stradavit.settings import Settings
from tests.conftest import REPOSITORY

from .conftest import run_snakemake

CONFIG = "workflow/config/paper.yaml"


@pytest.fixture(scope="module")
def settings() -> Settings:
    """config.yaml with the paper laid over it."""
    return Settings.read(REPOSITORY / "config.yaml", REPOSITORY / CONFIG)


def kind(branch: str, start: str) -> str:
    """The paper's name for a branch of the matrix."""
    return "dinov2" if branch == "contrastive" and start.startswith("dinov2") else branch


def test_the_matrix_is_the_papers(settings: Settings) -> None:
    counted = Counter(kind(node.branch, node.start) for node in settings.nodes().values())
    assert counted == {
        "start": 5,
        "reconstruction": 6,
        "contrastive": 6,
        "two_stage": 18,
        "dinov2": 2,
    }
    # Every encoder, both protocols, three benchmarks, none of which any run may have seen.
    assert len(settings.cells()) == 37 * 2 * 3
    assert settings.guards("all") == ("mirabest", "lotss_dr2", "rgz_dr1")


def test_no_simulated_source_is_left(settings: Settings) -> None:
    entries = {**settings.surveys, **settings.benchmarks, **settings.encoders}
    sources = {name: entry.source for name, entry in entries.items()}
    assert sources == {
        "mgcls": "mgcls",
        "askap": "casda",
        "lotss": "lotss",
        "sdc1": "sdc1",
        "mirabest": "mirabest",
        "lotss_dr2": "horton",
        "rgz_dr1": "rgz",
    } | dict.fromkeys(settings.matrix.baselines, "hub")


def test_settings_that_config_yaml_made_small_are_the_papers_again(settings: Settings) -> None:
    usual = Settings.model_fields["training"].get_default()
    assert settings.cutouts == Settings.model_fields["cutouts"].get_default()
    assert settings.views == Settings.model_fields["views"].get_default()
    assert settings.evaluation == Settings.model_fields["evaluation"].get_default()
    assert settings.training.reconstruction == usual.reconstruction
    assert settings.training.dinov2 == usual.dinov2
    # How many cutouts pass at once is for the memory of a GPU; the update sees as many.
    ours = settings.training.contrastive.model_copy(
        update={"batch_size": usual.contrastive.batch_size}
    )
    assert ours == usual.contrastive


def test_a_dry_run_plans_all_jobs_within_half_a_minute(settings: Settings, workflow: Path) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    dry = run_snakemake(workflow, "results/tables", "--configfile", CONFIG, "--dry-run")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    output = dry.stdout + dry.stderr
    assert dry.returncode == 0, output[-5000:]
    # Time of the processor, not of the clock: whatever else this machine does.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 30
    stats = output[output.rindex("Job stats") :]
    jobs = {rule: int(n) for rule, n in re.findall(r"^(\w+) +(\d+)$", stats, re.M)}
    n_parts = sum(survey.parts for survey in settings.surveys.values())
    assert jobs.pop("total") == sum(jobs.values())
    assert jobs == {
        "acquire_manifest": 4,
        "acquire_part": n_parts,
        "cut_part": n_parts,
        "acquire_benchmark": 3,
        "cut_benchmark": 3,
        "cut_corpus": 1,
        "acquire_encoder": 5,
        "pretrain_reconstruction": 6,
        "pretrain_contrastive": 6 + 18 + 2,
        "features": 37 * 3,
        "probe": 37 * 3,
        "finetune": 37 * 3,
        "tables": 1,
    }
