"""What a table is, before it becomes CSV, Markdown or LaTeX."""

from collections.abc import Iterator
from dataclasses import dataclass

BETTER, WORSE = "▲", "▼"
DIGITS = 3
"""Decimals in print, unless a column says otherwise."""


class PValue(float):
    """A probability of a test; small ones are printed as a bound."""


@dataclass(frozen=True)
class Spread:
    """A number with its standard deviation, and what statistics say of it.

    Parameters
    ----------
    mean, std : as the paper prints them
    is_signed : whether it is a difference, which shows its sign
    interval : 95 % interval, if there is one
    p_value : of the test of this cell, if there is one, before any correction
    p_holm : the same after Holm's correction over its family
    mark : `BETTER` or `WORSE` if the test says so, else empty; before the correction, the side it
        leans to
    """

    mean: float
    std: float
    is_signed: bool = False
    interval: tuple[float, float] | None = None
    p_value: float | None = None
    p_holm: float | None = None
    mark: str = ""


Cell = str | int | float | Spread | None
"""None is a cell the configuration left out; it is printed as "–" and left empty in CSV."""


@dataclass(frozen=True)
class Head:
    """A column of row labels."""

    key: str
    title: str


@dataclass(frozen=True)
class Column:
    """A column of cells.

    Parameters
    ----------
    key : name in the CSV; a column with spread becomes `<key> mean`, `<key> std`, `<key> low`,
        `<key> high`
    title : name in print
    group : heading that neighbouring columns of the same group share, such as a benchmark
    has_spread : whether the cells are of type `Spread`; a plain number among them has no spread
    has_test : whether the CSV has `<key> p`, `<key> p_holm` and `<key> mark` as well
    has_interval : whether a column with spread has `<key> low` and `<key> high`
    digits : decimals of its numbers in print
    """

    key: str
    title: str
    group: str = ""
    has_spread: bool = False
    has_test: bool = False
    has_interval: bool = True
    digits: int = DIGITS


@dataclass(frozen=True)
class Row:
    """A line of a table.

    Parameters
    ----------
    labels : one per head
    cells : one per column
    notes : remarks printed below the table
    files : metrics files of the cells, relative to the folder of metrics; in the CSV only
    minus : metrics files that were subtracted or compared with
    """

    labels: tuple[str, ...]
    cells: tuple[Cell, ...]
    notes: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    minus: tuple[str, ...] = ()


@dataclass(frozen=True)
class RowGroup:
    """Neighbouring rows under a common title; no title, no heading line."""

    rows: tuple[Row, ...]
    title: str = ""


@dataclass(frozen=True)
class Section:
    """Sentences below a table, under a heading; in Markdown only."""

    title: str
    sentences: tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """A table of the paper.

    Parameters
    ----------
    number : as in the paper; ours begin with 18
    slug : the rest of the file name
    title, caption : the caption repeats protocol, folds and spread of every number
    heads : label columns
    columns : cell columns
    groups : row groups, in order
    group_key : name of the CSV column that holds the titles of the groups, if they have any
    sections : the table in sentences
    """

    number: int
    slug: str
    title: str
    caption: str
    heads: tuple[Head, ...]
    columns: tuple[Column, ...]
    groups: tuple[RowGroup, ...]
    group_key: str = "group"
    sections: tuple[Section, ...] = ()

    def __post_init__(self) -> None:
        for row in self.rows:
            assert len(row.labels) == len(self.heads), (self.name, row)
            assert len(row.cells) == len(self.columns), (self.name, row)

    @property
    def name(self) -> str:
        """File name without suffix."""
        return f"{self.number:02d}_{self.slug}"

    @property
    def heading(self) -> str:
        """Number and title."""
        return f"Table {self.number}: {self.title}"

    @property
    def rows(self) -> tuple[Row, ...]:
        """All rows in order."""
        return tuple(row for group in self.groups for row in group.rows)

    @property
    def has_text(self) -> tuple[bool, ...]:
        """For each column whether its cells are words."""
        columns = range(len(self.columns))
        return tuple(any(isinstance(row.cells[i], str) for row in self.rows) for i in columns)

    @property
    def notes(self) -> tuple[str, ...]:
        """Remarks without repeats, in order of appearance; a row refers to them by number."""
        return tuple(dict.fromkeys(note for row in self.rows for note in row.notes))

    @property
    def column_spans(self) -> tuple[tuple[str, int], ...]:
        """Headings above the columns and how many columns each spans."""
        spans: list[tuple[str, int]] = []
        for column in self.columns:
            if spans and spans[-1][0] == column.group:
                spans[-1] = (column.group, spans[-1][1] + 1)
            else:
                spans.append((column.group, 1))
        return tuple(spans)


def spreads(groups: tuple[RowGroup, ...]) -> Iterator[Spread]:
    """Every cell with a spread."""
    for group in groups:
        for row in group.rows:
            yield from (cell for cell in row.cells if isinstance(cell, Spread))
