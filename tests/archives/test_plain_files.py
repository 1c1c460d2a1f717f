"""Every fault on a plain file server: the right file, or an outcome with a name."""

import gzip
import hashlib
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from stradavit.acquire.transfer.fetch import Outcome, Remote, fetch
from stradavit.acquire.transfer.web import Web, WebError

from .faults import FAULTS, faulty, record_outcome, words
from .server import App, Loopback, files, impatient

RIGHT = "right file"
# What must come of each fault: with a published checksum, and without any.
EXPECTED = {
    "html200": "refused: came as a page in HTML instead of fits.gz 'Busy', twice",
    "truncated": "refused: came as n bytes instead of n, twice",
    "cut": RIGHT,
    "stall": RIGHT,
    "range200": RIGHT,
    "wrong_bytes": "refused: came as the checksum ",
    "401": "refused: answered 401",
    "403html": "refused: answered 403",
    "404": "refused: answered 404",
    "409": "refused: answered 409",
    "410": "refused: answered 410",
    "429s": RIGHT,
    "429date": RIGHT,
    "500once": RIGHT,
    "500forever": "failed: answered 500, 3 times",
    "503once": RIGHT,
    "503forever": "failed: answered 503, 3 times",
}


def image(side: int = 64, seed: int = 0) -> bytes:
    """A FITS file of noise, which does not shrink when packed."""
    noise = np.random.default_rng(seed).normal(size=(side, side)).astype(np.float32)
    return bytes(fits.PrimaryHDU(noise).header.tostring().encode()) + _padded(noise)


def _padded(array: np.ndarray) -> bytes:
    raw = array.astype(">f4").tobytes()
    return raw + b"\0" * (-len(raw) % 2880)


BODY = gzip.compress(image(), mtime=0)
MD5 = f"md5:{hashlib.md5(BODY).hexdigest()}"


def bring(app: App, folder: Path, remote: Remote | None = None) -> tuple[list[Outcome], Loopback]:
    """Fetch `/data/A+1.fits.gz` from a server made of `app`."""
    with Loopback(app) as server, Web(impatient()) as web:
        usual = Remote(
            "A+1.fits.gz",
            f"{server.url}/data/A+1.fits.gz",
            bytes=len(BODY),
            checksum=MD5,
            content="fits.gz",
        )
        return fetch(web, [remote or usual], folder, "test"), server


def test_every_fault_has_its_expectation() -> None:
    assert set(EXPECTED) == set(FAULTS)


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("is_published", [True, False], ids=["published", "unpublished"])
def test_ends_in_the_right_file_or_in_a_named_outcome(
    tmp_path: Path, fault: str, is_published: bool
) -> None:
    app = faulty(files({"/data/A+1.fits.gz": BODY}), fault, "/data/")
    with Loopback(app) as server, Web(impatient()) as web:
        remote = Remote(
            "A+1.fits.gz",
            f"{server.url}/data/A+1.fits.gz",
            bytes=len(BODY) if is_published else None,
            checksum=MD5 if is_published else "",
            content="fits.gz",
        )
        (outcome,) = fetch(web, [remote], tmp_path, "test")
        step = "size and checksum published" if is_published else "nothing published"
        record_outcome("any file server", step, fault, outcome)
        expected = EXPECTED[fault]
        if not is_published:
            expected = {
                "truncated": "refused: came as gzip that ends too early, twice",
                "wrong_bytes": "refused: came as damaged gzip, twice",
            }.get(fault, expected)
        assert words(outcome).startswith(expected)
        if is_published and fault == "truncated":
            assert f"{len(BODY) // 2} bytes instead of {len(BODY)}" in outcome.reason
        if outcome.state == "fetched":
            assert outcome.path is not None
            assert outcome.path.read_bytes() == BODY
            assert outcome.sha256 == hashlib.sha256(BODY).hexdigest()
            assert sorted(p.name for p in tmp_path.iterdir()) == [".journal.jsonl", "A+1.fits.gz"]
            # A second call asks for nothing.
            n_requests = server.count()
            assert fetch(web, [remote], tmp_path, "test") == [outcome]
            assert server.count() == n_requests
        else:
            assert not (tmp_path / "A+1.fits.gz").exists()


@pytest.mark.parametrize("fault", FAULTS)
def test_small_answers_end_in_text_or_in_an_error_that_names_the_address(fault: str) -> None:
    app = faulty(files({"/list": b"one,two\n" * 50}), fault, "/list")
    with Loopback(app) as server, Web(impatient()) as web:
        try:
            text = web.text(f"{server.url}/list")
        except WebError as error:
            record_outcome("any file server", "small answer", fault, error)
            assert f"{server.url}/list" in str(error)
            assert error.is_permanent == (error.status not in (500, 503))
            assert fault in ("401", "403html", "404", "409", "410", "500forever", "503forever")
        else:
            # What a small answer must say, only its reader knows: pages and damage are its.
            is_readers = fault in ("html200", "truncated", "wrong_bytes")
            seen = "for its reader to notice" if is_readers else RIGHT
            record_outcome("any file server", "small answer", fault, seen)
            assert is_readers != (text == "one,two\n" * 50)
            assert server.count() == (1 if is_readers else 2)


def test_a_cut_file_is_continued_and_not_begun_again(tmp_path: Path) -> None:
    app = faulty(files({"/data/A+1.fits.gz": BODY}), "cut", "/data/")
    outcomes, server = bring(app, tmp_path)
    assert words(outcomes) == RIGHT
    second = server.requests[1]
    start = int(second.headers["range"].removeprefix("bytes=").removesuffix("-"))
    assert 0 < start <= len(BODY) // 2
    assert "if-range" in second.headers
