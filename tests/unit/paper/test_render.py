"""CSV keeps every digit, Markdown and LaTeX stay valid whatever the titles hold."""

import io
import re

import pandas as pd
import pytest

from stradavit.paper.digits import p_text
from stradavit.paper.layout import Column, Head, PValue, Row, RowGroup, Section, Spread, Table
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
        "group", "outer", "inner", "bench macro_f1 mean", "bench macro_f1 std",
        "bench macro_f1 low", "bench macro_f1 high", "bench n", "words", "note",
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


TESTED = Spread(0.0301, 0.0123, True, (-0.0104, 1.0), 0.004, 0.0213, "▲")


def one_cell(cell: Spread, n_rows: int = 1) -> Table:
    """A column with an interval and a test."""
    row = Row(("a",), (cell, PValue(0.00004)), (), ("x/r/b.json", "x/s/b.json"), ("x/t/b.json",))
    return Table(
        number=99,
        slug="tested",
        title="Tested",
        caption="p < 0.05, a<b.",
        heads=(Head("run", "Run"),),
        columns=(
            Column("b macro_f1", "Macro-F1", has_spread=True, has_test=True),
            Column("p", "p"),
        ),
        groups=(RowGroup((row,) * n_rows),),
        sections=(Section("In words", ("a > b.", "a | b.")),),
    )


def test_csv_has_interval_test_and_files() -> None:
    frame = pd.read_csv(io.StringIO(to_csv(one_cell(TESTED))))
    assert frame.loc[0].to_dict() == {
        "run": "a",
        "b macro_f1 mean": 0.0301,
        "b macro_f1 std": 0.0123,
        "b macro_f1 low": -0.0104,
        "b macro_f1 high": 1.0,
        "b macro_f1 p": 0.004,
        "b macro_f1 p_holm": 0.0213,
        "b macro_f1 mark": "▲",
        "p": 0.00004,
        "files": "x/r/b.json x/s/b.json",
        "minus": "x/t/b.json",
    }


@pytest.mark.parametrize(
    ("cell", "markdown", "latex"),
    [
        (
            TESTED,
            "+0.030 ± 0.012 [−.010, +1.000], p = 0.021 ▲",
            r"$+0.030 \pm 0.012$ {\scriptsize $[-.010, +1.000]$}, $p = 0.021$ $\blacktriangle$",
        ),
        (
            Spread(0.9996, 0.1, False, (0.0, 1.0), 0.2, 1.0, ""),
            "1.000 ± 0.100 [.000, 1.000]",
            r"$1.000 \pm 0.100$ {\scriptsize $[.000, 1.000]$}",
        ),
        (
            Spread(-0.0001, 0.1, True, (-0.6, -0.0002), 1e-9, 1e-8, "▼"),
            "+0.000 ± 0.100 [−.600, +.000], p < 0.001 ▼",
            r"$+0.000 \pm 0.100$ {\scriptsize $[-.600, +.000]$}, $p < 0.001$ $\blacktriangledown$",
        ),
    ],
)
def test_intervals_tests_and_marks_in_print(cell: Spread, markdown: str, latex: str) -> None:
    assert f"| a | {markdown} | < 0.001 |" in to_markdown(one_cell(cell))
    assert rf"a & {latex} & $<$ 0.001 \\" in to_latex(one_cell(cell))


@pytest.mark.parametrize(
    ("p", "text"),
    [(0.0009999, "< 0.001"), (0.001, "0.001"), (0.0499, "0.050"), (0.25, "0.25"), (1.0, "1.00")],
)
def test_small_probabilities_are_bounds(p: float, text: str) -> None:
    assert p_text(p) == text


def test_sections_follow_the_table_in_markdown() -> None:
    text = to_markdown(one_cell(TESTED))
    assert text.endswith("## In words\n\n- a > b.\n- a \\| b.\n")
    assert "p < 0.05, a&lt;b." in text
    assert "In words" not in to_latex(one_cell(TESTED))


def test_a_table_longer_than_a_page_may_break() -> None:
    text = to_latex(one_cell(TESTED, n_rows=80))
    assert re.findall(r"\\begin\{(\w+\*?)\}", text) == ["longtable"]
    assert re.findall(r"\\end\{(\w+\*?)\}", text) == ["longtable"]
    assert text.index(r"\endhead") < text.index("a & $")
    assert r"\usepackage{booktabs,longtable,amssymb}" in text
    bare = re.sub(r"(?<!\\)%.*|\\[{}]", "", text)
    assert bare.count("{") == bare.count("}")


def test_a_column_says_its_decimals_and_a_number_needs_no_spread() -> None:
    columns = (
        Column("ap percent", "AP", has_spread=True, has_interval=False, digits=1),
        Column("score", "Score", digits=0),
        Column("f1", "F1", has_spread=True),
    )
    rows = (
        Row(("many",), (Spread(47.24, 0.15), 1.5, 0.5)),
        Row(("one",), (47.26, -0.4, None)),
        Row(("minus",), (Spread(-0.04, 0.04), -12.0, Spread(-0.0004, 0.0))),
    )
    table = Table(99, "t", "T", "C.", (Head("row", "Row"),), columns, (RowGroup(rows),))
    lines = to_csv(table).splitlines()
    assert lines[0] == "row,ap percent mean,ap percent std,score,f1 mean,f1 std,f1 low,f1 high"
    assert lines[1] == "many,47.24,0.15,1.5,0.5,,,"
    assert lines[2] == "one,47.26,,-0.4,,,,"
    printed = to_markdown(table).splitlines()[4:7]
    assert printed == [
        "| many | 47.2 ± 0.1 | 2 | 0.500 |",
        "| one | 47.3 | 0 | – |",
        "| minus | 0.0 ± 0.0 | −12 | 0.000 ± 0.000 |",
    ]
    assert r"many & $47.2 \pm 0.1$ & 2 & 0.500 \\" in to_latex(table)
