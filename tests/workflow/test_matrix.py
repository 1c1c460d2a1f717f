"""The miniature of the whole matrix (`make matrix`) has every encoder of the paper."""

import re
from collections import Counter
from pathlib import Path

import pytest

from stradavit.settings import Settings
from tests.conftest import REPOSITORY

from .conftest import run_snakemake

CONFIG = "workflow/config/matrix.yaml"
SURVEYS = 4
# What stands in for the released model has a name of its own, and random weights one row more.
STAND_IN = {"stand-in": "stradavit-base"}


@pytest.fixture(scope="module")
def miniature() -> Settings:
    """config.yaml with the miniature laid over it."""
    return Settings.read(REPOSITORY / "config.yaml", REPOSITORY / CONFIG)


def test_it_is_the_matrix_of_the_paper(miniature: Settings) -> None:
    paper = Settings.read(REPOSITORY / "config.yaml", REPOSITORY / "workflow/config/paper.yaml")
    baselines = tuple(STAND_IN.get(name, name) for name in miniature.matrix.baselines)
    assert (*baselines, "vit-base-scratch") == paper.matrix.baselines
    ours = miniature.matrix.model_copy(
        update={
            "baselines": paper.matrix.baselines,
            "leave_out": (),
            "detection": paper.matrix.detection,  # the miniature has none
        }
    )
    assert ours == paper.matrix
    assert miniature.evaluation.protocols == paper.evaluation.protocols
    assert miniature.matrix.leave_out == miniature.corpora["all"].surveys
    for name in {*miniature.encoders} - {*STAND_IN}:
        assert miniature.encoders[name].title == paper.encoders[name].title


def test_no_weights_are_published_ones(miniature: Settings) -> None:
    sources = Counter(encoder.source for encoder in miniature.encoders.values())
    assert sources == {"scratch": 2, "scratch_dinov2": 3}
    assert "random" in str(miniature.encoders["stand-in"].title)


def test_a_dry_run_plans_all_of_it(workflow: Path) -> None:
    options = ("--configfile", CONFIG, "--directory", "matrix", "--dry-run", "--quiet", "rules")
    dry = run_snakemake(workflow, *options)
    output = dry.stdout + dry.stderr
    assert dry.returncode == 0, output[-5000:]
    jobs = {rule: int(n) for rule, n in re.findall(r"^(\w+) +(\d+)$", output, re.M)}
    n_starts, n_runs = 5, 6 + 6 + 18 + 2
    n_scored = n_starts + n_runs + SURVEYS
    expected = {
        "acquire_encoder": n_starts,
        # One first phase on each corpus without a survey, which is not scored itself.
        "pretrain_reconstruction": 6 + SURVEYS,
        "pretrain_contrastive": 6 + 18 + 2 + SURVEYS,
        "cut_corpus": 1 + SURVEYS,
        **dict.fromkeys(("features", "probe", "finetune", "knn", "label_budget"), 3 * n_scored),
        "published_split": n_scored,
        "leakage": 3,
        "tables": 1,
        "figures": 1,
    }
    assert {rule: jobs.get(rule) for rule in expected} == expected
