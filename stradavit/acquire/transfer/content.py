"""What a file is by its bytes: a status of 200 and a name prove nothing."""

import json
import re
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from stradavit.acquire.transfer.checksums import Hasher
from stradavit.acquire.transfer.fits_length import FitsLength, MalformedError
from stradavit.acquire.transfer.remote import Content

HEAD_BYTES = 65536
BLOCK = 1 << 20
GZIP = b"\x1f\x8b"
STARTS = {"png": b"\x89PNG\r\n\x1a\n", "jpeg": b"\xff\xd8\xff", "zip": b"PK\x03\x04"}
ENDS = {
    "png": re.compile(rb"IEND\xaeB`\x82"),
    "jpeg": re.compile(rb"\xff\xd9"),
    "votable": re.compile(rb"</([\w.-]+:)?votable\s*>", re.IGNORECASE),
}
# Parsed JSON takes some ten times its bytes. Headers of the largest models have one MB.
MAX_SAFETENSORS_HEADER = 10_000_000
MAX_JSON_BYTES = 64_000_000


@dataclass(frozen=True)
class Checked:
    """A file that is what it should be."""

    bytes: int
    sha256: str


class _Sink(Protocol):
    def update(self, block: bytes, /) -> None: ...

    def finish(self) -> None: ...


class _TarStart:
    """Whether an unpacked tar begins as one."""

    def __init__(self) -> None:
        self._head = bytearray()

    def update(self, block: bytes) -> None:
        self._head += block[: 512 - len(self._head)]

    def finish(self) -> None:
        # Old tars carry no magic; their first header still has a sum, which tarfile checks later.
        if len(self._head) < 512 or self._head[257:262] not in (b"ustar", b"\0" * 5):
            raise MalformedError("gzip of something that is no tar")


class _Gunzip:
    """Unpacks to nowhere: its own checksum tells whether the file is whole."""

    def __init__(self, sink: _Sink, most_bytes: int) -> None:
        self._sink, self._most, self._n_bytes = sink, most_bytes, 0
        self._stream = zlib.decompressobj(wbits=31)

    def update(self, block: bytes) -> None:
        while block:
            if self._stream.eof:
                block = block.lstrip(b"\0")
                if not block:
                    return
                self._stream = zlib.decompressobj(wbits=31)
            try:
                out = self._stream.decompress(block, BLOCK)
            except zlib.error:
                raise MalformedError("damaged gzip") from None
            self._n_bytes += len(out)
            if self._n_bytes > self._most:
                raise MalformedError(
                    f"gzip that unpacks to more than {self._most / 1e9:g} GB (archives.unpack_gb)"
                )
            self._sink.update(out)
            block = self._stream.unused_data if self._stream.eof else self._stream.unconsumed_tail

    def finish(self) -> None:
        if not self._stream.eof:
            raise MalformedError("gzip that ends too early")
        self._sink.finish()


class _Anything:
    def update(self, block: bytes) -> None: ...

    def finish(self) -> None: ...


def check(
    path: Path, content: Content, n_bytes: int | None, checksum: str, most_bytes: int
) -> Checked:
    """Read a file once and make sure that it is what it should be.

    Parameters
    ----------
    content, n_bytes, checksum : as of a `Remote`
    most_bytes : to which a packed file may unpack

    Raises
    ------
    MalformedError
        With what was found and what was expected.
    """
    size = path.stat().st_size
    with path.open("rb") as opened:
        head = opened.read(HEAD_BYTES)
        _refuse_pages(head, content)
        if n_bytes is not None and size != n_bytes:
            raise MalformedError(f"{size} bytes instead of {n_bytes}")
        hasher, sink = Hasher(checksum), _sink(content, most_bytes)
        fault: MalformedError | None = None
        opened.seek(0)
        while block := opened.read(BLOCK):
            hasher.update(block)
            if fault is None:
                try:
                    sink.update(block)
                except MalformedError as error:
                    fault = error
    # A checksum says more than a broken structure does: it comes first.
    if not hasher.is_right:
        raise MalformedError(f"the checksum {hasher.found} instead of {checksum}")
    if fault is not None:
        raise fault
    sink.finish()
    _check_ends(path, content, head, size)
    return Checked(size, hasher.sha256)


