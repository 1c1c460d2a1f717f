"""Pickled batches: read as published, and never run."""

import hashlib
import io
import math
import os
import pickle
import tarfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stradavit.acquire.batches import iter_batch_images, load_batch
from stradavit.acquire.labels import LabelledImage, read_labels
from stradavit.acquire.stages import acquire_benchmark
from stradavit.errors import DataError, LabelError
from stradavit.settings.sources import BatchBenchmark

SIDE = 5
IMAGES = np.arange(4 * SIDE * SIDE, dtype=np.uint8).reshape(4, SIDE, SIDE)
BATCH = {
    "data": IMAGES,
    "labels": [0, 1, 1, 7],
    "filenames": ["x_123.456_+01.000.png", "100_123.456_+001.000.png", "same.png", "same.png"],
}


def write(path: Path, content: object = BATCH, protocol: int = 4) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(content, protocol))
    return path


def acquire(path: Path, out: Path, **more: Any) -> list[LabelledImage]:
    values = {"side_px": SIDE, "label_names": {0: "FR I", 1: "FR II"}, **more}
    benchmark = BatchBenchmark.model_validate({"source": "batches", "path": str(path), **values})
    acquire_benchmark("b", benchmark, out / "labels.csv")
    return read_labels(out / "labels.csv")


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    "data",
    [
        IMAGES,
        IMAGES.reshape(4, -1),
        list(IMAGES.reshape(4, -1)),
        np.asfortranarray(IMAGES),
        IMAGES.astype(">f4"),
        IMAGES.astype("<i8"),
    ],
    ids=["cube", "flat", "list", "fortran", "big-endian", "int64"],
)
def test_every_layout_and_protocol_gives_the_images(
    tmp_path: Path, data: Any, protocol: int
) -> None:
    write(tmp_path / "data_batch_1", {**BATCH, "data": data}, protocol)
    images = list(iter_batch_images(tmp_path, SIDE))
    np.testing.assert_array_equal(images, IMAGES)


def test_names_of_numpy_1_are_understood(tmp_path: Path) -> None:
    raw = pickle.dumps({**BATCH, "filenames": np.array(BATCH["filenames"])}, 3)
    assert b"numpy._core" in raw
    (tmp_path / "b").write_bytes(raw.replace(b"numpy._core", b"numpy.core"))
    loaded = load_batch(tmp_path / "b")
    np.testing.assert_array_equal(loaded["data"], IMAGES)
    assert list(loaded["filenames"]) == BATCH["filenames"]


def test_python_2_pickle_has_byte_keys_and_text_bytes(tmp_path: Path) -> None:
    # As Python 2 wrote it: str for keys and for the bytes of the array (opcodes U and T).
    raw = (
        b"\x80\x02}(U\x06labels](K\x00K\x01eU\x04datacnumpy.core.multiarray\n_reconstruct\n"
        b"cnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01K\x02K\x02\x86cnumpy\ndtype\nU\x02u1K\x00K\x01"
        b"\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U\x04\x01\x02\xfe\xfftbu."
    )
    (tmp_path / "b").write_bytes(raw)
    loaded = load_batch(tmp_path / "b")
    assert loaded["labels"] == [0, 1]
    np.testing.assert_array_equal(loaded["data"], [[1, 2], [254, 255]])


