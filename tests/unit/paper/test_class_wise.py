"""Recall by class is that of the confusion matrices, its differences are paired by folds."""

from pathlib import Path

import numpy as np
import pytest

from stradavit.paper.cells import Configuration, Results
from stradavit.paper.class_wise import class_wise_table, pooled_recall, recall_difference
from stradavit.paper.confusion_figure import recall_form
from stradavit.paper.layout import Spread
from stradavit.settings import Settings
from tests.reference.statistics import corrected_test

from .fake_results import MANY, fake_score, results_of, small_config, write_all_metrics


def drawn_confusions(seed: int, n_seeds: int, n_folds: int, skill: float) -> np.ndarray:
    """(seeds, folds, 2, 2) with 20 and 9 images in every fold but the second, which has no 9."""
    rng = np.random.default_rng(seed)
    found = np.zeros((n_seeds, n_folds, 2, 2), np.int64)
    for s in range(n_seeds):
        for f in range(n_folds):
            for true, n in enumerate((20, 9 if f != 1 else 0)):
                hits = rng.binomial(n, skill)
                found[s, f, true, true] = hits
                found[s, f, true, 1 - true] = n - hits
    return found


@pytest.mark.parametrize("n_seeds", [1, 3])
def test_recall_by_hand(n_seeds: int) -> None:
    ours, theirs = (
        fake_score(np.full((n_seeds, 6), 0.5), drawn_confusions(seed, n_seeds, 6, skill))
        for seed, skill in ((1, 0.9), (2, 0.6))
    )
    diagonal = np.diag(recall_form(ours.confusion))
    for number in range(2):
        assert pooled_recall(ours, number) == pytest.approx(diagonal[number])
        folds = [0, 1, 2, 3, 4, 5] if number == 0 else [0, 2, 3, 4, 5]

        def recall(score: object, s: int, f: int, number: int = number) -> float:
            row = score.confusions[s, f, number]  # type: ignore[attr-defined]
            return float(row[number]) / float(sum(row))

        values = [
            [recall(ours, s, f) - recall(theirs, s, f) for f in folds] for s in range(n_seeds)
        ]
        # In three of six folds: 3 × 20, and half of 5 × 9.
        n_images = (60, 22)[number]
        mean, low, high, p, _ = corrected_test(values, 2, 1, n_images)
        found = recall_difference(ours, theirs, number)
        assert found is not None
        assert found.mean == pytest.approx(mean)
        assert found.interval == pytest.approx((low, high), abs=1e-9)
        assert found.p_value == pytest.approx(p, abs=1e-9)


def test_a_class_in_one_fold_has_no_difference() -> None:
    confusions = np.zeros((1, 3, 2, 2), np.int64)
    confusions[:, :, 0, 0] = 5
    confusions[0, 2, 1, 1] = 4
    score = fake_score(np.full((1, 3), 0.5), confusions)
    assert recall_difference(score, score, 1) is None
    assert pooled_recall(score, 1) == 1.0
    confusions[:] = 0
    assert pooled_recall(fake_score(np.full((1, 3), 0.5), confusions), 0) is None


def test_the_table_has_a_row_for_each_class(tmp_path: Path) -> None:
    table = class_wise_table(results_of(small_config(), tmp_path))
    assert table is not None
    assert [group.title for group in table.groups] == [
        "Linear probe, MiraBest", "Linear probe, RGZ DR1",
        "Fine-tuning, MiraBest", "Fine-tuning, RGZ DR1",
    ]  # fmt: skip
    assert {row.labels for row in table.rows} == {("FR I",), ("FR II",)}
    # All fake confusion matrices are the same: 40 of 50 and 45 of 50.
    first, second = table.rows[:2]
    assert first.cells[:5] == (
        50 * MANY,
        0.8,
        0.8,
        0.8,
        "selected model, ViT-MAE, strongest DINOv2",
    )
    assert second.cells[:2] == (50 * MANY, 0.9)
    assert all(isinstance(cell, Spread) and cell.p_holm == 1.0 for cell in first.cells[5:])
    assert "over the 16 comparisons of this table" in table.caption
    assert first.notes[0].startswith("Linear probe, MiraBest: the strongest DINOv2 is DINOv2-Base")


def test_images_are_those_of_the_benchmark_however_often_folds_are_drawn(tmp_path: Path) -> None:
    config = small_config() | {"evaluation": {"probe": {"repeats": 4}}}
    table = class_wise_table(results_of(config, tmp_path))
    assert table is not None
    assert {row.cells[0] for row in table.rows} == {50 * MANY}


@pytest.mark.parametrize(
    "change", [{"selected": None}, {"reference": None, "dinov2_references": []}]
)
def test_nothing_to_compare_makes_no_table(tmp_path: Path, change: dict[str, object]) -> None:
    config = small_config()
    config["matrix"] |= change
    settings = Settings.parse(config)
    write_all_metrics(settings, tmp_path)
    results = Results(settings, tmp_path)
    assert results.score("finetune", Configuration("start", "mae"), "rgz") is not None
    assert class_wise_table(results) is None
