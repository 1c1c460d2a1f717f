"""CSV files with a header, read with errors that name the file, the line and the remedy."""

import csv
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from stradavit.disk import outside_fault
from stradavit.errors import DataError
from stradavit.files import atomic_path

# Column of the tables that stages write for each other: a digest of the line's other cells, and of
# the names of their columns, since a column may be missing.
CHECK = "check"


@dataclass(frozen=True)
class Row:
    """One line of a table: its number in the file, for messages, and its cells by column."""

    line: int
    cells: dict[str, str]

    def __getitem__(self, column: str) -> str:
        return self.cells[column]


def read_table(
    path: Path, columns: Sequence[str], remedy: str, *, checked: bool = False
) -> list[Row]:
    """Rows of a CSV file that must have `columns`; others are kept too.

    Parameters
    ----------
    path : UTF-8 text, with or without a byte-order mark
    columns : names that must be in the header
    remedy : what the user can do, appended to each message
    checked : whether a column `check`, if there is one, is ours and is compared

    Raises
    ------
    DataError
        If the file is missing, is no such text, lacks a column, a line has another number of
        cells than the header, or one has changed since it was written.
    DiskError
        If the disk fails or denies access.
    """
    rows = list(_rows(Path(path), columns, remedy, checked))
    for row in rows if checked else []:
        if row.cells.get(CHECK, check := _check(row.cells)) != check:
            raise DataError(
                f"{path}, line {row.line}: has changed since it was written. {remedy} If it was "
                f"changed on purpose, take the column {CHECK} out of the file."
            )
    return rows


def _check(cells: Mapping[str, str]) -> str:
    text = "\0".join(f"{name}\0{cell}" for name, cell in cells.items() if name != CHECK)
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def _rows(path: Path, columns: Sequence[str], remedy: str, checked: bool) -> Iterator[Row]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as opened:
            reader = csv.reader(opened, strict=True)
            header = [name.strip() for name in next(reader, [])]
            missing = [name for name in columns if name not in header]
            if missing or len(set(header)) != len(header):
                raise DataError(
                    f"{path}: expected a header with the columns {', '.join(columns)}; found "
                    f"{', '.join(header[:20]) or 'nothing'}. {remedy}"
                )
            is_empty = True
            for cells in reader:
                if not cells:
                    continue
                is_empty = False
                if len(cells) != len(header):
                    raise DataError(
                        f"{path}, line {reader.line_num}: found {len(cells)} cells; expected "
                        f"{len(header)} as in the header. {remedy}"
                    )
                stripped = (cell.strip() for cell in cells)
                yield Row(reader.line_num, dict(zip(header, stripped, strict=True)))
            if checked and is_empty and CHECK not in header and len(header) > len(columns):
                # Its end of line is damaged: the only row has become a part of the header.
                raise DataError(f"{path}, line 1: has changed since it was written. {remedy}")
    except OSError as error:
        if fault := outside_fault(error, path):
            raise fault from error
        raise DataError(f"{path}: cannot be read ({error.strerror}). {remedy}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: is not a CSV file in UTF-8 ({error}). {remedy}") from error


def write_table(
    path: Path,
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    checked: bool = False,
) -> None:
    """Write a CSV file with a header; it is either whole or absent.

    With `checked`, a last column holds a digest of each line, which `read_table` compares.

    Raises
    ------
    DataError
        If a cell holds what would not be read back: a carriage return, a NUL, a name of a file
        that is no UTF-8.
    """
    rows = [[_fit(path, cell) for cell in row] for row in rows]
    if checked:
        texts = [["" if cell is None else str(cell).strip() for cell in row] for row in rows]
        rows = [(*row, _check(dict(zip(columns, row, strict=True)))) for row in texts]
        columns = (*columns, CHECK)
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as out:
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)


def _fit(path: Path, cell: object) -> object:
    if isinstance(cell, str) and (not _is_utf8(cell) or "\r" in cell or "\0" in cell):
        raise DataError(
            f"{path}: was to hold {ascii(cell)[:200]}, which no table in UTF-8 can. Rename what is "
            "called so, or leave it out."
        )
    return cell


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def relative_to_table(path: Path, table_path: Path) -> str:
    """`path` as a table beside it stores it: relative if it lies below, else absolute."""
    folder, path = Path(table_path).absolute().parent, Path(path).absolute()
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else str(path)


def from_table(stored: str, table_path: Path) -> Path:
    """The absolute path a table stores; the opposite of `relative_to_table`."""
    return Path(table_path).absolute().parent / stored
