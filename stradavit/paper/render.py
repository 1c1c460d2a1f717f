"""A table as CSV (full precision), Markdown and LaTeX (as many decimals as a column wants)."""

import csv
import io
import re
from collections.abc import Callable, Iterator

from stradavit.paper.digits import LATEX_MARKS, decimal, p_text, spread_latex, spread_text
from stradavit.paper.layout import Cell, Column, PValue, Row, Spread, Table

ABSENT = "–"
LONGEST_ON_A_PAGE = 70

# pdfLaTeX knows none of these outside its own commands.
_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    # A line that begins with one would be read as an option of the line break before it.
    "[": "{[}",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"$<$",
    ">": r"$>$",
    "–": "--",
    "−": r"$-$",
    "±": r"$\pm$",
    "×": r"$\times$",
    "°": r"$^\circ$",
    "→": r"$\to$",
    "α": r"$\alpha$",
    "β": r"$\beta$",
    "ε": r"$\varepsilon$",
    "λ": r"$\lambda$",
    "σ": r"$\sigma$",
    "τ": r"$\tau$",
    **{mark: text.strip() for mark, text in LATEX_MARKS.items() if mark},
}


def to_csv(table: Table) -> str:
    """One line per row, floats in the shortest text that reads back as the same number.

    Absent cells are empty, so that number columns stay numbers; labels are never blanked.
    """
    has_groups = any(group.title for group in table.groups)
    header = [table.group_key] if has_groups else []
    header += [head.key for head in table.heads]
    for column in table.columns:
        header += [f"{column.key} {part}".strip() for part in _parts(column)]
    # Where a row's numbers come from; `docs/recompute.md` starts from here.
    has_files = any(row.files for row in table.rows)
    has_minus = any(row.minus for row in table.rows)
    header += ["files"] * has_files + ["minus"] * has_minus
    header += ["note"] if table.notes else []

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([_no_formula(key) for key in header])
    for group in table.groups:
        for row in group.rows:
            values: list[object] = [group.title] if has_groups else []
            values += row.labels
            for cell, column in _cells(table, row):
                values += _csv_values(cell, column)
            values += [" ".join(row.files)] * has_files + [" ".join(row.minus)] * has_minus
            values += [" ".join(row.notes)] if table.notes else []
            writer.writerow([_no_formula(value) for value in values])
    return text.getvalue()


def to_markdown(table: Table) -> str:
    """A heading, the table in GitHub's dialect, the caption, the notes."""
    titles = [head.title for head in table.heads]
    titles += [f"{column.group} {column.title}".strip() for column in table.columns]
    lines = [_markdown_line(titles), _markdown_line(_markdown_rule(table))]
    for group in table.groups:
        if group.title:
            heading = f"**{_escape_markdown(group.title)}**"
            lines.append("| " + " | ".join([heading, *[""] * (len(titles) - 1)]) + " |")
        for labels, row in _printed(group.rows):
            refs = "".join(f"<sup>{number}</sup>" for number in _references(table, row))
            line = [_escape_markdown(text) for text in labels]
            line[-1] += refs
            line += [
                _escape_markdown(cell_text(cell, column)) for cell, column in _cells(table, row)
            ]
            lines.append("| " + " | ".join(line) + " |")
    notes = [
        f"<sup>{number}</sup> {_escape_markdown(note)}"
        for number, note in enumerate(table.notes, start=1)
    ]
    parts = [
        f"# {_escape_markdown(table.heading)}",
        "\n".join(lines),
        _escape_markdown(table.caption),
        *notes,
    ]
    for section in table.sections:
        listed = "\n".join(f"- {_escape_markdown(sentence)}" for sentence in section.sentences)
        parts += [f"## {_escape_markdown(section.title)}", listed]
    return "\n\n".join(parts) + "\n"


def to_latex(table: Table) -> str:
    """A `table*` environment, or a `longtable` if it would not fit on a page."""
    heads, columns = len(table.heads), len(table.columns)
    alignment = "l" * heads + "".join("l" if is_text else "c" for is_text in table.has_text)
    header = _latex_spans(table) if any(column.group for column in table.columns) else []
    body: list[str] = []
    titles = [head.title for head in table.heads] + [column.title for column in table.columns]
    header.append(_latex_line([escape_latex(title) for title in titles]))
    for group in table.groups:
        body.append(r"\midrule")
        if group.title:
            title = escape_latex(group.title)
            body.append(rf"\multicolumn{{{heads + columns}}}{{l}}{{\textit{{{title}}}}} \\")
        for labels, row in _printed(group.rows):
            line = [escape_latex(text) for text in labels]
            line[-1] += "".join(rf"\textsuperscript{{{n}}}" for n in _references(table, row))
            line += [_latex_cell(cell, column) for cell, column in _cells(table, row)]
            body.append(_latex_line(line))
    notes = [
        rf"\par\footnotesize\textsuperscript{{{number}}} {escape_latex(note)}"
        for number, note in enumerate(table.notes, start=1)
    ]
    caption = rf"\caption{{{escape_latex(table.title)}. {escape_latex(table.caption)}}}"
    label = rf"\label{{tab:{table.name.replace('_', '-')}}}"
    if len(table.rows) > LONGEST_ON_A_PAGE:
        lines = [
            "% Needs \\usepackage{booktabs,longtable,amssymb}, in one column.",
            r"{\scriptsize",
            rf"\begin{{longtable}}{{{alignment}}}",
            rf"{caption}{label} \\",
            r"\toprule",
            *header,
            r"\endhead",
            *body,
            r"\bottomrule",
            r"\end{longtable}",
            *notes,
            "}",
        ]
    else:
        lines = [
            "% Needs \\usepackage{booktabs,graphicx,amssymb}.",
            r"\begin{table*}",
            r"\centering",
            caption,
            label,
            # Shrinks a wide table to the page and leaves a narrow one as it is.
            r"\resizebox{\ifdim\width>\textwidth\textwidth\else\width\fi}{!}{%",
            rf"\begin{{tabular}}{{{alignment}}}",
            r"\toprule",
            *header,
            *body,
            r"\bottomrule",
            r"\end{tabular}}",
            *notes,
            r"\end{table*}",
        ]
    return "\n".join([*lines, ""])


