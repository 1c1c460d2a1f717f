"""Positions of catalogue rows, and which rows are one source."""

import math
import re
from collections.abc import Hashable, Iterable, Sequence

J_NAME = re.compile(
    r"J(\d{2})(\d{2})(\d{2}(?:\.\d*)?)([+-])(\d{2})(\d{2})(\d{2}(?:\.\d*)?)(?![\d.])"
)


def j_name_position(name: str) -> tuple[float, float] | None:
    """Right ascension and declination, deg, from a name such as ILTJ000003.76+314705.5.

    None if there is no such name in it, or it is no position.
    """
    found = J_NAME.search(name)
    if found is None:
        return None
    hours, minutes, seconds, sign, degrees, arcmin, arcsec = found.groups()
    ra_hours = int(hours) + int(minutes) / 60 + float(seconds) / 3600
    dec_deg = int(degrees) + int(arcmin) / 60 + float(arcsec) / 3600
    is_valid = int(minutes) < 60 and float(seconds) < 60 and int(arcmin) < 60 and float(arcsec) < 60
    if not is_valid or ra_hours >= 24 or dec_deg > 90:
        return None
    return 15.0 * ra_hours, -dec_deg if sign == "-" else dec_deg


def j_name_sexagesimal(name: str) -> str:
    """hh:mm:ss.ss ±dd:mm:ss.s from a name that has a position."""
    found = J_NAME.search(name)
    assert found is not None
    hours, minutes, seconds, sign, degrees, arcmin, arcsec = found.groups()
    return f"{hours}:{minutes}:{seconds} {sign}{degrees}:{arcmin}:{arcsec}"


def separation_arcmin(a_deg: tuple[float, float], b_deg: tuple[float, float]) -> float:
    """Angle between two places on the sky, by the haversine formula."""
    (ra_a, dec_a), (ra_b, dec_b) = (map(math.radians, place) for place in (a_deg, b_deg))
    chord = (
        math.sin((dec_b - dec_a) / 2) ** 2
        + math.cos(dec_a) * math.cos(dec_b) * math.sin((ra_b - ra_a) / 2) ** 2
    )
    return math.degrees(2 * math.asin(min(1.0, math.sqrt(chord)))) * 60


def one_source(names: Sequence[str], tokens: Sequence[Iterable[Hashable]]) -> list[str]:
    """A source for each row: rows that share a token, also by way of others, share one.

    Parameters
    ----------
    names : of the rows; a source is called like its first row
    tokens : what a row is known by: an identifier, a place, a pointer to another row
    """
    parent: dict[Hashable, Hashable] = {}

    def root(token: Hashable) -> Hashable:
        parent.setdefault(token, token)
        while parent[token] != token:
            parent[token] = parent[parent[token]]
            token = parent[token]
        return token

    rows = [list(known) for known in tokens]
    for known in rows:
        for token in known[1:]:
            parent[root(token)] = root(known[0])
    first: dict[Hashable, str] = {}
    for name, known in zip(names, rows, strict=True):
        first.setdefault(root(known[0]), name)
    return [first[root(known[0])] for known in rows]
