"""Requests to archives: patient, polite, and silent about secrets.

httpx2 speaks HTTP: it streams, times each phase out on its own, and leaves retries to us. It comes
with huggingface_hub.
"""

import json
import logging
import random
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, Self
from urllib.parse import urlsplit

import httpx2 as httpx

from stradavit import __version__
from stradavit.errors import DataError
from stradavit.settings.archives import ArchiveSettings

PROJECT = "radio-astronomy foundation models"
RETRIED = frozenset({408, 429, 500, 502, 503, 504})
HEAD_BYTES = 65536
# A server that sends less than this in the longest allowed silence is as good as silent.
LEAST_BYTES = 1024

Params = Mapping[str, str] | tuple[tuple[str, str], ...] | list[tuple[str, str]] | None
Auth = tuple[str, str] | None

# It logs the address of each request, pre-signed ones included.
for _library in ("httpx2", "httpcore2"):
    logging.getLogger(_library).setLevel(logging.WARNING)
logger = logging.getLogger(__name__)


class WebError(DataError):
    """A request that did not end well.

    Parameters
    ----------
    message : what was asked, what came, what to do
    status : of the last answer, None if there was none
    is_permanent : whether asking again cannot help
    retry_after_s : what the server asked us to wait
    reason : what came, in a few words
    """

    def __init__(
        self,
        message: str,
        status: int | None = None,
        is_permanent: bool = False,
        retry_after_s: float | None = None,
        reason: str = "",
    ) -> None:
        super().__init__(message)
        self.status = status
        self.is_permanent = is_permanent
        self.retry_after_s = retry_after_s
        self.reason = reason or message


class StoppedError(DataError):
    """Another transfer met an error that ends all."""


@dataclass(frozen=True)
class Answer:
    """A small answer: status, headers (their names in any case), text, final address."""

    status: int
    headers: Mapping[str, str]
    text: str
    url: str


class _Host:
    """The manners towards one host: so many requests at once, so much time between starts."""

    def __init__(self, streams: int, pause_s: float) -> None:
        self.slots = threading.BoundedSemaphore(streams)
        self.pause_s = pause_s
        self._lock = threading.Lock()
        self._next_start = 0.0

    def start_in(self) -> float:
        """Seconds to wait before the next request may start; takes that start."""
        with self._lock:
            now = time.monotonic()
            start = max(now, self._next_start)
            self._next_start = start + self.pause_s
            return start - now


class Web:
    """Requests under one set of manners; a context manager, safe to share between threads."""

    def __init__(self, archives: ArchiveSettings) -> None:
        self.archives = archives
        about = archives.contact or PROJECT
        self._client = httpx.Client(
            timeout=httpx.Timeout(archives.timeout_s, pool=None),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=archives.streams),
            headers={
                "User-Agent": f"stradavit/{__version__} (+{about})",
                # Sizes and ranges must be those of the file, not of a packed copy of it.
                "Accept-Encoding": "identity",
            },
        )
        self._hosts: dict[str, _Host] = {}
        self._lock = threading.Lock()
        self._stopped = threading.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._client.close()

    def stop(self) -> None:
        """End every wait at once; what still runs in other threads fails."""
        self._stopped.set()

    # -- small answers ------------------------------------------------------------------------

    def text(
        self,
        url: str,
        *,
        params: Params = None,
        form: Params = None,
        auth: Auth = None,
        secret: bool = False,
    ) -> str:
        """Text of a small answer; a form is POSTed.

        Raises
        ------
        WebError
            If the last answer is an error, or there is none.
        """
        method = "GET" if form is None else "POST"
        answer = self.answer(method, url, params=params, form=form, auth=auth, secret=secret)
        if answer.status != 200:
            raise failure(method, url, secret, status=answer.status)
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
            except ValueError:
                what = "a page in HTML" if text.lstrip().startswith("<") else repr(text[:40])
        raise failure("GET", url, False, status=200, reason=f"answered {what} instead of JSON")

    def answer(
        self,
        method: str,
        url: str,
        *,
        params: Params = None,
        form: Params = None,
        auth: Auth = None,
        headers: Mapping[str, str] | None = None,
        follow: bool = True,
        secret: bool = False,
    ) -> Answer:
        """A small answer with any status below 500, after as many tries as the settings allow.

        408, 429 and what only a moment's trouble explains are tried again.

        Raises
        ------
        WebError
            If the last try ended in a status of those, in a time-out or in a broken connection, or
            the answer is larger than `archives.max_small_mb`.
        """
        attempt = 0
        while True:
            try:
                with self.stream(
                    method,
                    url,
                    params=params,
                    form=form,
                    auth=auth,
                    headers=headers,
                    follow=follow,
                    secret=secret,
                ) as response:
                    status = response.status_code
                    if status in RETRIED or status >= 500:
                        raise failure(method, url, secret, status, wait=retry_after_s(response))
                    body = self._small(response, method, url, secret)
                    encoding = response.charset_encoding or "utf-8"
                    text = _decoded(body, encoding)
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
        body = bytearray()
        for chunk in self.chunks(response):
            body += chunk
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
        return bytes(body)

    # -- one try ------------------------------------------------------------------------------

    @contextmanager
    def stream(
        self,
        method: str,
        url: str,
        *,
        params: Params = None,
        form: Params = None,
        auth: Auth = None,
        headers: Mapping[str, str] | None = None,
        follow: bool = True,
        secret: bool = False,
    ) -> Iterator[httpx.Response]:
        """One try, its body still to be read; what breaks inside the block becomes a `WebError`.

        The client sends `auth` to the host of `url` alone: it drops it when redirected elsewhere.
        """
        try:
            host = self._host(url)
        except ValueError:
            raise failure(method, url, secret, reason="is no address", is_permanent=True) from None
        with host.slots:
            self._sleep(host.start_in())
            try:
                request = self._client.build_request(
                    method,
                    _with(url, params),
                    data=_fields(form),
                    headers=headers,
                )
                response = self._client.send(
                    request,
                    stream=True,
                    auth=httpx.BasicAuth(*auth) if auth else None,
                    follow_redirects=follow,
                )
                try:
                    yield response
                finally:
                    response.close()
            except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
                # Its text and its request may hold the address: it must not be chained.
                raise failure(
                    method,
                    url,
                    secret,
                    reason=_told(error, secret),
                    is_permanent=not _is_passing(error),
                ) from None

    def chunks(self, response: httpx.Response, is_raw: bool = False) -> Iterator[bytes]:
        """The body as it comes; a body that trickles is a time-out.

        Raises
        ------
        httpx.ReadTimeout
            If less than `LEAST_BYTES` come in twice the longest silence.
        """
        since, n_bytes = time.monotonic(), 0
        for chunk in response.iter_raw() if is_raw else response.iter_bytes():
            if self._stopped.is_set():
                raise httpx.ReadError("stopped")
            n_bytes += len(chunk)
            now = time.monotonic()
            if n_bytes >= LEAST_BYTES:
                since, n_bytes = now, 0
            elif now - since > 2 * self.archives.timeout_s:
                raise httpx.ReadTimeout("trickles")
            yield chunk

    def wait(self, attempt: int, asked_s: float | None = None) -> None:
        """Wait before another try: what the server asked for, else exponentially with jitter."""
        most = self.archives.backoff_max_s
        wait_s = min(self.archives.backoff_s * 2.0 ** (attempt - 1), most)
        wait_s *= random.uniform(0.5, 1.0)
        if asked_s is not None:
            wait_s = max(wait_s, min(asked_s, 10 * most))
        self._sleep(wait_s)

    def _sleep(self, wait_s: float) -> None:
        if self._stopped.wait(wait_s) if wait_s > 0 else self._stopped.is_set():
            raise StoppedError("The transfer was stopped; a later call goes on from here.")

    def _host(self, url: str) -> _Host:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(url)
        key = f"{parts.hostname}:{parts.port}"
        with self._lock:
            if key not in self._hosts:
                self._hosts[key] = _Host(self.archives.streams, self.archives.pause_s)
            return self._hosts[key]


