"""Names from strangers' files in what people open: LaTeX, Markdown and spreadsheets."""

import csv
import io
import re

import pytest

from stradavit.paper.layout import Column, Head, Row, RowGroup, Section, Table
from stradavit.paper.render import escape_latex, to_csv, to_latex, to_markdown

NAMES = (
    "\\input{/etc/passwd}", "\\write18{touch PWNED}", "$x$ & y_1 % z #1 ~ ^", "a\n\n\\par b",
    "[options]", "<script>alert(1)</script>", "![x](http://127.0.0.1/pixel.png)",
    "[x](javascript:alert(1))", "[x][y]", "a|b", "=cmd|' /C calc'!A0", "@SUM(A1)", "+1+1", "-1+1",
    "`code`", "\u2028line", "<img src=x onerror=alert(1)>",
)  # fmt: skip


def table(name: str) -> Table:
    """A table that has a name in all of its places."""
    return Table(
        number=99,
        slug="hostile",
        title=name,
        caption=name,
        heads=(Head("name", name),),
        columns=(Column(f"{name} n", name, name), Column("words", name)),
        groups=(RowGroup((Row((name,), (7, name), (name,)),), name),),
        sections=(Section(name, (name,)),),
    )


@pytest.mark.parametrize("name", NAMES)
def test_latex_has_no_command_of_the_name(name: str) -> None:
    written = to_latex(table(name))
    empty = to_latex(table("x"))
    commands = r"\\(?:input|write|par\b)"
    assert len(re.findall(commands, written)) == len(re.findall(commands, empty))
    assert written.count("\n") == empty.count("\n")
    assert not any(line.startswith("[") for line in written.splitlines())
    plain = re.sub(r"\\[&%$#_{}]|\$[<>-]\$|\\text\w+\{\}", "", escape_latex(name))
    assert not set(plain.replace("{[}", "")) & set("&%$#_\\~^[")


@pytest.mark.parametrize("name", NAMES)
def test_markdown_has_no_tag_link_or_picture_of_the_name(name: str) -> None:
    written = to_markdown(table(name))
    assert not re.search(r"<(?!/?sup>)\S", written)
    assert "](" not in written
    assert "][" not in written
    assert written.count("\n") == to_markdown(table("x")).count("\n")
    rows = [line for line in written.splitlines() if line.startswith("| ")]
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {4}


@pytest.mark.parametrize("name", NAMES)
def test_spreadsheets_take_names_for_text(name: str) -> None:
    rows = list(csv.reader(io.StringIO(to_csv(table(name)))))
    cells = [cell for row in rows for cell in row]
    assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\r")) for cell in cells)
    assert rows[1][1] in (name, f"'{name}")


def test_numbers_stay_numbers() -> None:
    made = table("x")
    row = Row(("-0.5",), (-3, "-1e-3"), ())
    changed = Table(**{**vars(made), "groups": (RowGroup((row,), ""),)})
    (line,) = list(csv.reader(io.StringIO(to_csv(changed))))[1:]
    assert line[:3] == ["-0.5", "-3", "-1e-3"]
