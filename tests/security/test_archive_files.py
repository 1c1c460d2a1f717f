"""Tar and zip files whose headers are the attack: nothing is believed, nothing fills the memory.

Names, links and plain bombs are in tests/unit/acquire/transfer/test_archive_files.py.
"""

import gzip
import struct
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from stradavit.acquire.archives import rgz_tables
from stradavit.acquire.archives.mirabest import check_batches
from stradavit.acquire.archives.mirabest_releases import RELEASES
from stradavit.acquire.batches import iter_batches
from stradavit.acquire.transfer import tars
from stradavit.acquire.transfer.archive_files import unpack
from stradavit.errors import DataError
from tests.archives.server import impatient

MANY = 64 * 2**20


def header(kind: bytes, size: int, name: str = "x") -> bytes:
    """A tar header of a type and size of our choice, with its right sum."""
    info = tarfile.TarInfo(name)
    info.type = kind
    if size >= 0:
        info.size = size
        return info.tobuf(tarfile.GNU_FORMAT)
    block = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    # Base 256, which alone can tell a negative number.
    block[124:136] = b"\xff" * 4 + struct.pack(">q", size)
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def packed(path: Path, *blocks: bytes) -> Path:
    with gzip.open(path, "wb", compresslevel=1) as out:
        for block in blocks:
            out.write(block)
        out.write(bytes(1024))
    return path


def long_name(path: Path) -> Path:
    """A name of 64 MB, in a file of a few hundred kilobytes."""
    return packed(
        path, header(tarfile.GNUTYPE_LONGNAME, MANY), *[bytes(2**20)] * 64, header(b"0", 0)
    )


def comments(path: Path) -> Path:
    """As much in comments of the newer kind."""
    return packed(path, header(tarfile.XHDTYPE, MANY), *[bytes(2**20)] * 64, header(b"0", 0))


def chain(path: Path) -> Path:
    """Comments on comments on comments: a call for each."""
    comment = b"12 comment=\n".ljust(512, b"\0")
    return packed(path, *[header(tarfile.XHDTYPE, 12) + comment] * 5000, header(b"0", 0))


def negative(path: Path) -> Path:
    """A comment of negative length, on which tarfile went round in circles (CVE-2025-8194)."""
    return packed(path, header(b"0", 0), header(tarfile.XHDTYPE, -1024), header(b"0", 0))


def backwards(path: Path) -> Path:
    """A file of negative length: the next header is this one."""
    return packed(path, header(b"0", 0), header(b"0", -512))


def holes(path: Path) -> Path:
    """A file that is all hole."""
    return packed(path, header(tarfile.GNUTYPE_SPARSE, 0), header(b"0", 0))


def listed_holes(path: Path) -> Path:
    """The newer way to say so, with a list of holes as long as one likes."""
    fields = b"GNU.sparse.major=1\n", b"GNU.sparse.minor=0\n", b"GNU.sparse.name=y\n"
    text = b"".join(b"%d %s" % (len(field) + 3, field) for field in fields)
    return packed(
        path,
        header(tarfile.XHDTYPE, len(text)),
        text.ljust(512, b"\0"),
        header(b"0", MANY),
        *[b"1\n" * 2**19] * 64,
    )


ATTACKS = [long_name, comments, chain, negative, backwards, holes, listed_holes]


def unpacked(path: Path, folder: Path) -> None:
    unpack(path, folder / "out", impatient())


def batches(path: Path, folder: Path) -> None:
    list(iter_batches(path))


def mirabest(path: Path, folder: Path) -> None:
    check_batches(path, RELEASES["F"])


def rgz(path: Path, folder: Path) -> None:
    rgz_tables._unpacked(path, folder)


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("read", [unpacked, batches, mirabest, rgz])
def test_headers_of_a_tar_are_bounded(
    tmp_path: Path, attack: Callable[[Path], Path], read: Callable[[Path, Path], None]
) -> None:
    path = attack(tmp_path / "a.tar.gz")
    assert path.stat().st_size < 2**20
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=r"a\.tar\.gz: cannot be (unpacked|read)"):
            read(path, tmp_path)
        assert tracemalloc.get_traced_memory()[1] < 24 * 2**20
    finally:
        tracemalloc.stop()
    assert [found.name for found in tmp_path.iterdir()] == ["a.tar.gz"]


def test_names_of_many_members_are_bounded_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tars, "MAX_EXTENSIONS_BYTES", 10_000)
    name = header(tarfile.GNUTYPE_LONGNAME, 600) + b"n".ljust(1024, b"\0")
    path = packed(tmp_path / "a.tar.gz", *[name + header(b"0", 0)] * 20)
    with pytest.raises(DataError, match="a header of type b'L' that claims 600 bytes"):
        batches(path, tmp_path)


def test_batches_in_an_archive_are_bounded_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stradavit.acquire.batches.MAX_ARCHIVE_BYTES", 1000)
    path = packed(tmp_path / "a.tar.gz", header(b"0", 2000, "data_batch_1"), bytes(2048))
    with pytest.raises(DataError, match=r"more than 100000 files or 1000 bytes\. Not read"):
        batches(path, tmp_path)


def test_the_table_of_a_zip_is_bounded_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as out:
        for number in range(500):
            out.writestr(f"{number}", b"")
    archives = impatient(unpack_members=50)
    with monkeypatch.context() as patch:
        patch.setattr(zipfile, "ZipFile", lambda *_: pytest.fail("its table was read"))
        with pytest.raises(DataError, match=r"more than 50 members.*archives\.unpack_members"):
            unpack(path, tmp_path / "out", archives)
    assert len(unpack(path, tmp_path / "out", impatient())) == 500