def shown(url: str, secret: bool = False) -> str:
    """An address as messages show it: without query and user; of a secret one only the host."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return "(an address that cannot be read)"
    where = f"{parts.scheme}://{host}{port}"
    return f"{where}/…" if secret else f"{where}{parts.path}"


def failure(
    method: str,
    url: str,
    secret: bool,
    status: int | None = None,
    *,
    reason: str = "",
    remedy: str = "",
    tries: int = 1,
    wait: float | None = None,
    is_permanent: bool | None = None,
) -> WebError:
    """A `WebError` that says what was asked, what came and what to do."""
    reason = reason or f"answered {status}"
    if is_permanent is None:
        is_permanent = status is not None and status not in RETRIED
    often = f", {tries} times" if tries > 1 else ""
    remedy = remedy or _remedy(status, is_permanent)
    message = f"{method} {shown(url, secret)}: {reason}{often}. {remedy}"
    return WebError(message, status, is_permanent, wait, reason)


def _remedy(status: int | None, is_permanent: bool) -> str:
    match status:
        case 401 | 403:
            return "Check credentials and rights; an archive may also block an address for a while."
        case 404 | 410:
            return "It is not there any more: compare the address with `archives.urls`."
        case 429:
            return "Try again later, with fewer archives.streams and a longer archives.pause_s."
        case None if not is_permanent:
            return "Check the network and `archives.urls`; a later call goes on from here."
        case _ if is_permanent:
            return "Compare the address with `archives.urls`; the archive may have changed."
        case _:
            return "The archive is in trouble: a later call goes on from here."


def retry_after_s(response: httpx.Response) -> float | None:
    """Seconds a server asks us to wait, from either form of Retry-After or Zenodo's own header."""
    text = response.headers.get("Retry-After", "").strip()
    if text.isdecimal():
        return float(text)
    try:
        if text:
            return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except ValueError:
        pass
    reset = response.headers.get("X-RateLimit-Reset", "").strip()
    if response.status_code == 429 and reset.isdecimal():
        return max(0.0, float(reset) - time.time())
    return None


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
    except LookupError:
        return body.decode("utf-8", "replace")


def _is_passing(error: Exception) -> bool:
    """Whether an error of the client may be gone at the next try."""
    return isinstance(
        error,
        httpx.TimeoutException
        | httpx.NetworkError
        | httpx.RemoteProtocolError
        | httpx.ProxyError
        | httpx.DecodingError,
    )


def _told(error: Exception, secret: bool) -> str:
    match error:
        case httpx.ConnectTimeout() | httpx.ConnectError():
            reason = "cannot be reached"
        case httpx.TimeoutException():
            return "fell silent"
        case httpx.NetworkError() | httpx.RemoteProtocolError():
            reason = "broke the connection"
        case httpx.TooManyRedirects():
            return "redirects in circles"
        case httpx.UnsupportedProtocol():
            return "leads to an address that is not http"
        case _:
            return f"cannot be asked ({type(error).__name__})"
    detail = str(error)
    return reason if secret or not detail or "://" in detail else f"{reason} ({detail})"
