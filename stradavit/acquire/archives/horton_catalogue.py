"""The fixed columns of CDS J/A+A/699/A338, catalog.dat."""

import math
from dataclasses import dataclass
from pathlib import Path

from stradavit.acquire.archives.vizier import read_lines
from stradavit.errors import DataError

LINE_WIDTH = 177

# Labels of the ReadMe, in its order: one digit each from byte 120 on, every second byte;
# FeatureCT has two.
INITIAL = ("FRI", "FRII", "Hybrid", "Spiral", "Relaxed")
FLAGS = {
    "initial": INITIAL,
    "morphology": (
        "Cshaped", "Sshaped", "Misalign", "Wings", "Xshaped", "Straight", "MultHSpot",
        "Continuous", "Banding", "Onesided", "Restarted",
    ),
    "environment": ("Cluster", "Merger", "Diffuse", "Unknown"),
    "derived": ("Hasany1", "hasany2", "Hasall", "Has1", "Has2", "SE", "MS", "EM"),
}  # fmt: skip


def _columns() -> dict[str, slice]:
    """Where each digit of a line is, counted from 0."""
    seen = [name for group in ("initial", "morphology", "environment") for name in FLAGS[group]]
    columns = {name: slice(119 + 2 * k, 120 + 2 * k) for k, name in enumerate(seen)}
    columns["FeatureCT"] = slice(159, 161)
    return columns | {
        name: slice(162 + 2 * k, 163 + 2 * k) for k, name in enumerate(FLAGS["derived"])
    }


COLUMNS = _columns()


@dataclass(frozen=True)
class VisualClass:
    """One source.

    Parameters
    ----------
    name : such as ILTJ000003.76+314705.5, which is its position
    redshift, size_kpc, luminosity_w_hz, log_mass : NaN where unknown; luminosity at 144 MHz, mass
        of the stars of the host in decimal logarithms of the Sun's
    is_mass_good : whether `log_mass` may be used
    flags : 0 or 1 by label of the ReadMe, and FeatureCT, a number
    """

    name: str
    redshift: float
    size_kpc: float
    luminosity_w_hz: float
    log_mass: float
    is_mass_good: bool
    flags: dict[str, int]

    @property
    def initial(self) -> tuple[str, ...]:
        """The initial classes: one as a rule, but some sources have none and some two."""
        return tuple(name for name in INITIAL if self.flags[name])


def read_catalogue(path: Path) -> list[VisualClass]:
    """All sources, in the order of the file.

    Raises
    ------
    DataError
        Naming the line, if one does not have the columns of the ReadMe.
    """
    return [
        _source(line, f"{path}, line {number}") for number, line in enumerate(read_lines(path), 1)
    ]


def _source(line: str, where: str) -> VisualClass:
    try:
        if len(line) != LINE_WIDTH:
            raise ValueError(f"{len(line)} characters instead of {LINE_WIDTH}")
        flags = {name: int(line[columns]) for name, columns in COLUMNS.items()}
        wrong = [name for name, flag in flags.items() if name != "FeatureCT" and flag > 1]
        if wrong:
            raise ValueError(f"{wrong[0]} is {flags[wrong[0]]} instead of 0 or 1")
        name = line[:22].strip()
        if not name.startswith("ILTJ") or " " in name or "/" in name:
            raise ValueError(f"the name {name!r} instead of one such as ILTJ000003.76+314705.5")
        return VisualClass(
            name,
            redshift=_number(line[24:47]),
            size_kpc=_number(line[48:71]),
            luminosity_w_hz=_number(line[72:95]),
            log_mass=_number(line[96:116]),
            is_mass_good=int(line[117]) > 0,
            flags=flags,
        )
    except ValueError as error:
        raise DataError(
            f"{where}: found {error}. Delete the file, and run again to fetch it; if that does "
            "not help, the CDS has changed the catalogue."
        ) from error


def _number(text: str) -> float:
    return float(text) if text.strip() else math.nan
