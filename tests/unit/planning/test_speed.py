"""Where hours come from: from records of real runs where there are any, else from arithmetic."""

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stradavit.cutouts.corpus import write_corpus
from stradavit.cutouts.shards import Shard
from stradavit.errors import SettingsError
from stradavit.evaluation.features import extract_features
from stradavit.evaluation.metrics import FoldOutcome, write_outcomes
from stradavit.models.stages import acquire_encoder
from stradavit.planning.jobs import JobWork
from stradavit.planning.plan import Plan
from stradavit.planning.trainings import TrainingWork
from stradavit.settings import Settings
from stradavit.settings.training import LoaderSettings
from stradavit.training.checkpoint import Checkpoints, RunState, identity_of
from stradavit.training.optimiser import adamw
from stradavit.training.pretrain import pretrain
from tests.unit.evaluation.conftest import write_benchmark as write_benchmark  # a fixture
from tests.unit.training.conftest import SIZE_PX, write_shards

MakePlan = Callable[..., Plan]

# A tiny network on the 22 cutouts of the training's own tests.
TINY: dict[str, Any] = {
    "cutouts": {"size_px": SIZE_PX},
    "surveys": {"askap": None, "lotss": None, "sdc1": None, "mgcls": {"parts": 2}},
    "corpora": {"all": {"surveys": ["mgcls"]}},
    "encoders": {
        "vit-tiny": {
            "architecture": {
                "image_px": 32,
                "width": 32,
                "layers": 2,
                "mlp_width": 64,
                "decoder_width": 32,
                "decoder_layers": 1,
                "decoder_mlp_width": 64,
            }
        }
    },
    "training": {
        "seeds": [42, 43],
        "reconstruction": {"epochs": 2, "batch_size": 8, "effective_batch": 8},
        "contrastive": {"epochs": 2, "batch_size": 8, "effective_batch": 8, "head_width": 32},
    },
    "loader": {"device": "cpu"},
}
RUN = "reconstruction_vit-tiny_l2_l1_r4_all_s{}"


@pytest.fixture
def settings(read: Callable[..., Settings]) -> Settings:
    """Two seeds of the default matrix, very small."""
    return read(TINY)


