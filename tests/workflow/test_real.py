"""The overlay for real images resolves to its whole graph where the images are."""

from pathlib import Path

import pytest

from .conftest import run_snakemake


def test_the_overlay_plans_inductive_and_transductive_cells(
    shared_data: Path, workflow: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STRADAVIT_SHARED_DATA", str(shared_data))
    done = run_snakemake(
        workflow, "results/tables", "--configfile", "workflow/config/real.yaml", "--dry-run"
    )
    planned = done.stdout + done.stderr
    assert done.returncode == 0, planned
    # What has seen the FIRST images is scored on MiraBest, whose sky it has not seen; what is
    # scored on them as an equal has seen mosaics only, and is not scored on MiraBest.
    assert "two_stage_vit-tiny_l2_l1_soft_hcl_r4_no-mirabest_s43 on mirabest-first" in planned
    assert "two_stage_vit-tiny_l2_l1_soft_hcl_r4_no-first_s43 on first" in planned
    assert "no-first_s43 on mirabest-first" not in planned


def test_overlays_stack_and_results_may_lie_elsewhere(
    shared_data: Path, workflow: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STRADAVIT_SHARED_DATA", str(shared_data))
    overlays = ["workflow/config/real.yaml", "workflow/config/real-long.yaml"]
    elsewhere = ["--directory", str(tmp_path / "long"), "--dry-run"]
    done = run_snakemake(workflow, "results/tables", "--configfile", *overlays, *elsewhere)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (
        "Probing two_stage_vit-tiny_l2_l1_soft_hcl_r4_no-mirabest_s44" in done.stdout + done.stderr
    )
    assert "Fine-tuning" not in done.stdout + done.stderr


def test_a_missing_variable_is_named(workflow: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STRADAVIT_SHARED_DATA", raising=False)
    done = run_snakemake(
        workflow, "results/tables", "--configfile", "workflow/config/real.yaml", "--dry-run"
    )
    assert done.returncode != 0
    assert (
        "the environment variable ${STRADAVIT_SHARED_DATA} is not set" in done.stdout + done.stderr
    )
