"""Paired comparisons on identical folds, and the marks that Holm's correction leaves of them."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from stradavit.errors import DataError
from stradavit.evaluation.statistics import ALPHA, estimate, holm, paired_difference
from stradavit.paper.layout import BETTER, WORSE, RowGroup, Spread, spreads
from stradavit.paper.scores import Score, spread_of

TEST = "corrected resampled t-test (Nadeau and Bengio 2003)"


def difference(ours: Score, theirs: Score) -> Spread:
    """Macro-F1 of `ours` minus `theirs`, fold by fold and seed by seed.

    Published weights have one seed, which is compared with each of ours.

    Returns
    -------
    Spread with the mean difference, its population standard deviation over folds and seeds, its
    95 % interval, and the p-value of the paired test against no difference, not yet corrected

    Raises
    ------
    DataError
        If the two were not scored on the same folds.
    """
    check_same_folds(ours, theirs)
    differences = paired_difference(ours.macro_f1, theirs.macro_f1)
    return tested(differences, ours.test_share, ours.n_images)


def tested(differences: NDArray[np.float64], test_share: float, n_images: int) -> Spread:
    """Paired differences with their interval and test.

    Parameters
    ----------
    differences : (seeds, repeats * folds)
    test_share : held-out images per training image
    n_images : images the folds of one repeat hold out together
    """
    found = estimate(differences, test_share, n_images)
    mark = BETTER if found.mean > 0 else WORSE if found.mean < 0 else ""
    return spread_of(
        differences,
        is_signed=True,
        interval=(found.low, found.high),
        p_value=found.p_value,
        mark=mark,
    )


def compared(score: Spread, difference: Spread | None) -> Spread:
    """A score that bears the test of its difference to another one."""
    if difference is None:
        return score
    return replace(score, p_value=difference.p_value, mark=difference.mark)


def corrected(groups: Sequence[RowGroup]) -> tuple[RowGroup, ...]:
    """Row groups whose tests are one family: p by Holm, a mark only where it is below 0.05."""
    family = [s.p_value for s in spreads(tuple(groups)) if s.p_value is not None]
    adjusted = iter(holm(family).tolist())

    def settle(cell: Spread) -> Spread:
        if cell.p_value is None:
            return cell
        p_holm = float(next(adjusted))
        return replace(cell, p_holm=p_holm, mark=cell.mark if p_holm < ALPHA else "")

    return tuple(
        replace(
            group,
            rows=tuple(
                replace(
                    row,
                    cells=tuple(
                        settle(cell) if isinstance(cell, Spread) else cell for cell in row.cells
                    ),
                )
                for row in group.rows
            ),
        )
        for group in groups
    )


def n_tests(groups: Sequence[RowGroup]) -> int:
    """How many tests the groups hold."""
    return sum(spread.p_value is not None for spread in spreads(tuple(groups)))


def check_same_folds(ours: Score, theirs: Score) -> None:
    """Raise unless two scores can be compared fold by fold and seed by seed."""
    seeds = len(ours.encoders), len(theirs.encoders)
    are_equal = (
        ours.classes == theirs.classes
        and ours.places == theirs.places
        and np.array_equal(ours.held_out, theirs.held_out)
    )
    if not are_equal or seeds[1] not in (1, seeds[0]):
        raise DataError(
            f"metrics/{ours.files[0]} has {_scored(ours)} and metrics/{theirs.files[0]} "
            f"{_scored(theirs)}: they cannot be paired. Delete the one that is out of date and run "
            "the workflow again."
        )


def _scored(score: Score) -> str:
    return (
        f"{len(score.encoders)} seeds with {len(score.places)} folds of "
        f"{score.held_out.tolist()} held-out images by class"
    )
