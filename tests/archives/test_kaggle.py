"""SARDet-100K: from Kaggle or from a copy, in either layout, whole or refused."""

import hashlib
import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stradavit.acquire.archives import kaggle
from stradavit.acquire.archives.kaggle import acquire_sardet, google_md5, read_credentials
from stradavit.acquire.archives.sardet import BOXES, IMAGES, read_copy
from stradavit.acquire.detection_sets import acquire_detection
from stradavit.acquire.detection_sources import read_sources
from stradavit.errors import DataError
from stradavit.settings.detection import SardetSet

from .fake_kaggle import CLASSES, KEY, USER, FakeKaggle, annotations, members, zipped
from .faults import FAULTS, faulty, record_outcome
from .server import Loopback, Request, impatient


@pytest.fixture(autouse=True)
def no_credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("KAGGLE_USERNAME", "KAGGLE_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(tmp_path / "config"))


def acquired(server: Loopback, folder: Path, **more: Any) -> dict[str, Any]:
    acquire_sardet(impatient({"kaggle": server.url}), folder / "sardet.json", **more)
    value: dict[str, Any] = json.loads((folder / "sardet.json").read_text())
    return value


def is_whole(folder: Path) -> bool:
    root = folder / "version-3" / "SARDet_100K"
    made = {name.removeprefix("SARDet_100K/"): body for name, body in members().items()}
    return all((root / name).read_bytes() == body for name, body in made.items())


def test_a_download_is_checked_unpacked_and_not_repeated(tmp_path: Path) -> None:
    fake = FakeKaggle()
    with Loopback(fake) as server:
        said = acquired(server, tmp_path)
        assert is_whole(tmp_path)
        assert not list(tmp_path.glob("*.zip*"))
        assert said["source"]["version"] == 3
        assert said["source"]["sha256"] == hashlib.sha256(fake.body).hexdigest()
        assert said["source"]["published"].startswith("md5:")
        assert said["images"] == {"train": 1, "val": 1, "test": 1}
        assert said["boxes_of_class"] == dict.fromkeys(sorted(CLASSES), 3)
        assert "train: has 1 images; published are 94,493" in said["warnings"]
        n_files = server.count("/store/")
        again = acquired(server, tmp_path)
        assert again == said
        assert server.count("/store/") == n_files
        n_requests = server.count()
        acquired(server, tmp_path, version=3)
        assert server.count() == n_requests
        fake.version, fake.body = 4, zipped(members(by_split=False))
        assert acquired(server, tmp_path)["source"]["version"] == 4
        assert is_whole(tmp_path)


STEPS: dict[str, Callable[[Request], bool]] = {
    "view": lambda request: "/view/" in request.path,
    "first byte": lambda request: request.headers.get("range") == "bytes=0-0",
    "redirect": lambda request: "/download/" in request.path and "range" not in request.headers,
    "file": lambda request: (
        "/store/" in request.path and request.headers.get("range") != "bytes=0-0"
    ),
}
HARMLESS = {"cut", "stall", "429s", "429date", "500once", "503once", "range200"}
# A redirect has no body to spoil, and of one byte nothing can be cut off that matters.
NO_FAULT = {
    ("redirect", "truncated"),
    ("redirect", "wrong_bytes"),
    ("first byte", "truncated"),
    ("first byte", "wrong_bytes"),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("step", STEPS)
def test_every_fault_ends_well_or_in_words(step: str, fault: str, tmp_path: Path) -> None:
    with Loopback(faulty(FakeKaggle(), fault, STEPS[step])) as server:
        ending: DataError | str = "right file"
        try:
            acquired(server, tmp_path)
        except DataError as error:
            ending = error
            assert "greatbird/sardet-100k" in str(error) or server.url in str(error)
        else:
            assert is_whole(tmp_path)
        record_outcome("kaggle", step, fault, ending)
        is_harmless = fault in HARMLESS or (step, fault) in NO_FAULT
        assert isinstance(ending, str) == is_harmless, ending
        assert server.count() < 40
    if ending != "right file":
        assert not (tmp_path / "version-3").exists()
        assert not (tmp_path / "sardet.json").exists()


def test_a_wrong_digest_is_refused(tmp_path: Path) -> None:
    said = r"version 3: refused: .*download it by hand"
    fake = FakeKaggle(md5=b"\x01" * 16)
    with Loopback(fake) as server, pytest.raises(DataError, match=said) as caught:
        acquired(server, tmp_path)
    record_outcome("kaggle", "own", "wrong X-Goog-Hash", caught.value)
    assert not (tmp_path / "version-3").exists()


def test_no_digest_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with Loopback(FakeKaggle(md5=None)) as server:
        acquired(server, tmp_path)
    record_outcome("kaggle", "own", "no X-Goog-Hash", "right file")
    assert is_whole(tmp_path)
    assert "publishes no MD5 digest" in caplog.text


def test_a_store_without_ranges(tmp_path: Path) -> None:
    with Loopback(FakeKaggle(honours_range=False)) as server:
        acquire_sardet(
            # Not even one byte fits, as the whole of the real file would not.
            impatient({"kaggle": server.url}, max_small_mb=0.0005),
            tmp_path / "sardet.json",
        )
    assert is_whole(tmp_path)


@pytest.mark.parametrize(
    ("fake", "said"),
    [
        (FakeKaggle(wants_login=True), "wants a login or consent.*KAGGLE_USERNAME"),
        (FakeKaggle(wants_consent=True), "Accept the terms on its page"),
    ],
)
def test_consent_and_login(fake: FakeKaggle, said: str, tmp_path: Path) -> None:
    with Loopback(fake) as server, pytest.raises(DataError, match=said) as caught:
        acquired(server, tmp_path)
    name = "login wanted" if fake.wants_login else "consent wanted"
    record_outcome("kaggle", "own", name, caught.value)


def test_a_version_that_is_gone(tmp_path: Path) -> None:
    said = "no data set or version"
    with Loopback(FakeKaggle()) as server, pytest.raises(DataError, match=said):
        acquired(server, tmp_path, version=2)


def test_credentials_go_to_kaggle_alone_and_are_never_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("KAGGLE_USERNAME", USER)
    monkeypatch.setenv("KAGGLE_KEY", KEY)
    fake = FakeKaggle(wants_login=True)
    with Loopback(fake.file) as store, Loopback(fake) as server:
        fake.store = store.url
        acquired(server, tmp_path)
        assert all("authorization" in request.headers for request in server.requests)
        assert not any("authorization" in request.headers for request in store.requests)
    written = "".join(p.read_text("latin1") for p in tmp_path.rglob("*") if p.is_file())
    for told in (caplog.text, written):
        assert KEY not in told
        assert "aSignature" not in told


def kaggle_json(folder: Path, content: str, mode: int = 0o600) -> Path:
    folder.mkdir()
    path = folder / "kaggle.json"
    path.write_text(content)
    path.chmod(mode)
    return path


def test_credentials_from_the_file(tmp_path: Path) -> None:
    assert read_credentials() is None
    path = kaggle_json(tmp_path / "config", json.dumps({"username": "a", "key": "b"}))
    assert read_credentials() == ("a", "b")
    path.chmod(0o640)
    with pytest.raises(DataError, match=r"open to other users \(mode 640\).*chmod 600"):
        read_credentials()


@pytest.mark.parametrize("content", ['{"username": "a", "key": ', "[]", '{"username": "a"}', "{}"])
def test_a_credentials_file_that_is_none(content: str, tmp_path: Path) -> None:
    kaggle_json(tmp_path / "config", content)
    with pytest.raises(DataError, match="holds no `username` and `key`"):
        read_credentials()


def test_half_a_login(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAGGLE_KEY", "aSecret")
    with pytest.raises(DataError, match="KAGGLE_KEY is set, but not KAGGLE_USERNAME") as caught:
        read_credentials()
    assert "aSecret" not in str(caught.value)


@pytest.mark.parametrize(
    ("header", "checksum"),
    [
        ("crc32c=AAAAAA==,md5=1B2M2Y8AsgTpgAmY7PhCfg==", "md5:d41d8cd98f00b204e9800998ecf8427e"),
        ("md5=1B2M2Y8AsgTpgAmY7PhCfg==", "md5:d41d8cd98f00b204e9800998ecf8427e"),
        ("crc32c=AAAAAA==", ""),
        ("md5=AAAA", ""),
        ("md5=***", ""),
        ("", ""),
    ],
)
def test_the_digest_in_the_header(header: str, checksum: str) -> None:
    assert google_md5(header) == checksum


@pytest.mark.parametrize(
    "name",
    ["../outside.txt", "/tmp/outside.txt", "SARDet_100K/../../outside.txt"],
)
def test_an_archive_file_with_path_tricks(name: str, tmp_path: Path) -> None:
    fake = FakeKaggle(body=zipped({**members(), name: b"outside"}))
    with Loopback(fake) as server, pytest.raises(DataError) as caught:
        acquired(server, tmp_path / "deep" / "folder")
    record_outcome("kaggle", "own", "path tricks in the zip", caught.value)
    assert not list(tmp_path.rglob("outside.txt"))
    assert not (tmp_path / "deep" / "folder" / "sardet.json").exists()


def test_an_archive_file_that_is_a_bomb(tmp_path: Path) -> None:
    with Loopback(FakeKaggle()) as server, pytest.raises(DataError) as caught:
        acquire_sardet(
            impatient({"kaggle": server.url}, unpack_members=5), tmp_path / "sardet.json"
        )
    record_outcome("kaggle", "own", "more files than admitted", caught.value)
    assert not (tmp_path / "version-3").exists()


@pytest.mark.parametrize("place", ["unpack", "write_json", "read_copy"])
def test_killed_anywhere_and_started_again_it_fetches_nothing_twice(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with Loopback(FakeKaggle()) as server:
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(kaggle, place, killed)
            acquired(server, tmp_path)
        n_files = sum(STEPS["file"](request) for request in server.requests)
        said = acquired(server, tmp_path)
        assert sum(STEPS["file"](request) for request in server.requests) == n_files == 1
        assert said == acquired(server, tmp_path)
    assert is_whole(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir() if not path.name.startswith(".")) == [
        "sardet.json",
        "version-3",
        "version-3.json",
    ]


def test_an_unpacked_copy_that_was_deleted_comes_back(tmp_path: Path) -> None:
    with Loopback(FakeKaggle()) as server:
        said = acquired(server, tmp_path)
        shutil.rmtree(tmp_path / "version-3")
        assert acquired(server, tmp_path) == said
    assert is_whole(tmp_path)


def test_a_zip_damaged_where_no_digest_tells(tmp_path: Path) -> None:
    body = zipped(members())
    place = body.index(b"no more than a head")
    damaged = body[:place] + b"NO" + body[place + 2 :]
    said = "cannot be unpacked.*Delete it"
    fake = FakeKaggle(body=damaged, md5=None)
    with Loopback(fake) as server, pytest.raises(DataError, match=said) as caught:
        acquired(server, tmp_path)
    record_outcome("kaggle", "own", "damaged zip without X-Goog-Hash", caught.value)
    assert not (tmp_path / "version-3").exists()


# -- copies on this disk --------------------------------------------------------------------------


def laid_out(folder: Path, files: dict[str, bytes]) -> Path:
    for name, body in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(body)
    return folder


@pytest.mark.parametrize("root", ["", "SARDet_100K/", "a/SARDet_100K/"])
@pytest.mark.parametrize("by_split", [True, False])
@pytest.mark.parametrize("first_id", [0, 1])
def test_both_layouts_are_recognised(
    by_split: bool, root: str, first_id: int, tmp_path: Path
) -> None:
    copy = read_copy(laid_out(tmp_path, members(by_split, root, first_id)))
    assert copy.root == tmp_path / root
    for split in ("train", "val", "test"):
        folder = copy.root / "JPEGImages"
        assert copy.folders[split] == (folder / split if by_split else folder)
        assert copy.boxes[split] == len(CLASSES)
    assert copy.categories == {name: n + first_id for n, name in enumerate(CLASSES)}


def test_names_that_hold_their_split(tmp_path: Path) -> None:
    files = members()
    for split in ("train", "val", "test"):
        files[f"SARDet_100K/Annotations/{split}.json"] = annotations(split, f"{split}/")
    copy = read_copy(laid_out(tmp_path, files))
    assert set(copy.folders.values()) == {tmp_path / "SARDet_100K" / "JPEGImages"}


def test_a_copy_is_taken_without_kaggle(tmp_path: Path) -> None:
    local = laid_out(tmp_path / "copy", members(by_split=False))
    acquire_sardet(impatient({"kaggle": "http://127.0.0.1:1"}), tmp_path / "out.json", local)
    said = json.loads((tmp_path / "out.json").read_text())
    assert said["source"] == {"local": str(local)}
    assert said["root"] == str(local / "SARDet_100K")


def test_a_detection_set_is_downloaded_once(tmp_path: Path) -> None:
    block = SardetSet(source="sardet", table="sar")
    with Loopback(FakeKaggle()) as server:
        archives = impatient({"kaggle": server.url})
        acquire_detection("sardet", block, tmp_path / "sources.json", (), archives)
        n_files = server.count("/store/")
        acquire_detection("sardet", block, tmp_path / "sources.json", (), archives)
        assert server.count("/store/") == n_files
    said = read_sources(tmp_path / "sources.json")
    assert said["root"] == str(tmp_path / "files" / "version-3" / "SARDet_100K")
    assert said["download"]["version"] == 3
    assert said["classes"] == list(CLASSES)


def test_the_published_counts_close() -> None:
    assert sum(IMAGES.values()) == 116_598
    assert sum(BOXES.values()) == 245_653


def without(name: str) -> dict[str, bytes]:
    return {key: body for key, body in members().items() if not key.endswith(name)}


def replaced(split: str, old: bytes, new: bytes) -> dict[str, bytes]:
    key = f"SARDet_100K/Annotations/{split}.json"
    body = members()[key]
    assert old in body
    return {**members(), key: body.replace(old, new)}


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"elsewhere.txt": b""}, "found none.*Name the folder that holds both"),
        (members(root="a/") | members(root="b/"), "expected one folder"),
        (without("test.json"), "has no test.json"),
        (without("0001.png"), r"lacks 1 of the 1 images of val.json, such as 0001.png"),
        (
            replaced("val", b'"image_id": 1', b'"image_id": 7'),
            "has no image: there is none with the id 7",
        ),
        (replaced("val", b'"tank"', b'"tonk"'), "of different versions"),
        (replaced("val", b'"tank"', b'"ship"'), "two categories share a name"),
        (replaced("val", b'{"images"', b'["images"'), "cannot be read as COCO annotations"),
        (replaced("val", b'"file_name"', b'"name"'), "has no `file_name`"),
        (replaced("val", b"0001.png", b"../../../x.png"), "lies outside its folder"),
        (replaced("val", b"0001.png", b"/etc/passwd"), "lies outside its folder"),
    ],
)
def test_copies_that_are_not_whole(files: dict[str, bytes], said: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=said):
        read_copy(laid_out(tmp_path, files))


def test_other_classes_are_said(tmp_path: Path) -> None:
    files = {
        name: body.replace(b'"tank"', b'"tonk"') if name.endswith(".json") else body
        for name, body in members().items()
    }
    warnings = read_copy(laid_out(tmp_path, files)).warnings
    assert any("tonk" in warning and "published are" in warning for warning in warnings)
