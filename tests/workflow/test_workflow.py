"""The whole workflow on a tiny simulated sky: what it makes, and what a change plans anew."""

import csv
import json
import re
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest

from .conftest import BIN, copy_workflow, run_snakemake

TABLES = (
    "01_pretraining_sources",
    "02_benchmarks",
    "03_augmentations",
    "04_contrastive_losses",
    "05_training_settings",
    "06_baselines_probe",
    "07_baselines_finetune",
    "08_reconstruction_probe",
    "09_reconstruction_finetune",
    "10_contrastive_probe",
    "11_contrastive_finetune",
    "12_dinov2_init",
    "13_two_stage_probe",
    "14_two_stage_finetune",
    "15_deltas",
    "16_sar_detection",
    "17_radio_detection",
    "25_detection_sets",
)

TRAINING = {"pretrain_reconstruction", "pretrain_contrastive"}
# What is trained on the recipe of the probe.
PROBING = {"probe", "label_budget", "published_split"}
SCORING = {"features", "knn", "finetune"} | PROBING
DETECTING = {"train_detector", "detect"}
PAPER = {"tables", "figures"}


@pytest.fixture(scope="module")
def done(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the tiny workflow has run to its end."""
    folder = copy_workflow(repository, tmp_path_factory.mktemp("workflow"))
    tiny = repository / "tests" / "workflow" / "tiny.yaml"
    (folder / "tiny.yaml").write_text(tiny.read_text(encoding="utf-8"), encoding="utf-8")
    finished = call(folder)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return folder


def call(
    folder: Path, *arguments: str, overlay: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the tiny workflow, with one more overlay given as YAML text."""
    files = ["tiny.yaml"]
    if overlay is not None:
        (folder / "change.yaml").write_text(overlay, encoding="utf-8")
        files.append("change.yaml")
    return run_snakemake(
        folder, *arguments, "results/tables", "results/figures", "--configfile", *files
    )


def jobs_planned(folder: Path, overlay: str) -> dict[str, int]:
    """Jobs of each rule that a dry run plans after a change of settings."""
    dry = call(folder, "--dry-run", overlay=overlay)
    assert dry.returncode == 0, dry.stdout + dry.stderr
    counted = re.findall(r"^(\w+) +(\d+)$", dry.stdout + dry.stderr, re.MULTILINE)
    return {rule: int(number) for rule, number in counted if rule != "total"}


def planned(folder: Path, overlay: str) -> set[str]:
    """Rules a dry run plans after a change of settings."""
    return set(jobs_planned(folder, overlay))


def test_every_table_in_three_formats(done: Path) -> None:
    tables = done / "results" / "tables"
    for name in TABLES:
        for suffix in (".csv", ".md", ".tex"):
            assert (tables / f"{name}{suffix}").stat().st_size > 0
    probe = pd.read_csv(tables / "13_two_stage_probe.csv")
    assert len(probe) >= 18  # 3 losses x 3 losses x R in {0, 4}


def test_figures_are_drawn(done: Path) -> None:
    assert len(list((done / "results" / "figures").glob("*.png"))) >= 4


def test_a_second_call_has_nothing_to_do(done: Path) -> None:
    again = call(done)
    assert "Nothing to be done" in again.stdout + again.stderr


def stradavit(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A subcommand, run beside the results."""
    command = [BIN / "stradavit", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_a_cell_is_traced_to_its_fits_files_and_damage_on_the_way_is_named(
    done: Path, tmp_path: Path
) -> None:
    shutil.copytree(done / "results", tmp_path / "results")
    cell = "13_two_stage_probe:L2+L1, Soft-HCL, R = 4:RGZ DR1 Macro-F1"
    traced = stradavit(tmp_path, "provenance", cell, "--verify", "--files", "all")
    assert traced.returncode == 0, traced.stdout + traced.stderr
    assert "; nothing differs." in traced.stdout
    # The printed number, every encoder up to the start, and every product with its hash.
    with (done / "results" / "tables" / "13_two_stage_probe.csv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["rgz_dr1 macro_f1 mean"]]
    (mean,) = [float(row["rgz_dr1 macro_f1 mean"]) for row in rows]
    assert f"'RGZ DR1 Macro-F1': {mean:.3f} ±" in traced.stdout
    run = "vit-tiny_l2_l1_soft_hcl_r4_all_s42"
    for encoder in (
        f"two_stage_{run}",
        "reconstruction_vit-tiny_l2_l1_r4_all_s42",
        "start_vit-tiny",
    ):
        assert f"encoder results/encoders/{encoder}" in traced.stdout
    for survey in ("mgcls", "askap", "lotss", "sdc1"):
        for ledger in (done / "results" / "raw" / survey).glob("*.csv"):
            for product in pd.read_csv(ledger).itertuples():
                assert f"SHA-256 {product.sha256}" in traced.stdout
    # Each fault is named with its file, and nothing else is.
    for file, said in (
        ("shards/lotss/0.h5", "its pixels have changed"),
        ("raw/mgcls/files/mgcls-0000.fits", "raw/mgcls/0.csv says"),
    ):
        path = tmp_path / "results" / file
        whole = path.read_bytes()
        middle = len(whole) // 2
        path.write_bytes(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :])
        traced = stradavit(tmp_path, "provenance", cell, "--verify", "--json")
        assert traced.returncode == 1
        findings = json.loads(traced.stdout)["findings"]
        assert all(finding["path"].endswith(file) for finding in findings)
        assert any(said in finding["text"] for finding in findings)
        path.write_bytes(whole)


def test_every_printed_number_can_be_traced(done: Path) -> None:
    path = done / "results" / "tables" / "provenance.json"
    sources = json.loads(path.read_text(encoding="utf-8"))
    assert set(TABLES) <= set(sources["tables"])
    for name, table in sources["tables"].items():
        if name.startswith(("03_", "04_", "05_")):
            continue  # of settings alone
        for row in table["rows"]:
            is_empty = all(cell == "–" for cell in row["cells"])
            assert row["files"] or table["sources"] or is_empty, (name, row["labels"])
            assert {*row["files"], *row["minus"], *table["sources"]} <= set(sources["files"])


@pytest.mark.parametrize(
    ("overlay", "expected"),
    [
        ("evaluation: {probe: {learning_rate: 0.004}}", PROBING | PAPER),
        ("evaluation: {probe: {repeats: 2}}", {"probe"} | PAPER),
        ("evaluation: {knn: {neighbours: 5}}", {"knn"} | PAPER),
        ("evaluation: {label_budget: {per_class: [3, 5]}}", {"label_budget"} | PAPER),
        ("evaluation: {published_split: {trainings: 2}}", {"published_split"} | PAPER),
        (
            "evaluation: {folds: {seed: 1}}",
            SCORING - {"features", "published_split"} | {"leakage"} | PAPER,
        ),
        ("evaluation: {leakage: {same_source_arcsec: 5}}", {"leakage"} | PAPER),
        (
            "evaluation: {class_weights: training_fold}",
            {"probe", "published_split", "finetune"} | PAPER,
        ),
        ("evaluation: {protocols: [linear_probe, finetune]}", PAPER),
        ("evaluation: {finetune: {learning_rate: 0.0004}}", {"finetune"} | PAPER),
        # The detector of the radio sky is trained on the selected model.
        ("views: {crops: {tight_side: [0.5, 0.6]}}", TRAINING | SCORING | DETECTING | PAPER),
        (
            "training: {contrastive: {temperature: 0.2}}",
            {"pretrain_contrastive"} | SCORING | DETECTING | PAPER,
        ),
        (
            "views: {contrastive_additional: {noise_sigma: 0.05}}",
            {"pretrain_contrastive"} | SCORING | DETECTING | PAPER,
        ),
        ("training: {chips: {epochs: 3}}", {"pretrain_reconstruction"} | DETECTING | PAPER),
        (
            "chip_views: {reconstruction: {flip_probability: 0.4}}",
            {"pretrain_reconstruction"} | DETECTING | PAPER,
        ),
        ("detection: {detector: {window: 4}}", DETECTING | PAPER),
        ("detection: {training: {epochs: 2}}", DETECTING | PAPER),
        ("detection: {sets: {sar: {scored: val}}}", {"detect"} | PAPER),
        (
            "detection: {sets: {radio: {min_snr: 4}}}",
            {"acquire_detection", "cut_detection", "cut_corpus"}
            | TRAINING
            | SCORING
            | DETECTING
            | PAPER,
        ),
        ("surveys: {sdc1: {title: SKA}}", PAPER),
        (
            "benchmarks: {mirabest: {guard_arcmin: 3}}",
            {"cut_corpus"} | TRAINING | SCORING | DETECTING | PAPER,
        ),
        ("loader: {workers: 1, checkpoint_every_epochs: 1, prefetch: 3}", set()),
    ],
)
def test_a_change_plans_only_what_follows_from_it(
    done: Path, overlay: str, expected: set[str]
) -> None:
    assert planned(done, overlay) == expected


def scored(encoders: int) -> dict[str, int]:
    """Jobs that score so many encoders: on three benchmarks, one of which publishes a split."""
    return dict.fromkeys(SCORING, 3 * encoders) | {"published_split": encoders}


DINOV2 = """
encoders:
  tiny-dinov2:
    source: scratch_dinov2
    architecture: {image_px: 28, width: 32, layers: 2, heads: 2}
matrix:
"""


@pytest.mark.parametrize(
    ("overlay", "expected"),
    [
        # One more loss is one more encoder; one more baseline needs no training.
        (
            "matrix: {reconstruction: {losses: [l2_l1, l2]}}",
            {"pretrain_reconstruction": 1} | scored(1),
        ),
        (DINOV2 + "  baselines: [vit-tiny, tiny-dinov2]", {"acquire_encoder": 1} | scored(1)),
        (
            DINOV2 + "  dinov2: {starts: [tiny-dinov2], losses: [hcl]}",
            {"acquire_encoder": 1, "pretrain_contrastive": 1} | scored(2),
        ),
        # A second stage whose first there is already, and one whose first is not.
        (
            "matrix: {two_stage: {contrastive_losses: [soft_hcl, hcl]}}",
            {"pretrain_contrastive": 1} | scored(1),
        ),
        (
            "matrix: {two_stage: {reconstruction_losses: [l2_l1, l2]}}",
            {"pretrain_reconstruction": 1, "pretrain_contrastive": 1} | scored(2),
        ),
        # One encoder less, and a whole branch less: nothing is made anew but what is printed.
        ("matrix: {contrastive: {registers: [4]}}", {}),
        ("matrix: {contrastive: {starts: []}}", {}),
        # A seed more: a random start of its own, and one of each run.
        (
            "training: {seeds: [42, 43]}",
            {"acquire_encoder": 1, "pretrain_reconstruction": 2, "pretrain_contrastive": 3}
            | {"train_detector": 4, "detect": 4}
            | scored(5),
        ),
        # Another seed of the detector touches nothing before it.
        (
            "detection: {training: {seeds: [42, 43]}}",
            {"train_detector": 4, "detect": 4},
        ),
        # Chips and their encoder stay: figures show them.
        ("matrix: {detection: {sar: null}}", {}),
        # A survey less: the selected model and its first stage, of which only the former is scored.
        (
            "matrix: {leave_out: [sdc1]}",
            {"cut_corpus": 1, "pretrain_reconstruction": 1, "pretrain_contrastive": 1} | scored(1),
        ),
    ],
)
def test_the_matrix_grows_and_shrinks_by_single_encoders(
    done: Path, overlay: str, expected: dict[str, int]
) -> None:
    assert jobs_planned(done, overlay) == expected | {"tables": 1, "figures": 1}
