"""Requests: how often, how far apart, how patiently, and what is said when they fail."""

import ssl
import threading
import time
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path

import pytest

from stradavit import __version__
from stradavit.acquire.transfer import web as module
from stradavit.acquire.transfer.web import Web, WebError
from stradavit.errors import DataError
from tests.archives.server import Loopback, Reply, Request, html, impatient, redirect, text


def test_the_client_introduces_itself() -> None:
    with Loopback(lambda _: text("x")) as server, Web(impatient(contact="me@example.org")) as web:
        web.text(server.url)
        with Web(impatient()) as web:
            web.text(server.url)
    named, unnamed = (request.headers["user-agent"] for request in server.requests)
    assert named == f"stradavit/{__version__} (+me@example.org)"
    assert unnamed.startswith(f"stradavit/{__version__} (+")


@pytest.mark.parametrize(
    "header", [{"Retry-After": "70"}, {"X-RateLimit-Reset": "date"}, {"Retry-After": "date"}]
)
def test_a_server_is_given_the_time_it_asks_for(
    header: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if "Retry-After" in header:
        value = header["Retry-After"].replace("date", formatdate(time.time() + 70, usegmt=True))
        header = {"Retry-After": value}
    else:
        header = {"X-RateLimit-Reset": str(int(time.time() + 70))}
    replies = iter([Reply(429, header, b""), text("x")])
    waits: list[float] = []
    with Loopback(lambda _: next(replies)) as server, Web(impatient(backoff_max_s=10)) as web:
        monkeypatch.setattr(web, "_sleep", waits.append)
        assert web.text(server.url) == "x"
    # A date has whole seconds, and a moment passes, which may be long on a busy machine.
    assert 50.0 < max(waits) <= 70.0


def test_it_waits_no_longer_than_ten_times_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    with (
        Loopback(lambda _: Reply(503, {"Retry-After": "86400"})) as server,
        Web(impatient(backoff_max_s=2)) as web,
    ):
        monkeypatch.setattr(web, "_sleep", waits.append)
        with pytest.raises(WebError, match="answered 503, 3 times") as caught:
            web.text(server.url)
    assert max(waits) == 20
    assert (caught.value.status, caught.value.is_permanent) == (503, False)


def test_waits_grow_and_have_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    with Web(impatient(backoff_s=1, backoff_max_s=5)) as web:
        monkeypatch.setattr(web, "_sleep", waits.append)
        for attempt in range(1, 9):
            web.wait(attempt)
    for wait_s, usual in zip(waits, [1, 2, 4, 5, 5, 5, 5, 5], strict=True):
        assert usual / 2 <= wait_s <= usual


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 410, 501])
def test_what_cannot_change_is_asked_once(status: int) -> None:
    with Loopback(lambda _: text("no", status)) as server, Web(impatient()) as web:
        with pytest.raises(WebError, match=f"answered {status}") as caught:
            web.text(server.url + "/x")
        assert caught.value.is_permanent
        assert server.count() == 1


def test_small_answers_below_500_are_handed_over() -> None:
    with Loopback(lambda _: text("no", 404)) as server, Web(impatient()) as web:
        answer = web.answer("GET", f"{server.url}/x", params={"a": "+ b"})
        assert (answer.status, answer.text) == (404, "no")
        assert server.requests[0].query == {"a": ["+ b"]}


def test_redirects_are_followed_or_shown() -> None:
    def app(request: Request) -> Reply:
        return text(request.method) if request.path == "/b" else redirect("/b", 303)

    with Loopback(app) as server, Web(impatient()) as web:
        assert web.text(f"{server.url}/a", form={"x": "1"}) == "GET"
        answer = web.answer(
            "POST", f"{server.url}/a", form=[("ID", "1"), ("ID", "2")], follow=False
        )
        assert (answer.status, answer.headers["location"]) == (303, "/b")
        assert server.requests[-1].body == b"ID=1&ID=2"


@pytest.mark.parametrize(
    ("target", "reason"), [("file:///etc/passwd", "not http"), ("/a", "in circles")]
)
def test_redirects_that_lead_nowhere(target: str, reason: str) -> None:
    with Loopback(lambda _: redirect(target)) as server, Web(impatient()) as web:
        with pytest.raises(WebError, match=reason) as caught:
            web.text(f"{server.url}/a")
        assert caught.value.is_permanent


