"""Intervals and paired tests for scores on folds and seeds.

Folds share their training images, so their scores are not independent and an ordinary t-test finds
differences that are not there (Nadeau & Bengio 2003). Here the variance of the mean is corrected
for that, the spread of seeds is added to it where there are several, and the p-values of claims
made together are corrected for their number.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Not scipy.stats, whose import takes a second.
from scipy.special import stdtr, stdtrit

Floats = NDArray[np.floating[Any]]

CONFIDENCE = 0.95
"""Coverage of the intervals."""

ALPHA = 0.05
"""A claim is made where its p-value, corrected for all claims made with it, is below this."""

ROUNDING = 1e-12
"""A standard error below this is rounding: scores are numbers between 0 and 1."""


@dataclass(frozen=True)
class Estimate:
    """A mean with its uncertainty.

    Parameters
    ----------
    mean : over seeds and folds
    low, high : ends of the 95 % interval; not cut to the range of a score
    p_value : two-sided, of the hypothesis that the mean is 0; for paired differences only
    dof : degrees of freedom of the t distribution behind both; need not be whole
    """

    mean: float
    low: float
    high: float
    p_value: float
    dof: float


def estimate(values: Floats, test_share: float, n_images: int | None = None) -> Estimate:
    """Mean of scores or paired differences, its 95 % interval and the test against 0.

    With one seed this is the corrected resampled t-test: over J folds of all repeats,

        variance of the mean = (1/J + n_test/n_train) · s²,    J − 1 degrees of freedom,

    where s² is the sample variance over the folds. The second term stands for what the folds have
    in common; without it s²/J shrinks with every repeat although no image is new. The statement is
    about *these weights*: another training of the same recipe may differ.

    With S ≥ 2 seeds the statement is about the recipe. The part above, of the values averaged over
    the seeds, and the part of the seeds,

        (sample variance of the S seed means) / S,    S − 1 degrees of freedom,

    are added; the degrees of freedom of the sum are those of Welch and Satterthwaite,
    (v₁ + v₂)² / (v₁²/ν₁ + v₂²/ν₂), but at most twice the smaller of ν₁ and ν₂. Without that limit a
    few seeds that happen to agree leave the many folds to say how sure one is: with two to three
    seeds and thirty folds, p below 0.001 then comes ten to thirty times too often. What seeds and
    folds do together (a seed that is lucky on one fold) is in both parts, so the interval is rather
    too wide than too narrow.

    Three folds can agree by chance too, the more easily the fewer images they hold, as F1 then
    takes few values. Hence the least variance that `n_images` allow: to differ by d, two encoders
    must disagree about a share d of the images, which for images drawn at random has the variance
    d (1 − d) / n; the same holds for a score. Where no spread is left, there is no noise to compare
    the mean with: the interval is the mean, and p is 1, so that nothing is claimed. The interval of
    a score of 1 in all folds is therefore too narrow.

    Parameters
    ----------
    values : (n_seeds, n_folds) float; all folds of all repeats, in the same order for each seed
    test_share : held-out over training images of a fold, n_test / n_train: 1 / (K − 1) for K folds
    n_images : images the folds of one repeat hold out together (of the class, for its recall);
        without it, the spread alone decides

    Raises
    ------
    ValueError
        If there are fewer than two folds, no seed, no image, no share, or a value is not finite.

    References
    ----------
    Nadeau & Bengio 2003, Machine Learning 52, 239 (the correction); Bouckaert & Frank 2004, PAKDD,
    LNCS 3056, 3 (repeated folds and their degrees of freedom); Satterthwaite 1946, Biometrics
    Bulletin 2, 110, and Welch 1947, Biometrika 34, 28 (degrees of freedom of a sum); Mickey & Brown
    1966, Annals of Mathematical Statistics 37, 639 (the smaller of the two is always safe).
    """
    scores = np.asarray(values, dtype=np.float64)
    if scores.ndim != 2 or scores.shape[0] < 1 or scores.shape[1] < 2:
        raise ValueError(f"values of shape {scores.shape}; expected (seeds ≥ 1, folds ≥ 2)")
    if not np.isfinite(scores).all():
        raise ValueError(f"values are not finite: {scores.tolist()}")
    if not test_share > 0:
        raise ValueError(f"a test share of {test_share}; expected n_test / n_train > 0")
    if n_images is not None and n_images < 1:
        raise ValueError(f"{n_images} images; expected at least one")
    n_seeds, n_folds = scores.shape
    mean = float(scores.mean())
    parts = [((1 / n_folds + test_share) * float(scores.mean(axis=0).var(ddof=1)), n_folds - 1)]
    if n_seeds > 1:
        parts.append((float(scores.mean(axis=1).var(ddof=1)) / n_seeds, n_seeds - 1))
    variance = sum(part for part, _ in parts)
    dof = float(min(part_dof for _, part_dof in parts))
    if variance > ROUNDING**2:
        dof = min(variance**2 / sum(part**2 / part_dof for part, part_dof in parts), 2 * dof)
    if n_images is not None:
        variance = max(variance, abs(mean) * (1 - abs(mean)) / n_images)
    error = variance**0.5
    if error < ROUNDING:
        return Estimate(mean, mean, mean, 1.0, dof)
    margin = float(stdtrit(dof, (1 + CONFIDENCE) / 2)) * error
    p_value = 2 * float(stdtr(dof, -abs(mean) / error))
    return Estimate(mean, mean - margin, mean + margin, p_value, dof)


def paired_difference(ours: Floats, theirs: Floats) -> NDArray[np.float64]:
    """Differences of two rows on identical folds: seed by seed and fold by fold.

    Parameters
    ----------
    ours, theirs : (n_seeds, n_folds); a side of one seed (weights that are given, not trained) is
        compared with each seed of the other

    Returns
    -------
    (n_seeds, n_folds) ours − theirs, for `estimate`

    Raises
    ------
    ValueError
        If the folds differ in number, or both have several seeds and not equally many.
    """
    one, other = np.asarray(ours, dtype=np.float64), np.asarray(theirs, dtype=np.float64)
    are_paired = one.ndim == other.ndim == 2 and one.shape[1] == other.shape[1]
    if not are_paired or (one.shape[0] != other.shape[0] and 1 not in (len(one), len(other))):
        raise ValueError(
            f"scores of shape {one.shape} and {other.shape}; expected the same folds and the same "
            "seeds, or one seed"
        )
    return one - other


def holm(p_values: Sequence[float] | Floats) -> NDArray[np.float64]:
    """p-values of claims made together, corrected by Holm's step-down method.

    The i-th smallest of m is multiplied by m − i + 1, made no smaller than those before it and cut
    at 1. The probability of one or more false claims below a level is then at most that level,
    however the tests depend on each other.

    Parameters
    ----------
    p_values : (m,) in [0, 1]; m may be 0

    Returns
    -------
    (m,) float64, in the order they came in

    Raises
    ------
    ValueError
        If a value is no probability.

    References
    ----------
    Holm 1979, Scandinavian Journal of Statistics 6, 65.
    """
    raw = np.asarray(p_values, dtype=np.float64).reshape(-1)
    if not ((raw >= 0) & (raw <= 1)).all():
        raise ValueError(f"p-values {raw.tolist()}; expected numbers from 0 to 1")
    order = np.argsort(raw, kind="stable")
    scaled = np.minimum(raw[order] * np.arange(len(raw), 0, -1), 1.0)
    adjusted = np.empty_like(raw)
    adjusted[order] = np.maximum.accumulate(scaled)
    return adjusted
