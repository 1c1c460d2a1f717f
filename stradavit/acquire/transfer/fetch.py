"""Fetch many files: each ends whole and checked under its name, or as a named outcome."""

import errno
import logging
import os
import shutil
import threading
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from pathlib import Path

from stradavit.acquire.transfer.content import Checked, check
from stradavit.acquire.transfer.download import NoDataError, Part, download
from stradavit.acquire.transfer.fits_length import MalformedError
from stradavit.acquire.transfer.journal import Journal
from stradavit.acquire.transfer.meter import Meter
from stradavit.acquire.transfer.names import safe_name
from stradavit.acquire.transfer.remote import Content, Outcome, Remote, State
from stradavit.acquire.transfer.web import StoppedError, Web, WebError
from stradavit.errors import DataError

__all__ = ["Content", "Outcome", "Remote", "State", "fetch", "safe_name"]

# A try that brought this much more was worth it: the count of tries begins anew.
WORTHWHILE_BYTES = 1 << 20

logger = logging.getLogger(__name__)


def fetch(
    web: Web,
    remotes: Iterable[Remote],
    folder: Path,
    what: str,
    total: int | None = None,
) -> list[Outcome]:
    """Fetch files into `folder`; a later call goes on where this one was stopped.

    A file comes as `<name>.part` and takes its name when it is whole and checked: length, published
    checksum, content by its bytes, and `verify`. What the journal of the folder holds is not asked
    for again. Wrong bytes are fetched once more, then refused.

    Parameters
    ----------
    web : also says how many run at once
    remotes : taken one by one as transfers become free, so that an iterator may prepare each just
        in time; names must differ
    folder : made if absent
    what : label of the progress
    total : bytes to come, for progress and disk space, where `remotes` is an iterator that does not
        tell beforehand

    Returns
    -------
    One outcome for each, in the order of `remotes`

    Raises
    ------
    DataError
        If a name is unsafe or given twice, the disk is too small or cannot be written, or the
        iterator raises; what was under way is finished before, and what is here stays.
    """
    folder = Path(folder).absolute()
    with _writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        journal = Journal(folder)
    n_files: int | None = None
    if isinstance(remotes, Sequence):
        pending = [remote for remote in remotes if journal.fetched(remote) is None]
        n_files = len(pending)
        sizes = [remote.bytes for remote in pending]
        if total is None and None not in sizes:
            total = sum(size or 0 for size in sizes)
        _check_space(folder, total or sum(size or 0 for size in sizes), pending)
    else:
        _check_space(folder, total or 0, [])
    with Meter(what, total, n_files) as meter:
        outcomes = _fetch_all(web, remotes, journal, meter)
    _report(what, outcomes)
    return outcomes


def _fetch_all(
    web: Web, remotes: Iterable[Remote], journal: Journal, meter: Meter
) -> list[Outcome]:
    streams = web.archives.streams
    free = threading.Semaphore(streams)
    seen: set[str] = set()
    futures: list[Outcome | Future[Outcome]] = []
    with ThreadPoolExecutor(streams, thread_name_prefix="fetch") as pool:

        def one(remote: Remote) -> Outcome:
            try:
                return _fetch_one(web, remote, journal, meter)
            finally:
                free.release()

        try:
            # Wait for a free transfer first: a lazy iterator then prepares none too early.
            free.acquire()
            for remote in remotes:
                if remote.name.casefold() in seen:
                    raise DataError(
                        f"{remote.name}: two files of {journal.folder} would have this name "
                        "(where capitals do not count). Take one of them only."
                    )
                seen.add(remote.name.casefold())
                here = journal.fetched(remote)
                if here is not None:
                    futures.append(here)
                    continue
                running = [item for item in futures[-4 * streams :] if isinstance(item, Future)]
                if any(item.done() and item.exception() for item in running):
                    free.release()
                    break
                futures.append(pool.submit(one, remote))
                free.acquire()
            running = [item for item in futures if isinstance(item, Future)]
            # An error of one (a full disk) ends the others, instead of one after the other.
            finished, _ = wait(running, return_when=FIRST_EXCEPTION)
            if any(item.exception() for item in finished):
                web.stop()
        except BaseException as error:
            if not isinstance(error, Exception):
                web.stop()
            raise
    raised = [item.exception() for item in futures if isinstance(item, Future)]
    errors = [error for error in raised if error is not None]
    if errors:
        # The one that ended all: those that were stopped for it have nothing to tell.
        raise next((e for e in errors if not isinstance(e, StoppedError)), errors[0])
    return [item.result() if isinstance(item, Future) else item for item in futures]


