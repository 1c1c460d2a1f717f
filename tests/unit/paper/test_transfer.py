"""Every number lands in the row and column its coordinates name."""

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stradavit.paper.cells import Results
from stradavit.paper.comparisons import n_tests
from stradavit.paper.layout import Row, Spread, Table
from stradavit.paper.transfer import (
    baseline_tables,
    contrastive_tables,
    dinov2_table,
    reconstruction_tables,
    two_stage_tables,
)
from tests.reference.statistics import corrected_test, holm_rejects

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


def significance(results: Results, table: Table, protocol: str) -> list[tuple[float, bool]]:
    """p by hand of each run of the two-stage tables against its start, and whether it is marked."""
    found = []
    for row in table.rows:
        for benchmark, cell in zip(BENCHMARKS, row.cells[::2], strict=True):
            if cell is None:
                continue
            assert isinstance(cell, Spread)
            names = [file.split("/")[1] for file in row.files if f"/{benchmark}." in file]
            n = 3 * results.settings.evaluation.probe.repeats
            ours = [fold_scores(protocol, name, benchmark, "macro_f1", n) for name in names]
            theirs = fold_scores(protocol, "start_mae", benchmark, "macro_f1", n)
            values = [[a - b for a, b in zip(run, theirs, strict=True)] for run in ours]
            mean, _, _, p, _ = corrected_test(values, n_train=2, n_test=1)
            assert cell.p_value == pytest.approx(p, abs=1e-9)
            assert cell.mark in ("", "▲" if mean > 0 else "▼")
            found.append((p, cell.mark != ""))
    return found


@pytest.mark.parametrize("repeats", [1, 20])
def test_marks_are_of_the_difference_to_the_own_start(tmp_path: Path, repeats: int) -> None:
    config = full_config() | {"evaluation": {"probe": {"repeats": repeats}}}
    results = results_of(config, tmp_path)
    probe, _ = two_stage_tables(results)
    found = significance(results, probe, "linear_probe")
    assert len(found) == 18 * len(BENCHMARKS)
    rejected = holm_rejects([p for p, _ in found], 0.05)
    assert [is_marked for _, is_marked in found] == rejected
    assert f"over the {len(found)} comparisons of this table" in probe.caption
    assert ("3 folds × 20 repeats" in probe.caption) == (repeats == 20)
    assert "not about the recipe" in probe.caption


def test_a_dinov2_run_is_compared_with_its_own_start(tmp_path: Path) -> None:
    results = results_of(full_config(), tmp_path)
    row = row_of(dinov2_table(results), "", "Fine-tuning", "DINOv2-Base(R)")
    assert row.minus == ("finetune/start_dino-r/mirabest.json", "finetune/start_dino-r/rgz.json")
    ours = fold_scores("finetune", "contrastive_dino-r_hcl_r0_all_s42", "rgz", "macro_f1")
    theirs = fold_scores("finetune", "start_dino-r", "rgz", "macro_f1")
    values = [[a - b for a, b in zip(ours, theirs, strict=True)]]
    cell = row.cells[2]
    assert isinstance(cell, Spread)
    assert cell.p_value == pytest.approx(corrected_test(values, 2, 1)[3], abs=1e-9)


def test_starts_and_weighted_f1_bear_no_test(tmp_path: Path) -> None:
    results = results_of(full_config(), tmp_path)
    for table in baseline_tables(results):
        assert not any(column.has_test for column in table.columns)
        assert "▲" not in table.caption
        assert n_tests(table.groups) == 0
    for row in two_stage_tables(results)[0].rows:
        assert [cell.p_value is None for cell in row.cells] == [False, True] * 2


def test_captions_count_what_the_guard_dropped(tmp_path: Path) -> None:
    # By the counts of tests.unit.paper.fake_data: of 2 x 15 cutouts, 3 near each benchmark.
    probe, _ = baseline_tables(results_of(small_config(), tmp_path))
    assert (
        "6 of 30 pretraining cutouts were dropped because they contain benchmark positions "
        "(MiraBest 3, RGZ DR1 3)."
    ) in probe.caption
    assert "images of a source share a fold" in probe.caption


def test_a_corpus_without_guards_says_so(tmp_path: Path) -> None:
    config = small_config()
    config["corpora"]["open"] = {"surveys": ["mgcls"], "guards": [], "transductive": ["rgz"]}
    config["matrix"]["corpora"] = ["all", "open"]
    probe, _ = baseline_tables(results_of(config, tmp_path))
    assert "6 of 30 pretraining cutouts of corpus all were dropped" in probe.caption
    assert "No pretraining cutout of corpus open was dropped" in probe.caption


def test_repeats_that_differ_are_listed(tmp_path: Path) -> None:
    config = full_config() | {"evaluation": {"probe": {"repeats": 4}}}
    caption = dinov2_table(results_of(config, tmp_path)).caption
    assert "3 folds × repeats (Linear probe 4, Fine-tuning 1), fold seed 0" in caption
