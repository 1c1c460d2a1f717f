"""Manners towards archives: how many requests at once, how far apart, and how patiently."""

import random
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import httpx2 as httpx

from stradavit.acquire.transfer.failures import StoppedError
from stradavit.settings.archives import ArchiveSettings

# A server that sends less than this in the longest allowed silence is as good as silent.
LEAST_BYTES = 1024


class _Host:
    """What is kept of one host: so many requests at once, so much time between starts."""

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


class Manners:
    """Waits that all requests under some settings share; safe to share between threads."""

    def __init__(self, archives: ArchiveSettings) -> None:
        self.archives = archives
        self._hosts: dict[str, _Host] = {}
        self._lock = threading.Lock()
        self._stopped = threading.Event()

    def stop(self) -> None:
        """End every wait at once; what still runs in other threads fails."""
        self._stopped.set()

    def turn(self, url: str) -> AbstractContextManager[None]:
        """Within it, one request to the host of `url` may run; entering waits for that.

        Raises
        ------
        ValueError
            At once, if `url` is no address.
        StoppedError
            If all is ended meanwhile.
        """
        return self._turn_of(self._host(url))

    def wait(self, attempt: int, asked_s: float | None = None) -> None:
        """Wait before another try: what the server asked for, else exponentially with jitter."""
        most = self.archives.backoff_max_s
        wait_s = min(self.archives.backoff_s * 2.0 ** (attempt - 1), most)
        wait_s *= random.uniform(0.5, 1.0)
        if asked_s is not None:
            wait_s = max(wait_s, min(asked_s, 10 * most))
        self._sleep(wait_s)

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

    @contextmanager
    def _turn_of(self, host: _Host) -> Iterator[None]:
        with host.slots:
            self._sleep(host.start_in())
            yield

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
