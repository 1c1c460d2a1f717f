"""MiraBest: only the published batches are read, and two telescopes' images are one source."""

import gzip
import hashlib
import io
import os
import pickle
import re
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stradavit.acquire.archives import mirabest
from stradavit.acquire.archives.mirabest import RELEASES, check_batches
from stradavit.acquire.archives.mirabest_releases import Release
from stradavit.acquire.labels import LabelledImage
from stradavit.acquire.transfer.web import Web
from stradavit.cutouts.labelled import labelled_images
from stradavit.errors import DataError, LabelError
from stradavit.settings.sources import MiraBestBenchmark

from .benchmark_runs import run, survives, told
from .faults import FAULTS, record_outcome
from .server import App, files

SIDE = 6
CODES = (100, 102, 104, 110, 112, 200, 201, 210, 300, 310)
NAMES = (*(f"data_batch_{k}" for k in range(1, 8)), "test_batch")


def md5(raw: bytes) -> str:
    return hashlib.md5(raw, usedforsecurity=False).hexdigest()


def batch(number: int, telescope: int) -> bytes:
    """Ten images, one of each class; the position tells the source, not the telescope.

    Positions of NVSS, the last telescope, are a few arcseconds off.
    """
    draw = np.random.default_rng([number, telescope])
    off = 0.001 * (telescope == 2)
    names = [
        f"{code}_{150 + number:07.3f}{'+-'[number % 2]}{10 + k + off:07.3f}_0.1000_0030.00.png"
        for k, code in enumerate(CODES)
    ]
    content = {
        "data": draw.integers(0, 255, (10, SIDE * SIDE), np.uint8),
        "labels": list(range(10)),
        "filenames": names,
        "batch_label": f"batch {number}",
    }
    return pickle.dumps(content, 4)


def batches(telescope: int = 0) -> dict[str, bytes]:
    return {name: batch(number, telescope) for number, name in enumerate(NAMES)}


def packed(content: dict[str, bytes], folder: str = "F_batches") -> bytes:
    opened = io.BytesIO()
    with tarfile.open(fileobj=opened, mode="w") as archive:
        for name, raw in {**content, "batches.meta": pickle.dumps({"label_names": []})}.items():
            member = tarfile.TarInfo(f"{folder}/{name}")
            member.size = len(raw)
            archive.addfile(member, io.BytesIO(raw))
    return gzip.compress(opened.getvalue(), mtime=0)


TARS = {name: packed(batches(k), f"{name}_batches") for k, name in enumerate(RELEASES)}


def as_published(monkeypatch: pytest.MonkeyPatch, name: str, tar: bytes, **others: str) -> None:
    """Take a tiny release for the published one; `others` are digests of batches."""
    index = list(RELEASES).index(name)
    digests = {batch: md5(raw) for batch, raw in batches(index).items()}
    release = Release(RELEASES[name].path, md5(tar), digests | others)
    monkeypatch.setitem(RELEASES, name, release)


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, tar in TARS.items():
        as_published(monkeypatch, name, tar)


def archive(tars: dict[str, bytes] = TARS) -> App:
    return files({f"/research/MiraBest/{RELEASES[name].path}": tar for name, tar in tars.items()})


def acquirer(**changes: Any) -> Any:
    benchmark = MiraBestBenchmark(source="mirabest", side_px=SIDE, **changes)

    def acquire(web: Web, folder: Path) -> list[LabelledImage]:
        return mirabest.acquire("mirabest", benchmark, web, web.archives.urls, folder)

    return acquire


def rows_of(acquire: Any, out: Path, app: App | None = None) -> list[LabelledImage]:
    rows: list[LabelledImage] = []

    def keep(web: Web, folder: Path) -> list[LabelledImage]:
        rows.extend(acquire(web, folder))
        return rows

    run(keep, app or archive(), out)
    return rows


