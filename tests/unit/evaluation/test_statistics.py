"""Intervals and tests against loops, against scipy where nothing is corrected, and at the edges.

Whether the claims made with them are true is for `test_calibration`.
"""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from stradavit.evaluation.metrics import confusion_matrix, macro_f1
from stradavit.evaluation.statistics import ALPHA, estimate, holm, paired_difference
from tests.reference import statistics as reference


@pytest.mark.parametrize("n_seeds", [1, 2, 3, 5])
@pytest.mark.parametrize("count, repeats", [(2, 1), (3, 1), (3, 10), (5, 2)])
def test_equals_the_loops(n_seeds, count, repeats) -> None:
    draw = np.random.default_rng((n_seeds, count, repeats))
    for trial in range(60):
        values = (
            draw.normal(0, 0.02)
            + draw.normal(0, 0.02, (n_seeds, 1))
            + draw.normal(0, 0.02, (n_seeds, count * repeats))
        )
        # With few images their number decides in some draws, with many in none.
        n_images = [None, 50, 5000][trial % 3]
        found = estimate(values, 1 / (count - 1), n_images)
        expected = reference.corrected_test(values.tolist(), count - 1, 1, n_images)
        np.testing.assert_allclose(
            [found.mean, found.low, found.high, found.p_value, found.dof],
            expected,
            rtol=1e-9,
            atol=1e-12,
        )
        # The interval leaves 0 out exactly where the test says so.
        assert (found.p_value < ALPHA) == (found.low > 0 or found.high < 0)


def test_without_overlap_these_are_the_tests_of_scipy() -> None:
    """With no training images in common there is nothing to correct."""
    draw = np.random.default_rng(0)
    of_folds, of_seeds = draw.normal(0.3, 1, 6), draw.normal(0.2, 3, 4)
    none = 1e-15

    one = estimate(of_folds[None], none)
    ordinary = stats.ttest_1samp(of_folds, 0)
    assert one.p_value == pytest.approx(ordinary.pvalue, rel=1e-9)
    interval = ordinary.confidence_interval(0.95)
    np.testing.assert_allclose([one.low, one.high], [interval.low, interval.high], rtol=1e-9)

    # Where seeds and folds only add up, the mean is the difference of two independent samples.
    several = estimate(of_seeds[:, None] + of_folds, none)
    welch = stats.ttest_ind(of_folds, -of_seeds, equal_var=False)
    assert welch.df < 2 * 3, "the test means to see Welch's, not their limit"
    assert several.p_value == pytest.approx(welch.pvalue, rel=1e-9)
    assert several.dof == pytest.approx(welch.df, rel=1e-9)


def test_many_repeats_do_not_make_certain() -> None:
    """The interval of ever more repeats ends at the correction instead of at 0."""
    draw = np.random.default_rng(1)
    values = draw.normal(0.0, 1.0, (1, 30_000))
    found = estimate(values, 0.5)
    assert found.high - found.mean == pytest.approx(1.96 * 0.5**0.5, rel=0.02)


def test_seeds_that_do_not_differ_add_no_variance() -> None:
    folds = np.random.default_rng(2).normal(0.5, 1, 9)
    one, three = estimate(folds[None], 0.5), estimate(np.stack([folds] * 3), 0.5)
    assert (one.dof, three.dof) == (8, 4)
    assert one.mean == pytest.approx(three.mean)
    errors = [(e.high - e.mean) / stats.t.ppf(0.975, e.dof) for e in (one, three)]
    assert errors[0] == pytest.approx(errors[1])


def test_scale_and_sign() -> None:
    values = np.random.default_rng(3).normal(0.3, 1, (3, 6))
    plain, turned = estimate(values, 0.5), estimate(-100 * values, 0.5)
    assert turned.mean == pytest.approx(-100 * plain.mean)
    assert (turned.low, turned.high) == pytest.approx((-100 * plain.high, -100 * plain.low))
    assert turned.p_value == pytest.approx(plain.p_value)
    assert turned.dof == pytest.approx(plain.dof)


@pytest.mark.parametrize("constant", [0.0, 1.0, 0.1, -0.1])
@pytest.mark.parametrize("n_seeds", [1, 3])
def test_without_spread_nothing_is_claimed(constant, n_seeds) -> None:
    found = estimate(np.full((n_seeds, 3), constant), 0.5)
    assert found.mean == found.low == found.high == pytest.approx(constant)
    assert found.p_value == 1
    # Neither where rounding stands in for the spread: 0.1 + 0.2 − 0.3 is not 0.
    rounded = np.full((n_seeds, 3), constant) + np.array([0.1 + 0.2 - 0.3, 0.0, 0.0])
    assert estimate(rounded, 0.5).p_value == 1


def test_seeds_that_agree_by_chance_do_not_hand_over_to_the_folds() -> None:
    """Seeds alone make the noise here; the folds know nothing of it."""
    draw = np.random.default_rng(4)
    seeds, folds = draw.normal(0, 1, (4000, 3, 1)), draw.normal(0, 0.3, (4000, 1, 30))
    p_values = np.array([estimate(values, 0.5).p_value for values in seeds + folds])
    for level in (0.05, 0.01, 0.001):
        assert (p_values < level).sum() <= stats.binom.ppf(0.99, 4000, level)

    # What Welch and Satterthwaite say without the limit fails at the last.
    of_seeds = seeds[..., 0] + folds[:, 0].mean(axis=1, keepdims=True)
    parts = (1 / 30 + 0.5) * folds[:, 0].var(axis=1, ddof=1), of_seeds.var(axis=1, ddof=1) / 3
    dof = sum(parts) ** 2 / (parts[0] ** 2 / 29 + parts[1] ** 2 / 2)
    without = 2 * stats.t.sf(np.abs(of_seeds.mean(axis=1)) / np.sqrt(sum(parts)), dof)
    assert (without < 0.001).sum() > 2 * stats.binom.ppf(0.99, 4000, 0.001)


