"""The SAR paper at full scale, and its overlay for small GPUs."""

import re
import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest

from stradavit.models.config import EncoderConfig
from stradavit.models.cost import autoencoder_parameters
from stradavit.settings import Settings
from stradavit.settings.detection import DetectorSettings, DetectorTraining
from stradavit.settings.encoders import ScratchEncoder
from stradavit.settings.views import CHIP_VIEWS
from tests.conftest import REPOSITORY

from .conftest import run_snakemake


def read(*overlays: str) -> Settings:
    """config.yaml with overlays of the workflow."""
    folder = REPOSITORY / "workflow" / "config"
    return Settings.read(REPOSITORY / "config.yaml", *(folder / f"{o}.yaml" for o in overlays))


def test_pretraining_is_the_papers() -> None:
    settings = read("sar")
    (node,) = [n for n in settings.nodes().values() if n.name.startswith("reconstruction_vit-base")]
    run = settings.pretrain_settings(node)
    assert (run.phase.epochs, run.phase.effective_batch, run.phase.batch_size) == (400, 512, 256)
    assert run.phase.epochs * run.phase.warmup_fraction == 40
    assert run.phase.optimiser.betas == (0.9, 0.95)
    assert run.phase.optimiser.weight_decay == 0.05
    assert run.views.reconstruction == CHIP_VIEWS.reconstruction
    assert settings.cutouts.size_px == 256
    start = settings.encoders["vit-base"]
    assert isinstance(start, ScratchEncoder)
    shape = EncoderConfig.from_architecture(start.architecture, 0)
    # 256 patches of which 64 are seen, by ViT-Base; a decoder of three blocks of width 512.
    assert (shape.patches, int(shape.patches * (1 - run.phase.mask_ratio))) == (256, 64)
    assert (shape.layers, shape.width) == (12, 768)
    assert (shape.decoder.layers, shape.decoder.width) == (3, 512)
    assert autoencoder_parameters(shape) == pytest.approx(96e6, rel=0.02)


def test_the_detector_is_the_papers() -> None:
    settings = read("sar")
    assert settings.detection.detector == DetectorSettings()
    run = settings.detection.training
    assert run == DetectorTraining(min_side_px=16.0)
    assert (run.epochs, run.batch_size, run.warmup_updates, run.decay_epochs) == (
        12,
        16,
        500,
        (8, 11),
    )
    assert read("paper").detection.detector == DetectorSettings()
    assert read("paper").detection.training == DetectorTraining()


def test_rows_are_the_papers_and_one_it_did_not_try() -> None:
    titles = [row.title for row in read("sar").detection_rows("sardet")]
    assert titles == ["Scratch", "ImageNet", "SAR", "SAR from ImageNet"]


def test_a_dry_run_plans_every_job(workflow: Path) -> None:
    done = run_snakemake(
        workflow, "results/tables", "--configfile", "workflow/config/sar.yaml", "--dry-run"
    )
    planned = done.stdout + done.stderr
    assert done.returncode == 0, planned
    stats = planned[planned.rindex("Job stats") :]
    jobs = {rule: int(n) for rule, n in re.findall(r"^(\w+) +(\d+)$", stats, re.M)}
    assert jobs == {
        "acquire_detection": 1,
        "cut_detection": 1,
        "cut_chips": 16,
        "cut_corpus": 1,
        "acquire_encoder": 2,
        "pretrain_reconstruction": 2,
        "train_detector": 4,
        "detect": 4,
        "tables": 1,
        "total": 32,
    }


def test_kaggle_is_not_asked_again_after_an_edit_of_our_code() -> None:
    helpers = runpy.run_path(str(REPOSITORY / "workflow" / "common.smk"), {"SETTINGS": read("sar")})
    wildcards = SimpleNamespace(detection="sardet")
    assert helpers["detection_code"](wildcards) == []
    assert helpers["detection_downloads"](wildcards) == 1


def test_edits_of_annotations_are_noticed_wherever_they_lie(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "ships" / "Annotations").mkdir(parents=True)
    annotations = tmp_path / "ships" / "Annotations" / "train.json"
    annotations.touch()
    values = read("sar").model_dump(mode="json")
    values["detection"]["sets"]["sardet"] = {"source": "coco", "table": "sar", "path": "~/ships"}
    helpers = runpy.run_path(
        str(REPOSITORY / "workflow" / "common.smk"), {"SETTINGS": Settings.parse(values)}
    )
    assert helpers["detection_files"](SimpleNamespace(detection="sardet")) == [str(annotations)]


def test_small_gpus_make_the_same_updates() -> None:
    usual, small = read("sar"), read("sar", "gpu-24gb")
    assert small.detection.detector.activation_checkpointing
    for settings in (usual, small):
        assert settings.detection.training.batch_size == 16
        assert settings.training.chips.effective_batch == 512
    assert small.detection.training.micro_batch_size < usual.detection.training.micro_batch_size


def test_real_images_never_give_chips_of_scored_ones(
    shared_data: Path, workflow: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STRADAVIT_SHARED_DATA", str(shared_data))
    overlay = "workflow/config/ssdd.yaml"
    options = ("--configfile", overlay, "--dry-run", "--printshellcmds")
    done = run_snakemake(workflow, "results/tables", *options)
    planned = done.stdout + done.stderr
    assert done.returncode == 0, planned
    stats = planned[planned.rindex("Job stats") :]
    jobs = {rule: int(n) for rule, n in re.findall(r"^(\w+) +(\d+)$", stats, re.M)}
    assert (jobs["pretrain_reconstruction"], jobs["train_detector"]) == (3, 6)
    assert "--splits train --part" in planned
