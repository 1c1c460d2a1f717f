"""TAP services that really run the question: ADQL of the kind we send is SQL to sqlite."""

import io
import sqlite3
import warnings
from collections.abc import Mapping, Sequence
from typing import Any
from xml.sax.saxutils import escape, quoteattr

import numpy as np
from astropy.io import votable
from astropy.table import Table

Rows = Sequence[Mapping[str, Any]]
KINDS = {int: ("long", ""), float: ("double", ""), str: ("char", ' arraysize="*"')}


class BadQuestionError(Exception):
    """The question is no ADQL, or about what is not there."""


def run(adql: str, tables: Mapping[str, Rows]) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Columns and rows of a question about tables named `schema.table`."""
    with sqlite3.connect(":memory:") as base:
        base.execute("PRAGMA case_sensitive_like = ON")
        for schema in {name.split(".")[0] for name in tables}:
            base.execute(f"ATTACH DATABASE ':memory:' AS {schema}")
        for name, rows in tables.items():
            columns = list(rows[0])
            base.execute(f"CREATE TABLE {name} ({', '.join(columns)})")
            places = ", ".join("?" * len(columns))
            values = [[row[column] for column in columns] for row in rows]
            base.executemany(f"INSERT INTO {name} VALUES ({places})", values)
        try:
            found = base.execute(adql)
        except sqlite3.Error as error:
            raise BadQuestionError(str(error)) from error
        names = [item[0] for item in found.description]
        return names, found.fetchall()


def info(value: str, text: str = "") -> str:
    """An INFO with the status of a query."""
    return f'<INFO name="QUERY_STATUS" value={quoteattr(value)}>{escape(text)}</INFO>'


def document(content: str, name: str = "CASDA TAP Result") -> str:
    """A VOTable in the manner of CASDA."""
    return (
        '<?xml version="1.0" encoding="utf-8"?>\n'
        "<?xml-stylesheet href='https://casda.csiro.au/votable.xsl' type='text/xsl'?>\n"
        '<VOTABLE version="1.3" xmlns="http://www.ivoa.net/xml/VOTable/v1.3">\n'
        f"<RESOURCE name={quoteattr(name)} type='results'>\n{content}\n</RESOURCE>\n</VOTABLE>"
    )


def table(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A TABLE with its data as text."""
    parts = ['<TABLE name="results">']
    for place, name in enumerate(names):
        values = [row[place] for row in rows if row[place] is not None]
        kind, size = KINDS[type(values[0]) if values else str]
        parts.append(f'<FIELD name="{name}" ID="{name}" datatype="{kind}"{size}/>')
    parts.append("<DATA><TABLEDATA>")
    for row in rows:
        cells = "".join(f"<TD>{'' if v is None else escape(str(v))}</TD>" for v in row)
        parts.append(f"<TR>{cells}</TR>")
    return "\n".join([*parts, "</TABLEDATA></DATA></TABLE>"])


def binary_votable(names: Sequence[str], rows: Sequence[Sequence[Any]], is_cut: bool) -> str:
    """A VOTable with its data in base64, as DaCHS sends it by default; `is_cut`: OVERFLOW."""
    columns = [np.array([row[place] for row in rows]) for place in range(len(names))]
    tree = votable.from_table(Table(columns, names=list(names)))
    resource = tree.resources[0]
    resource.type = "results"
    resource.infos.append(votable.tree.Info(name="QUERY_STATUS", value="OK"))
    written = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tree.to_xml(written, tabledata_format="binary2")
    text = written.getvalue().decode()
    overflow = info("OVERFLOW") if is_cut else ""
    return text.replace("</RESOURCE>", f"{overflow}</RESOURCE>")
