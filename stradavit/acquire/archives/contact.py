"""What one small request tells about an archive; the pieces `stradavit doctor` is made of."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from stradavit.acquire.archives.foreign_text import quoted, without_tags
from stradavit.acquire.transfer.web import Answer

State = Literal["good", "note", "fault"]

# The first blocks of a FITS file: enough for every header of interest.
HEADER_RANGE = {"Range": "bytes=0-11519"}
CARD = re.compile(r"(BITPIX|NAXIS\d?|CDELT[12]|BUNIT) *= *('[^']*'|[^/ ]+)")


@dataclass(frozen=True)
class Said:
    """What an archive said to one question.

    Parameters
    ----------
    answer : in words
    state : good: as expected; note: usable, but worth knowing; fault: what it is needed for fails
    remedy : what the user can do
    bytes : how much is going to be fetched from it, if this question tells
    """

    answer: str
    state: State = "good"
    remedy: str = ""
    bytes: int | None = None


# A question and how to ask it; later questions may use the answers of earlier ones.
Question = tuple[str, Callable[[], Said]]
Questions = Iterator[Question]


def fits_cards(text: str) -> str | None:
    """The cards of interest at the beginning of a FITS file; None if it is none."""
    if not text.startswith("SIMPLE  ="):
        return None
    cards = (text[at : at + 80] for at in range(0, len(text), 80))
    found = [CARD.match(card) for card in cards]
    return ", ".join(f"{card[1]} {card[2].strip()}" for card in found if card)


def said_of_fits(answer: Answer, wants_range: bool = False) -> Said:
    """Whether an answer is the beginning of a FITS file, and what its header says."""
    cards = fits_cards(answer.text)
    if cards is None:
        return Said(f"status {answer.status}, no FITS: {page_text(answer)}", "fault")
    if wants_range and answer.status != 206:
        return Said(
            f"answered a range with status {answer.status}: transfers that break begin anew; "
            f"{cards}",
            "note",
        )
    return Said(f"{'answers ranges; ' if wants_range else ''}{cards}")


def page_text(answer: Answer) -> str:
    """The words of a page, in brief."""
    return repr(quoted(without_tags(answer.text), 120) or "nothing")


def size_text(n_bytes: int | None) -> str:
    """A size for people."""
    if n_bytes is None:
        return "unknown size"
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if n_bytes >= factor:
            return f"{n_bytes / factor:.3g} {unit}"
    return f"{n_bytes} B"
