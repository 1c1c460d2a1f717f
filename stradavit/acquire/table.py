"""CSV files with a header, read with errors that name the file, the line and the remedy."""

import csv
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from stradavit.errors import DataError
from stradavit.files import atomic_path


@dataclass(frozen=True)
class Row:
    """One line of a table: its number in the file, for messages, and its cells by column."""

    line: int
    cells: dict[str, str]

    def __getitem__(self, column: str) -> str:
        return self.cells[column]


def read_table(path: Path, columns: Sequence[str], remedy: str) -> list[Row]:
    """Rows of a CSV file that must have `columns`; others are kept too.

    Parameters
    ----------
    path : UTF-8 text, with or without a byte-order mark
    columns : names that must be in the header
    remedy : what the user can do, appended to each message

    Raises
    ------
    DataError
        If the file is missing, is no such text, lacks a column, or a line has another number of
        cells than the header.
    """
    return list(_rows(Path(path), columns, remedy))


def _rows(path: Path, columns: Sequence[str], remedy: str) -> Iterator[Row]:
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
            for cells in reader:
                if not cells:
                    continue
                if len(cells) != len(header):
                    raise DataError(
                        f"{path}, line {reader.line_num}: found {len(cells)} cells; expected "
                        f"{len(header)} as in the header. {remedy}"
                    )
                stripped = (cell.strip() for cell in cells)
                yield Row(reader.line_num, dict(zip(header, stripped, strict=True)))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}). {remedy}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: is not a CSV file in UTF-8 ({error}). {remedy}") from error


def write_table(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a CSV file with a header; it is either whole or absent."""
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as out:
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)


def relative_to_table(path: Path, table_path: Path) -> str:
    """`path` as a table beside it stores it: relative if it lies below, else absolute."""
    folder, path = Path(table_path).absolute().parent, Path(path).absolute()
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else str(path)


def from_table(stored: str, table_path: Path) -> Path:
    """The absolute path a table stores; the opposite of `relative_to_table`."""
    return Path(table_path).absolute().parent / stored
