"""A number of the plan, and how much it may be trusted."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Basis = Literal["measured", "counted", "published", "assumed"]

# From the surest to the least sure; a sum is as sure as its least sure part.
ORDER: tuple[Basis, ...] = ("measured", "counted", "published", "assumed")


@dataclass(frozen=True)
class Known:
    """A number and where it comes from.

    Parameters
    ----------
    value : the number
    basis : measured: a file of an earlier run says so; counted: in files that are here, or by exact
        arithmetic; published: from the papers or pages of archives and models; assumed: none of
        these
    source : which file, page or arithmetic, in words
    """

    value: float
    basis: Basis
    source: str


def least_sure(bases: Sequence[Basis]) -> Basis:
    """The basis of a sum; of nothing at all, the surest."""
    return max(bases, key=ORDER.index, default=ORDER[0])
