"""Files are what their bytes say: whole, of the right kind, with the right checksum."""

import gzip
import hashlib
import io
import json
import zipfile
import zlib
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from astropy.io import fits
from PIL import Image

from stradavit.acquire.transfer.checksums import Hasher, parse
from stradavit.acquire.transfer.content import check
from stradavit.acquire.transfer.fits_length import BLOCK, MalformedError
from stradavit.acquire.transfer.remote import Content
from stradavit.errors import DataError

RNG = np.random.default_rng(3)


def fits_bytes(*extra: fits.hdu.base.ExtensionHDU) -> bytes:
    """Noise of 30 x 50 and more HDUs, as astropy writes them."""
    buffer = io.BytesIO()
    primary = fits.PrimaryHDU(RNG.normal(size=(1, 1, 30, 50)).astype(np.float32))
    fits.HDUList([primary, *extra]).writeto(buffer)
    return buffer.getvalue()


def png() -> bytes:
    """A small picture."""
    buffer = io.BytesIO()
    Image.fromarray(RNG.integers(0, 255, (40, 40), dtype=np.uint8)).save(buffer, "png")
    return buffer.getvalue()


def safetensors() -> bytes:
    """One tensor of 16 bytes."""
    header = json.dumps({"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}).encode()
    return len(header).to_bytes(8, "little") + header + bytes(16)


def zipped() -> bytes:
    """One member."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as out:
        out.writestr("a", b"x" * 100)
    return buffer.getvalue()


IMAGE = fits_bytes()
TABLE = fits.BinTableHDU.from_columns([fits.Column("x", "D", array=np.arange(9.0))])
GOOD: dict[Content, bytes] = {
    "any": b"anything",
    "fits": IMAGE,
    "fits.gz": gzip.compress(IMAGE),
    "png": png(),
    "csv": b"a,b\n1,2\n",
    "text": b"words",
    "json": b'{"a": 1}',
    "votable": b'<?xml version="1.0"?>\n<VOTABLE></VOTABLE>\n',
    "html": b"<!DOCTYPE html><html></html>",
    "zip": zipped(),
    "safetensors": safetensors(),
}


def checked(folder: Path, body: bytes, content: Content = "any", checksum: str = "") -> str:
    """SHA-256 of a body that passes."""
    path = folder / "a"
    path.write_bytes(body)
    return check(path, content, None, checksum, 10**7).sha256


@pytest.mark.parametrize("content", GOOD)
def test_good_files_pass(tmp_path: Path, content: Content) -> None:
    digest = checked(tmp_path, GOOD[content], content)
    assert digest == hashlib.sha256(GOOD[content]).hexdigest()


@pytest.mark.parametrize("content", sorted(set(get_args(Content)) - {"any", "csv", "text", "html"}))
@pytest.mark.parametrize("body", GOOD, ids=lambda name: f"is-{name}")
def test_no_kind_passes_for_another(tmp_path: Path, content: Content, body: Content) -> None:
    if content == body:
        return
    with pytest.raises(MalformedError):
        checked(tmp_path, GOOD[body], content)


@pytest.mark.parametrize("content", sorted(set(GOOD) - {"any", "csv", "text", "html"}))
def test_a_file_cut_short_is_noticed(tmp_path: Path, content: Content) -> None:
    body = GOOD[content]
    for kept in (0, 1, len(body) // 2, len(body) * 3 // 4):
        with pytest.raises(MalformedError):
            checked(tmp_path, body[:kept], content)


def test_json_too_deep_to_be_read_is_no_json(tmp_path: Path) -> None:
    deep = b"[" * 100_000 + b"]" * 100_000
    with pytest.raises(MalformedError, match="damaged JSON"):
        checked(tmp_path, deep, "json")
    with pytest.raises(MalformedError, match="header cannot be read"):
        checked(tmp_path, len(deep).to_bytes(8, "little") + deep, "safetensors")


def test_fits_may_lack_padding_and_nothing_else(tmp_path: Path) -> None:
    n_data = 30 * 50 * 4
    end = len(IMAGE) - (-n_data % BLOCK)
    checked(tmp_path, IMAGE[:end], "fits")
    with pytest.raises(MalformedError, match="lacks the last 1 bytes of the data of HDU 0"):
        checked(tmp_path, IMAGE[: end - 1], "fits")


def test_fits_with_more_hdus(tmp_path: Path) -> None:
    body = fits_bytes(TABLE, fits.ImageHDU(np.zeros((7, 7))))
    checked(tmp_path, body, "fits")
    for kept in (len(IMAGE) + 100, len(IMAGE) + BLOCK, len(body) - BLOCK):
        with pytest.raises(MalformedError, match=r"HDU [12]"):
            checked(tmp_path, body[:kept], "fits")


@pytest.mark.parametrize("tail", [b"<html>Error</html>", b"x" * 5000])
def test_fits_with_a_page_appended(tmp_path: Path, tail: bytes) -> None:
    with pytest.raises(MalformedError, match="other bytes after its last HDU"):
        checked(tmp_path, IMAGE + tail, "fits")
    checked(tmp_path, IMAGE + bytes(4000), "fits")


def test_fits_whose_header_makes_no_sense(tmp_path: Path) -> None:
    for old, new in (
        (b"BITPIX  =", b"BITPIY  ="),
        (b"NAXIS   =                    4", b"NAXIS   = x"),
    ):
        with pytest.raises(MalformedError, match="without a whole number"):
            checked(tmp_path, IMAGE.replace(old, new.ljust(len(old))), "fits")
    endless = IMAGE[:BLOCK].replace(b"END     ", b"HISTORY ") * 4100
    with pytest.raises(MalformedError, match="header does not end"):
        checked(tmp_path, endless, "fits")


def test_gzip_in_pieces_damaged_and_too_large(tmp_path: Path) -> None:
    checked(tmp_path, gzip.compress(IMAGE[:5000]) + gzip.compress(IMAGE[5000:]), "fits.gz")
    packed = bytearray(gzip.compress(IMAGE))
    packed[len(packed) // 2] ^= 1
    with pytest.raises(MalformedError):
        checked(tmp_path, bytes(packed), "fits.gz")
    bomb = gzip.compress(fits_bytes(fits.ImageHDU(np.zeros((2000, 2000)))))
    with pytest.raises(MalformedError, match=r"unpacks to more than 0\.01 GB.*archives\.unpack_gb"):
        checked(tmp_path, bomb, "fits.gz")


@pytest.mark.parametrize(
    ("kind", "digits"),
    [
        ("md5", hashlib.md5(IMAGE).hexdigest()),
        ("sha1", hashlib.sha1(IMAGE).hexdigest()),
        ("sha256", hashlib.sha256(IMAGE).hexdigest()),
        ("crc32", f"{zlib.crc32(IMAGE):08x}"),
        ("adler32", f"{zlib.adler32(IMAGE):08x}"),
    ],
)
def test_checksums_of_every_kind(tmp_path: Path, kind: str, digits: str) -> None:
    checked(tmp_path, IMAGE, "fits", f"{kind}:{digits}")
    other = digits[:-1] + ("0" if digits[-1] != "0" else "1")
    with pytest.raises(MalformedError, match=f"the checksum {kind}:{digits} instead of"):
        checked(tmp_path, IMAGE, "fits", f"{kind}:{other}")
    in_pieces = Hasher(f"{kind}:{digits}")
    for start in range(0, len(IMAGE), 777):
        in_pieces.update(IMAGE[start : start + 777])
    assert in_pieces.is_right


@pytest.mark.parametrize("text", ["md5", "md5:", "MD5:" + "0" * 32, "md5:" + "G" * 32, "crc:1"])
def test_what_is_no_checksum(text: str) -> None:
    with pytest.raises(DataError, match="is no checksum"):
        parse(text)