@contextmanager
def logged(path: Path) -> Iterator[None]:
    """What a rule's `&> log` keeps of a stage."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    try:
        yield
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
        handler.close()


def timed(results: Path, rule: str, name: str, seconds: float) -> None:
    """A benchmark file as Snakemake writes it."""
    path = results / "timings" / rule / f"{name}.tsv"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"s\th:m:s\tmax_rss\tcpu_time\n{seconds}\t0:00:01\tNA\tNA\n")


@pytest.fixture
def start(settings: Settings, tmp_path: Path) -> Path:
    """The start of seed 42 and a corpus."""
    results = tmp_path / "results"
    corpus = write_shards(tmp_path / "made")
    shards = [Shard(tmp_path / "made" / "shards" / "drawn" / f"{part}.h5") for part in range(2)]
    write_corpus(
        results / "corpora" / "all.h5", shards, [np.arange(11)] * 2, {"mgcls": {"kept": 22}}
    )
    corpus.unlink()
    folder = results / "encoders" / "start_vit-tiny_s42"
    acquire_encoder("vit-tiny", settings.encoders["vit-tiny"], 42, folder)
    return folder


def row(plan: Plan, kind: str) -> TrainingWork:
    (found,) = [work for work in plan.trainings if work.kind == kind]
    return found


def job(plan: Plan, stage: str) -> JobWork:
    (found,) = [work for work in plan.jobs if work.stage == stage]
    return found


def test_a_measured_rate_is_preferred_and_cited(
    settings: Settings, plan: MakePlan, start: Path, tmp_path: Path
) -> None:
    results = tmp_path / "results"
    before = plan(settings)
    assert {work.basis for work in before.trainings} == {"assumed"}
    assert row(before, "reconstruction").runs == 2
    assert row(before, "reconstruction").updates == 2 * 3
    assert row(before, "reconstruction").cutouts == 2 * 22

    name = RUN.format(42)
    wanted = settings.pretrain_settings(settings.nodes()[name])
    out = results / "encoders" / name
    with logged(results / "logs" / "pretrain_reconstruction" / f"{name}.log"):
        pretrain(wanted, results / "corpora" / "all.h5", start, out, LoaderSettings(device="cpu"))
    # Speed as a record would have it after hours, so that the sum below is exact.
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    rates = iter([10.0, 40.0])
    for line in lines:
        if line["kind"] == "epoch":
            assert line["cutouts_per_s"] > 0
            line["cutouts_per_s"] = next(rates)
    (out / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))

    after = plan(settings)
    counted = {count.kind: count.done for count in after.encoders}
    assert (counted["start"], counted["reconstruction"]) == (1, 1)
    left = row(after, "reconstruction")
    assert (left.runs, left.basis) == (1, "measured")
    assert f"encoders/{name}/metrics.jsonl" in left.source
    # 44 cutouts at 44 / (22 / 10 + 22 / 40) a second, and three seconds to start.
    assert left.device_hours == pytest.approx((22 / 10 + 22 / 40 + 3) / 3600)
    # It says nothing of the other objective, nor of a GPU.
    assert row(after, "contrastive").basis == "assumed"
    on_gpu = row(plan(settings, device="cuda"), "reconstruction")
    assert (on_gpu.basis, "metrics.jsonl" in on_gpu.source) == ("assumed", False)


def test_a_run_goes_on_from_its_checkpoint(
    settings: Settings, plan: MakePlan, start: Path, tmp_path: Path
) -> None:
    results = tmp_path / "results"
    name = RUN.format(42)
    wanted = settings.pretrain_settings(settings.nodes()[name])
    identity = identity_of(wanted, results / "corpora" / "all.h5", start)
    layer = torch.nn.Linear(1, 1)
    optimiser, _ = adamw({"layer": layer}, wanted.phase.optimiser)
    state = RunState({"layer": layer}, optimiser, "", updates=3)
    Checkpoints(results / "encoders" / name, identity).save(state)
    found = row(plan(settings), "reconstruction")
    assert (found.runs, found.resumed) == (2, 1)
    # Three updates are an epoch.
    assert found.cutouts_left == 44 + 22
    # One of other settings does not count.
    shorter = settings.training.reconstruction.model_copy(update={"epochs": 3})
    training = settings.training.model_copy(update={"reconstruction": shorter})
    other = plan(settings.model_copy(update={"training": training}))
    assert row(other, "reconstruction").resumed == 0


def test_times_of_jobs_are_preferred_and_cited(
    settings: Settings,
    plan: MakePlan,
    start: Path,
    tmp_path: Path,
    write_benchmark: Callable[..., Path],
) -> None:
    results = tmp_path / "results"
    before = plan(settings)
    assert {work.basis for work in before.jobs} == {"assumed"}

    rng = np.random.default_rng(3)
    path = results / "benchmarks" / "mirabest.h5"
    path.parent.mkdir()
    write_benchmark(path, rng.random((24, 16, 16)), [number % 2 for number in range(24)])
    encoder = start.name
    with logged(results / "logs" / "features" / f"{encoder}-mirabest.log"):
        out = results / "features" / encoder / "mirabest.h5"
        extract_features(start, path, out, LoaderSettings(device="cpu"))
    timed(results, "features", f"{encoder}-mirabest", 3.0 + 24.0)
    after = job(plan(settings), "features")
    # Those of the other seed and of the trained encoders are left, on three benchmarks.
    assert after.jobs == job(before, "features").jobs - 1
    assert after.basis == "measured"
    assert f"timings/features/{encoder}-mirabest.tsv" in after.source
    # A second an image but for the start of the job; registers cost a little more.
    n_images = 24 * 9 + (300 + 360) * 10
    assert after.hours * 3600 == pytest.approx(n_images + 29 * 3.0, rel=0.2)

    # A fine-tuning that was twice as long as now, of which two thirds are trained on.
    benchmark = type("Labelled", (), {})()
    benchmark.classes, benchmark.labels = ["FR I", "FR II"], np.arange(24) % 2
    benchmark.sources = benchmark.images = [str(number) for number in range(24)]
    folds = np.arange(24) % 3
    longer = settings.evaluation.finetune.model_dump(mode="json")
    longer["epochs"] *= 2
    write_outcomes(
        results / "metrics" / "finetune" / encoder / "mirabest.json",
        benchmark,
        [
            FoldOutcome(fold, 16, np.flatnonzero(folds == fold), rng.dirichlet([1, 1], 8))
            for fold in range(3)
        ],
        names=(encoder, "mirabest"),
        protocol="finetune",
        settings={"folds": {"count": 3, "seed": 0}, "finetune": longer},
        code="",
        provenance={"device": "cpu"},
    )
    timed(results, "finetune", f"{encoder}-mirabest", 3.0 + 24.0)
    found = job(plan(settings), "finetune")
    assert found.basis == "measured"
    epochs = settings.evaluation.finetune.epochs
    # Forward passes of an image: trained in two folds of three, held out in one.
    passes, then = 2 * 3 * epochs + 1, 2 * 3 * 2 * epochs + 1
    assert found.hours * 3600 == pytest.approx(n_images * passes / then + 29 * 3.0, rel=0.2)
    assert job(plan(settings, device="cuda"), "finetune").basis == "assumed"


def test_what_is_assumed_is_said_and_can_be_given(paper: Settings, plan: MakePlan) -> None:
    usual, given = plan(paper, device="cuda"), plan(paper, device="cuda", tflops=200.0)
    assert "400 TFLOP/s, not measured" in row(usual, "two_stage").source
    assert "200 TFLOP/s, as given" in row(given, "two_stage").source
    ratio = row(given, "two_stage").device_hours / row(usual, "two_stage").device_hours
    assert ratio == pytest.approx(2, rel=1e-3)  # but for the start of jobs
    # The arithmetic by hand: operations of all cutouts of all runs.
    work = row(usual, "contrastive")
    seconds = work.cutouts_left * work.gflop * 1e9 / 400e12 + 6 * 3
    assert work.device_hours * 3600 == pytest.approx(seconds)
    assert work.cutouts_left == 6 * 35 * (590_654 // 256 * 256)
    for wrong in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(SettingsError, match=r"--tflops is .*; expected a positive number"):
            plan(paper, tflops=wrong)


def test_the_device_is_the_one_jobs_would_get(
    read: Callable[..., Settings], plan: MakePlan, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    for device, has_gpu, expected in (
        ("auto", False, "cpu"),
        ("auto", True, "cuda"),
        ("cpu", True, "cpu"),
        ("cuda", False, "cuda"),
    ):
        monkeypatch.setenv("PATH", str(tmp_path) if has_gpu else "")
        settings = read({"loader": {"device": device, "threads": 3}})
        speed = plan(settings, device=None).speed
        assert speed.device == expected
        assert speed.tflops == (400.0 if expected == "cuda" else pytest.approx(0.12))
