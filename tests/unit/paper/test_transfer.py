"""Every number lands in the row and column its coordinates name."""

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stradavit.paper.cells import Results
from stradavit.paper.layout import Row, Spread, Table
from stradavit.paper.transfer import (
    baseline_tables,
    contrastive_tables,
    dinov2_table,
    reconstruction_tables,
    two_stage_tables,
)

from .fake_results import fold_scores, full_config, results_of, small_config

BENCHMARKS, METRICS = ("mirabest", "rgz"), ("macro_f1", "weighted_f1")


def expected(protocol: str, *encoders: str) -> list[Spread]:
    """Mean of means and population std, written out."""
    cells = []
    for benchmark in BENCHMARKS:
        for metric in METRICS:
            scores = [fold_scores(protocol, name, benchmark, metric) for name in encoders]
            means = [sum(folds) / len(folds) for folds in scores]
            mean = sum(means) / len(means)
            flat = [value for folds in scores for value in folds]
            std = (sum((value - mean) ** 2 for value in flat) / len(flat)) ** 0.5
            cells.append(Spread(mean, std))
    return cells


def check(row: Row, cells: list[Spread]) -> None:
    assert len(row.cells) == len(cells)
    for found, wanted in zip(row.cells, cells, strict=True):
        assert isinstance(found, Spread)
        np.testing.assert_allclose(
            [found.mean, found.std], [wanted.mean, wanted.std], rtol=0, atol=1e-14
        )


def row_of(table: Table, group: str, *labels: str) -> Row:
    rows = {g.title: {row.labels: row for row in g.rows} for g in table.groups}
    return rows[group][labels]


def test_baselines_keep_the_papers_rows_and_append_ours(tmp_path: Path) -> None:
    probe, finetune = baseline_tables(results_of(small_config(), tmp_path))
    labels = [row.labels for row in probe.rows]
    assert labels == [
        ("DINOv2-Base",), ("DINOv2-Small",), ("DINOv2-Base(R)",), ("ViT-MAE-Base",), ("tiny_net",),
    ]  # fmt: skip
    check(row_of(probe, "", "DINOv2-Base(R)"), expected("linear_probe", "start_dino-r"))
    check(row_of(finetune, "", "ViT-MAE-Base"), expected("finetune", "start_mae"))
    check(
        row_of(finetune, "", "tiny_net"),
        expected("finetune", "start_tiny_net_s1", "start_tiny_net_s2"),
    )
    assert row_of(probe, "", "DINOv2-Small").cells == (None,) * 4


def test_reconstruction(tmp_path: Path) -> None:
    probe, finetune = reconstruction_tables(results_of(small_config(), tmp_path))
    titles = [group.title for group in probe.groups]
    assert titles == ["No registers (R = 0)", "With registers (R = 4)"]
    names = [f"reconstruction_mae_l2_bl1_r0_all_s{seed}" for seed in (1, 2)]
    check(row_of(probe, titles[0], "L2+BL1"), expected("linear_probe", *names))
    check(row_of(finetune, titles[0], "L2+BL1"), expected("finetune", *names))
    assert row_of(probe, titles[0], "L2+L1").cells == (None,) * 4
    assert all(cell is None for row in probe.groups[1].rows for cell in row.cells)


def test_extra_registers_are_appended(tmp_path: Path) -> None:
    probe, _ = contrastive_tables(results_of(small_config(), tmp_path))
    titles = [group.title for group in probe.groups]
    assert titles == [
        "ViT-MAE-Base init, no registers (R = 0)",
        "ViT-MAE-Base init, with registers (R = 4)",
        "ViT-MAE-Base init, with registers (R = 8)",
    ]
    names = [f"contrastive_mae_hcl_r8_all_s{seed}" for seed in (1, 2)]
    check(row_of(probe, titles[2], "HCL"), expected("linear_probe", *names))
    assert row_of(probe, titles[1], "HCL").cells == (None,) * 4


def test_two_stage(tmp_path: Path) -> None:
    _, finetune = two_stage_tables(results_of(small_config(), tmp_path))
    names = [f"two_stage_mae_l2_soft_hcl_r0_all_s{seed}" for seed in (1, 2)]
    check(row_of(finetune, "No registers (R = 0)", "L2", "Soft-HCL"), expected("finetune", *names))
    assert sum(row.cells[0] is not None for row in finetune.rows) == 1


