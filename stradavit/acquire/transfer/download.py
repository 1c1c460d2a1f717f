"""One try to bring the rest of a file into its `.part`."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx2 as httpx

from stradavit.acquire.transfer.content import HEAD_BYTES, is_text, refuse_start, says
from stradavit.acquire.transfer.failures import WebError, failure
from stradavit.acquire.transfer.fits_length import MalformedError
from stradavit.acquire.transfer.manners import retry_after_s
from stradavit.acquire.transfer.meter import Meter
from stradavit.acquire.transfer.names import PART, STATE
from stradavit.acquire.transfer.remote import Remote
from stradavit.acquire.transfer.web import Web


class NoDataError(Exception):
    """The server says that it has no such thing."""


@dataclass(frozen=True)
class Part:
    """A file on its way: its bytes so far, and of which version of it they are."""

    path: Path
    state: Path

    @classmethod
    def of(cls, final: Path) -> "Part":
        """The part of the file that will be `final`."""
        return cls(final.with_name(final.name + PART), final.with_name(final.name + STATE))

    @property
    def bytes(self) -> int:
        """How much is here."""
        return self.path.stat().st_size if self.path.exists() else 0

    def discard(self) -> None:
        """Start again from nothing."""
        self.path.unlink(missing_ok=True)
        self.state.unlink(missing_ok=True)

    def version(self) -> tuple[str, int | None] | None:
        """Validator and full size noted of these bytes; None if they cannot be continued."""
        try:
            noted = json.loads(self.state.read_text(encoding="utf-8"))
            total = noted["total"]
            return str(noted["validator"]), None if total is None else int(total)
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def note(self, validator: str, total: int | None) -> None:
        """Note of which version the bytes to come are."""
        text = json.dumps({"validator": validator, "total": total})
        self.state.write_text(text, encoding="utf-8")


def download(web: Web, remote: Remote, part: Part, meter: Meter) -> None:
    """Bring what is missing; returns when the server says that this was all.

    Bytes that are here are kept only if the server continues exactly them: 206, from their end, of
    the same version and size. Otherwise the file starts again.

    Raises
    ------
    WebError
        If the request failed or broke off.
    MalformedError
        If what comes cannot be the file.
    NoDataError
        If the server says so in the words of `remote.no_data`.
    """
    start, headers = 0, {}
    version = part.version() if remote.form is None else None
    if version is not None and part.bytes:
        validator, total = version
        if part.bytes == total:
            return
        if total is None or part.bytes < total:
            start = part.bytes
            headers["Range"] = f"bytes={start}-"
            if validator:
                headers["If-Range"] = validator
    method = "GET" if remote.form is None else "POST"
    with web.stream(
        method,
        remote.url,
        params=remote.params,
        form=remote.form,
        auth=remote.auth,
        headers=headers,
        secret=remote.secret,
    ) as response:
        status = response.status_code
        if status == 416 and start:
            part.discard()
            raise failure(method, remote.url, remote.secret, status, is_permanent=False)
        if status not in (200, 206):
            _refuse(web, remote, response, method)
        if status == 206 and not (start and _continues(response, start, version)):
            part.discard()
            raise failure(
                method,
                remote.url,
                remote.secret,
                status,
                reason="answered with another range than asked for",
                is_permanent=False,
            )
        if status == 200:
            start = 0
        _receive(web, remote, part, meter, response, start)


def _receive(
    web: Web,
    remote: Remote,
    part: Part,
    meter: Meter,
    response: httpx.Response,
    start: int,
) -> None:
    chunks = web.chunks(response, is_raw=True)
    total = _total(response)
    first = b""
    if not start:
        # Of a page, more: the words that matter may stand below a long head.
        while (chunk := next(chunks, None)) is not None:
            first += chunk
            is_worth_more = bool(remote.no_data) and is_text(first)
            if len(first) >= (HEAD_BYTES if is_worth_more else 4096):
                break
        if says(first[:HEAD_BYTES], remote.no_data):
            raise NoDataError
        refuse_start(first[:HEAD_BYTES], remote.content)
        if None not in (total, remote.bytes) and total != remote.bytes:
            raise MalformedError(f"{total} bytes instead of {remote.bytes}")
        part.discard()
        part.note(_validator(response), total if total is not None else remote.bytes)
    most = _most_bytes(web, remote)
    if total is not None and total > most:
        raise _too_large(remote, most)
    with part.path.open("ab" if start else "wb") as out:
        n_bytes = start
        for chunk in _joined(first, chunks):
            out.write(chunk)
            n_bytes += len(chunk)
            meter.add(len(chunk))
            if remote.bytes is not None and n_bytes > remote.bytes:
                raise MalformedError(f"more than its {remote.bytes} bytes")
            if n_bytes > most:
                raise _too_large(remote, most)
    expected = total if remote.bytes is None else remote.bytes
    if expected is not None and n_bytes < expected:
        raise httpx.RemoteProtocolError(f"after {n_bytes} of {expected} bytes")


def _most_bytes(web: Web, remote: Remote) -> int:
    """How much may come: as much as was announced, else what the settings allow."""
    if remote.bytes is not None:
        return remote.bytes
    return int(web.archives.file_gb * 1e9) if remote.most_bytes is None else remote.most_bytes


def _too_large(remote: Remote, most: int) -> WebError:
    key = " (archives.file_gb)" if remote.most_bytes is None else ""
    return failure(
        "GET" if remote.form is None else "POST",
        remote.url,
        remote.secret,
        reason=f"is a file of more than {most / 1e9:g} GB{key}",
        is_permanent=True,
    )


def _total(response: httpx.Response) -> int | None:
    """Full size of the file, if the answer tells it."""
    if response.status_code == 206:
        text = response.headers.get("Content-Range", "").rpartition("/")[2].strip()
    else:
        text = response.headers.get("Content-Length", "")
    return int(text) if text.isdecimal() else None


def _joined(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    if first:
        yield first
    yield from rest


def _validator(response: httpx.Response) -> str:
    """What If-Range takes: a strong ETag, else the date of the last change."""
    etag = response.headers.get("ETag", "")
    return etag if etag.startswith('"') else response.headers.get("Last-Modified", "")


def _continues(
    response: httpx.Response, start: int, version: tuple[str, int | None] | None
) -> bool:
    """Whether a 206 holds what follows the bytes that are here."""
    found = re.fullmatch(
        r"bytes (\d+)-(\d+)/(\d+|\*)", response.headers.get("Content-Range", "").strip()
    )
    if found is None or int(found[1]) != start or version is None:
        return False
    validator, total = version
    is_same_size = total is None or found[3] in ("*", str(total))
    # Most servers repeat the validator; one that differs is of another version.
    return is_same_size and _validator(response) in ("", validator)


def _refuse(web: Web, remote: Remote, response: httpx.Response, method: str) -> None:
    """Turn an error status into an error, unless its page says that there is no data."""
    if remote.no_data:
        head = bytearray()
        for chunk in web.chunks(response, is_raw=True):
            head += chunk
            if len(head) >= HEAD_BYTES:
                break
        if says(bytes(head), remote.no_data):
            raise NoDataError
    wait = retry_after_s(response)
    raise failure(method, remote.url, remote.secret, response.status_code, wait=wait)
