"""The configuration of the paper at full scale plans every job, and soon."""

import re
import resource
from collections import Counter
from pathlib import Path

import pytest

from stradavit.paper.transfer import PAPER_BASELINES, PAPER_DINOV2_STARTS
from stradavit.settings import Settings
from stradavit.settings.encoders import Architecture, ScratchEncoder
from stradavit.settings.matrix import EncoderNode
from stradavit.settings.training import ContrastiveSettings
from tests.conftest import REPOSITORY

from .conftest import run_snakemake

CONFIG = "workflow/config/paper.yaml"


@pytest.fixture(scope="module")
def settings() -> Settings:
    """config.yaml with the paper laid over it."""
    return Settings.read(REPOSITORY / "config.yaml", REPOSITORY / CONFIG)


def read(*overlays: str) -> Settings:
    """The paper with further overlays."""
    folder = REPOSITORY / "workflow" / "config"
    paths = [folder / f"{name}.yaml" for name in ("paper", *overlays)]
    return Settings.read(REPOSITORY / "config.yaml", *paths)


def kind(node: EncoderNode) -> str:
    """The paper's name for a branch of the matrix."""
    is_dinov2 = node.branch == "contrastive" and node.start.startswith("dinov2")
    return "dinov2" if is_dinov2 else node.branch


def counted(settings: Settings) -> Counter[str]:
    """Encoders of each branch."""
    return Counter(kind(node) for node in settings.nodes().values())


RUNS = {"reconstruction": 6, "contrastive": 6, "two_stage": 18, "dinov2": 2}
# The paper's four baselines, the released model, and random weights.
STARTS = 4 + 1 + 1
ENCODERS = STARTS + sum(RUNS.values())
PROTOCOLS = ("linear_probe", "finetune", "knn", "label_budget")


def test_the_matrix_is_the_papers(settings: Settings) -> None:
    assert counted(settings) == {"start": STARTS, **RUNS}
    # Every encoder by every protocol on three benchmarks, none of which any run may have seen.
    cells = Counter((protocol, benchmark) for protocol, _, benchmark in settings.cells())
    assert cells == {
        **{(protocol, name): ENCODERS for protocol in PROTOCOLS for name in settings.benchmarks},
        ("published_split", "mirabest"): ENCODERS,
    }
    assert settings.guards("all") == ("mirabest", "lotss_dr2", "rgz_dr1")


def test_each_second_phase_starts_from_its_own_first_phase(settings: Settings) -> None:
    nodes = settings.nodes()
    children: Counter[str] = Counter()
    for node in nodes.values():
        parent = settings.parent(node)
        if node.branch != "two_stage":
            assert parent is None or parent.branch == "start"
            continue
        assert parent is not None and parent.branch == "reconstruction"
        for what in ("start", "registers", "corpus", "seed", "reconstruction_loss"):
            assert getattr(parent, what) == getattr(node, what)
        children[parent.name] += 1
    first_phases = [name for name, node in nodes.items() if node.branch == "reconstruction"]
    assert children == dict.fromkeys(first_phases, 3)


def test_dinov2_runs_have_their_own_batches_and_native_size(settings: Settings) -> None:
    runs = [node for node in settings.nodes().values() if kind(node) == "dinov2"]
    assert [node.start for node in runs] == ["dinov2-base", "dinov2-base-registers"]
    for node in runs:
        run = settings.pretrain_settings(node)
        phase = run.phase
        assert isinstance(phase, ContrastiveSettings)
        # The size of the views is not set anywhere: it is the encoder's own, 518 px.
        assert (phase.batch_size, phase.effective_batch, phase.epochs) == (20, 2080, 35)
        assert (run.loss, run.registers, phase.head_output_norm) == ("hcl", 0, False)
        assert phase.optimiser.learning_rate == 1e-4


def test_encoders_have_the_titles_of_the_papers_rows(settings: Settings) -> None:
    titles = {name: settings.encoders[name].title for name in settings.matrix.baselines}
    assert set(titles.values()) == {*PAPER_BASELINES, "STRADAViT (released)", "ViT-Base (random)"}
    assert [titles[name] for name in settings.matrix.dinov2.starts] == [*PAPER_DINOV2_STARTS]
    assert [titles[name] for name in settings.matrix.dinov2_references] == [
        "DINOv2-Small",
        *PAPER_DINOV2_STARTS,
    ]


def test_overlays_add_what_they_say() -> None:
    scratch = counted(read("paper-scratch"))
    branches = ("reconstruction", "contrastive", "two_stage")
    assert scratch == {
        "start": STARTS,
        "dinov2": 2,
        **{branch: 2 * RUNS[branch] for branch in branches},
    }
    seeds = read("paper-seeds")
    assert seeds.evaluation.probe.repeats == 10
    # Published weights have no seed.
    assert counted(seeds) == {"start": 5 + 5, **{branch: 5 * n for branch, n in RUNS.items()}}
    reduced = read("leave-one-out")
    assert counted(reduced) == {
        "start": STARTS,
        **RUNS,
        "reconstruction": RUNS["reconstruction"] + 4,
        "two_stage": RUNS["two_stage"] + 4,
    }
    assert len({node for _, node, _ in reduced.cells()}) == ENCODERS + 4


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
        **dict.fromkeys(settings.matrix.baselines, "hub"),
        "vit-base-scratch": "scratch",
    }
    # The shape that is not spelled out is the paper's.
    assert settings.encoders["vit-base-scratch"] == ScratchEncoder(
        source="scratch", title="ViT-Base (random)", architecture=Architecture()
    )


def test_settings_that_config_yaml_made_small_are_the_papers_again(settings: Settings) -> None:
    usual = Settings.model_fields["training"].get_default()
    assert settings.cutouts == Settings.model_fields["cutouts"].get_default()
    assert settings.views == Settings.model_fields["views"].get_default()
    evaluation = Settings.model_fields["evaluation"].get_default()
    more = {"protocols": settings.evaluation.protocols}
    assert settings.evaluation == evaluation.model_copy(update=more)
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
        "acquire_encoder": STARTS,
        "pretrain_reconstruction": RUNS["reconstruction"],
        "pretrain_contrastive": RUNS["contrastive"] + RUNS["two_stage"] + RUNS["dinov2"],
        "features": ENCODERS * 3,
        "probe": ENCODERS * 3,
        "finetune": ENCODERS * 3,
        "knn": ENCODERS * 3,
        "label_budget": ENCODERS * 3,
        "published_split": ENCODERS,
        "leakage": 3,
        "acquire_detection": 1,
        "cut_detection": 1,
        "train_detector": 3,
        "detect": 3,
        "tables": 1,
    }
