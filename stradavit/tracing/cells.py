"""What a reader points at: a table, a row and a column, coordinates, or a file."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stradavit.errors import DataError
from stradavit.paper.sources import NAME

FORM = (
    "Give TABLE:ROW:COLUMN, such as '13_two_stage_probe:3:RGZ DR1 Macro-F1', where ROW is a number "
    "counted from 1 or the beginning of its labels; or PROTOCOL/ENCODER/BENCHMARK, or a file below "
    "the results"
)


@dataclass(frozen=True)
class Cell:
    """A printed number and the files behind it, by their paths below the results.

    Attributes
    ----------
    table, row, column : as they are printed
    value : as it is printed
    files : it was computed from these
    minus : and these were subtracted or compared with
    hashes : what `provenance.json` says of each file
    """

    table: str
    row: str
    column: str
    value: str
    files: tuple[str, ...]
    minus: tuple[str, ...]
    hashes: dict[str, str]


def read_sources(tables_dir: Path) -> dict[str, Any]:
    """`provenance.json` of a folder of tables.

    Raises
    ------
    DataError
        If it is not there or damaged.
    """
    path = tables_dir / NAME
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content["tables"], dict) or not isinstance(content["files"], dict):
            raise TypeError("tables and files must be mappings")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path}: cannot be read ({error}); expected what is written with the tables. Write "
            f"them again: snakemake --cores all {tables_dir} --forcerun tables."
        ) from error
    found: dict[str, Any] = content
    return found


def find_cell(tables_dir: Path, wanted: str) -> Cell:
    """The cell that `TABLE:ROW:COLUMN` means.

    Raises
    ------
    DataError
        If there is no such table, row or column, or several: the choices are listed.
    """
    sources = read_sources(tables_dir)
    # Labels may have colons ("ViT-MAE: L2, R = 4"), tables and columns have none.
    table_word, _, rest = wanted.partition(":")
    row_word, _, column_word = rest.rpartition(":") if ":" in rest else (rest, "", "")
    tables = sources["tables"]
    name = _choose("table", table_word, {key: key for key in tables}, {}, f"{tables_dir}")
    table = tables[name]
    rows = {str(number): _row_label(row) for number, row in enumerate(table["rows"], start=1)}
    columns = {str(i): column["title"] for i, column in enumerate(table["columns"])}
    if not row_word:
        raise DataError(
            f"{wanted}: names no cell. {FORM}. Rows of {name}:\n{_numbered(rows)}\n"
            f"Columns: {_listed(columns.values())}"
        )
    number = _choose("row", row_word, rows, rows, name)
    if not column_word:
        raise DataError(
            f"{wanted}: names no column. Columns of {name}: {_listed(columns.values())}"
        )
    keys = {str(i): column["key"] for i, column in enumerate(table["columns"])}
    chosen = _choose("column", column_word, columns, {}, name, keys)
    row, column = table["rows"][int(number) - 1], table["columns"][int(chosen)]
    files = _of_column([*row["files"], *table["sources"]], column["key"])
    minus = _of_column(row["minus"], column["key"])
    return Cell(
        table=name,
        row=rows[number],
        column=column["title"],
        value=row["cells"][int(chosen)],
        files=tuple(dict.fromkeys(files)),
        minus=tuple(dict.fromkeys(minus)),
        hashes={f: sources["files"][f] for f in files + minus if f in sources["files"]},
    )


def _choose(
    what: str,
    word: str,
    choices: dict[str, str],
    numbers: dict[str, str],
    where: str,
    others: dict[str, str] | None = None,
) -> str:
    """The key of the one choice a word means.

    A number that is a key of `numbers`; else the whole text, its beginning, a part of it, or
    several parts, whichever fits first; `others` are second names.
    """
    if word in numbers:
        return word
    low = " ".join(word.lower().split())
    texts = {key: " ".join(text.lower().split()) for key, text in choices.items()}
    parts = low.split(", ")
    seconds = {key: text.lower() for key, text in (others or {}).items()}
    fits = (
        [key for key, text in texts.items() if text == low],
        [key for key, text in seconds.items() if text == low],
        [key for key, text in texts.items() if low and text.startswith(low)],
        [key for key, text in texts.items() if low and low in text],
        # Some of the labels, in any order, the first of them whole: `L2, Soft-HCL, R = 4`.
        [k for k, t in texts.items() if t.split(", ")[0] in parts and all(p in t for p in parts)],
        [key for key, text in texts.items() if low and all(part in text for part in parts)],
    )
    found = next((keys for keys in fits if keys), [])
    if len(found) == 1:
        return found[0]
    shown = {key: choices[key] for key in found} or choices
    listed = f"\n{_numbered(shown)}" if numbers else f" {_listed(shown.values())}"
    problem = f"{len(found)} {what}s of {where} fit" if found else f"no {what} of {where} fits"
    raise DataError(f"{problem} {word!r}. Choose one:{listed}")


def _of_column(files: list[str], key: str) -> list[str]:
    """The files of a column: of its benchmark, if its key begins with one, else all of the row."""
    mine = [f for f in files if key == Path(f).stem or key.startswith(f"{Path(f).stem} ")]
    return mine or files


def _row_label(row: dict[str, Any]) -> str:
    labels = [label for label in row["labels"] if label]
    group = [row["group"]] if row["group"] else []
    return ", ".join([*labels, *group])


def _numbered(rows: dict[str, str]) -> str:
    return "\n".join(f"  {number}: {label}" for number, label in rows.items())


def _listed(texts: Any) -> str:
    return ", ".join(f"'{text}'" for text in texts)