def test_folds_that_agree_by_chance_do_not_make_certain() -> None:
    """Macro-F1 of 30 images takes few values, and three differences are often nearly equal."""
    draw = np.random.default_rng(5)
    labels = np.arange(30) % 3

    def score() -> float:
        is_wrong = draw.random(30) < 0.1
        predicted = (labels + is_wrong * draw.integers(1, 3, 30)) % 3
        return macro_f1(confusion_matrix(labels, predicted, 3))

    n_draws, level = 3000, 0.001
    differences = np.array([[[score() - score() for _ in range(3)]] for _ in range(n_draws)])
    false = {
        n_images: sum(estimate(d, 0.5, n_images).p_value < level for d in differences)
        for n_images in (None, 90)
    }
    assert false[90] <= stats.binom.ppf(0.99, n_draws, level)
    assert false[None] > stats.binom.ppf(0.99, n_draws, level)


def test_images_set_the_least_variance() -> None:
    """One encoder right about all 90 images, the other about 72: a binomial in each fold alike."""
    found = estimate(np.full((1, 3), 0.2), 0.5, 90)
    reach = stats.t.ppf(0.975, 2) * np.sqrt(0.2 * 0.8 / 90)
    assert (found.low, found.high) == pytest.approx((0.2 - reach, 0.2 + reach))
    assert found.p_value == pytest.approx(2 * stats.t.sf(0.2 / np.sqrt(0.2 * 0.8 / 90), 2))
    # A spread that is larger than that is left as it is.
    noisy = np.random.default_rng(6).normal(0.1, 0.2, (1, 9))
    assert estimate(noisy, 0.5, 90) == estimate(noisy, 0.5)


@pytest.mark.parametrize(
    "values, share, message",
    [
        (np.zeros((1, 1)), 0.5, r"shape \(1, 1\); expected \(seeds ≥ 1, folds ≥ 2\)"),
        (np.zeros((0, 3)), 0.5, r"shape \(0, 3\)"),
        (np.zeros(3), 0.5, r"shape \(3,\)"),
        (np.array([[0.1, np.nan]]), 0.5, "not finite"),
        (np.zeros((1, 3)), 0.0, "test share of 0.0"),
    ],
)
def test_what_cannot_be_estimated_is_refused(values, share, message) -> None:
    with pytest.raises(ValueError, match=message):
        estimate(values, share)
    with pytest.raises(ValueError, match="0 images; expected at least one"):
        estimate(np.zeros((1, 3)), 0.5, 0)


def test_pairs_are_seeds_and_folds() -> None:
    ours = np.array([[0.5, 0.6, 0.7], [0.4, 0.8, 0.9]])
    theirs = np.array([[0.1, 0.2, 0.3], [0.4, 0.4, 0.4]])
    np.testing.assert_allclose(paired_difference(ours, theirs), [[0.4, 0.4, 0.4], [0.0, 0.4, 0.5]])
    # Weights that are given have no seeds: they are compared with each of ours.
    np.testing.assert_allclose(
        paired_difference(ours, theirs[:1]), [[0.4, 0.4, 0.4], [0.3, 0.6, 0.6]]
    )
    np.testing.assert_allclose(
        paired_difference(theirs[:1], ours), [[-0.4, -0.4, -0.4], [-0.3, -0.6, -0.6]]
    )


@pytest.mark.parametrize("shape", [(2, 6), (3, 3), (3,), (0, 3)])
def test_what_is_not_paired_is_refused(shape) -> None:
    with pytest.raises(ValueError, match=r"\(2, 3\) and .* expected the same folds"):
        paired_difference(np.zeros((2, 3)), np.zeros(shape))


probabilities = st.floats(0, 1) | st.sampled_from([0.0, 0.01, 0.02, 0.05, 1.0])


@settings(deadline=None)
@given(st.lists(probabilities, max_size=8), st.floats(0.001, 0.999))
def test_holm_rejects_as_its_steps_do(p_values, level) -> None:
    adjusted = holm(p_values)
    # One level lies off every boundary of a step, where rounding would decide.
    steps = [p * k for p in p_values for k in range(1, len(p_values) + 1)]
    if any(abs(step - level) < 1e-9 for step in steps):
        return
    assert (adjusted <= level).tolist() == reference.holm_rejects(p_values, level)
    assert ((adjusted >= p_values) & (adjusted <= 1)).all()
    in_order = adjusted[np.argsort(p_values, kind="stable")]
    assert (np.diff(in_order) >= 0).all()


def test_holm_by_hand() -> None:
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(holm([0.6, 0.7]), [1.0, 1.0])
    assert holm([]).shape == (0,)


@pytest.mark.parametrize("p", [-0.1, 1.1, float("nan")])
def test_holm_takes_probabilities_only(p) -> None:
    with pytest.raises(ValueError, match="expected numbers from 0 to 1"):
        holm([0.5, p])


def test_starts_without_scipy_stats() -> None:
    code = "import sys, stradavit.evaluation.statistics; print('scipy.stats' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