def test_confident_first_images_are_those_of_a_naive_reading(tmp_path: Path) -> None:
    rows = rows_of(acquirer(), tmp_path)
    expected = []
    for name in sorted(NAMES):
        content = pickle.loads(batches(1)[name])
        for index, (label, file) in enumerate(
            zip(content["labels"], content["filenames"], strict=True)
        ):
            # Confidently classified: the middle digit is 0. First digit 1: FR I, 2: FR II.
            if file[1] == "0" and file[0] in "12":
                image = np.reshape(content["data"][index], (SIDE, SIDE))
                position = float(file[4:11]), float(file[11:18])
                expected.append((f"F-{name}-{index:05d}", int(file[0]), position, image))
                assert label in (0, 1, 2, 5, 6)
    assert len(rows) == len(expected) == 8 * 5
    assert [row.image for row in rows] == [image for image, *_ in expected]
    assert [row.label for row in rows] == ["FR " + "I" * first for _, first, *_ in expected]
    sides = ["test" if "test_batch" in image else "train" for image, *_ in expected]
    assert [row.split for row in rows] == sides and sides.count("test") == 5
    assert [(row.ra_deg, row.dec_deg) for row in rows] == [place for *_, place, _ in expected]
    pixels = [image for _, image in labelled_images(rows, SIDE, 100)]
    np.testing.assert_array_equal(pixels, [image for *_, image in expected])


def test_images_of_two_telescopes_share_a_source(tmp_path: Path) -> None:
    rows = rows_of(acquirer(release=("F", "N", "F")), tmp_path)
    assert len(rows) == len({row.image for row in rows}) == 2 * 8 * 5
    assert {row.split for row in rows} == {""}
    sources: dict[str, list[str]] = {}
    for row in rows:
        sources.setdefault(row.source, []).append(row.image)
    assert len(sources) == 8 * 5
    for images in sources.values():
        first, second = sorted(images)
        assert first.replace("F-", "N-") == second


def test_the_pool_of_the_paper_is_both_telescopes_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pooled = rows_of(acquirer(release=("full",), pooled_as_in_paper=True), tmp_path / "paper")
    assert (
        "mirabest: pools the releases F and N: 80 images of 40 sources, 40 of which have more than "
        "one image" in caplog.text
    )
    both = rows_of(acquirer(release=("F", "N")), tmp_path / "both")
    assert [(row.image, row.source) for row in pooled] == [(row.image, row.source) for row in both]
    benchmark = MiraBestBenchmark(source="mirabest", pooled_as_in_paper=True)
    assert benchmark.note is not None and "F and N, which show the same sources" in benchmark.note
    assert not benchmark.publishes_split
    alone = MiraBestBenchmark(source="mirabest")
    assert alone.publishes_split and alone.note is None
    with pytest.raises(ValueError, match="pooled_as_in_paper needs filename_pattern"):
        MiraBestBenchmark(source="mirabest", pooled_as_in_paper=True, filename_pattern=None)


def test_only_wanted_releases_are_fetched_and_only_once(tmp_path: Path) -> None:
    _, server = run(acquirer(), archive(), tmp_path)
    assert [request.path.rsplit("/")[-1] for request in server.requests] == [
        "MiraBest_F_batches.tar.gz"
    ]
    _, again = run(acquirer(), archive(), tmp_path)
    assert not again.requests


def test_labels_of_the_settings_decide(tmp_path: Path) -> None:
    rows = rows_of(acquirer(label_names={8: "Hybrid", 9: "Hybrid"}), tmp_path)
    assert {row.label for row in rows} == {"Hybrid"} and len(rows) == 16


class Evil:
    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> Any:
        return os.system, (self.command,)


@pytest.mark.parametrize("is_listed", [True, False])
def test_evil_batch_is_never_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_listed: bool
) -> None:
    marker = tmp_path / "marker"
    evil = pickle.dumps({"data": Evil(f"touch {marker}"), "labels": [], "filenames": []})
    tar = packed({**batches(1), "test_batch": evil})
    if is_listed:
        as_published(monkeypatch, "F", tar, test_batch=md5(evil))
    else:
        as_published(monkeypatch, "F", tar)
    wanted = "only numpy arrays" if is_listed else f"test_batch has the MD5 digest {md5(evil)}"
    told(acquirer(), archive({"F": tar}), tmp_path, wanted)
    assert not marker.exists()


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (
            {"data_batch_3": b""},
            r"data_batch_3 has the MD5 digest d41d8cd98f00b204e9800998ecf8427e",
        ),
        ({"data_batch_8": b"x"}, "data_batch_8 has .*the published one is not published"),
        ({"deeper/test_batch": b"x"}, "holds test_batch twice"),
    ],
)
def test_release_of_other_batches_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, bytes], match: str
) -> None:
    tar = packed({**batches(1), **change})
    as_published(monkeypatch, "F", tar)
    told(acquirer(), archive({"F": tar}), tmp_path, match)


