"""Requests to archives: patient, polite, and silent about secrets.

httpx2 speaks HTTP: it streams, times each phase out on its own, and leaves retries to us. It comes
with huggingface_hub.
"""

import json
import logging
import ssl
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, Self, TypedDict, Unpack
from urllib.parse import urlsplit

import httpx2 as httpx

from stradavit import __version__
from stradavit.acquire.transfer.failures import RETRIED, StoppedError, WebError, broken, failure
from stradavit.acquire.transfer.leads import astray, is_inside
from stradavit.acquire.transfer.manners import Manners, retry_after_s
from stradavit.errors import DataError
from stradavit.settings.archives import ArchiveSettings

__all__ = ["Answer", "Options", "StoppedError", "Web", "WebError"]

PROJECT = "radio-astronomy foundation models"

Params = Mapping[str, str] | tuple[tuple[str, str], ...] | list[tuple[str, str]] | None
Auth = tuple[str, str] | None

MAX_REDIRECTS = 20
# Packings of an answer that are undone, though none is asked for: as browsers get them.
PACKED = ("gzip", "x-gzip", "deflate")

# It logs the address of each request, pre-signed ones included.
for _library in ("httpx2", "httpcore2"):
    logging.getLogger(_library).setLevel(logging.WARNING)


class Options(TypedDict, total=False):
    """What a request may have beside its method and address.

    Parameters
    ----------
    params : query to add to the address
    form : fields of the body
    auth : user and password; the client sends them to the host of the address alone
    headers : beside those of every request
    follow : whether redirects are followed; they are if left out
    secret : the address is a key in itself (pre-signed) and is never told
    """

    params: Params
    form: Params
    auth: Auth
    headers: Mapping[str, str] | None
    follow: bool
    secret: bool


@dataclass(frozen=True)
class Answer:
    """A small answer: status, headers (their names in any case), text, final address."""

    status: int
    headers: Mapping[str, str]
    text: str
    url: str


