"""The sky of an image from its header, without trusting the header."""

import math
import re
from typing import Any

from astropy.io.fits import Header
from astropy.wcs import WCS, WCSSUB_LATITUDE, WCSSUB_LONGITUDE
from astropy.wcs.utils import proj_plane_pixel_scales

# The cards that place pixels on the sky, in all spellings that wcslib knows, and what it wants to
# know of the other axes. Wcslib reads headers by itself, and a broken card (`LATPOLE = -Inf`) or a
# billion axes make it write beyond its memory, which ends the process.
WCS_CARD = re.compile(
    r"WCSAXES|NAXIS\d?|(CTYPE|CUNIT|CRVAL|CRPIX|CDELT|CROTA)[1-9]|LONPOLE|LATPOLE"
    r"|(PC|CD)0*[1-9]_0*[1-9]|(PC|CD)00[1-9]00[1-9]|PV[1-9]_\d\d?|PROJP[1-9]"
    r"|EQUINOX|EPOCH|RADESYS|RADECSYS|RESTFRE?Q|VELREF|SPECSYS"
    r"|(A|B|AP|BP)_(ORDER|\d_\d)"
)

# The order of a distortion (SIP) is one digit; Astropy's loops grow with the square of it.
SIP_ORDERS = ("A_ORDER", "B_ORDER", "AP_ORDER", "BP_ORDER")

MOST_AXES = 9


def celestial(header: Any) -> Any:
    """The WCS of (longitude, latitude), or None where Astropy cannot make one.

    A broken card among those that place pixels makes the place unknown: without it they would lie
    somewhere else. Cards of plate solutions (AMDX1 and so on) do not count; wcslib prefers them to
    the standard ones, though maps that were made from plates inherit them and are no plates.
    """
    try:
        keys = [key for key in dict.fromkeys(header) if WCS_CARD.fullmatch(key)]
        # Values are parsed when they are asked for, and only then found to be broken.
        if not _is_sane({key: header[key] for key in keys}):
            return None
        # As they are: written anew, numbers would lose their last digit.
        cards = Header.fromstring("".join(header.cards[key].image[:80] for key in keys))
        # Not `.celestial`, which leaves latitude first where the header has it first.
        return WCS(cards).sub([WCSSUB_LONGITUDE, WCSSUB_LATITUDE])
    except Exception:  # a broken card, or axes that a rotation couples with the frequency
        return None


def _is_sane(values: dict[str, Any]) -> bool:
    orders = [values.get(key, 0) for key in SIP_ORDERS]
    n_axes = [values.get(key, 1) for key in ("WCSAXES", "NAXIS")]
    # Positions from a table are in another part of the file, which is not looked for.
    is_table = any(key.startswith("CTYPE") and "-TAB" in str(v) for key, v in values.items())
    numbers = [value for value in values.values() if isinstance(value, float)]
    return (
        all(map(math.isfinite, numbers))
        and all(isinstance(order, int) and 0 <= order <= 9 for order in orders)
        and all(isinstance(number, int) and 0 < number <= MOST_AXES for number in n_axes)
        and not is_table
    )


def pixel_scale_arcsec(wcs: Any) -> float | None:
    """Geometric mean of both axes at the reference pixel, or None."""
    try:
        scale = 3600.0 * math.sqrt(math.prod(float(s) for s in proj_plane_pixel_scales(wcs)))
    except Exception:  # a singular matrix, a unit that is no angle, no WCS at all
        return None
    return scale if math.isfinite(scale) and scale > 0 else None