def test_another_file_of_the_same_batches_is_not_taken(tmp_path: Path) -> None:
    tar = packed({**batches(1), "extra.py": b"print()"})
    told(acquirer(), archive({"F": tar}), tmp_path, "came as the checksum md5:")


def test_missing_batch_and_links_are_told(tmp_path: Path) -> None:
    content = batches(1)
    del content["data_batch_5"]
    path = tmp_path / "a.tar.gz"
    path.write_bytes(packed(content))
    with pytest.raises(DataError, match=r"data_batch_5 has the MD5 digest \(missing\)"):
        check_batches(path, RELEASES["F"])
    with tarfile.open(path, "w:gz") as tar:
        link = tarfile.TarInfo("F_batches/data_batch_1")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    with pytest.raises(DataError, match="missing"):
        check_batches(path, RELEASES["F"])


def test_bombs_and_damage_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.tar.gz"
    path.write_bytes(TARS["F"][: len(TARS["F"]) // 2])
    with pytest.raises(DataError, match="cannot be read as an archive file"):
        check_batches(path, RELEASES["F"])
    path.write_bytes(TARS["F"])
    check_batches(path, RELEASES["F"])
    monkeypatch.setattr(mirabest, "MAX_BYTES", 1000)
    with pytest.raises(DataError, match="more than a release"):
        check_batches(path, RELEASES["F"])


def test_file_names_without_positions_are_told(tmp_path: Path) -> None:
    pattern = r"x(?P<ra_deg>\d)_(?P<dec_deg>\d)"
    with pytest.raises(LabelError, match=r"none of the 40 file names .*filename_pattern"):
        rows_of(acquirer(filename_pattern=pattern), tmp_path)
    rows = rows_of(acquirer(filename_pattern=None), tmp_path)
    assert len({row.source for row in rows}) == 40


def test_published_digests_are_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    digests = []
    for release in RELEASES.values():
        assert set(release.batches) == set(NAMES)
        digests += [release.md5, *release.batches.values()]
    assert all(re.fullmatch("[0-9a-f]{32}", digest) for digest in digests)
    assert len(set(digests)) == 27


def test_real_batches_have_the_digests_of_their_list(shared_data: Path) -> None:
    path = shared_data / "benchmarks/mirabest/batches.tar.gz"
    assert md5(path.read_bytes()) == "fa9d6ad8fdde95b0a19df11433e8bca3"
    with tarfile.open(path) as tar:
        listed = tar.extractfile("batches/hash.md5")
        assert listed is not None
        lines = re.findall(r"([0-9a-f]{32})\s+(\S*batch\S*)", listed.read().decode())
    digests = {name: digest for digest, name in lines if name != "batches.meta"}
    assert len(digests) == 9
    check_batches(path, Release("", "", digests))
    with pytest.raises(DataError, match="data_batch_2 has the MD5"):
        check_batches(path, Release("", "", digests | {"data_batch_2": md5(b"")}))


@pytest.mark.parametrize("fault", FAULTS)
def test_faults(tmp_path: Path, fault: str) -> None:
    right, _ = run(acquirer(), archive(), tmp_path / "right")
    survives("mirabest", "batches", fault, ".tar.gz", acquirer(), archive(), right, tmp_path)


def test_batch_with_other_bytes_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tar = packed({**batches(1), "data_batch_1": batch(99, 1)})
    as_published(monkeypatch, "F", tar)
    message = told(acquirer(), archive({"F": tar}), tmp_path, "data_batch_1 has the MD5 digest")
    steady = re.sub("[0-9a-f]{32}", "…", message)
    record_outcome("mirabest", "batches", "one batch with another MD5", DataError(steady))
