"""Differences are paired by fold and seed, and the strongest DINOv2 follows the paper's rule."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stradavit.errors import DataError
from stradavit.paper.cells import Configuration, Results
from stradavit.paper.deltas import delta_table, selected_configuration, strongest_dinov2
from stradavit.paper.layout import Spread
from stradavit.settings import Settings

from .fake_results import fold_scores, full_config, results_of, small_config, write_metrics


def rows(results: Results) -> dict[tuple[str, str], tuple[Any, ...]]:
    return {
        (group.title, row.labels[0]): row.cells
        for group in delta_table(results).groups
        for row in group.rows
    }


def test_difference_is_paired(tmp_path: Path) -> None:
    results = results_of(small_config(), tmp_path)
    cell = rows(results)["Fine-tuning", "vs ViT-MAE"][1]
    names = [f"two_stage_mae_l2_soft_hcl_r0_all_s{seed}" for seed in (1, 2)]
    ours = np.array([fold_scores("finetune", name, "rgz", "macro_f1") for name in names])
    theirs = np.array(fold_scores("finetune", "start_mae", "rgz", "macro_f1"))
    differences = [ours[s][f] - theirs[f] for s in range(2) for f in range(3)]
    assert isinstance(cell, Spread)
    assert cell.is_signed
    assert cell.mean == pytest.approx(np.mean(differences), abs=1e-14)
    assert cell.std == pytest.approx(np.std(differences), abs=1e-14)


def test_a_scratch_reference_is_paired_by_seed(tmp_path: Path) -> None:
    config = small_config()
    config["matrix"]["reference"] = "tiny_net"
    cell = rows(results_of(config, tmp_path))["Linear probe", "vs ViT-MAE"][0]
    differences = [
        a - b
        for seed in (1, 2)
        for a, b in zip(
            fold_scores(
                "linear_probe", f"two_stage_mae_l2_soft_hcl_r0_all_s{seed}", "mirabest", "macro_f1"
            ),
            fold_scores("linear_probe", f"start_tiny_net_s{seed}", "mirabest", "macro_f1"),
            strict=True,
        )
    ]
    assert cell.mean == pytest.approx(np.mean(differences), abs=1e-14)
    assert cell.std == pytest.approx(np.std(differences), abs=1e-14)


@pytest.mark.parametrize(
    ("plain", "registers", "winner"),
    [
        (([0.6, 0.7, 0.8], [0.9] * 3), ([0.6, 0.7, 0.7], [0.95] * 3), "dino"),
        # Equal Macro-F1 (in floats too): the higher Weighted-F1 wins.
        (([0.5, 0.75, 0.25], [0.75] * 3), ([0.25, 0.5, 0.75], [0.5] * 3), "dino"),
        (([0.5, 0.75, 0.25], [0.5] * 3), ([0.25, 0.5, 0.75], [0.75] * 3), "dino-r"),
        # Equal as printed, 0.500: the higher Weighted-F1 wins, here and where it is unrounded.
        (([0.5004] * 3, [0.5] * 3), ([0.4996] * 3, [0.7] * 3), "dino-r"),
        (([0.5004] * 3, [0.7001] * 3), ([0.4996] * 3, [0.7] * 3), "dino"),
        # Apart as printed: 0.501 and 0.500, however close.
        (([0.50051] * 3, [0.5] * 3), ([0.50049] * 3, [0.7] * 3), "dino"),
        # Equal in both: the first in matrix.dinov2_references.
        (([0.5] * 3, [0.5] * 3), ([0.5] * 3, [0.5] * 3), "dino-r"),
    ],
)
def test_strongest_dinov2(
    tmp_path: Path,
    plain: tuple[list[float], list[float]],
    registers: tuple[list[float], list[float]],
    winner: str,
) -> None:
    results = results_of(small_config(), tmp_path)
    for name, (macro, weighted) in (("dino", plain), ("dino-r", registers)):
        write_metrics(
            results.settings,
            tmp_path,
            "finetune",
            f"start_{name}",
            "rgz",
            {"macro_f1": macro, "weighted_f1": weighted},
        )
    rival = strongest_dinov2(results, "finetune", "rgz")
    assert rival is not None
    assert rival.start == winner
    note = delta_table(results).groups[1].rows[1].notes[0]
    assert f"{'DINOv2-Base(R)' if winner == 'dino-r' else 'DINOv2-Base'} on RGZ DR1" in note


@pytest.mark.parametrize(
    "change",
    [
        {"selected": None},
        {"selected": {"branch": "reconstruction", "reconstruction_loss": "l2", "registers": 4}},
        {"dinov2_references": [], "reference": None},
    ],
)
def test_nothing_to_compare_is_left_empty(tmp_path: Path, change: dict[str, object]) -> None:
    config = small_config()
    config["matrix"] |= change
    assert {cell for cells in rows(results_of(config, tmp_path)).values() for cell in cells} == {
        None
    }


def test_the_selected_model_starts_from_the_reference() -> None:
    config = full_config()
    config["matrix"]["two_stage"]["starts"] = ["tiny_net", "mae"]
    found = selected_configuration(Settings.parse(config))
    assert found == Configuration("two_stage", "mae", 4, "l2_l1", "soft_hcl")
    config["matrix"]["reference"] = "dino"
    found = selected_configuration(Settings.parse(config))
    assert found is not None
    assert found.start == "tiny_net"


def test_other_folds_cannot_be_paired(tmp_path: Path) -> None:
    results = results_of(small_config(), tmp_path)
    scores = {"macro_f1": [0.5, 0.5], "weighted_f1": [0.5, 0.5]}
    write_metrics(results.settings, tmp_path, "finetune", "start_mae", "rgz", scores)
    with pytest.raises(DataError, match="cannot be paired"):
        delta_table(results)
