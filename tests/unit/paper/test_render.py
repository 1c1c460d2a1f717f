"""CSV keeps every digit, Markdown and LaTeX stay valid whatever the titles hold."""

import io
import re

import pandas as pd
import pytest

from stradavit.paper.layout import Column, Head, Row, RowGroup, Spread, Table
from stradavit.paper.render import escape_latex, to_csv, to_latex, to_markdown

AWKWARD = "A&B_50%"


@pytest.fixture
def table() -> Table:
    """Two heads, a column with and one without spread, notes, a difference, an absent cell."""
    return Table(
        number=99,
        slug="test_table",
        title=AWKWARD,
        caption="Caption with | and # and τ ± 1.",
        heads=(Head("outer", "Outer"), Head("inner", "Inner")),
        columns=(
            Column("bench macro_f1", "Macro-F1", AWKWARD, True),
            Column("bench n", "n", AWKWARD),
            Column("words", "Words"),
        ),
        groups=(
            RowGroup(
                (
                    Row(("a", "x"), (Spread(1 / 3, 0.1 + 0.2), 7, "α"), ("first note",)),
                    Row(("a", "y"), (None, None, None), ("second note", "first note")),
                ),
                "Group_1",
            ),
            RowGroup((Row(("a", "x"), (Spread(-1 / 7, 0.0, True), 8, "x|y")),), "Group 2"),
        ),
    )


def test_csv_reads_back_to_the_same_numbers(table: Table) -> None:
    frame = pd.read_csv(io.StringIO(to_csv(table)))
    assert list(frame.columns) == [
        "group", "outer", "inner", "bench macro_f1 mean", "bench macro_f1 std", "bench n",
        "words", "note",
    ]  # fmt: skip
    # Pandas before 3 read the last bit of a number as it pleased.
    exact = pytest.approx([1 / 3, -1 / 7], rel=1e-15)
    assert frame["bench macro_f1 mean"].tolist()[::2] == exact
    assert "0.30000000000000004" in to_csv(table)
    assert frame.loc[1, ["bench macro_f1 mean", "bench n", "words"]].isna().all()
    assert frame["outer"].tolist() == ["a", "a", "a"]
    assert frame["note"][1] == "second note first note"


def test_markdown(table: Table) -> None:
    lines = to_markdown(table).splitlines()
    assert lines[0] == f"# Table 99: {AWKWARD}"
    rows = [line for line in lines if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {6}
    assert rows[3] == "| a | x<sup>1</sup> | 0.333 ± 0.300 | 7 | α |"
    assert rows[4] == "|  | y<sup>2</sup><sup>1</sup> | – | – | – |"
    assert rows[6] == "| a | x | −0.143 ± 0.000 | 8 | x\\|y |"
    assert lines[-1] == "<sup>2</sup> second note"


def test_latex_is_balanced_and_escaped(table: Table) -> None:
    text = to_latex(table)
    body = re.sub(r"(?<!\\)%.*", "", text)
    bare = re.sub(r"\\[{}]", "", body)
    depth = 0
    for character in bare:
        depth += {"{": 1, "}": -1}.get(character, 0)
        assert depth >= 0
    assert depth == 0
    assert re.findall(r"\\begin\{(\w+\*?)\}", body) == ["table*", "tabular"]
    assert re.findall(r"\\end\{(\w+\*?)\}", body) == ["tabular", "table*"]
    assert r"A\&B\_50\%" in text
    assert AWKWARD not in text
    assert not re.search(r"[^\x00-\x7f]", text), "pdfLaTeX would stop at this character"
    assert body.count("$") % 2 == 0
    # Every line of the tabular has as many cells as it has columns.
    rows = [line for line in body.splitlines() if line.endswith(r"\\")]
    widths = [
        sum(int(n) for n in re.findall(r"\\multicolumn\{(\d+)\}", row))
        + sum("multicolumn" not in cell for cell in re.split(r"(?<!\\)&", row))
        for row in rows
    ]
    assert widths == [5] * len(rows)
    assert r"\multicolumn{2}{c}{A\&B\_50\%}" in text
    assert r"\cmidrule(lr){3-4}" in text
    assert r"$-0.143 \pm 0.000$" in text
    assert r"\begin{tabular}{llccl}" in text
    # LaTeX counts its tables itself.
    assert r"\caption{A\&B\_50\%. Caption" in text


def test_every_special_character_is_escaped() -> None:
    assert escape_latex(r"\{}_%&#$^~") == (
        r"\textbackslash{}\{\}\_\%\&\#\$\textasciicircum{}\textasciitilde{}"
    )
