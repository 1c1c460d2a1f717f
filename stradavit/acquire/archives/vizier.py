"""Catalogues of the CDS as they are stored there: text in fixed columns, beside a ReadMe.

The raw file is fetched instead of a query through astroquery.vizier: that gives 50 rows unless
told otherwise, and a file has one digest while an answer differs from day to day.
"""

import gzip
import re
import zlib
from collections.abc import Callable
from pathlib import Path

from stradavit.acquire.transfer.fetch import Outcome, Remote, fetch
from stradavit.acquire.transfer.web import Web
from stradavit.errors import DataError
from stradavit.settings.archives import ArchiveUrls

GZIP_MAGIC = b"\x1f\x8b"
MAX_TABLE_BYTES = 2**28


def catalogue_path(
    web: Web,
    urls: ArchiveUrls,
    catalogue: str,
    table: str,
    check: Callable[[Path], object],
    folder: Path,
) -> Path:
    """A table of a catalogue on this disk, plain or packed; see `read_lines`.

    The CDS publishes no digests, but its ReadMe says how many lines the table has, and how long.

    Parameters
    ----------
    catalogue : such as J/A+A/699/A338
    table : such as catalog.dat
    check : reads the table; a DataError means that it is damaged
    folder : where to put it

    Raises
    ------
    DataError
        If the ReadMe is not there, or neither the table nor its packed form can be had whole.
    """
    where = f"CDS catalogue {catalogue}"
    remedy = "Run again later, or set archives.urls.cds to another mirror of the CDS."
    try:
        read_me = web.text(f"{urls.cds}/{catalogue}/ReadMe")
    except DataError as error:
        raise DataError(f"{where}: its ReadMe did not come. {error} {remedy}") from error
    promised = re.search(rf"^\s*{re.escape(table)}\s+(\d+)\s+(\d+)\s", read_me, re.MULTILINE)
    if promised is None:
        raise DataError(
            f"{where}: the ReadMe begins with {read_me.lstrip()[:60]!r} and does not describe "
            f"{table}; a page was sent in its place, or the catalogue was changed. {remedy}"
        )
    width, n_lines = int(promised[1]), int(promised[2])

    def verify(path: Path) -> str | None:
        try:
            widths = [len(line) for line in read_lines(path)]
            if len(widths) != n_lines or max(widths, default=0) > width:
                return (
                    f"not the table: {len(widths)} lines of at most {max(widths, default=0)} "
                    f"characters; its ReadMe says {n_lines} of at most {width}"
                )
            check(path)
        except DataError as error:
            return f"damaged table: {error}"
        return None

    refused: list[Outcome] = []
    # The CDS packs some tables and not others, and may change its mind.
    for name in (table, f"{table}.gz"):
        remote = Remote(
            name=name,
            url=f"{urls.cds}/{catalogue}/{name}",
            verify=verify,
            most_bytes=MAX_TABLE_BYTES,
        )
        outcome = fetch(web, [remote], folder, f"{catalogue} {name}")[0]
        if outcome.path is not None:
            return outcome.path
        refused.append(outcome)
        if outcome.state == "failed":
            break
    said = "; ".join(f"{outcome.name}: {outcome.reason}" for outcome in refused)
    raise DataError(f"{where}: {table} did not come from {urls.cds} ({said}). {remedy}")


def read_lines(path: Path) -> list[str]:
    """Lines of a table, unpacked if need be, without their ends and without empty ones.

    Raises
    ------
    DataError
        If it is no ASCII text, is damaged, or unpacks to more than 256 MB.
    """
    try:
        with path.open("rb") as opened:
            is_packed = opened.read(2) == GZIP_MAGIC
            opened.seek(0)
            if is_packed:
                with gzip.GzipFile(fileobj=opened) as unpacked:
                    raw = unpacked.read(MAX_TABLE_BYTES + 1)
            else:
                raw = opened.read(MAX_TABLE_BYTES + 1)
        if len(raw) > MAX_TABLE_BYTES:
            raise DataError(f"{path}: unpacks to more than {MAX_TABLE_BYTES} bytes. Not read.")
        return [line for line in raw.decode("ascii").splitlines() if line.strip()]
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise DataError(
            f"{path}: is not a table of the CDS ({error}). Delete it, and run again to fetch it."
        ) from error
