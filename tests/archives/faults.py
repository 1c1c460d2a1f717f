"""What goes wrong at archives, laid over any fake server, and a record of how it ended.

Each archive's tests go through all of `FAULTS` for each of its steps and call `record_outcome`;
`python -m tests.archives.fault_table` runs them and writes docs/faults.md.
"""

import fcntl
import json
import os
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from email.utils import formatdate
from pathlib import Path

from stradavit.acquire.transfer.fetch import Outcome
from stradavit.errors import DataError

from .server import App, CutError, Reply, Request, StallError, html, text

RECORD_VARIABLE = "STRADAVIT_FAULT_RECORD"

# By name: what the server does, and how many of the requests it does it to (None: all).
FAULTS: dict[str, tuple[str, int | None]] = {
    "html200": ("200, but a page in HTML", None),
    "truncated": ("half of the body, and its length announced as if it were all", None),
    "cut": ("the connection is reset after half of the body", 1),
    "stall": ("nothing more comes after half of the body", 1),
    "range200": ("the connection is cut, and a range is answered with 200 and the whole", None),
    "wrong_bytes": ("the right length, but other bytes", None),
    "401": ("401", None),
    "403html": ("403 with a page in HTML", None),
    "404": ("404", None),
    "409": ("409", None),
    "410": ("410", None),
    "429s": ("429 once, Retry-After in seconds", 1),
    "429date": ("429 once, Retry-After as a date", 1),
    "500once": ("500 once", 1),
    "500forever": ("500 each time", None),
    "503once": ("503 once, with a page in HTML", 1),
    "503forever": ("503 each time, with a page in HTML", None),
}
_DEFAULT = -1


def faulty(
    app: App,
    fault: str,
    match: Callable[[Request], bool] | str = "",
    times: int | None = _DEFAULT,
) -> App:
    """`app` with a fault.

    Parameters
    ----------
    fault : one of `FAULTS`
    match : which requests it befalls; a text must be part of the decoded path
    times : how many of them; None for all; as `FAULTS` says if left out
    """
    usual = FAULTS[fault][1]
    left = [usual if times == _DEFAULT else times]
    lock = threading.Lock()
    n_seen = [0]

    def app_with_fault(request: Request) -> Reply:
        is_meant = match in request.path if isinstance(match, str) else match(request)
        if not is_meant:
            return app(request)
        with lock:
            if left[0] is not None:
                if left[0] <= 0:
                    return app(request)
                left[0] -= 1
            n_seen[0] += 1
            number = n_seen[0]
        return _spoilt(app, fault, request, number)

    return app_with_fault


def _spoilt(app: App, fault: str, request: Request, number: int) -> Reply:
    match fault:
        case "html200":
            return html(200)
        case "truncated":
            reply = app(request)
            body = reply.whole()
            return replace(reply, body=body[: len(body) // 2])
        case "cut":
            return _broken(app(request), CutError)
        case "stall":
            return _broken(app(request), StallError)
        case "range200":
            reply = app(request.without("range"))
            return _broken(reply, CutError) if number == 1 else reply
        case "wrong_bytes":
            reply = app(request)
            body = reply.whole()
            # Late in the body: headers of files stay readable, their sums do not.
            place = len(body) * 7 // 8
            other = bytes(byte ^ 0x15 for byte in body[place : place + 8])
            return replace(reply, body=body[:place] + other + body[place + len(other) :])
        case "401":
            return replace(
                text("login required", 401), headers={"WWW-Authenticate": 'Basic realm="archive"'}
            )
        case "403html":
            return html(403)
        case "404" | "409" | "410":
            return text("no", int(fault))
        case "429s":
            return replace(text("slow down", 429), headers={"Retry-After": "2"})
        case "429date":
            date = formatdate(usegmt=True)
            return replace(text("slow down", 429), headers={"Retry-After": date})
        case "500once" | "500forever":
            return text("", 500)
        case "503once" | "503forever":
            return html(503)
    raise KeyError(fault)


def _broken(reply: Reply, end: type[Exception]) -> Reply:
    body = reply.whole()

    def half() -> Iterator[bytes]:
        yield body[: len(body) // 2]
        raise end

    return replace(reply, headers={**reply.headers, "Content-Length": str(len(body))}, body=half())


def record_outcome(
    archive: str, step: str, fault: str, outcome: Outcome | Sequence[Outcome] | Exception | str
) -> None:
    """Note how a fault ended, for docs/faults.md; a traceback of another type is no ending.

    Parameters
    ----------
    archive, step : such as "mgcls", "listing"
    fault : one of `FAULTS`, or the archive's own, in words
    outcome : of the file; of several the worst; the error; or words
    """
    said = words(outcome)
    path = os.environ.get(RECORD_VARIABLE)
    if not path:
        return
    line = json.dumps({"archive": archive, "step": step, "fault": fault, "outcome": said})
    with Path(path).open("a", encoding="utf-8") as record:
        fcntl.flock(record, fcntl.LOCK_EX)
        record.write(line + "\n")


def words(outcome: Outcome | Sequence[Outcome] | Exception | str) -> str:
    """An ending in words that are the same each time: no ports, no folders of a test."""
    if isinstance(outcome, str):
        return outcome
    if isinstance(outcome, Exception):
        assert isinstance(outcome, DataError), f"a user would see a traceback: {outcome!r}"
        return f"stops: {_steady(str(outcome))}"
    if isinstance(outcome, Outcome):
        if outcome.state == "fetched":
            return "right file"
        return f"{outcome.state}: {_steady(outcome.reason)}"
    order = ("failed", "refused", "fetched")
    assert outcome, "an outcome is expected for each file"
    return words(min(outcome, key=lambda each: order.index(each.state)))


def _steady(message: str) -> str:
    message = re.sub(r"127\.0\.0\.1:\d+", "archive", message)
    # Folders of a test; sums and sizes, which follow from versions of libraries.
    message = re.sub(r"(?<![:/\w.…])/\S*/(?=[^/\s]+)", "…/", message)
    message = re.sub(r"\b(?=[0-9a-f]*\d)[0-9a-f]{8,}\b", "…", message)
    message = re.sub(r"\b\d{4,}(?= (?:of \d+ )?bytes)|(?<=instead of )\d{4,}", "n", message)
    return " ".join(message.split())
