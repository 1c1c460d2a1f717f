"""Differences are paired, tested as the slow reference tests them, and corrected as a family."""

import numpy as np
import pytest
from numpy.typing import NDArray

from stradavit.errors import DataError
from stradavit.paper.comparisons import compared, corrected, difference, n_tests
from stradavit.paper.layout import BETTER, WORSE, Row, RowGroup, Spread, spreads
from tests.reference.statistics import corrected_test, holm_rejects

from .fake_results import CONFUSIONS, fake_score

Values = NDArray[np.float64]


def noise(seed: int, n_seeds: int, n_folds: int) -> Values:
    """(seeds, folds) of one run, with seeds that differ."""
    rng = np.random.default_rng((seed, n_seeds, n_folds))
    return 0.6 + 0.03 * rng.normal(size=(n_seeds, n_folds)) + 0.02 * rng.normal(size=(n_seeds, 1))


@pytest.mark.parametrize(("ours", "theirs"), [(1, 1), (4, 4), (4, 1)])
@pytest.mark.parametrize("n_folds", [3, 15])
def test_a_difference_is_that_of_the_reference(ours: int, theirs: int, n_folds: int) -> None:
    one, other = noise(1, ours, n_folds), noise(2, theirs, n_folds)
    found = difference(fake_score(one), fake_score(other))
    by_hand = [
        [one[s, f] - other[min(s, theirs - 1), f] for f in range(n_folds)] for s in range(ours)
    ]
    mean, low, high, p, _ = corrected_test(by_hand, n_train=2, n_test=1)
    assert found.is_signed
    assert found.mean == pytest.approx(mean, abs=1e-12)
    assert found.std == pytest.approx(np.std(by_hand), abs=1e-12)
    assert found.interval == pytest.approx((low, high), abs=1e-9)
    assert found.p_value == pytest.approx(p, abs=1e-9)
    assert found.mark == (BETTER if mean > 0 else WORSE)


def test_an_encoder_does_not_differ_from_itself() -> None:
    score = fake_score(noise(3, 2, 6))
    found = difference(score, score)
    assert (found.mean, found.std, found.interval, found.p_value) == (0.0, 0.0, (0.0, 0.0), 1.0)
    (group,) = corrected([RowGroup((Row((), (found,)),))])
    assert [cell.mark for cell in spreads((group,))] == [""]


def test_a_family_is_corrected_over_all_its_groups() -> None:
    rng = np.random.default_rng(5)
    p_values = [*rng.uniform(0, 0.02, 7), *rng.uniform(0, 1, 5)]
    rng.shuffle(p_values)
    cells = [
        compared(Spread(0.5, 0.1), Spread(0.1, 0.1, True, None, p, None, BETTER)) for p in p_values
    ]
    plain = Spread(0.5, 0.1)
    rows = [Row((), (cell, plain, None, 3)) for cell in cells]
    groups = [RowGroup(tuple(rows[:4]), "first"), RowGroup(tuple(rows[4:]), "second")]
    assert n_tests(groups) == 12
    found = corrected(groups)
    assert [group.title for group in found] == ["first", "second"]
    settled = [row.cells for group in found for row in group.rows]
    assert all(row[1:] == (plain, None, 3) for row in settled)
    tested = [row[0] for row in settled]
    rejected = holm_rejects(p_values, 0.05)
    assert 0 < sum(rejected) < 12
    for cell, p, is_rejected in zip(tested, p_values, rejected, strict=True):
        assert isinstance(cell, Spread)
        assert cell.p_value == p
        assert cell.p_holm is not None and cell.p_holm >= p
        assert (cell.mark == BETTER) == is_rejected == (cell.p_holm < 0.05)


def test_what_is_worse_is_marked_so() -> None:
    low, high = fake_score(noise(6, 1, 30) - 0.3), fake_score(noise(7, 1, 30))
    marks = []
    for one, other in ((low, high), (high, low)):
        groups = corrected([RowGroup((Row((), (difference(one, other),)),))])
        marks += [cell.mark for cell in spreads(groups)]
    assert marks == [WORSE, BETTER]


@pytest.mark.parametrize(
    ("n_seeds", "n_folds", "confusions"),
    [
        (1, 6, None),
        (2, 3, None),
        # As many folds, but other images in them.
        (3, 3, np.array([[[[1, 2], [3, 4]]] * 3] * 3)),
    ],
)
def test_other_folds_or_seeds_cannot_be_paired(
    n_seeds: int, n_folds: int, confusions: NDArray[np.int64] | None
) -> None:
    ours = fake_score(noise(8, 3, 3), np.array([CONFUSIONS] * 3))
    theirs = fake_score(noise(9, n_seeds, n_folds), confusions, name="other")
    with pytest.raises(DataError, match=r"metrics/finetune/other_s0/rgz\.json .* cannot be paired"):
        difference(ours, theirs)