class Web(Manners):
    """Requests under one set of manners; a context manager, safe to share between threads."""

    def __init__(self, archives: ArchiveSettings) -> None:
        super().__init__(archives)
        about = archives.contact or PROJECT
        self._client = httpx.Client(
            timeout=httpx.Timeout(archives.timeout_s, pool=None),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=archives.streams),
            headers={
                "User-Agent": f"stradavit/{__version__} (+{about})",
                # Sizes and ranges must be those of the file, not of a packed copy of it.
                "Accept-Encoding": "identity",
            },
            verify=_trusted(),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._client.close()

    # -- small answers ------------------------------------------------------------------------

    def text(self, url: str, **options: Unpack[Options]) -> str:
        """Text of a small answer; a form is POSTed.

        Raises
        ------
        WebError
            If the last answer is an error, or there is none.
        """
        method = "GET" if options.get("form") is None else "POST"
        answer = self.answer(method, url, **options)
        if answer.status != 200:
            raise failure(method, url, options.get("secret", False), status=answer.status)
        return answer.text

    def json(self, url: str, *, params: Params = None, auth: Auth = None) -> Any:
        """Value of a small answer in JSON.

        Raises
        ------
        WebError
            As `text`; also if what comes is no JSON, twice.
        """
        for attempt in range(2):
            if attempt:
                self.wait(attempt)
            text = self.text(url, params=params, auth=auth)
            try:
                return json.loads(text)
            except (ValueError, RecursionError):
                what = "a page in HTML" if text.lstrip().startswith("<") else repr(text[:40])
        raise failure("GET", url, False, 200, reason=f"answered {what} instead of JSON")

    def answer(self, method: str, url: str, **options: Unpack[Options]) -> Answer:
        """A small answer with any status below 500, after as many tries as the settings allow.

        408, 429 and what only a moment's trouble explains are tried again.

        Raises
        ------
        WebError
            If the last try ended in a status of those, in a time-out or in a broken connection, or
            the answer is larger than `archives.max_small_mb`.
        """
        secret = options.get("secret", False)
        attempt = 0
        while True:
            try:
                with self.stream(method, url, **options) as response:
                    status = response.status_code
                    if status in RETRIED or status >= 500:
                        raise failure(method, url, secret, status, wait=retry_after_s(response))
                    body = self._small(response, method, url, secret)
                    text = _decoded(body, response.charset_encoding or "utf-8")
                    return Answer(status, response.headers, text, str(response.url))
            except WebError as error:
                attempt += 1
                if error.is_permanent:
                    raise
                if attempt >= self.archives.attempts:
                    raise failure(
                        method, url, secret, error.status, reason=error.reason, tries=attempt
                    ) from None
                self.wait(attempt, error.retry_after_s)

    def _small(self, response: httpx.Response, method: str, url: str, secret: bool) -> bytes:
        most = int(self.archives.max_small_mb * 1e6)
        packing = response.headers.get("Content-Encoding", "").strip().lower()
        if packing not in ("", "identity", *PACKED):
            raise failure(
                method,
                url,
                secret,
                response.status_code,
                reason=f"answered packed as {packing[:40]!r}, though asked not to",
                is_permanent=True,
            )
        # Not by the client, which unpacks whatever comes to whatever size it has.
        stream = zlib.decompressobj(wbits=47) if packing in PACKED else None
        body = bytearray()
        for chunk in self.chunks(response, is_raw=True):
            body += chunk if stream is None else _unpacked(stream, chunk, most + 1 - len(body))
            if len(body) > most:
                raise failure(
                    method,
                    url,
                    secret,
                    response.status_code,
                    reason=f"answered more than {self.archives.max_small_mb:g} MB",
                    remedy="Raise archives.max_small_mb if that is what it should be.",
                    is_permanent=True,
                )
        if stream is not None and not stream.eof:
            raise httpx.DecodingError("packed text that ends too early")
        return bytes(body)

    # -- one try ------------------------------------------------------------------------------

    @contextmanager
    def stream(self, method: str, url: str, **options: Unpack[Options]) -> Iterator[httpx.Response]:
        """One try, its body still to be read; what breaks inside the block becomes a `WebError`."""
        secret, auth = options.get("secret", False), options.get("auth")
        try:
            turn = self.turn(url)
        except ValueError:
            raise failure(method, url, secret, reason="is no address", is_permanent=True) from None
        if auth and urlsplit(url).scheme != "https" and not is_inside(urlsplit(url).hostname):
            raise failure(
                method,
                url,
                secret,
                reason="would get the password in the clear",
                remedy="Set an address that begins with https:// in archives.urls.",
                is_permanent=True,
            )
        with turn:
            try:
                request = self._client.build_request(
                    method,
                    _with(url, options.get("params")),
                    data=_fields(options.get("form")),
                    headers=options.get("headers"),
                )
                response = self._client.send(
                    request,
                    stream=True,
                    auth=httpx.BasicAuth(*auth) if auth else None,
                    follow_redirects=False,
                )
                if options.get("follow", True):
                    response = self._followed(response, method, url, secret)
                try:
                    yield response
                finally:
                    response.close()
            except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
                raise broken(method, url, secret, error) from None

    def _followed(
        self, response: httpx.Response, method: str, url: str, secret: bool
    ) -> httpx.Response:
        """The response that redirects lead to.

        The client would read the body of each redirect to its end, and it may have none. Headers
        with a login are dropped by the client where the host changes.
        """
        for _ in range(MAX_REDIRECTS):
            if not response.has_redirect_location:
                return response
            response.close()
            following = response.next_request
            if following is None:
                raise httpx.RemoteProtocolError("a redirect to no address")
            if fault := astray(str(response.url), str(following.url)):
                raise failure(method, url, secret, reason=fault, is_permanent=True)
            response = self._client.send(following, stream=True, follow_redirects=False)
        response.close()
        raise httpx.TooManyRedirects("too many", request=response.request)


@cache
def _trusted() -> ssl.SSLContext:
    """The certificates hosts are checked against: read once, which takes a tenth of a second."""
    try:
        return httpx.create_ssl_context()
    except OSError as error:
        raise DataError(
            f"the certificates that hosts are checked against cannot be read ({error}). Correct "
            "SSL_CERT_FILE and SSL_CERT_DIR, or unset them."
        ) from error


def _unpacked(stream: Any, chunk: bytes, most: int) -> bytes:
    """What a chunk unpacks to, at most so many bytes of it.

    Raises
    ------
    httpx.DecodingError
    """
    try:
        return bytes(stream.decompress(chunk, most))
    except zlib.error as error:
        raise httpx.DecodingError(str(error)) from error


def _with(url: str, params: Params) -> httpx.URL:
    # The address is left as it is where nothing is added: a signature covers its very spelling.
    parsed = httpx.URL(url)
    for name, value in _pairs(params):
        parsed = parsed.copy_add_param(name, value)
    return parsed


def _pairs(params: Params) -> list[tuple[str, str]]:
    if params is None:
        return []
    return list(params.items()) if isinstance(params, Mapping) else list(params)


def _fields(form: Params) -> dict[str, list[str]] | None:
    if form is None:
        return None
    fields: dict[str, list[str]] = {}
    for name, value in _pairs(form):
        fields.setdefault(name, []).append(value)
    return fields


def _decoded(body: bytes, encoding: str) -> str:
    try:
        return body.decode(encoding, "replace")
    except (LookupError, ValueError):
        # No such encoding, or one that knows no replacements.
        return body.decode("utf-8", "replace")