def escape_latex(text: str) -> str:
    """Plain text for LaTeX's text mode, on one line."""
    return "".join(_LATEX.get(character, character) for character in _on_one_line(text))


def _no_formula(value: object) -> object:
    """A value that spreadsheets take for text, with the mark by which they do.

    Names of classes come from strangers' files, and `=1+1` is one that would be run.
    """
    if not isinstance(value, str) or not value.startswith(("=", "+", "-", "@", "\t", "\r")):
        return value
    try:
        float(value)
    except ValueError:
        return f"'{value}"
    return value


def _on_one_line(text: str) -> str:
    return text if text.isprintable() else " ".join(text.split())


FORMATS: dict[str, Callable[[Table], str]] = {
    ".csv": to_csv,
    ".md": to_markdown,
    ".tex": to_latex,
}


def _printed(rows: tuple[Row, ...]) -> list[tuple[list[str], Row]]:
    """Rows with the labels the paper prints: an outer label only where it changes."""
    printed = []
    above: tuple[str, ...] = ()
    for row in rows:
        labels = list(row.labels)
        for i in range(len(labels) - 1):
            if above[: i + 1] == row.labels[: i + 1]:
                labels[i] = ""
        printed.append((labels, row))
        above = row.labels
    return printed


def _references(table: Table, row: Row) -> list[int]:
    return [table.notes.index(note) + 1 for note in row.notes]


def _cells(table: Table, row: Row) -> Iterator[tuple[Cell, Column]]:
    return zip(row.cells, table.columns, strict=True)


def cell_text(cell: Cell, column: Column) -> str:
    """A cell as it is printed."""
    if cell is None:
        return ABSENT
    if isinstance(cell, Spread):
        return spread_text(cell, column.digits)
    if isinstance(cell, PValue):
        return p_text(cell)
    if isinstance(cell, float):
        return decimal(cell, digits=column.digits)
    return str(cell)


def _parts(column: Column) -> tuple[str, ...]:
    """What the columns of the CSV that belong to one of the table add to its key."""
    if not column.has_spread:
        return ("",)
    parts: tuple[str, ...] = ("mean", "std")
    if column.has_interval:
        parts += ("low", "high")
    return (*parts, "p", "p_holm", "mark") if column.has_test else parts


def _csv_values(cell: Cell, column: Column) -> list[object]:
    parts = _parts(column)
    if isinstance(cell, Spread):
        values = _spread_parts(cell)
        return [values[part] for part in parts]
    # A number without spread is a mean; the writer leaves None empty.
    return [cell, *[""] * (len(parts) - 1)]


def _spread_parts(cell: Spread) -> dict[str, str]:
    low, high = cell.interval or (None, None)
    numbers = {
        "mean": cell.mean,
        "std": cell.std,
        "low": low,
        "high": high,
        "p": cell.p_value,
        "p_holm": cell.p_holm,
    }
    texts = {part: "" if n is None else repr(float(n)) for part, n in numbers.items()}
    return {**texts, "mark": cell.mark}


def _escape_markdown(text: str) -> str:
    text = _on_one_line(text).replace("|", "\\|").replace("*", "\\*")
    # Neither pictures nor links that a name brings along; an interval in brackets is none.
    text = re.sub(r"\](?=[(\[])", r"]\\", text)
    # A "less than" with a space behind it begins no tag.
    return re.sub(r"<(?=\S)", "&lt;", text)


def _markdown_rule(table: Table) -> list[str]:
    sides = [":--" if is_text else "--:" for is_text in table.has_text]
    return [":--"] * len(table.heads) + sides


def _markdown_line(texts: list[str]) -> str:
    return "| " + " | ".join(_escape_markdown(text) for text in texts) + " |"


def _latex_cell(cell: Cell, column: Column) -> str:
    if isinstance(cell, Spread):
        return spread_latex(cell, column.digits)
    return escape_latex(cell_text(cell, column))


def _latex_line(texts: list[str]) -> str:
    return " & ".join(texts) + r" \\"


def _latex_spans(table: Table) -> list[str]:
    texts, rules = [""] * len(table.heads), []
    first = len(table.heads) + 1
    for title, width in table.column_spans:
        texts.append(rf"\multicolumn{{{width}}}{{c}}{{{escape_latex(title)}}}")
        if title:
            rules.append(rf"\cmidrule(lr){{{first}-{first + width - 1}}}")
        first += width
    return [_latex_line(texts), " ".join(rules)]