@pytest.mark.parametrize("url", ["ftp://x/y", "no address", "http://[", "http:///x"])
def test_what_is_no_address_is_not_asked(url: str) -> None:
    with Web(impatient()) as web, pytest.raises(WebError, match="is no address"):
        web.text(url)


def test_nobody_listens() -> None:
    with Loopback(lambda _: text("")) as server:
        url = server.url
    with (
        Web(impatient()) as web,
        pytest.raises(WebError, match=r"cannot be reached .*3 times") as e,
    ):
        web.text(url)
    assert not e.value.is_permanent
    assert "Check the network" in str(e.value)


def test_json_that_is_none_is_an_error() -> None:
    with Loopback(lambda _: html()) as server, Web(impatient()) as web:
        with pytest.raises(WebError, match="a page in HTML instead of JSON"):
            web.json(server.url)
        assert server.count() == 2
    with Loopback(lambda _: text('{"a": [1]}')) as server, Web(impatient()) as web:
        assert web.json(server.url) == {"a": [1]}


def test_small_answers_are_small() -> None:
    def endless() -> Iterator[bytes]:
        while True:
            yield b"x" * 65536

    with (
        Loopback(lambda _: Reply(200, {}, endless())) as server,
        Web(impatient(max_small_mb=0.5)) as web,
    ):
        with pytest.raises(WebError, match=r"more than 0\.5 MB.*archives\.max_small_mb"):
            web.text(server.url)
        assert server.count() == 1


def test_an_answer_that_trickles_is_a_time_out() -> None:
    def trickle() -> Iterator[bytes]:
        for _ in range(200):
            time.sleep(0.01)
            yield b"x"

    with (
        Loopback(lambda _: Reply(200, {}, trickle())) as server,
        Web(impatient(timeout_s=0.05, attempts=1)) as web,
        pytest.raises(WebError, match="fell silent"),
    ):
        web.text(server.url)


def test_no_more_requests_at_once_than_allowed() -> None:
    now, most, lock = [0], [0], threading.Lock()
    is_second_here = threading.Event()

    def app(request: Request) -> Reply:
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
            if now[0] == 2:
                is_second_here.set()
        # However slowly requests come, two meet here; a third then has time to come as well.
        is_second_here.wait(10)
        time.sleep(0.02)
        with lock:
            now[0] -= 1
        return text("x")

    with Loopback(app) as server, Web(impatient(streams=2)) as web:
        threads = [threading.Thread(target=web.text, args=(server.url,)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert most[0] == 2


def test_requests_to_one_host_start_apart() -> None:
    starts: list[float] = []

    def app(request: Request) -> Reply:
        starts.append(time.monotonic())
        return text("x")

    with Loopback(app) as server, Web(impatient(pause_s=0.05)) as web:
        begin = time.monotonic()
        for _ in range(4):
            web.text(server.url)
    # From the client's clock: the server may notice any request late, the first one too.
    assert starts[-1] - begin > 0.145


def test_json_too_deep_to_be_read_is_an_error() -> None:
    deep = "[" * 200_000 + "]" * 200_000
    with (
        Loopback(lambda _: text(deep)) as server,
        Web(impatient()) as web,
        pytest.raises(WebError, match="instead of JSON"),
    ):
        web.json(server.url)


@pytest.mark.parametrize("charset", ["nonsense", "zlib", "idna", "undefined"])
def test_a_text_of_no_known_encoding_is_read_as_it_can(charset: str) -> None:
    headers = {"Content-Type": f"text/plain; charset={charset}"}
    with Loopback(lambda _: Reply(200, headers, b"ab\xff")) as server, Web(impatient()) as web:
        assert web.text(server.url) == "ab\ufffd"


def test_certificates_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def again(*_: object) -> None:
        raise AssertionError("read again")

    with Web(impatient()):
        monkeypatch.setattr(ssl.SSLContext, "load_verify_locations", again)
        with Web(impatient()) as web:
            assert isinstance(web, Web)
    with pytest.raises(AssertionError, match="read again"):
        module._trusted.__wrapped__()


def test_certificates_that_cannot_be_read_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_trusted", module._trusted.__wrapped__)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "nowhere.pem"))
    with pytest.raises(DataError, match="Correct SSL_CERT_FILE"):
        Web(impatient())
