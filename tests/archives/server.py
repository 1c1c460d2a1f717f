"""Real HTTP servers on this machine that behave, or misbehave, as archives do."""

import hashlib
import re
import socket
import struct
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, parse_qsl, unquote, urlsplit

from stradavit.settings.archives import ArchiveSettings

# Seconds of silence after which a client gives up, where a test does not say. Long: a machine with
# other things to do may leave a server without a processor for seconds.
PATIENCE_S = 30.0

HTML = b"<!DOCTYPE html><html><head><title>Busy</title></head><body>Please log in</body></html>\n"


class CutError(Exception):
    """Raised by a body: the server resets the connection at once."""


class StallError(Exception):
    """Raised by a body: the server sends nothing more and keeps the connection."""


@dataclass(frozen=True)
class Request:
    """What a client asked; names of headers are in lower case."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes = b""

    @property
    def path(self) -> str:
        """The path, decoded."""
        return unquote(urlsplit(self.target).path)

    @property
    def query(self) -> dict[str, list[str]]:
        """Values by name."""
        return parse_qs(urlsplit(self.target).query, keep_blank_values=True)

    @property
    def form(self) -> dict[str, str]:
        """Fields of a POSTed form; the last of equal names."""
        return dict(parse_qsl(self.body.decode("utf-8"), keep_blank_values=True))

    def without(self, header: str) -> "Request":
        """The same request without a header."""
        kept = {name: value for name, value in self.headers.items() if name != header}
        return Request(self.method, self.target, kept, self.body)


@dataclass(frozen=True)
class Reply:
    """What a server answers; a Content-Length of its own choice may be a lie."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | Iterable[bytes] = b""

    def whole(self) -> bytes:
        """All of the body."""
        return self.body if isinstance(self.body, bytes) else b"".join(self.body)


App = Callable[[Request], Reply]


def text(body: str, status: int = 200, kind: str = "text/plain") -> Reply:
    """A reply of text."""
    return Reply(status, {"Content-Type": f"{kind}; charset=utf-8"}, body.encode())


def html(status: int = 200) -> Reply:
    """A page where something else was asked for."""
    return Reply(status, {"Content-Type": "text/html"}, HTML)


def redirect(url: str, status: int = 302) -> Reply:
    """A reply that leads elsewhere."""
    return Reply(status, {"Location": url})


def file(request: Request, body: bytes, kind: str = "application/octet-stream") -> Reply:
    """A file as a correct server gives it: ranges, If-Range, ETag, 206 and 416."""
    etag = f'"{hashlib.md5(body, usedforsecurity=False).hexdigest()}"'
    headers = {"Content-Type": kind, "ETag": etag, "Accept-Ranges": "bytes"}
    wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("range", ""))
    if wanted is None or request.headers.get("if-range", etag) != etag:
        return Reply(200, headers, body)
    start = int(wanted[1])
    end = min(int(wanted[2] or len(body) - 1), len(body) - 1)
    if start >= len(body):
        return Reply(416, headers | {"Content-Range": f"bytes */{len(body)}"})
    part = body[start : end + 1]
    return Reply(206, headers | {"Content-Range": f"bytes {start}-{end}/{len(body)}"}, part)


def files(by_path: Mapping[str, bytes]) -> App:
    """A plain file server; 404 with a page for every other path."""

    def app(request: Request) -> Reply:
        body = by_path.get(request.path)
        return html(404) if body is None else file(request, body)

    return app


class Loopback:
    """A server on a free port of this machine, with all requests it got.

    Parameters
    ----------
    app : gives the reply to a request; an exception in it is a bug of the test and raised on exit
    """

    def __init__(self, app: App) -> None:
        self.requests: list[Request] = []
        self.faults: list[BaseException] = []
        self.app = app
        self.stopping = threading.Event()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.loopback = self
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        )

    @property
    def url(self) -> str:
        """Address without a slash at its end."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def count(self, part: str = "", method: str = "") -> int:
        """Requests whose target, decoded, holds `part`."""
        return sum(
            part in unquote(request.target) and method in request.method
            for request in list(self.requests)
        )

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        if self.faults:
            raise AssertionError(f"the fake server itself failed: {self.faults[0]!r}") from (
                self.faults[0]
            )


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64
    loopback: Loopback

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients hang up as they like; that is no fault of the server."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:
        """Tests look at `Loopback.requests`."""

    def _answer(self) -> None:
        loopback = self.server.loopback
        length = int(self.headers.get("Content-Length", 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(self.command, self.path, headers, self.rfile.read(length))
        loopback.requests.append(request)
        try:
            reply = loopback.app(request)
        except Exception as error:
            loopback.faults.append(error)
            reply = text("the fake server failed", 500)
        self._send(reply)

    def _send(self, reply: Reply) -> None:
        # One connection per request: a broken one then never hurts the next request.
        self.close_connection = True
        names = {name.lower() for name in reply.headers}
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        if "content-length" not in names and isinstance(reply.body, bytes):
            self.send_header("Content-Length", str(len(reply.body)))
        self.send_header("Connection", "close")
        self.end_headers()
        if self.command == "HEAD":
            return
        body: Iterator[bytes] = iter([reply.body] if isinstance(reply.body, bytes) else reply.body)
        try:
            for block in body:
                self.wfile.write(block)
        except CutError:
            self.wfile.flush()
            # Linger for no time: the client sees a reset, not an end.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
        except StallError:
            self.wfile.flush()
            self.server.loopback.stopping.wait(60)
        except OSError:
            return  # the client hung up

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _answer  # noqa: N815


def impatient(urls: Mapping[str, str] | None = None, **changes: Any) -> ArchiveSettings:
    """Archive settings for tests: few attempts and no pauses."""
    quick: dict[str, Any] = {
        "attempts": 3,
        "timeout_s": PATIENCE_S,
        "backoff_s": 0.0,
        "backoff_max_s": 0.0,
        "pause_s": 0.0,
        "poll_s": 0.0,
        "urls": dict(urls or {}),
    }
    return ArchiveSettings.model_validate(quick | changes)