def _fetch_one(web: Web, remote: Remote, journal: Journal, meter: Meter) -> Outcome:
    """One file, after as many tries as it takes."""
    final = journal.folder / remote.name
    part = Part.of(final)
    with _writing(final):
        final.parent.mkdir(exist_ok=True)
        adopted = _adopt(web, remote, journal, final)
        if adopted is not None:
            part.discard()  # what a kill left right after the rename below
            meter.done()
            return adopted
        checked = _bring(web, remote, part, meter)
        meter.done()
        if isinstance(checked, Outcome):
            if checked.state == "refused":
                part.discard()
            logger.warning("%s: %s: %s", remote.name, checked.state, checked.reason)
            return checked
        with part.path.open("rb+") as written:
            # The rename must not reach the disk before the bytes do.
            os.fsync(written.fileno())
        part.path.replace(final)
        part.state.unlink(missing_ok=True)
        return journal.add(remote, checked)


def _bring(web: Web, remote: Remote, part: Part, meter: Meter) -> Checked | Outcome:
    """A part that is whole and checked, or why there is none."""
    attempt, n_wrong, furthest = 0, 0, part.bytes
    while True:
        try:
            download(web, remote, part, meter)
            checked = _check(web, remote, part.path)
        except NoDataError:
            return Outcome(remote.name, "refused", f"no data: the server says {remote.no_data!r}")
        except MalformedError as error:
            part.discard()
            n_wrong += 1
            if n_wrong == 2:
                found = error.reason if remote.secret else str(error)
                return Outcome(remote.name, "refused", f"came as {found}, twice")
            web.wait(n_wrong)
        except WebError as error:
            if error.is_permanent:
                return Outcome(remote.name, "refused", error.reason)
            # Where a server gives no ranges, each try begins anew and only going further counts.
            attempt = 1 if part.bytes - furthest >= WORTHWHILE_BYTES else attempt + 1
            furthest = max(furthest, part.bytes)
            if attempt >= web.archives.attempts:
                return Outcome(remote.name, "failed", f"{error.reason}, {attempt} times")
            web.wait(attempt, error.retry_after_s)
        else:
            reason = _verify(remote, part.path)
            return Outcome(remote.name, "refused", reason) if reason else checked


def _check(web: Web, remote: Remote, path: Path) -> Checked:
    most = int(web.archives.unpack_gb * 1e9)
    return check(path, remote.content, remote.bytes, remote.checksum, most)


def _verify(remote: Remote, path: Path) -> str | None:
    try:
        return remote.verify(path) if remote.verify else None
    except (OSError, ValueError) as error:
        # A look into a strange file may fail in itself.
        return f"cannot be read ({type(error).__name__})"


def _adopt(web: Web, remote: Remote, journal: Journal, final: Path) -> Outcome | None:
    """A file that is here under its name without being in the journal as it is."""
    if not final.is_file():
        return None
    try:
        checked = _check(web, remote, final)
    except MalformedError as error:
        logger.warning("%s: is here, but as %s; fetching it again", final, error)
    else:
        noted = journal.entry(remote.name)
        is_as_noted = noted is None or remote.checksum or noted.sha256 == checked.sha256
        if is_as_noted and _verify(remote, final) is None:
            return journal.add(remote, checked)
    final.unlink()
    return None


class _writing:  # noqa: N801 - reads as a statement
    """Turns what a disk refuses into an error a user can act on."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            remedy = (
                "Make room and run it again: what is here stays."
                if error.errno in (errno.ENOSPC, errno.EDQUOT)
                else "Repair the folder and run it again."
            )
            raise DataError(
                f"{self.path}: cannot be written ({error.strerror or error}). {remedy}"
            ) from error


def _check_space(folder: Path, n_bytes: int, pending: Sequence[Remote]) -> None:
    here = sum(Part.of(folder / remote.name).bytes for remote in pending)
    needed, free = n_bytes - here, shutil.disk_usage(folder).free
    if needed > free:
        raise DataError(
            f"{folder}: {needed / 1e9:.1f} GB are to come, and its disk has {free / 1e9:.1f} GB "
            "left. Make room, or run it in a folder on a larger disk (snakemake --directory)."
        )


def _report(what: str, outcomes: Sequence[Outcome]) -> None:
    counts = Counter(outcome.state for outcome in outcomes)
    gigabytes = sum(outcome.bytes for outcome in outcomes) / 1e9
    told = ", ".join(f"{counts[state]} {state}" for state in ("refused", "failed") if counts[state])
    logger.info(
        "%s: %d files are here (%.3f GB)%s",
        what,
        counts["fetched"],
        gigabytes,
        told and f"; {told}",
    )