def test_several_starts_have_groups_of_their_own(tmp_path: Path) -> None:
    config = small_config()
    config["matrix"]["reconstruction"]["starts"] = ["mae", "tiny_net"]
    probe, _ = reconstruction_tables(results_of(config, tmp_path))
    assert [group.title for group in probe.groups] == [
        "ViT-MAE-Base init, no registers (R = 0)",
        "ViT-MAE-Base init, with registers (R = 4)",
        "tiny_net init, no registers (R = 0)",
        "tiny_net init, with registers (R = 4)",
    ]
    names = [f"reconstruction_tiny_net_l2_r0_all_s{seed}" for seed in (1, 2)]
    check(
        row_of(probe, "tiny_net init, no registers (R = 0)", "L2"),
        expected("linear_probe", *names),
    )


def full_counts(results: Results) -> dict[str, list[int]]:
    tables = [
        *baseline_tables(results),
        *reconstruction_tables(results),
        *contrastive_tables(results),
        dinov2_table(results),
        *two_stage_tables(results),
    ]
    return {table.name: [len(group.rows) for group in table.groups] for table in tables}


COUNTS: dict[str, list[int]] = {
    "06_baselines_probe": [4],
    "07_baselines_finetune": [4],
    "08_reconstruction_probe": [3, 3],
    "09_reconstruction_finetune": [3, 3],
    "10_contrastive_probe": [3, 3],
    "11_contrastive_finetune": [3, 3],
    "12_dinov2_init": [4],
    "13_two_stage_probe": [9, 9],
    "14_two_stage_finetune": [9, 9],
}


def test_the_papers_matrix_has_the_papers_rows_all_filled(tmp_path: Path) -> None:
    results = results_of(full_config(), tmp_path)
    assert full_counts(results) == COUNTS
    rows = [row for table in reconstruction_tables(results) for row in table.rows]
    rows += [row for table in two_stage_tables(results) for row in table.rows]
    rows += dinov2_table(results).rows
    assert all(isinstance(cell, Spread) for row in rows for cell in row.cells)


def test_without_any_run_the_papers_rows_are_there_and_empty(tmp_path: Path) -> None:
    config = small_config()
    config["matrix"] = {}
    results = results_of(config, tmp_path)
    assert full_counts(results) == COUNTS
    assert all(cell is None for row in dinov2_table(results).rows for cell in row.cells)


def test_dinov2_rows(tmp_path: Path) -> None:
    config = full_config()
    config["matrix"]["dinov2"] = {"starts": ["dino-r"], "losses": ["hcl", "info_nce"]}
    table = dinov2_table(results_of(config, tmp_path))
    check(
        row_of(table, "", "Fine-tuning", "DINOv2-Base(R)"),
        expected("finetune", "contrastive_dino-r_hcl_r0_all_s42"),
    )
    check(
        row_of(table, "", "Linear probe", "DINOv2-Base(R), InfoNCE"),
        expected("linear_probe", "contrastive_dino-r_info_nce_r0_all_s42"),
    )
    assert row_of(table, "", "Linear probe", "DINOv2-Base").cells == (None,) * 4


def transductive_config() -> dict[str, Any]:
    config = small_config()
    config["corpora"]["all"] = {
        "surveys": ["mgcls"],
        "guards": ["mirabest"],
        "transductive": ["rgz"],
    }
    return config


def test_transductive_scores_have_rows_of_their_own(tmp_path: Path) -> None:
    probe, _ = reconstruction_tables(results_of(transductive_config(), tmp_path))
    names = [f"reconstruction_mae_l2_r0_all_s{seed}" for seed in (1, 2)]
    wanted = expected("linear_probe", *names)
    inductive = row_of(probe, "No registers (R = 0)", "L2")
    transductive = row_of(probe, "No registers (R = 0)", "L2 (transductive)")
    assert inductive.cells[2:] == (None, None)
    assert transductive.cells[:2] == (None, None)
    check(Row(("",), inductive.cells[:2]), wanted[:2])
    check(Row(("",), transductive.cells[2:]), wanted[2:])
    assert "Rows marked (transductive)" in probe.caption


@pytest.mark.parametrize("words", ["20 epochs", "0.005", "3 folds", "2 pretraining seeds (1, 2)"])
def test_captions_repeat_the_protocol(tmp_path: Path, words: str) -> None:
    probe, _ = reconstruction_tables(results_of(small_config(), tmp_path))
    assert words in probe.caption


def test_column_names_of_the_csv(tmp_path: Path) -> None:
    from stradavit.paper.render import to_csv

    probe, _ = reconstruction_tables(results_of(small_config(), tmp_path))
    header = next(csv.reader(io.StringIO(to_csv(probe))))
    assert header[:4] == [
        "group", "reconstruction_loss", "mirabest macro_f1 mean", "mirabest macro_f1 std",
    ]  # fmt: skip
