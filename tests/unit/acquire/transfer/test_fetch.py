"""Fetching: what is kept, what is asked again, what is refused and why."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from stradavit.acquire.transfer import fetch as module
from stradavit.acquire.transfer.fetch import Outcome, Remote, fetch
from stradavit.acquire.transfer.journal import JOURNAL
from stradavit.acquire.transfer.web import Web
from stradavit.errors import DataError
from tests.archives.faults import faulty, words
from tests.archives.server import (
    PATIENCE_S,
    App,
    Loopback,
    Reply,
    Request,
    files,
    html,
    impatient,
    text,
)

BODY = bytes(range(256)) * 40


def get(
    app: App, folder: Path, patience_s: float = PATIENCE_S, **changes: object
) -> tuple[Outcome, Loopback]:
    """Fetch one file named `a` from `/a`."""
    with Loopback(app) as server, Web(impatient(timeout_s=patience_s)) as web:
        remote = Remote("a", f"{server.url}/a", **changes)  # type: ignore[arg-type]
        (outcome,) = fetch(web, [remote], folder, "test")
        return outcome, server


def leave_part(folder: Path, body: bytes, validator: str, total: int | None) -> None:
    """What a killed transfer leaves."""
    (folder / "a.part").write_bytes(body)
    state = json.dumps({"validator": validator, "total": total})
    (folder / "a.part.json").write_text(state)


def etag(body: bytes) -> str:
    """As the fake server makes it."""
    return f'"{hashlib.md5(body).hexdigest()}"'


def test_a_part_is_continued_from_its_end(tmp_path: Path) -> None:
    leave_part(tmp_path, BODY[:1000], etag(BODY), len(BODY))
    outcome, server = get(files({"/a": BODY}), tmp_path)
    assert outcome.path is not None
    assert outcome.path.read_bytes() == BODY
    assert [request.headers["range"] for request in server.requests] == ["bytes=1000-"]


def test_a_whole_part_is_taken_without_asking(tmp_path: Path) -> None:
    leave_part(tmp_path, BODY, etag(BODY), len(BODY))
    outcome, server = get(files({"/a": BODY}), tmp_path)
    assert words(outcome) == "right file"
    assert server.count() == 0


@pytest.mark.parametrize(
    "state", [None, "torn", '{"validator": "x"}'], ids=["absent", "torn", "incomplete"]
)
def test_a_part_of_unknown_origin_starts_again(tmp_path: Path, state: str | None) -> None:
    (tmp_path / "a.part").write_bytes(b"of something else")
    if state is not None:
        (tmp_path / "a.part.json").write_text(state)
    outcome, server = get(files({"/a": BODY}), tmp_path)
    assert outcome.sha256 == hashlib.sha256(BODY).hexdigest()
    assert "range" not in server.requests[0].headers


def test_a_file_that_changed_meanwhile_is_not_glued_together(tmp_path: Path) -> None:
    other = BODY[::-1]
    leave_part(tmp_path, BODY[:1000], etag(BODY), len(BODY))
    outcome, _ = get(files({"/a": other}), tmp_path)
    assert outcome.sha256 == hashlib.sha256(other).hexdigest()


@pytest.mark.parametrize(
    "content_range",
    ["bytes 999-10239/10240", "bytes 1000-10239/10241", "", "bytes=1000-10239/10240"],
)
def test_a_wrong_range_is_never_appended(tmp_path: Path, content_range: str) -> None:
    def app(request: Request) -> Reply:
        if "range" in request.headers:
            return Reply(206, {"Content-Range": content_range}, BODY[1000:])
        return Reply(200, {}, BODY)

    leave_part(tmp_path, BODY[:1000], "", len(BODY))
    outcome, server = get(app, tmp_path)
    assert outcome.sha256 == hashlib.sha256(BODY).hexdigest()
    assert server.count() == 2


def test_a_206_of_another_version_is_never_appended(tmp_path: Path) -> None:
    other = BODY[::-1]

    def app(request: Request) -> Reply:
        # A server that ignores If-Range.
        if "range" in request.headers:
            headers = {"Content-Range": "bytes 1000-10239/10240", "ETag": etag(other)}
            return Reply(206, headers, other[1000:])
        return Reply(200, {"ETag": etag(other)}, other)

    leave_part(tmp_path, BODY[:1000], etag(BODY), len(BODY))
    outcome, _ = get(app, tmp_path)
    assert outcome.sha256 == hashlib.sha256(other).hexdigest()


def test_a_server_that_gives_ranges_piecemeal_is_followed_to_the_end(tmp_path: Path) -> None:
    def app(request: Request) -> Reply:
        start = int(request.headers.get("range", "bytes=0-")[6:-1])
        end = min(start + 4000, len(BODY))
        headers = {"Content-Range": f"bytes {start}-{end - 1}/{len(BODY)}", "ETag": etag(BODY)}
        return Reply(206, headers, BODY[start:end])

    leave_part(tmp_path, BODY[:1000], etag(BODY), len(BODY))
    outcome, server = get(app, tmp_path)
    assert outcome.sha256 == hashlib.sha256(BODY).hexdigest()
    assert server.count() == 3


def test_416_starts_again(tmp_path: Path) -> None:
    short = BODY[:500]
    leave_part(tmp_path, BODY[:1000], "", None)
    outcome, server = get(files({"/a": short}), tmp_path)
    assert outcome.sha256 == hashlib.sha256(short).hexdigest()
    assert server.count() == 2


def test_a_form_is_posted_and_never_continued(tmp_path: Path) -> None:
    leave_part(tmp_path, BODY[:1000], etag(BODY), len(BODY))
    form = (("RA", "10.8 +30"), ("ImageType", "FITS File"))
    outcome, server = get(files({"/a": BODY}), tmp_path, form=form)
    assert words(outcome) == "right file"
    (request,) = server.requests
    assert (request.method, request.form) == ("POST", dict(form))
    assert "range" not in request.headers


def test_plus_reaches_the_server_in_paths_and_in_queries(tmp_path: Path) -> None:
    with Loopback(lambda request: text(request.path)) as server, Web(impatient()) as web:
        remote = Remote("P000+23.txt", f"{server.url}/P000+23/x", params=(("pos", "1 +2"),))
        (outcome,) = fetch(web, [remote], tmp_path, "test")
        assert outcome.path is not None
        assert outcome.path.read_text() == "/P000+23/x"
        assert server.requests[0].query == {"pos": ["1 +2"]}
        assert "%2B2" in server.requests[0].target


@pytest.mark.parametrize("status", [200, 404, 500])
def test_no_data_is_an_outcome_and_not_an_error(tmp_path: Path, status: int) -> None:
    page = Reply(status, {}, b"<html>" + b" " * 8000 + b"Sorry: No FIRST data here</html>")
    outcome, server = get(lambda _: page, tmp_path, content="fits", no_data="no first data")
    assert words(outcome) == "refused: no data: the server says 'no first data'"
    assert server.count() == 1


def test_a_wrong_checksum_once_is_fetched_again(tmp_path: Path) -> None:
    app = faulty(files({"/a": BODY}), "wrong_bytes", times=1)
    digest = hashlib.sha1(BODY).hexdigest()
    outcome, server = get(app, tmp_path, checksum=f"sha1:{digest}")
    assert words(outcome) == "right file"
    assert server.count() == 2


def test_verify_has_the_last_word(tmp_path: Path) -> None:
    outcome, _ = get(files({"/a": BODY}), tmp_path, verify=lambda path: "off centre by 2′")
    assert words(outcome) == "refused: off centre by 2′"
    assert not list(tmp_path.glob("a*"))

    def fails(path: Path) -> str | None:
        raise ValueError("odd header")

    outcome, _ = get(files({"/a": BODY}), tmp_path, verify=fails)
    assert words(outcome) == "refused: cannot be read (ValueError)"


def test_what_failed_is_continued_by_a_later_call(tmp_path: Path) -> None:
    outcome, _ = get(faulty(files({"/a": BODY}), "stall", times=None), tmp_path, 1.0)
    assert words(outcome) == "failed: fell silent, 3 times"
    # Each try brought half of the rest.
    assert (tmp_path / "a.part").stat().st_size == len(BODY) * 7 // 8
    outcome, server = get(files({"/a": BODY}), tmp_path)
    # Another port is another server, but the file has the same tag.
    assert server.requests[0].headers["range"] == f"bytes={len(BODY) * 7 // 8}-"
    assert outcome.sha256 == hashlib.sha256(BODY).hexdigest()


def test_a_long_file_may_be_cut_more_often_than_there_are_tries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WORTHWHILE_BYTES", 100)
    outcome, server = get(faulty(files({"/a": BODY}), "cut", times=5), tmp_path)
    assert words(outcome) == "right file"
    assert server.count() == 6


def test_beginning_anew_each_time_is_no_progress(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WORTHWHILE_BYTES", 100)
    lengths = iter([5000, 8000, 6000, 7000, 5000, 9000, 10240])

    def app(request: Request) -> Reply:
        # No ETag, no ranges, and an end before the end.
        return Reply(200, {"Content-Length": str(len(BODY))}, BODY[: next(lengths)])

    outcome, server = get(app, tmp_path)
    assert words(outcome).startswith("failed: broke the connection")
    # The second went further than the first; the two after it did not.
    assert server.count() == 4


def test_a_file_that_was_renamed_but_not_entered_is_adopted(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(BODY)
    digest = hashlib.md5(BODY).hexdigest()
    outcome, server = get(files({"/a": BODY}), tmp_path, checksum=f"md5:{digest}")
    assert words(outcome) == "right file"
    assert server.count() == 0
    assert '"name": "a"' in (tmp_path / JOURNAL).read_text()


def test_what_a_kill_left_beside_a_renamed_file_is_removed(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(BODY)
    (tmp_path / "a.part.json").write_text('{"validator": "", "total": null}')
    digest = hashlib.md5(BODY).hexdigest()
    _, server = get(files({"/a": BODY}), tmp_path, checksum=f"md5:{digest}")
    assert server.count() == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == [JOURNAL, "a"]


def test_a_damaged_file_is_fetched_again(tmp_path: Path) -> None:
    outcome, _ = get(files({"/a": BODY}), tmp_path)
    (tmp_path / "a").write_bytes(BODY[:-1])
    again, server = get(files({"/a": BODY}), tmp_path)
    assert again == outcome
    assert server.count() == 1


def test_a_torn_journal_is_mended(tmp_path: Path) -> None:
    outcome, _ = get(files({"/a": BODY}), tmp_path)
    journal = tmp_path / JOURNAL
    journal.write_bytes(journal.read_bytes()[:-20])
    again, server = get(files({"/a": BODY}), tmp_path)
    assert again == outcome
    assert server.count() == 0
    once_more, server = get(files({"/a": BODY}), tmp_path)
    assert once_more == outcome
    assert server.count() == 0


def test_a_new_checksum_of_the_archive_is_believed(tmp_path: Path) -> None:
    old, new = BODY, BODY[::-1]
    get(files({"/a": old}), tmp_path, checksum=f"md5:{hashlib.md5(old).hexdigest()}")
    outcome, _ = get(files({"/a": new}), tmp_path, checksum=f"md5:{hashlib.md5(new).hexdigest()}")
    assert outcome.sha256 == hashlib.sha256(new).hexdigest()


def test_outcomes_come_in_order_and_names_only_once(tmp_path: Path) -> None:
    bodies = {f"/{i}": f"file {i}".encode() for i in range(40)}
    with Loopback(files(bodies)) as server, Web(impatient(streams=4)) as web:
        remotes = [Remote(f"sub{i % 3}/{i}", f"{server.url}/{i}") for i in range(41)]
        outcomes = fetch(web, iter(remotes), tmp_path, "test")
        assert [outcome.name for outcome in outcomes] == [remote.name for remote in remotes]
        assert [outcome.state for outcome in outcomes] == ["fetched"] * 40 + ["refused"]
        assert (tmp_path / "sub1" / "4").read_text() == "file 4"
        with pytest.raises(DataError, match=r"two files of .* would have this name"):
            fetch(web, [Remote("x", server.url), Remote("X", server.url)], tmp_path, "test")


def test_a_lazy_iterator_is_asked_only_when_a_transfer_is_free(tmp_path: Path) -> None:
    asked: list[int] = []
    under_way: list[int] = []

    def app(request: Request) -> Reply:
        under_way.append(len(asked))
        return text("x")

    with Loopback(app) as server, Web(impatient(streams=1)) as web:

        def remotes() -> Iterator[Remote]:
            for i in range(5):
                asked.append(i)
                yield Remote(f"{i}", f"{server.url}/{i}")

        fetch(web, remotes(), tmp_path, "test")
    assert under_way == [1, 2, 3, 4, 5]


def test_an_error_of_the_iterator_keeps_what_came(tmp_path: Path) -> None:
    with Loopback(files({"/0": b"x"})) as server, Web(impatient()) as web:

        def remotes() -> Iterator[Remote]:
            yield Remote("0", f"{server.url}/0")
            raise DataError("the job was aborted")

        with pytest.raises(DataError, match="aborted"):
            fetch(web, remotes(), tmp_path, "test")
    assert (tmp_path / "0").read_bytes() == b"x"


def test_space_is_checked_before_starting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1_500_000_000))
    with Loopback(files({})) as server, Web(impatient()) as web:
        remotes = [Remote(name, server.url, bytes=10**9) for name in "ab"]
        with pytest.raises(DataError, match=r"2\.0 GB are to come, .* has 1\.5 GB left"):
            fetch(web, remotes, tmp_path, "test")
        with pytest.raises(DataError, match=r"3\.0 GB are to come"):
            fetch(web, iter(remotes), tmp_path, "test", total=3 * 10**9)
        assert server.count() == 0


def test_a_full_disk_ends_all_with_a_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with Loopback(files({f"/{i}": BODY for i in range(9)})) as server, Web(impatient()) as web:
        remotes = [Remote(f"{i}", f"{server.url}/{i}") for i in range(9)]
        with pytest.raises(DataError, match=r"No space left on device.*Make room"):
            fetch(web, remotes, tmp_path, "test")


def test_the_error_that_ended_all_is_the_one_that_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        if Path(f"/proc/self/fd/{descriptor}").readlink().name == "1.part":
            raise OSError(28, "No space left on device")

    def app(request: Request) -> Reply:
        def slowly() -> Iterator[bytes]:
            for _ in range(500):
                server.stopping.wait(0.01)
                yield BODY

        return Reply(200, {}, slowly()) if request.path == "/0" else Reply(200, {}, BODY)

    monkeypatch.setattr(os, "fsync", full)
    with Loopback(app) as server, Web(impatient(streams=2)) as web:
        # The first is under way when the second meets the full disk, and is stopped for it.
        remotes = [Remote(name, f"{server.url}/{name}") for name in "01"]
        with pytest.raises(DataError, match="No space left on device"):
            fetch(web, remotes, tmp_path, "test")


@pytest.mark.parametrize(
    "name",
    [
        "../a",
        "a/../b",
        "/a",
        "a/b/c",
        ".a",
        "-rf",
        "a\n",
        "a\0",
        "a\\b",
        "",
        "sub/",
        "/",
        "..",
        "a.part",
        " a",
        "a ",
        "x" * 201,
        "é" * 101,
        "a\u202eb",
        "a\ud800",
    ],
)
def test_unsafe_names_never_reach_the_disk(name: str) -> None:
    with pytest.raises(DataError, match="is no safe file name"):
        Remote(name, "http://localhost/")


@pytest.mark.parametrize("name", ["P000+23.fits", "sub/a b.fits", "Änderung.fits", "x" * 200])
def test_usual_names_are_safe(name: str) -> None:
    assert Remote(name, "http://localhost/").name == name


def test_a_page_is_never_a_file_whatever_is_expected(tmp_path: Path) -> None:
    outcome, _ = get(lambda _: html(), tmp_path)
    assert words(outcome) == "refused: came as a page in HTML instead of a file 'Busy', twice"
    outcome, _ = get(lambda _: html(), tmp_path, content="html")
    assert words(outcome) == "right file"
