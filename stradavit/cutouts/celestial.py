"""The sky of an image from its header, without trusting the header."""

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from astropy.io.fits import Header
from astropy.wcs import WCS, WCSSUB_LATITUDE, WCSSUB_LONGITUDE
from astropy.wcs.utils import proj_plane_pixel_scales

# The cards that place pixels on the sky, by what they hold, in all spellings that wcslib knows.
CARDS = (
    (int, re.compile(r"WCSAXES|NAXIS\d?|(A|B|AP|BP)_ORDER")),
    (str, re.compile(r"(CTYPE|CUNIT)[1-9]|RADESYS|RADECSYS|SPECSYS")),
    (
        float,
        re.compile(
            r"(CRVAL|CRPIX|CDELT|CROTA)[1-9]|LONPOLE|LATPOLE|PV[1-9]_\d\d?|PROJP[1-9]"
            r"|(PC|CD)[1-9]_[1-9]|EQUINOX|EPOCH|RESTFRE?Q|(A|B|AP|BP)_\d_\d"
        ),
    ),
)

# Elements of a matrix as AIPS (PC001002) and CASA (PC01_02) write them.
OLD_MATRIX = re.compile(r"(PC|CD)(?:0*(?=[1-9]_)|00(?=[1-9]00))([1-9])(?:_0*|00)([1-9])")

# The order of a distortion (SIP) is one digit; Astropy's loops grow with the square of it.
SIP_ORDERS = ("A_ORDER", "B_ORDER", "AP_ORDER", "BP_ORDER")

MOST_AXES = 9

PLAIN_TEXT = re.compile(r"[ -&(-~]{0,60}")  # printable, and no quote that would end it


def celestial(header: Any) -> Any:
    """The WCS of (longitude, latitude), or None where Astropy cannot make one.

    A broken card among those that place pixels makes the place unknown: without it they would lie
    somewhere else. Cards of plate solutions (AMDX1 and so on) do not count; wcslib prefers them to
    the standard ones, though maps that were made from plates inherit them and are no plates.
    """
    try:
        cards = dict(_cards(header))
        if not _is_sane(cards):
            return None
        # Not `.celestial`, which leaves latitude first where the header has it first.
        return WCS(_written(cards)).sub([WCSSUB_LONGITUDE, WCSSUB_LATITUDE])
    except Exception:  # a broken card, or axes that a rotation couples with the frequency
        return None


def _cards(header: Any) -> Iterator[tuple[str, int | float | str]]:
    """What the header says of the sky, each value of the type that its card must have."""
    for key in dict.fromkeys(header):
        name = OLD_MATRIX.sub(r"\1\2_\3", key)
        kind = next((kind for kind, pattern in CARDS if pattern.fullmatch(name)), None)
        if kind is None:
            continue
        value = header[key]  # parsed only now, and only now found to be broken
        if kind is float and type(value) is int:
            value = float(value)
        if type(value) is not kind:
            raise TypeError(f"{key} is {value!r}")
        yield name, value


def _written(cards: Mapping[str, int | float | str]) -> Header:
    """A header of these cards alone, as wcslib expects them.

    It reads headers by itself, and collects complaints about cards in a buffer that they can
    overrun: sixteen elements of a CASA matrix and one broken card ended the process.
    """
    lines = []
    for name, value in cards.items():
        # All digits of a number: as Astropy writes it, it would lose its last one.
        text = f"'{value:8}'" if isinstance(value, str) else repr(value).upper()
        lines.append(f"{name:8}= {text:>20}".ljust(80))
    return Header.fromstring("".join(lines))


def _is_sane(cards: Mapping[str, int | float | str]) -> bool:
    numbers = {key: value for key, value in cards.items() if not isinstance(value, str)}
    texts = [value for value in cards.values() if isinstance(value, str)]
    # Infinities and a billion axes make wcslib write beyond its memory.
    return (
        all(map(math.isfinite, numbers.values()))
        and all(0 <= numbers.get(key, 0) <= 9 for key in SIP_ORDERS)
        and all(0 < numbers.get(key, 1) <= MOST_AXES for key in ("WCSAXES", "NAXIS"))
        and all(PLAIN_TEXT.fullmatch(text) for text in texts)
        # Positions from a table are in another part of the file, which is not looked for.
        and not any("-TAB" in text for text in texts)
    )


def pixel_scale_arcsec(wcs: Any) -> float | None:
    """Geometric mean of both axes at the reference pixel, or None."""
    try:
        scale = 3600.0 * math.sqrt(math.prod(float(s) for s in proj_plane_pixel_scales(wcs)))
    except Exception:  # a singular matrix, a unit that is no angle, no WCS at all
        return None
    return scale if math.isfinite(scale) and scale > 0 else None
