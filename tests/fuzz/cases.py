"""Which damage a case does: a function of (seed, number) and of the originals."""

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from tests.fuzz import bodies, cards
from tests.fuzz.originals import Original

# How often each kind is drawn. Files of a hundred megabytes and more are slow to write.
WEIGHTS = {
    **dict.fromkeys(cards.KINDS, 10),
    "END damaged": 5,
    "claims a petabyte": 14,
    **dict.fromkeys(bodies.KINDS, 7),
    "tiles damaged": 14,
    "picture of another size": 3,
    "thousands of cards": 2,
    "thousands of HDUs": 1,
    "header of 100 MB": 0.6,
    "gzip bomb": 0.6,
    "several kinds at once": 25,
}
HEAVY = ("thousands of cards", "thousands of HDUs", "header of 100 MB", "gzip bomb")
SEVERAL = [kind for kind in WEIGHTS if kind not in (*HEAVY, "several kinds at once")]


@dataclass(frozen=True)
class Case:
    """A damaged file.

    Attributes
    ----------
    number : together with the seed it says everything
    kind : of damage, in words
    original : name of the file it was made from
    content : its bytes
    """

    number: int
    kind: str
    original: str
    content: bytes


def make_case(seed: int, number: int, sources: tuple[Original, ...]) -> Case:
    """The case of a number; the first ones have every kind once."""
    rng = np.random.default_rng([seed, number])
    kinds = list(WEIGHTS)
    weights = np.array(list(WEIGHTS.values()), dtype=float)
    drawn = str(rng.choice(kinds, p=weights / weights.sum()))
    kind = kinds[number] if number < len(kinds) else drawn
    original = _source(kind, sources, rng)
    content = original.content
    if kind == "several kinds at once":
        for _ in range(int(rng.integers(2, 5))):
            content = _damaged(content, SEVERAL[int(rng.integers(len(SEVERAL)))], rng)
    else:
        content = _damaged(content, kind, rng)
    return Case(number, kind, original.name, content)


def _source(kind: str, sources: tuple[Original, ...], rng: Generator) -> Original:
    """Some kinds need a certain sort of file to do any harm."""
    fitting = [
        source
        for source in sources
        if (kind != "tiles damaged" or b"ZCMPTYPE" in source.content)
        and (kind != "picture of another size" or source.name in ("PNG", "JPEG"))
    ]
    return fitting[int(rng.integers(len(fitting)))]


def _damaged(content: bytes, kind: str, rng: Generator) -> bytes:
    if kind in cards.KINDS:
        return cards.mutate(content, kind, rng)
    if kind == "END damaged":
        return cards.end_card(content, rng)
    if kind == "claims a petabyte":
        return cards.claim(content, rng)
    return bodies.KINDS[kind](content, rng)
