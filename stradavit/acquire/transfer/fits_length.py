"""Whether a FITS file is whole: its headers say how long it must be.

Servers cut files short and append error pages to them, and astropy opens both without complaint as
long as nobody reads that far.
"""

from math import prod

BLOCK = 2880
CARD = 80
MAX_HEADER_BLOCKS = 4096

# The standard has no more axes, and no file more bytes.
MAX_AXES = 999
MAX_BYTES = 2**63


class MalformedError(Exception):
    """What is wrong with a file.

    Parameters
    ----------
    reason : in words that hold nothing of the file
    quoted : a piece of the file, which may hold a secret
    """

    def __init__(self, reason: str, quoted: str = "") -> None:
        super().__init__(f"{reason} {quoted!r}" if quoted else reason)
        self.reason = reason


class FitsLength:
    """Counts the bytes of a FITS file as they pass, HDU by HDU."""

    def __init__(self) -> None:
        self._header = bytearray()
        self._n_hdus = 0
        self._data_left = 0
        self._padding_left = 0
        self._is_tail = False

    def update(self, block: bytes) -> None:
        """Take in more bytes.

        Raises
        ------
        MalformedError
            As soon as they cannot be FITS.
        """
        view = memoryview(block)
        while view:
            if self._is_tail:
                self._check_tail(bytes(view))
                return
            if self._data_left:
                taken = min(self._data_left, len(view))
                self._data_left -= taken
            elif self._padding_left:
                taken = min(self._padding_left, len(view))
                self._padding_left -= taken
            else:
                taken = min(BLOCK - len(self._header) % BLOCK, len(view))
                self._header += view[:taken]
                if len(self._header) % BLOCK == 0:
                    self._end_of_block()
            view = view[taken:]

    def finish(self) -> None:
        """Say that no more bytes come; padding alone may be missing, since some servers leave it.

        Raises
        ------
        MalformedError
            If header or data are incomplete.
        """
        if self._data_left:
            raise MalformedError(
                f"FITS that lacks the last {self._data_left} bytes of the data of HDU "
                f"{self._n_hdus - 1}"
            )
        if (
            self._header
            and self._n_hdus
            and not self._header.startswith(b"XTENSION"[: len(self._header)])
        ):
            self._check_tail(bytes(self._header))
        elif self._header or not self._n_hdus:
            raise MalformedError(f"FITS that ends in the header of HDU {self._n_hdus}")

    def _end_of_block(self) -> None:
        header = self._header
        if len(header) == BLOCK:
            start = b"XTENSION" if self._n_hdus else b"SIMPLE  ="
            if not header.startswith(start):
                if not self._n_hdus:
                    raise MalformedError("no FITS: it does not begin with SIMPLE")
                self._is_tail = True
                self._check_tail(bytes(header))
                return
        if len(header) > MAX_HEADER_BLOCKS * BLOCK:
            raise MalformedError("FITS whose header does not end")
        last = header[-BLOCK:]
        if any(last[i : i + 8] == b"END     " for i in range(0, BLOCK, CARD)):
            self._data_left = data_bytes(bytes(header))
            self._padding_left = -self._data_left % BLOCK
            self._n_hdus += 1
            header.clear()

    def _check_tail(self, tail: bytes) -> None:
        # Nothing but fill may follow the last HDU: an error page there means a broken transfer.
        if tail.strip(b"\0 "):
            raise MalformedError("FITS with other bytes after its last HDU")


def data_bytes(header: bytes) -> int:
    """Bytes of an HDU's data without padding.

    Raises
    ------
    MalformedError
        If a keyword that decides it is missing or no number.
    """
    values: dict[str, bytes] = {}
    for i in range(0, len(header), CARD):
        card = header[i : i + CARD]
        if card[8:10] == b"= ":
            key = card[:8].decode("latin1").rstrip()
            values.setdefault(key, card[10:].split(b"/")[0].strip())

    def number(key: str, default: int | None = None) -> int:
        text = values.get(key)
        if text is None and default is not None:
            return default
        try:
            return int(text or b"")
        except ValueError:
            raise MalformedError(f"FITS without a whole number as {key}") from None

    n_axes = number("NAXIS")
    if not 0 <= n_axes <= MAX_AXES:
        raise MalformedError("FITS with an impossible number of axes")
    axes = [number(f"NAXIS{n}") for n in range(1, n_axes + 1)]
    if values.get("GROUPS") == b"T" and axes and axes[0] == 0:
        axes = axes[1:]
    if not axes:
        return 0
    if min(axes) < 0 or number("PCOUNT", 0) < 0 or number("GCOUNT", 1) < 0:
        raise MalformedError("FITS with an axis of negative length")
    n_values = number("GCOUNT", 1) * (number("PCOUNT", 0) + prod(axes))
    n_bytes = abs(number("BITPIX")) // 8 * n_values
    if n_bytes >= MAX_BYTES:
        raise MalformedError("FITS that promises more bytes than any file has")
    return n_bytes
