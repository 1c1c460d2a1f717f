"""Servers that send more than they should, or lead elsewhere."""

import gzip
import time
import tracemalloc
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from stradavit.acquire.archives import cutout_files
from stradavit.acquire.archives.casda_jobs import Job
from stradavit.acquire.archives.casda_links import LinkError
from stradavit.acquire.archives.casda_staging import Staging
from stradavit.acquire.archives.credentials import Login
from stradavit.acquire.archives.cutout_files import check_image
from stradavit.acquire.manifest import ManifestRow
from stradavit.acquire.transfer import content
from stradavit.acquire.transfer.content import check
from stradavit.acquire.transfer.fetch import Remote, fetch
from stradavit.acquire.transfer.fits_length import MalformedError
from stradavit.acquire.transfer.leads import astray, is_inside, leads_inside
from stradavit.acquire.transfer.web import Web, WebError
from tests.archives.server import Loopback, Reply, Request, files, impatient, redirect, text

# -- files without a size -----------------------------------------------------------------------


def endless(_: Request) -> Reply:
    """A file that never ends, of which no length is told."""

    def body() -> Iterator[bytes]:
        while True:
            yield bytes(65536)

    return Reply(200, {}, body())


def test_a_file_that_never_ends_is_given_up_while_it_comes(tmp_path: Path) -> None:
    with Loopback(endless) as server, Web(impatient(file_gb=0.001)) as web:
        (outcome,) = fetch(web, [Remote("a", f"{server.url}/a")], tmp_path, "test")
    assert outcome.state == "refused"
    assert outcome.reason == "is a file of more than 0.001 GB (archives.file_gb)"
    assert len(server.requests) == 1
    assert [path.name for path in tmp_path.iterdir() if path.name != ".journal.jsonl"] == []


def test_a_file_that_is_announced_too_large_is_not_begun(tmp_path: Path) -> None:
    body = bytes(2_000_000)
    with Loopback(files({"/a": body})) as server, Web(impatient(file_gb=0.001)) as web:
        remotes = [
            Remote("unknown", f"{server.url}/a"),
            Remote("known", f"{server.url}/a", bytes=len(body)),
            Remote("small", f"{server.url}/a", most_bytes=1000),
            Remote("large", f"{server.url}/a", most_bytes=3_000_000),
        ]
        outcomes = fetch(web, remotes, tmp_path, "test")
    assert [outcome.state for outcome in outcomes] == ["refused", "fetched", "refused", "fetched"]
    assert outcomes[2].reason == "is a file of more than 1e-06 GB"


def test_large_json_and_headers_are_not_parsed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a"
    path.write_text('["' + "x" * 2000 + '"]')
    check(path, "json", None, "", 10**9)
    monkeypatch.setattr(content, "MAX_JSON_BYTES", 1000)
    with pytest.raises(MalformedError, match="JSON of 2004 bytes, where at most 1000 are read"):
        check(path, "json", None, "", 10**9)


@pytest.mark.parametrize(
    "header",
    [
        '{"a": {"data_offsets": [0, Infinity]}}',
        '{"a": {"data_offsets": [0, NaN]}}',
        '{"a": {"data_offsets": [0, ' + "9" * 5000 + "]}}",
        '{"a": {"data_offsets": {}}}',
        "[" * 100_000,
    ],
)
def test_odd_headers_of_weights_are_damage(tmp_path: Path, header: str) -> None:
    path = tmp_path / "a"
    path.write_bytes(len(header).to_bytes(8, "little") + header.encode() + bytes(8))
    with pytest.raises(MalformedError, match="no safetensors"):
        check(path, "safetensors", None, "", 10**9)


def test_a_cutout_is_not_read_if_it_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.fits"
    fits.writeto(path, np.zeros((50, 50), np.float32))
    monkeypatch.setattr(cutout_files, "MAX_FILE_BYTES", 1000)
    assert (
        check_image(path, (0.0, 0.0), None) == "too large: 14400 bytes; a cutout has at most 1000"
    )


# -- packed answers -----------------------------------------------------------------------------

ZEROS = 32 * 2**20


@pytest.mark.parametrize(("packing", "level"), [("gzip", 1), ("deflate", 1), ("x-gzip", 2)])
def test_an_answer_that_unpacks_to_too_much_is_given_up(packing: str, level: int) -> None:
    body = (zlib if packing == "deflate" else gzip).compress(bytes(ZEROS), level)
    app = lambda _: Reply(200, {"Content-Encoding": packing}, body)  # noqa: E731
    with Loopback(app) as server, Web(impatient(max_small_mb=1.0)) as web:
        tracemalloc.start()
        try:
            with pytest.raises(WebError, match="answered more than 1 MB"):
                web.text(server.url)
            assert tracemalloc.get_traced_memory()[1] < 8 * 2**20
        finally:
            tracemalloc.stop()


@pytest.mark.parametrize("packing", ["gzip, gzip", "br", "zstd", "compress"])
def test_other_packings_are_refused(packing: str) -> None:
    """Packed twice, sixty kilobytes are sixty gigabytes, and the client would unpack them."""
    body = gzip.compress(gzip.compress(bytes(ZEROS)))
    app = lambda _: Reply(200, {"Content-Encoding": packing}, body)  # noqa: E731
    with (
        Loopback(app) as server,
        Web(impatient()) as web,
        pytest.raises(WebError, match=f"answered packed as '{packing}', though asked not to"),
    ):
        web.text(server.url)


