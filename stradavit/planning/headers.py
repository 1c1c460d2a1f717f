"""The axes of an image file from its first bytes: enough for a plan, and far quicker than reading.

What cannot be understood here is left to the stage that cuts, whose reader understands more.
"""

import os
import re
import struct
import zlib
from math import prod
from pathlib import Path
from typing import BinaryIO

from stradavit.acquire.transfer.fits_length import (
    BLOCK,
    CARD,
    MAX_AXES,
    MalformedError,
    data_bytes,
)
from stradavit.cutouts.forward_gzip import DEFLATE_RATIO, ForwardGzip
from stradavit.errors import MalformedProductError

_PNG = b"\x89PNG\r\n\x1a\n"
_GZIP = b"\x1f\x8b"
_MAX_BLOCKS = 512
_MAX_HDUS = 100
# Unpacked on the way to the header of an image.
_MAX_UNPACKED = 10**8
_AXIS = re.compile(rb"(Z?)NAXIS(\d*) *= *(\d+)")


def image_axes(path: Path) -> tuple[int, int, int] | None:
    """Planes, rows and columns of the image a survey's file holds; None if that cannot be told.

    Parameters
    ----------
    path : PNG, or FITS, packed by gzip or not; its first HDU with two axes counts
    """
    try:
        with path.open("rb") as plain:
            size_bytes = os.fstat(plain.fileno()).st_size
            head = plain.read(32)
            plain.seek(0)
            if head.startswith(_PNG):
                nx, ny = struct.unpack(">II", head[16:24])
                return 1, ny, nx
            if head.startswith(_GZIP):
                with ForwardGzip(plain, _MAX_UNPACKED) as unpacked:
                    return _fits_axes(unpacked, DEFLATE_RATIO * size_bytes)
            return _fits_axes(plain, size_bytes)
    except (OSError, EOFError, zlib.error, struct.error, MalformedError, MalformedProductError):
        return None


def _fits_axes(opened: BinaryIO | ForwardGzip, size_bytes: int) -> tuple[int, int, int] | None:
    if opened.read(9) != b"SIMPLE  =":
        return None
    opened.seek(0)
    for _ in range(_MAX_HDUS):
        header = _header(opened)
        if not header:
            break
        n_bytes = data_bytes(header)
        end = opened.tell() + n_bytes
        if end > size_bytes:
            return None
        lengths = _lengths(header)
        if len(lengths) >= 2 and min(lengths) > 0:
            if prod(lengths) > DEFLATE_RATIO * n_bytes:
                return None
            return prod(lengths[2:]), lengths[1], lengths[0]
        opened.seek(end + -n_bytes % BLOCK)
    return None


def _header(opened: BinaryIO | ForwardGzip) -> bytes:
    """All blocks of a header; empty at the end of the file."""
    header = b""
    for _ in range(_MAX_BLOCKS):
        block = opened.read(BLOCK)
        if len(block) < BLOCK:
            break
        header += block
        if any(block[at : at + 8] == b"END     " for at in range(0, BLOCK, CARD)):
            return header
    return b""


def _lengths(header: bytes) -> list[int]:
    """Lengths of the axes of an image, the fastest first; of the packed image if it is one."""
    found: dict[bytes, dict[int, int]] = {b"": {}, b"Z": {}}
    cards = [header[at : at + CARD] for at in range(0, len(header), CARD)]
    for card in cards:
        if axis := _AXIS.match(card):
            found[axis[1]][int(axis[2] or 0)] = int(axis[3])
    is_table = cards[0].startswith(b"XTENSION") and b"IMAGE" not in cards[0]
    axes = found[b"Z"] or ({} if is_table else found[b""])
    return [axes.get(number, 0) for number in range(1, min(axes.get(0, 0), MAX_AXES) + 1)]
