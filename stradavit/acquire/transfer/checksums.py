"""Checksums as archives publish them: `md5:…`, `sha1:…`, `sha256:…`, `crc32:…`, `adler32:…`."""

import hashlib
import re
import zlib
from pathlib import Path

from stradavit.errors import DataError

BLOCK = 1 << 20
DIGITS = {"md5": 32, "sha1": 40, "sha256": 64, "crc32": 8, "adler32": 8}


def parse(checksum: str) -> tuple[str, str]:
    """Kind and lower-case hexadecimal digits; two empty texts if there is none.

    Raises
    ------
    DataError
        If the kind is unknown or the digits do not fit it.
    """
    if not checksum:
        return "", ""
    kind, _, digits = checksum.partition(":")
    n_digits = DIGITS.get(kind)
    if n_digits is None or not re.fullmatch(f"[0-9a-f]{{{n_digits}}}", digits):
        raise DataError(
            f"{checksum[:80]!r} is no checksum; expected a kind among {', '.join(DIGITS)}, a "
            "colon, and its lower-case hexadecimal digits, such as adler32:00000001."
        )
    return kind, digits


class Hasher:
    """SHA-256 and the published checksum of the same bytes, in one pass."""

    def __init__(self, checksum: str = "") -> None:
        self.kind, self.expected = parse(checksum)
        self._sha256 = hashlib.sha256()
        self._other = (
            hashlib.new(self.kind, usedforsecurity=False) if self.kind in ("md5", "sha1") else None
        )
        # The start values of both sums.
        self._sum = 1 if self.kind == "adler32" else 0
        self.bytes = 0

    def update(self, block: bytes) -> None:
        """Take in more bytes."""
        self.bytes += len(block)
        self._sha256.update(block)
        if self._other is not None:
            self._other.update(block)
        elif self.kind == "crc32":
            self._sum = zlib.crc32(block, self._sum)
        elif self.kind == "adler32":
            self._sum = zlib.adler32(block, self._sum)

    @property
    def sha256(self) -> str:
        """Hexadecimal SHA-256 of all bytes so far."""
        return self._sha256.hexdigest()

    @property
    def found(self) -> str:
        """The published kind of checksum, of the bytes that came; empty if none is published."""
        if not self.kind:
            return ""
        if self.kind == "sha256":
            return f"sha256:{self.sha256}"
        digits = self._other.hexdigest() if self._other is not None else f"{self._sum:08x}"
        return f"{self.kind}:{digits}"

    @property
    def is_right(self) -> bool:
        """Whether the bytes are those the archive published; true where it published nothing."""
        return not self.kind or self.found == f"{self.kind}:{self.expected}"


def hash_file(path: Path, checksum: str = "") -> Hasher:
    """All bytes of a file, hashed."""
    hasher = Hasher(checksum)
    with Path(path).open("rb") as opened:
        while block := opened.read(BLOCK):
            hasher.update(block)
    return hasher
