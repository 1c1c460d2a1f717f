"""What a header claims, compared with the file before anything of that size is allocated."""

import math
import re
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.io.fits import CompImageHDU

from stradavit.cutouts.counted_file import CountedFile
from stradavit.cutouts.forward_gzip import DEFLATE_RATIO, ForwardGzip
from stradavit.cutouts.product import check_memory
from stradavit.errors import MalformedProductError

FITS_BLOCK = 2880

# The decoders of HCOMPRESS and PLIO trust the sizes in their stream: a few flipped bytes make them
# read and write beyond their memory, which ends the whole process.
TILE_CODECS = ("RICE_1", "RICE_ONE", "GZIP_1", "GZIP_2", "NOCOMPRESS")

# Bits of a column's elements (FITS 4.0, table 18); a descriptor is two integers.
COLUMN_BITS = {"X": 1, "L": 8, "B": 8, "A": 8, "I": 16, "J": 32, "E": 32, "K": 64, "D": 64}
COLUMN_BITS |= {"C": 64, "M": 128, "P": 64, "Q": 128}
COLUMN = re.compile(r"(\d*)([XLBAIJEKDCM]|[PQ](?=([XLBAIJEKDCM])))")


def check_claims(
    hdu: Any, opened: CountedFile | ForwardGzip, size_bytes: int, memory_mb: int, path: Path
) -> None:
    """Refuse an image that its file cannot hold, or that memory could not.

    Parameters
    ----------
    hdu : the image, of which only the header has been read
    opened : its file
    size_bytes : the most the file can hold, unpacked
    memory_mb : most memory one read may take, MB
    path : of the file, for messages

    Raises
    ------
    MalformedProductError
        `truncated`, `too_large`, `compression`, or `unreadable`.
    """
    claimed = math.prod(hdu.shape) * abs(hdu.header["BITPIX"]) // 8
    place = hdu.fileinfo()
    if isinstance(hdu, CompImageHDU):
        if hdu.compression_type not in TILE_CODECS:
            raise MalformedProductError("compression", f"{path}: {hdu.compression_type} tiles")
        _check_tiles(hdu, opened, memory_mb, path)
        stored = place["datSpan"] - FITS_BLOCK + 1
        if claimed > DEFLATE_RATIO * place["datSpan"]:
            detail = f"{path}: {place['datSpan']} packed bytes cannot hold {claimed}"
            raise MalformedProductError("truncated", detail)
        tile = math.prod(hdu.tile_shape) * abs(hdu.header["BITPIX"]) // 8
        check_memory(path, tile, memory_mb, "one compressed tile")
        # Astropy reads the packed bytes of an image it reads whole in one piece.
        if stored > claimed:
            check_memory(path, stored, memory_mb, "the packed image")
    else:
        stored = claimed
    if place["datLoc"] + stored > size_bytes:
        detail = f"{path}: the header promises {stored} bytes of pixels of shape {hdu.shape}"
        raise MalformedProductError("truncated", f"{detail}, the file has {size_bytes}")


def _check_tiles(hdu: Any, opened: CountedFile | ForwardGzip, memory_mb: int, path: Path) -> None:
    """Compare the table of a tile-compressed image with itself: Astropy believes all of it."""
    place = hdu.fileinfo()
    opened.seek(place["hdrLoc"])
    header = fits.Header.fromstring(opened.read(place["datLoc"] - place["hdrLoc"]))
    n_rows, row_bytes = header["NAXIS2"], header["NAXIS1"]
    width = 0
    packed: list[tuple[int, str, int]] = []  # columns of descriptors: where, integers, of what
    for number in range(1, int(header["TFIELDS"]) + 1):
        form = COLUMN.match(header[f"TFORM{number}"])
        if form is None:
            raise MalformedProductError("unreadable", f"{path}: TFORM{number} is no format")
        if form[3] and form[1] != "0":
            packed.append((width, ">i4" if form[2] == "P" else ">i8", COLUMN_BITS[form[3]] // 8))
        width -= -int(form[1] or 1) * COLUMN_BITS[form[2]] // 8
    if width != row_bytes:
        detail = f"{path}: columns of {width} bytes in rows of {row_bytes}"
        raise MalformedProductError("unreadable", detail)
    n_tiles = math.prod(
        -(-length // side) for length, side in zip(hdu.shape, hdu.tile_shape, strict=True)
    )
    if n_tiles != n_rows:
        detail = f"{path}: {n_rows} tiles where its image has {n_tiles}"
        raise MalformedProductError("unreadable", detail)
    check_memory(path, 3 * n_rows * row_bytes, memory_mb, "the table of tiles")
    stored = opened.read(n_rows * row_bytes)
    if len(stored) < n_rows * row_bytes:
        raise MalformedProductError("truncated", f"{path}: ends in the table of tiles")
    rows = np.frombuffer(stored, np.uint8).reshape(n_rows, row_bytes)
    heap_at = header.get("THEAP", n_rows * row_bytes)
    heap = n_rows * row_bytes + header["PCOUNT"] - heap_at
    for at, integers, item in packed:
        pair = rows[:, at : at + 2 * np.dtype(integers).itemsize].copy().view(integers)
        length, offset = pair[:, 0].astype(np.float64), pair[:, 1].astype(np.float64)
        is_outside = (length < 0) | (length > 0) & ((offset < 0) | (offset + item * length > heap))
        if is_outside.any():
            detail = f"{path}: tile {is_outside.argmax()} does not lie in its {heap} packed bytes"
            raise MalformedProductError("unreadable", detail)
        for tile in np.flatnonzero(item * length * DEFLATE_RATIO > memory_mb * 10**6):
            opened.seek(place["datLoc"] + heap_at + int(offset[tile]))
            if _is_bomb(opened.read(int(length[tile]) * item), memory_mb * 10**6):
                detail = f"{path}: tile {tile} unpacks to more than {memory_mb} MB"
                raise MalformedProductError("too_large", f"{detail}, cutouts.memory_mb")


def _is_bomb(packed: bytes, most_bytes: int) -> bool:
    """Whether a tile is packed by gzip and unpacks to more than that."""
    stream = zlib.decompressobj(wbits=31)
    n_bytes = 0
    try:
        while packed and n_bytes <= most_bytes:
            n_bytes += len(stream.decompress(packed, 1 << 20))
            packed = stream.unconsumed_tail
    except zlib.error:
        return False
    return n_bytes > most_bytes
