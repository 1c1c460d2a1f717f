"""VOTable answers: their rows, and what the service says before, after or instead of the table.

astropy.io.votable reads them, since the archives send tables in text and in binary form. What it
would do beyond reading (fetch a STREAM from elsewhere, even from this disk) is refused beforehand,
as are document types, which are where entities are declared, and tables that claim to be huge. The
elements are looked at by an XML parser: a pattern can be led past what it looks for.
"""

import math
import re
import warnings
from dataclasses import dataclass
from io import BytesIO
from typing import Any
from xml.parsers import expat

import numpy as np
from astropy.io import votable as astropy_votable

from stradavit.acquire.archives.foreign_text import HTML, declaration_in, quoted, without_tags
from stradavit.errors import DataError

Cell = str | int | float | None
Row = dict[str, Cell]

# Other formats inside, which are read by way of a STREAM.
OTHER_FORMATS = ("FITS", "PARQUET")
# Values of a table, for which the reader makes room before it has seen them: 1 GB of letters.
MAX_VALUES = 2**28
# Rows that the reader makes room for at once.
LEAST_ROWS = 512


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
    _look_through(text, where)
    try:
        with warnings.catch_warnings():
            # Every archive breaks some rule of the format; what matters is checked by the callers.
            warnings.simplefilter("ignore")
            document = astropy_votable.parse(BytesIO(text.encode()), verify="ignore")
            tables = list(document.iter_tables())
            rows = tuple(row for table in tables for row in _rows(table))
    except Exception as error:  # the reader raises whatever its parsers raise
        raise _unreadable(text, where, error) from error
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


def _unreadable(text: str, where: str, error: Exception) -> DataError:
    return DataError(
        f"{where}: the answer cannot be read as a VOTable ({quoted(str(error))}); it begins "
        f"with {quoted(text, 80)!r}. It may have been cut short: try again."
    )


class _Look:
    """What the elements of a VOTable would make its reader do.

    `fetching`: an element that names a place to read from; `values`: for how many values of one
    table there would be room.
    """

    def __init__(self) -> None:
        self.fetching = ""
        self.values = 0
        self._width = self._n_rows = 0

    def start(self, name: str, attributes: dict[str, str]) -> None:
        kind = name.rpartition(":")[2].upper()
        if kind == "TR":
            self._n_rows += 1
        elif kind == "TABLE":
            self._width, self._n_rows = 0, _whole(attributes.get("nrows", ""))
        elif kind == "FIELD":
            length = attributes.get("arraysize", "")
            # Of what differs in length from row to row, the reader keeps what there is.
            fixed = () if "*" in length else re.findall(r"\d+", length)
            self._width += math.prod(map(_whole, fixed))
        elif kind in OTHER_FORMATS or (
            kind == "STREAM" and any(key.lower().endswith("href") for key in attributes)
        ):
            self.fetching = self.fetching or f"<{name}>"
        self.values = max(self.values, self._width * max(self._n_rows, LEAST_ROWS))


def _whole(text: str) -> int:
    """A count in an attribute; whatever is longer than any table can be counts as endless."""
    digits = text.strip()
    if not digits.isdecimal():
        return 0
    return int(digits) if len(digits) < 12 else 10**12


def _look_through(text: str, where: str) -> None:
    """Refuse what must not reach the reader.

    Raises
    ------
    DataError
    """
    look, found = _Look(), declaration_in(text)
    if not found:
        parser = expat.ParserCreate()
        parser.StartElementHandler = look.start
        try:
            parser.Parse(text.encode(), True)
        except (expat.ExpatError, ValueError) as error:
            raise _unreadable(text, where, error) from error
        found = look.fetching
    if found:
        raise DataError(
            f"{where}: the answer holds {quoted(found, 60)!r}, which no archive has reason to "
            "send. It is not read. Check the address in archives.urls."
        )
    if look.values > MAX_VALUES:
        raise DataError(
            f"{where}: the answer claims a table of {look.values:.1e} values; at most "
            f"{MAX_VALUES:.1e} are read. Check the address in archives.urls."
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
