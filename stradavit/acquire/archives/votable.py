"""VOTable answers: their rows, and what the service says before, after or instead of the table.

astropy.io.votable reads them, since the archives send tables in text and in binary form. What it
would do beyond reading (fetch a STREAM from elsewhere, even from this disk) is refused beforehand,
as are document types, which are where entities are declared.
"""

import re
import warnings
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
from astropy.io import votable as astropy_votable

from stradavit.acquire.archives.foreign_text import HTML, declaration_in, quoted, without_tags
from stradavit.errors import DataError

Cell = str | int | float | None
Row = dict[str, Cell]

# A reader of VOTables follows `href` of a STREAM; FITS and PARQUET are other formats inside.
FETCHING = re.compile(r"<(?:\w+:)?(?:FITS|PARQUET)\b|<[^<>]*\bSTREAM\b[^<>]*href")


class ServiceError(DataError):
    """The service understood the request and refuses it, or broke off in the middle."""


@dataclass(frozen=True)
class VOTable:
    """Rows of all tables; `has_table` tells an empty table from none.

    `is_truncated`: the service says that there are more rows than it sent.
    """

    rows: tuple[Row, ...]
    columns: frozenset[str]
    has_table: bool
    is_truncated: bool


def read_votable(text: str, where: str) -> VOTable:
    """The content of a VOTable.

    Parameters
    ----------
    text : the answer, bounded in size by who fetched it
    where : archive and service, for errors

    Raises
    ------
    ServiceError
        If its status is ERROR, also where that is said after rows that were already sent.
    DataError
        If it is a web page, no VOTable, damaged, or holds what no archive has reason to send.
    """
    if HTML.match(text):
        raise DataError(
            f"{where}: answered with a web page instead of a VOTable: "
            f"{quoted(without_tags(text))}. The service is down or moved; try again "
            "later, and check its address in archives.urls."
        )
    _refuse_fetching(text, where)
    try:
        with warnings.catch_warnings():
            # Every archive breaks some rule of the format; what matters is checked by the callers.
            warnings.simplefilter("ignore")
            document = astropy_votable.parse(BytesIO(text.encode()), verify="ignore")
            tables = list(document.iter_tables())
            rows = tuple(row for table in tables for row in _rows(table))
    except Exception as error:  # the reader raises whatever its parsers raise
        raise DataError(
            f"{where}: the answer cannot be read as a VOTable ({quoted(str(error))}); it begins "
            f"with {quoted(text, 80)!r}. It may have been cut short: try again."
        ) from error
    infos = [*document.infos, *(info for table in tables for info in table.infos)]
    infos += [info for resource in _resources(document) for info in resource.infos]
    is_truncated = False
    for info in infos:
        name, value = str(info.name).upper(), str(info.value)
        if name == "ERROR" or (name == "QUERY_STATUS" and value.upper() == "ERROR"):
            said = info.content or (value if name == "ERROR" else "no reason given")
            after = f" after {len(rows)} rows, which are not used" if rows else ""
            raise ServiceError(f"{where}: the service answers ERROR{after}: {quoted(said)}.")
        is_truncated |= name == "QUERY_STATUS" and value.upper() == "OVERFLOW"
    columns = frozenset(field.name for table in tables for field in table.fields)
    return VOTable(rows, columns, bool(tables), is_truncated)


def _refuse_fetching(text: str, where: str) -> None:
    fetching = FETCHING.search(text)
    found = declaration_in(text) or (fetching[0] if fetching else "")
    if found:
        raise DataError(
            f"{where}: the answer holds {quoted(found, 60)!r}, which no archive has reason to "
            "send. It is not read. Check the address in archives.urls."
        )


def _resources(parent: Any) -> list[Any]:
    found = []
    for resource in parent.resources:
        found += [resource, *_resources(resource)]
    return found


def _rows(table: Any) -> list[Row]:
    names = [field.name for field in table.fields]
    if not names:
        return []
    return [dict(zip(names, map(_cell, record), strict=True)) for record in table.array]


def _cell(value: Any) -> Cell:
    if value is None or value is np.ma.masked:
        return None
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    return value if isinstance(value, str | int | float) else str(value)