class Evil:
    """Runs a command when it is unpickled the usual way."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> Any:
        return os.system, (self.command,)


@pytest.mark.parametrize("protocol", range(6))
def test_malicious_pickle_is_refused_and_not_run(tmp_path: Path, protocol: int) -> None:
    marker = tmp_path / "marker"
    evil = Evil(f"touch {marker}")
    pickle.loads(pickle.dumps(evil))
    assert marker.exists(), "the attack itself must work, or this test proves nothing"
    marker.unlink()
    for content in (evil, {**BATCH, "data": evil}, {**BATCH, "extra": [evil]}):
        write(tmp_path / "data_batch_1", content, protocol)
        with pytest.raises(DataError, match=r"found (posix|nt)\.system; only numpy arrays"):
            list(iter_batch_images(tmp_path, SIDE))
        assert not marker.exists()


@pytest.mark.parametrize(
    "content",
    [
        {"data": np.array([print, 1], dtype=object)},
        {"data": np.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")])},
        {"data": OrderedDict(a=1)},
        {"data": Path("x")},
        {"data": np.datetime64("2020-01-01")},
        {"data": eval},
        [1, 2],
    ],
    ids=["objects", "records", "class", "path", "date", "function", "no mapping"],
)
def test_anything_but_plain_arrays_is_refused(tmp_path: Path, content: object) -> None:
    write(tmp_path / "b", content)
    with pytest.raises(DataError, match="found"):
        load_batch(tmp_path / "b")


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"<html>Forbidden</html>",
        pickle.dumps(BATCH)[:-40],
        # A table entry of 2^32 - 1 would reserve tens of gigabytes.
        b"\x80\x02}r\xff\xff\xff\xff.",
        # An array of ten bytes that claims a thousand.
        pickle.dumps({"data": np.zeros(10, np.uint8)}, 3).replace(b"K\n\x85", b"M\xe8\x03\x85"),
        # Attributes of an admitted name cannot be changed.
        b"\x80\x02}U\x01acnumpy\nndarray\n}U\x04call}sbs.",
        # Nor can it be called with what it does not take.
        b"\x80\x02}U\x01acnumpy\ndtype\nU\x01O\x85Rs.",
    ],
    ids=["empty", "html", "truncated", "memo", "shape", "build", "object dtype"],
)
def test_damaged_pickle_is_refused(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / "b").write_bytes(raw)
    with pytest.raises(DataError, match="Not loaded"):
        load_batch(tmp_path / "b")


def archive(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as opened:
        for name, raw in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(raw)
            opened.addfile(member, io.BytesIO(raw))
        link = tarfile.TarInfo("batches/data_batch_9")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        opened.addfile(link)
    return path


def test_archive_is_read_as_the_folder_and_never_unpacked(tmp_path: Path) -> None:
    raw = pickle.dumps(BATCH)
    files = {
        "batches/test_batch": raw,
        "batches/data_batch_1": pickle.dumps({**BATCH, "data": IMAGES[::-1]}),
        "../../data_batch_2": raw,
        "batches/batches.meta": b"not read",
        ".hidden/data_batch_7": b"not read",
    }
    (tmp_path / "in" / "deep").mkdir(parents=True)
    path = archive(tmp_path / "in" / "deep" / "b.tar.gz", files)
    before = sorted(tmp_path.rglob("*"))
    images = list(iter_batch_images(path, SIDE))
    np.testing.assert_array_equal(images, [*IMAGES[::-1], *IMAGES])
    assert sorted(tmp_path.rglob("*")) == before


def test_digest_file_is_heeded(tmp_path: Path) -> None:
    path = write(tmp_path / "data_batch_1")
    good = hashlib.md5(path.read_bytes()).hexdigest()
    (tmp_path / "hash.md5").write_text(f"{good}  data_batch_1\n")
    assert len(list(iter_batch_images(tmp_path, SIDE))) == 4
    (tmp_path / "hash.md5").write_text(f"{'0' * 32}  data_batch_1\n")
    with pytest.raises(DataError, match=r"data_batch_1 has the MD5 digest .* says 0000"):
        list(iter_batch_images(tmp_path, SIDE))


def test_wrong_side_is_named(tmp_path: Path) -> None:
    write(tmp_path / "data_batch_1")
    with pytest.raises(DataError, match=r"image 0 has the shape \(5, 5\).*expected numbers, 6 x 6"):
        list(iter_batch_images(tmp_path, 6))


def test_folder_and_archive_without_batches_are_named(tmp_path: Path) -> None:
    (tmp_path / "readme.txt").write_text("x")
    with pytest.raises(DataError, match=r"none of its 1 files \(readme.txt\) is a batch"):
        list(iter_batch_images(tmp_path, SIDE))
    (tmp_path / "broken.tar.gz").write_bytes(b"\x1f\x8b\x08 no archive")
    with pytest.raises(DataError, match="cannot be read as an archive"):
        list(iter_batch_images(tmp_path / "broken.tar.gz", SIDE))
    with pytest.raises(DataError, match="absent: cannot be read"):
        list(iter_batch_images(tmp_path / "absent", SIDE))


def test_labels_are_keyed_on_batch_and_index_not_on_names(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "batches"
    write(folder / "data_batch_1")
    write(folder / "test_batch")
    with caplog.at_level("INFO"):
        rows = acquire(folder, tmp_path / "raw")
    assert [row.member for row in rows] == [0, 1, 2, 4, 5, 6]
    assert len({row.image for row in rows}) == 6
    assert rows[1].image == "data_batch_1-00001"
    assert "2 of label 7" in caplog.text
    # The same position is the same source; same names without position are different sources.
    assert rows[1].source == rows[4].source
    assert (rows[1].ra_deg, rows[1].dec_deg) == (123.456, 1.0)
    assert math.isnan(rows[2].ra_deg) and rows[2].source != rows[5].source
    # What lies in test_batch is for testing, unless the settings say otherwise.
    assert [row.split for row in rows] == ["train"] * 3 + ["test"] * 3
    sides = {
        name: [row.split for row in acquire(folder, tmp_path / "raw", test_batch=name)]
        for name in (None, "data_batch_1")
    }
    assert sides == {None: [""] * 6, "data_batch_1": ["test"] * 3 + ["train"] * 3}
    # `member` counts through the images in the order they are read.
    images = list(iter_batch_images(rows[4].path, SIDE))
    np.testing.assert_array_equal(images[rows[4].member or 0], IMAGES[1])


def test_labels_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "data_batch_1", {**BATCH, "labels": [0]})
    with pytest.raises(LabelError, match="found 1 labels for 4 images"):
        acquire(tmp_path, tmp_path)
    write(tmp_path / "data_batch_1")
    with pytest.raises(LabelError, match=r"none of its labels \[0, 1, 7\] has a name"):
        acquire(tmp_path, tmp_path, label_names={3: "x"})
    with pytest.raises(LabelError, match="is no regular expression"):
        acquire(tmp_path, tmp_path, filename_pattern="(")
    with pytest.raises(LabelError, match="lacks the groups"):
        acquire(tmp_path, tmp_path, filename_pattern="x")


def test_real_mirabest(shared_data: Path, tmp_path: Path) -> None:
    path = shared_data / "benchmarks" / "mirabest" / "batches.tar.gz"
    rows = acquire(path, tmp_path, side_px=150)
    assert [sum(row.label == name for row in rows) for name in ("FR I", "FR II")] == [351, 441]
    images = list(iter_batch_images(path, 150))
    assert len(images) == 792 and {image.shape for image in images} == {(150, 150)}
    # File names hold degrees: the catalogue's right ascension is in hours, 15 degrees each.
    hours = np.loadtxt(path.parent / "mirabestdata.txt", usecols=(3, 4))
    catalogue = hours * (15.0, 1.0)
    found = np.array([(row.ra_deg, row.dec_deg) for row in rows])
    distance = np.abs(found[:, None] - catalogue[None]).max(axis=2).min(axis=1)
    assert distance.max() < 0.001
    assert len({row.source for row in rows}) == 792
    # An older release than F of Porter & Scaife, which is divided into 729 and 104.
    assert [sum(row.split == side for row in rows) for side in ("train", "test")] == [704, 88]
    # Six images are all zero although they carry a label; they are read like all others.
    assert sum(not image.any() for image in images) == 6


def test_real_frdeep(shared_data: Path, tmp_path: Path) -> None:
    path = shared_data / "benchmarks" / "frdeep-sample" / "FIRST"
    rows = acquire(path, tmp_path, side_px=150)
    assert [sum(row.label == name for row in rows) for name in ("FR I", "FR II")] == [22, 28]
    assert len({row.source for row in rows}) == 50
    images = list(iter_batch_images(path, 150))
    assert {(image.shape, image.dtype.str) for image in images} == {((150, 150), "|u1")}