def is_page(head: bytes) -> bool:
    """Whether a file begins as a page in HTML."""
    start = head[:4096].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    return start.startswith((b"<!doctype html", b"<html", b"<head", b"<body")) or (
        start.startswith(b"<") and b"<html" in start
    )


def is_text(head: bytes) -> bool:
    """Whether a file begins as text in some encoding."""
    return b"\0" not in head and not head.startswith((b"SIMPLE  =", GZIP, *STARTS.values()))


def says(head: bytes, words: str) -> bool:
    """Whether a text holds some words, in any case."""
    return bool(words) and is_text(head) and words.lower() in head.decode("latin1").lower()


def refuse_start(head: bytes, content: Content) -> None:
    """Look at the first bytes that come, so that a wrong file is not fetched to its end.

    Raises
    ------
    MalformedError
        If they cannot begin such a file.
    """
    _refuse_pages(head, content)


def _refuse_pages(head: bytes, content: Content) -> None:
    if not head:
        raise MalformedError("nothing at all")
    if is_page(head) != (content == "html"):
        if content == "html":
            raise MalformedError("no page in HTML")
        title = re.search(rb"<title[^>]*>([^<]{1,80})", head, re.IGNORECASE)
        raise MalformedError(
            f"a page in HTML instead of {_named(content)}",
            " ".join(title[1].decode("latin1").split()) if title else "",
        )
    start = STARTS.get(content) or {"fits": b"SIMPLE  =", "fits.gz": GZIP, "tar.gz": GZIP}.get(
        content
    )
    if start is not None and not head.startswith(start[: len(head)]):
        raise MalformedError(f"{_kind(head)} instead of {_named(content)}")
    if content in ("csv", "text", "json", "votable") and not is_text(head):
        raise MalformedError(f"{_kind(head)} instead of {_named(content)}")
    if content == "votable" and b"<votable" not in head.lower():
        raise MalformedError("no VOTable")


def _named(content: Content) -> str:
    return "a file" if content == "any" else content


def _kind(head: bytes) -> str:
    if head.startswith(b"SIMPLE  ="):
        return "FITS"
    if head.startswith(GZIP):
        return "gzip"
    for name, start in STARTS.items():
        if head.startswith(start):
            return name
    return "text" if is_text(head) else "other bytes"


def _sink(content: Content, most_bytes: int) -> _Sink:
    match content:
        case "fits":
            return FitsLength()
        case "fits.gz":
            return _Gunzip(FitsLength(), most_bytes)
        case "tar.gz":
            return _Gunzip(_TarStart(), most_bytes)
        case _:
            return _Anything()


def _check_ends(path: Path, content: Content, head: bytes, size: int) -> None:
    """Formats that show at their end, or in a table, whether they are whole."""
    if content in ENDS:
        with path.open("rb") as opened:
            opened.seek(max(0, size - 64))
            if not ENDS[content].search(opened.read()):
                raise MalformedError(f"{content} that ends too early")
    others: dict[str, Callable[[], None]] = {
        "zip": lambda: _check_zip(path),
        "json": lambda: _check_json(path),
        "safetensors": lambda: _check_safetensors(path, head, size),
    }
    if content in others:
        others[content]()


def _check_zip(path: Path) -> None:
    if not zipfile.is_zipfile(path):
        raise MalformedError("zip that ends too early")


def _check_json(path: Path) -> None:
    size = path.stat().st_size
    if size > MAX_JSON_BYTES:
        raise MalformedError(f"JSON of {size} bytes, where at most {MAX_JSON_BYTES} are read")
    try:
        json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        raise MalformedError("damaged JSON") from None


def _check_safetensors(path: Path, head: bytes, size: int) -> None:
    n_header = int.from_bytes(head[:8], "little")
    if not 2 <= n_header <= min(MAX_SAFETENSORS_HEADER, size - 8):
        raise MalformedError("no safetensors, or one that ends in its header")
    with path.open("rb") as opened:
        opened.seek(8)
        text = opened.read(n_header)
    try:
        tensors = json.loads(text)
        ends = [
            int(tensor["data_offsets"][1])
            for name, tensor in tensors.items()
            if name != "__metadata__"
        ]
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError):
        raise MalformedError("no safetensors: its header cannot be read") from None
    expected = 8 + n_header + max(ends, default=0)
    if size != expected:
        raise MalformedError(f"safetensors of {size} bytes whose header says {expected}")
