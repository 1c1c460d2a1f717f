"""Detectors: how many are there, how long the others take, and by which record."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from stradavit.detection.detect import detect
from stradavit.detection.training import train_detector
from stradavit.models.stages import acquire_encoder
from stradavit.planning.detector_cost import DetectorShape, detector_flops, learning_flops
from stradavit.planning.detectors import DetectorCount, detector_folder
from stradavit.planning.jobs import JobWork
from stradavit.planning.networks import network_of
from stradavit.planning.plan import Plan
from stradavit.settings import Settings
from stradavit.settings.training import LoaderSettings
from stradavit.training.checkpoint import Checkpoints, RunState, identity_of
from stradavit.training.optimiser import adamw
from tests.unit.detection.sets import TINY_ENCODER, write_set

from .test_counts import whole_encoder
from .test_speed import logged, timed

MakePlan = Callable[..., Plan]
ENCODER = "start_vit-tiny_s42"

# Detectors of one set on a tiny network, from two seeds of its own each.
TINY: dict[str, Any] = {
    "encoders": {"vit-tiny": {"architecture": TINY_ENCODER}},
    "matrix": {"detection": {"sar": {"chips": False}, "radio": None}},
    "detection": {
        "detector": {
            "image_px": 64,
            "window": 4,
            "global_blocks": 1,
            "pyramid_width": 16,
            "head_width": 32,
        },
        "training": {
            "epochs": 2,
            "batch_size": 2,
            "micro_batch_size": 1,
            "warmup_updates": 2,
            "decay_epochs": [1],
            "precision": "fp32",
            "seeds": [1, 2],
        },
    },
    "loader": {"device": "cpu"},
}


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def settings(read: Callable[..., Settings]) -> Settings:
    """One encoder, two detectors."""
    return read(TINY)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """The detection set: five images to learn from, three to score."""
    path = tmp_path / "results" / "detection" / "sar.h5"
    path.parent.mkdir(parents=True)
    return write_set(path)


@pytest.fixture
def encoder(settings: Settings, tmp_path: Path) -> Path:
    """The encoder they are trained on."""
    folder = tmp_path / "results" / "encoders" / ENCODER
    acquire_encoder("vit-tiny", settings.encoders["vit-tiny"], 42, folder)
    return folder


def job(plan: Plan, stage: str) -> JobWork:
    (found,) = [work for work in plan.jobs if work.stage == stage]
    return found


def shape(settings: Settings, results: Path) -> DetectorShape:
    network = network_of(settings, settings.nodes()[ENCODER], results)
    return DetectorShape(network, settings.detection.detector, 2)


def test_the_matrix_says_how_many(read: Callable[..., Settings], plan: MakePlan) -> None:
    usual = plan(read())
    assert [(row.detection_set, row.wanted) for row in usual.detectors] == [
        ("sar", 2),
        ("radio", 2),
    ]
    seeds = {"training": {"seeds": [1, 2]}, "detection": {"training": {"seeds": [3, 4, 5]}}}
    found = plan(read(seeds))
    # Of each pretraining seed, from each seed of its own.
    assert [row.wanted for row in found.detectors] == [2 * 2 * 3] * 2
    assert job(found, "train_detector").jobs == job(found, "detect").jobs == 24
    runs = {row.kind: row.wanted for row in found.encoders}
    assert runs["chips"] == 2


def test_a_chips_run_counts_by_its_own_settings(
    read: Callable[..., Settings], plan: MakePlan
) -> None:
    (work,) = [work for work in plan(read()).trainings if work.kind == "chips"]
    assert (work.title, work.corpus) == ("masked autoencoders of chips", "chips")
    # 64 chips in 60 epochs of updates of 32.
    assert (work.updates, work.cutouts) == (120, 60 * 64)


def test_what_is_there_is_subtracted(settings: Settings, plan: MakePlan, tmp_path: Path) -> None:
    results = tmp_path / "results"
    card = {"settings": settings.encoders["vit-tiny"].model_dump(mode="json")}
    whole_encoder(results / "encoders" / ENCODER, card)
    assert plan(settings).detectors == (DetectorCount("sar", 2, 0, 0, 2, 0),)

    def place(seed: int, trained_by: Any) -> None:
        folder = detector_folder(results, ENCODER, "sar", seed)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "model.safetensors").write_bytes(bytes(9))
        (folder / "config.json").write_text(json.dumps({"meta": {"settings": trained_by}}))
        metrics = results / "metrics" / "detection" / ENCODER / "sar" / f"s{seed}.json"
        metrics.parent.mkdir(parents=True, exist_ok=True)
        metrics.write_text("{}")

    place(1, settings.detector_run(1).model_dump(mode="json"))
    place(2, settings.detector_run(1).model_dump(mode="json"))
    # That of seed 2 was made by other settings, and with it its metrics count no more.
    after = plan(settings)
    assert after.detectors == (DetectorCount("sar", 2, 1, 1, 1, 1),)
    assert job(after, "train_detector").jobs == job(after, "detect").jobs == 1
    disk = {space.title: space for space in after.disk}
    assert (disk["detectors"].here, disk["detectors"].to_come) == (18, 0)

    (results / "metrics" / "detection" / ENCODER / "sar" / "s1.json").unlink()
    assert plan(settings).detectors == (DetectorCount("sar", 2, 1, 0, 1, 1),)
    # A detector that says nothing of its settings is taken as it is.
    (detector_folder(results, ENCODER, "sar", 2) / "config.json").unlink()
    assert plan(settings).detectors == (DetectorCount("sar", 2, 2, 1, 0, 0),)
    assert "train_detector" not in {work.stage for work in plan(settings).jobs}
    # All of them are outdated as soon as their encoder is.
    (results / "encoders" / ENCODER / "model.safetensors").unlink()
    assert plan(settings).detectors == (DetectorCount("sar", 2, 0, 0, 2, 2),)


def test_hours_are_operations_where_nothing_was_measured(
    settings: Settings, plan: MakePlan, images: Path, tmp_path: Path
) -> None:
    found, one = plan(settings, tflops=0.5), shape(settings, tmp_path / "results")
    training, detecting = job(found, "train_detector"), job(found, "detect")
    assert (training.jobs, training.basis, training.device) == (2, "assumed", "cpu")
    seconds = 2 * (5.0 + 2 * 5 * learning_flops(one) / 0.5e12)
    assert training.hours * 3600 == pytest.approx(seconds)
    assert f"{learning_flops(one) / 1e6:,.0f} MFLOP an image, counted" in training.source
    seconds = 2 * (5.0 + 3 * detector_flops(one, is_learning=False) / 0.5e12)
    assert detecting.hours * 3600 == pytest.approx(seconds)
    on_gpu = plan(settings, device="cuda")
    assert job(on_gpu, "detect").device == "cuda"
    # They are hours of the device.
    assert found.device_hours == pytest.approx(
        sum(work.device_hours for work in found.trainings)
        + sum(job(found, stage).hours for stage in ("features", "finetune"))
        + training.hours
        + detecting.hours
    )


def test_a_detector_goes_on_from_its_checkpoint(
    settings: Settings, plan: MakePlan, images: Path, encoder: Path, tmp_path: Path
) -> None:
    results = tmp_path / "results"
    before = job(plan(settings, tflops=1e-3), "train_detector")
    run = settings.detector_run(1)
    layer = torch.nn.Linear(1, 1)
    optimiser, _ = adamw({"layer": layer}, run.training.optimiser)
    # Three updates are an epoch of five images, one more is two images.
    state = RunState({"layer": layer}, optimiser, "", updates=4)
    identity = identity_of(run, images, encoder)
    folder = detector_folder(results, ENCODER, "sar", 1)
    Checkpoints(folder, identity).save(state)
    after = job(plan(settings, tflops=1e-3), "train_detector")
    saved_s = 7 * learning_flops(shape(settings, results)) / 1e9
    assert (before.hours - after.hours) * 3600 == pytest.approx(saved_s)
    disk = {space.title: space for space in plan(settings).disk}
    (path,) = folder.glob("checkpoints/*/*.pt")
    assert disk["checkpoints"].here == path.stat().st_size


def test_times_of_jobs_are_preferred_and_cited(
    settings: Settings, plan: MakePlan, images: Path, encoder: Path, tmp_path: Path
) -> None:
    results = tmp_path / "results"
    name, loader = f"{ENCODER}-sar-s1", LoaderSettings(device="cpu")
    folder = detector_folder(results, ENCODER, "sar", 1)
    with logged(results / "logs" / "train_detector" / f"{name}.log"):
        run = settings.detector_run(1)
        train_detector(encoder, images, run, (ENCODER, "sar"), folder, loader)
    metrics = results / "metrics" / "detection" / ENCODER / "sar" / "s1.json"
    metrics.parent.mkdir(parents=True)
    detect(folder, images, "test", (ENCODER, "sar"), metrics, loader)
    # Without their times they count as done, but say nothing of the others.
    untimed = plan(settings)
    assert untimed.detectors == (DetectorCount("sar", 2, 1, 1, 1, 0),)
    assert job(untimed, "train_detector").basis == job(untimed, "detect").basis == "assumed"

    timed(results, "train_detector", name, 5.0 + 60.0)
    timed(results, "detect", name, 5.0 + 6.0)
    found = plan(settings)
    training, detecting = job(found, "train_detector"), job(found, "detect")
    assert (training.basis, training.jobs) == ("measured", 1)
    assert training.hours * 3600 == pytest.approx(65.0)
    assert f"timings/train_detector/{name}.tsv" in training.source
    assert detecting.hours * 3600 == pytest.approx(11.0)
    assert f"timings/detect/{name}.tsv" in detecting.source
    assert job(plan(settings, device="cuda"), "train_detector").basis == "assumed"

    # Three epochs instead of two take half as long again; other detectors are another work.
    def changed(block: str, **values: Any) -> Plan:
        part = getattr(settings.detection, block).model_copy(update=values)
        detection = settings.detection.model_copy(update={block: part})
        return plan(settings.model_copy(update={"detection": detection}))

    longer = changed("training", epochs=3)
    assert longer.detectors == (DetectorCount("sar", 2, 0, 0, 2, 1),)
    assert job(longer, "train_detector").hours * 3600 == pytest.approx(2 * (5.0 + 90.0))
    assert job(changed("detector", pyramid_width=8), "train_detector").basis == "assumed"


def test_a_job_that_went_on_took_less(
    settings: Settings, plan: MakePlan, images: Path, encoder: Path, tmp_path: Path
) -> None:
    results = tmp_path / "results"
    name, folder = f"{ENCODER}-sar-s1", detector_folder(results, ENCODER, "sar", 1)
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(bytes(9))
    meta = {"settings": settings.detector_run(1).model_dump(mode="json")}
    (folder / "config.json").write_text(json.dumps({"meta": meta}))
    log = results / "logs" / "train_detector" / f"{name}.log"
    log.parent.mkdir(parents=True)
    log.write_text(
        f"INFO {ENCODER} on sar: cpu in fp32; 5 of 7 training images, 2 empty ones left out; 6 "
        "boxes of 2 classes, left out 0 under 0 px and 1 crowds; 2 an update (1 at once), learning "
        "rate 0.0001, 0.1 million parameters; 2 epochs of 3 updates, 4 of 6 done\n"
    )
    timed(results, "train_detector", name, 5.0 + 3.0)
    # Three images in three seconds, so ten seconds for ten.
    assert job(plan(settings), "train_detector").hours * 3600 == pytest.approx(5.0 + 10.0)
