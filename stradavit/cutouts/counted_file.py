"""What may be read of a file before it is known where its image is."""

import io
import re

from stradavit.acquire.transfer.fits_length import BLOCK, CARD, MAX_AXES, MAX_HEADER_BLOCKS
from stradavit.errors import MalformedProductError

MOST_HEADER_BYTES = MAX_HEADER_BLOCKS * BLOCK
"""Of all headers up to that of the image; survey headers have a thousandth of it."""

# Numbers of axes and of columns, by which Astropy counts to the end, however many there are.
COUNT = re.compile(rb"(?:Z?NAXIS|TFIELDS) *= *\+?0*([1-9]\d{3,})")

# A text among the numbers whose product is the size: Astropy would repeat it so many times.
TEXT = re.compile(rb"(?:BITPIX|NAXIS\d*|[PG]COUNT) *= *'")


class HeaderBudget:
    """Looks at what is read as header, until it is told to stop.

    Astropy reads on until it finds an END: a damaged file of 100 GB would be taken for one header.
    And it believes NAXIS: a billion axes are looked for one by one, and a text as the length of one
    is multiplied by that of the other.

    Parameters
    ----------
    name : of the file, for the message
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._left = MOST_HEADER_BYTES
        self._is_on = False

    def start(self) -> None:
        """Look from now on."""
        self._is_on = True

    def stop(self) -> None:
        """What is read from now on is no header."""
        self._is_on = False

    def spend(self, data: bytes) -> None:
        """Look at whole cards.

        Raises
        ------
        MalformedProductError
            `unreadable`, if there are more than `MOST_HEADER_BYTES`, or if a header has more axes
            or columns than FITS allows, or a text as a size.
        """
        if not self._is_on:
            return
        self._left -= len(data)
        if self._left < 0:
            detail = f"no image after {MOST_HEADER_BYTES / 1e6:.0f} MB of headers"
            raise MalformedProductError("unreadable", f"{self._name}: {detail}")
        for count in COUNT.finditer(data):
            if count.start() % CARD == 0 and int(count[1]) > MAX_AXES:
                detail = f"the header says {count[0].decode()}, and FITS has at most {MAX_AXES}"
                raise MalformedProductError("unreadable", f"{self._name}: {detail}")
        for text in TEXT.finditer(data):
            if text.start() % CARD == 0:
                detail = f"the header says {text[0].decode()}, where a number must be"
                raise MalformedProductError("unreadable", f"{self._name}: {detail}")


class CountedFile(io.BufferedReader):
    """A plain file with a `HeaderBudget`; pixels are read by NumPy, past this method."""

    def __init__(self, raw: io.FileIO) -> None:
        super().__init__(raw)
        self.header_budget = HeaderBudget(str(raw.name))

    def read(self, size: int | None = -1, /) -> bytes:
        """Up to `size` bytes."""
        data = super().read(size)
        self.header_budget.spend(data)
        return data
