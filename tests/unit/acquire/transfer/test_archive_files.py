"""Unpacking: what is inside, and nothing else, nowhere else."""

import gzip
import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from stradavit.acquire.transfer.archive_files import unpack
from stradavit.errors import DataError
from tests.archives.server import impatient


def tar(path: Path, *members: tarfile.TarInfo | tuple[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as out:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                out.addfile(member)
            else:
                info = tarfile.TarInfo(member[0])
                info.size = len(member[1])
                out.addfile(info, io.BytesIO(member[1]))
    return path


def zipped(path: Path, *members: tuple[str, bytes], mode: int = 0) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out:
        for name, body in members:
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = mode << 16
            out.writestr(info, body)
    return path


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


@pytest.mark.parametrize("make", [tar, zipped])
def test_files_come_out_as_they_went_in(tmp_path: Path, make) -> None:  # type: ignore[no-untyped-def]
    packed = make(tmp_path / "a", ("./b/c.txt", b"one"), ("d.txt", b"two"), ("._d.txt", b"desktop"))
    found = unpack(packed, tmp_path / "out", impatient())
    assert [path.relative_to(tmp_path / "out").as_posix() for path in found] == ["b/c.txt", "d.txt"]
    assert [path.read_bytes() for path in found] == [b"one", b"two"]
    packed.unlink()
    assert unpack(packed, tmp_path / "out", impatient()) == found


def test_only_what_is_wanted(tmp_path: Path) -> None:
    packed = tar(tmp_path / "a", ("a.txt", b"one"), ("b.csv", b"two"))
    found = unpack(packed, tmp_path / "out", impatient(), lambda name: name.endswith(".csv"))
    assert [path.name for path in found] == ["b.csv"]


NAMES = ["../x", "a/../../x", "/etc/x", "..", "a\\..\\x", "-rf", "a\nb", "/".join("a" * 20)]


@pytest.mark.parametrize("make", [tar, zipped])
@pytest.mark.parametrize("name", NAMES)
def test_names_that_lead_elsewhere(tmp_path: Path, make, name: str) -> None:  # type: ignore[no-untyped-def]
    packed = make(tmp_path / "a", ("good.txt", b"x"), (name, b"y"))
    with pytest.raises(DataError, match=r"(leads out of its folder|no safe name).*Nothing was unp"):
        unpack(packed, tmp_path / "out", impatient())
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize(
    "member",
    [
        special("link", tarfile.SYMTYPE, "/etc"),
        special("link", tarfile.LNKTYPE, "../x"),
        special("device", tarfile.CHRTYPE),
        special("pipe", tarfile.FIFOTYPE),
    ],
    ids=["symlink", "hardlink", "device", "pipe"],
)
def test_links_and_devices(tmp_path: Path, member: tarfile.TarInfo) -> None:
    packed = tar(tmp_path / "a", member, ("link/x", b"y"))
    with pytest.raises(DataError, match="is a link or a device"):
        unpack(packed, tmp_path / "out", impatient())
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_link_in_a_zip(tmp_path: Path) -> None:
    packed = zipped(tmp_path / "a", ("link", b"/etc/passwd"), mode=0o120777)
    with pytest.raises(DataError, match="is a link or a device"):
        unpack(packed, tmp_path / "out", impatient())


@pytest.mark.parametrize("make", [tar, zipped])
def test_bombs(tmp_path: Path, make) -> None:  # type: ignore[no-untyped-def]
    big = make(tmp_path / "a", ("zeros", bytes(5_000_000)))
    assert big.stat().st_size < 10_000
    with pytest.raises(DataError, match=r"unpacks to more than 0\.001 GB.*archives\.unpack_gb"):
        unpack(big, tmp_path / "out", impatient(unpack_gb=0.001))
    many = make(tmp_path / "a", *((f"{i}", b"") for i in range(50)))
    with pytest.raises(DataError, match=r"more than 40 members.*archives\.unpack_members"):
        unpack(many, tmp_path / "out", impatient(unpack_members=40))
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_one_name_twice(tmp_path: Path) -> None:
    packed = tar(tmp_path / "a", ("x", b"1"), ("X", b"2"))
    with pytest.raises(DataError, match="is there twice"):
        unpack(packed, tmp_path / "out", impatient())


def test_a_damaged_member_of_another_compression(tmp_path: Path) -> None:
    packed = tmp_path / "a"
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_LZMA) as out:
        out.writestr("x", bytes(range(256)) * 100)
    body = bytearray(packed.read_bytes())
    body[45:60] = b"\xff" * 15
    packed.write_bytes(body)
    with pytest.raises(DataError, match="cannot be unpacked"):
        unpack(packed, tmp_path / "out", impatient())


def test_damaged_and_foreign_files(tmp_path: Path) -> None:
    packed = tar(tmp_path / "a", ("x", bytes(range(256)) * 1000))
    packed.write_bytes(packed.read_bytes()[:-100])
    for body in (packed.read_bytes(), b"<html>", gzip.compress(b"no tar"), b"PK\x03\x04"):
        packed.write_bytes(body)
        with pytest.raises(DataError, match="cannot be unpacked"):
            unpack(packed, tmp_path / "out", impatient())
        assert [path.name for path in tmp_path.iterdir()] == ["a"]