def test_packed_answers_of_decent_size_are_read() -> None:
    packed = {"gzip": gzip.compress(b"yes"), "deflate": zlib.compress(b"yes"), "identity": b"yes"}
    app = lambda r: Reply(200, {"Content-Encoding": r.path[1:]}, packed[r.path[1:]])  # noqa: E731
    with Loopback(app) as server, Web(impatient()) as web:
        assert {web.text(f"{server.url}/{packing}") for packing in packed} == {"yes"}
        server.app = lambda _: Reply(200, {"Content-Encoding": "gzip"}, packed["gzip"][:-9])
        with pytest.raises(WebError, match="DecodingError"):
            web.text(server.url)


def test_endless_headers_end() -> None:
    app = lambda _: Reply(200, {f"X-{n}": "y" * 1000 for n in range(2000)})  # noqa: E731
    with (
        Loopback(app) as server,
        Web(impatient(attempts=1)) as web,
        pytest.raises(WebError, match="broke the connection"),
    ):
        web.text(server.url)


# -- redirects ----------------------------------------------------------------------------------


def test_the_body_of_a_redirect_is_not_read() -> None:
    def app(request: Request) -> Reply:
        if request.path == "/b":
            return text("here")
        return Reply(302, {"Location": "/b"}, endless(request).body)

    with Loopback(app) as server, Web(impatient()) as web:
        start = time.monotonic()
        assert web.text(f"{server.url}/a") == "here"
        assert time.monotonic() - start < 30


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("file:///etc/passwd", "leads to an address that is not http"),
        ("ftp://127.0.0.1/x", "leads to an address that is not http"),
        ("http://[::1/", "broke the connection"),
        ("/a", "redirects in circles"),
    ],
)
def test_redirects_that_lead_nowhere(target: str, reason: str) -> None:
    with (
        Loopback(lambda _: redirect(target)) as server,
        Web(impatient(attempts=1)) as web,
        pytest.raises(WebError, match=reason),
    ):
        web.text(f"{server.url}/a")


@pytest.mark.parametrize(
    ("origin", "target", "fault"),
    [
        ("https://a.org/x", "https://b.org/x", ""),
        ("http://a.org/x", "https://a.org/x", ""),
        ("http://a.org/x", "http://b.org/x", ""),
        ("https://a.org/x", "http://a.org/x", "leads from an encrypted address to a plain one"),
        ("https://a.org/x", "https://169.254.169.254/latest", "leads into a private network"),
        ("https://a.org/x", "https://localhost:8888/", "leads into a private network"),
        ("https://a.org/x", "https://x.localhost./", "leads into a private network"),
        ("https://a.org/x", "https://[::ffff:10.0.0.1]/", "leads into a private network"),
        ("https://a.org/x", "https://[fe80::1]/", "leads into a private network"),
        ("https://a.org/x", "https://2130706433/", "leads into a private network"),
        ("https://a.org/x", "https://0x7f.1/", "leads into a private network"),
        ("http://127.0.0.1:80/", "http://127.0.0.1:81/", ""),
        ("http://10.0.0.1/", "http://mirror.local/", ""),
    ],
)
def test_where_redirects_may_lead(origin: str, target: str, fault: str) -> None:
    assert astray(origin, target) == fault


def test_redirects_are_asked_where_they_lead(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def noted(origin: str, target: str) -> str:
        asked.append((origin[-2:], target[-2:]))
        return "leads astray" if target.endswith("/c") else ""

    monkeypatch.setattr("stradavit.acquire.transfer.web.astray", noted)
    steps = {"/a": "/b", "/b": "/c"}
    with Loopback(lambda r: redirect(steps[r.path])) as server, Web(impatient()) as web:
        with pytest.raises(WebError, match="leads astray"):
            web.text(f"{server.url}/a")
        assert asked == [("/a", "/b"), ("/b", "/c")]
        assert [request.path for request in server.requests] == ["/a", "/b"]


def test_links_of_jobs_do_not_lead_inside(tmp_path: Path) -> None:
    archives = impatient(urls={"casda_data": "https://casda.example.org/data"})
    row = ManifestRow("a.fits", 0, "cube-1")
    with Web(archives) as web:
        staging = Staging(web, archives.urls, Login("u", "p"), tmp_path, "test")
        job = Job("COMPLETED", {"cube-1": "http://169.254.169.254/latest/meta-data"}, "", None)
        with pytest.raises(LinkError, match="leads into a private network; not followed"):
            staging._remote(row, job, 5)
        hrefs = {"cube-1": "https://b.example.org/x", "cube-1.checksum": "http://127.0.0.1:9/x"}
        assert staging._remote(row, Job("COMPLETED", hrefs, "", None), 5).checksum == ""
    assert leads_inside("https://a.org", "http://b.org") == ""


# -- passwords ----------------------------------------------------------------------------------


def test_a_password_is_not_sent_in_the_clear() -> None:
    assert is_inside("127.0.0.1")
    assert not is_inside("example.org")
    with (
        Web(impatient()) as web,
        pytest.raises(WebError, match=r"would get the password in the clear\. Set .* https://"),
    ):
        web.text("http://archive.example.org/x", auth=("me", "hunter2"))


def test_logins_in_netrc_are_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login me password hunter2\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    with Loopback(lambda _: text("x")) as server, Web(impatient()) as web:
        web.text(server.url)
        assert "authorization" not in server.requests[0].headers
