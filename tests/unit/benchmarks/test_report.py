"""The page says what the JSON says, and neither says where it was made."""

import json
import re
from pathlib import Path

import pytest

from benchmarks.__main__ import CATALOGUE, main, render_all
from benchmarks.harness import Comparison, Side, Spread, Target
from benchmarks.report import (
    BEGIN,
    END,
    generated_part,
    merge_entry,
    number,
    read_report,
    render,
    table,
    without_paths,
    write_page,
)

MACHINE = {
    "processor": "a processor",
    "cores": 2,
    "instructions": ["avx2"],
    "memory_gib": 24.0,
    "system": "Linux 6",
    "gpu": "no GPU: GPU targets not measured",
}


def _entry(commit: str = "abc", measured: float = 5.0, **machine) -> dict:
    comparison = Comparison(
        name="reads, 512 px",
        question="How fast?",
        unit="cutouts/s",
        sides=[
            Side("ours", "with checksums", Spread(1234.5, 1200.0, 1300.0)),
            Side("peer", "a | b", Spread(300.0, 290.0, 310.0)),
        ],
        ratios={"peer": Spread(4.115, 4.0, 4.3)},
        targets=[Target("times the peer", 4.5, measured)],
        notes=["One note."],
        figures={"parts": [{"part": "a", "seconds": 1.25}], "share": {"x": 0.5}, "size": 12345},
    )
    return {
        "machine": MACHINE | machine,
        "versions": {"python": "3.11"},
        "commit": commit,
        "rounds": 3,
        "seconds": 12.5,
        "comparisons": [comparison.to_json()],
    }


@pytest.fixture
def docs_dir(tmp_path: Path) -> Path:
    (tmp_path / "performance.md").write_text(f"# Before\n\n{BEGIN}\n\nold\n\n{END}\n\n## After\n")
    return tmp_path


def test_one_entry_is_replaced_and_the_others_stand(docs_dir: Path) -> None:
    merge_entry(docs_dir, "views", _entry("first"))
    merge_entry(docs_dir, "shards", _entry("first"))
    report = merge_entry(docs_dir, "views", _entry("second"))
    assert report == read_report(docs_dir)
    assert {name: entry["commit"] for name, entry in report.items()} == {
        "views": "second",
        "shards": "first",
    }


def test_the_page_is_rewritten_between_its_markers_only(docs_dir: Path) -> None:
    merge_entry(docs_dir, "views", _entry())
    for _ in range(2):
        assert main(["--render", "--out", str(docs_dir)]) == 0
    page = (docs_dir / "performance.md").read_text()
    assert page.startswith(f"# Before\n\n{BEGIN}\n\n") and page.endswith(f"{END}\n\n## After\n")
    assert generated_part(page) == render_all(read_report(docs_dir)).strip()
    assert "old" not in page


def test_a_page_without_markers_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "performance.md").write_text("# Mine\n")
    with pytest.raises(ValueError, match=r"performance\.md: expected the lines"):
        write_page(tmp_path, "text")
    assert (tmp_path / "performance.md").read_text() == "# Mine\n"


def test_what_is_rendered() -> None:
    page = render({"shards": _entry(measured=4.115)}, CATALOGUE)
    rows = [re.sub(r" +", " ", line) for line in page.splitlines()]
    assert "**0 of 1 targets are met.**" in rows
    assert "- MISSED: reads, 512 px: times the peer: 4.12, wanted ≥ 4.5" in rows
    assert "| ours | 1,234 | 1,200 to 1,300 | |" in rows
    assert "| peer | 300 | 290 to 310 | × 4.12 (4 to 4.3) |" in rows
    assert "- ours: with checksums" in rows
    assert "| times the peer | ≥ 4.5 | 4.12 | **MISSED** |" in rows
    assert "| a | 1.25 |" in rows and "- x: 0.5" in rows and "Size: 12,345." in rows
    assert "One note." in rows
    assert any("12.5 s, machine, commit abc." in row for row in rows)
    assert "Not measured yet: views, cutouts" in page


def test_met_targets_are_counted() -> None:
    assert "**1 of 1 targets are met.**" in render({"shards": _entry()}, CATALOGUE)


def test_two_machines_are_told_apart() -> None:
    page = render({"views": _entry(), "shards": _entry(cores=16)}, CATALOGUE)
    assert "Machine A" in page and "Machine B" in page and "16 cores" in page
    assert page.index("machine A, commit") < page.index("machine B, commit")


def test_a_failure_is_named(docs_dir: Path) -> None:
    failed = {**_entry(), "failed": "OSError: no room"}
    del failed["comparisons"]
    page = render({"probe": failed}, CATALOGUE)
    assert "- FAILED: probe: OSError: no room" in page
    assert "**This benchmark did not run:** OSError: no room" in page


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("cannot open /home/me/stradavit/x.h5", "cannot open …/x.h5"),
        ("Command '['/a/b/bin/python', '-c']'", "Command '['…/python', '-c']'"),
        ("/tmp/a/b: gone", "…/b: gone"),
        ("in /tmp/a/", "in …/"),
        ("1200 views/s and 3 GB/s/core", "1200 views/s and 3 GB/s/core"),
        ("results/tables/1.csv", "results/tables/1.csv"),
        ("https://github.com/a/b", "https://github.com/a/b"),
    ],
)
def test_absolute_paths_are_cut(text: str, kept: str) -> None:
    assert without_paths({"a": [text]}) == {"a": [kept]}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (12345, "12,345"),
        (12345.6, "12,346"),
        (999.6, "1,000"),
        (0.0456, "0.0456"),
        (7.0, "7"),
        (0.0, "0"),
        (0.00012, "1.2e-04"),
        (123.4, "123"),
    ],
)
def test_numbers_have_three_digits(value: float, text: str) -> None:
    assert number(value) == text


def test_columns_line_up() -> None:
    assert table(["what", "n"], [["a", "1,000"], ["bcdef", "2"]], numeric=(1,)) == (
        "| what  |     n |\n| :---- | ----: |\n| a     | 1,000 |\n| bcdef |     2 |"
    )


# -- what is committed ----------------------------------------------------------------------------


def test_the_page_is_what_the_json_renders(repository: Path) -> None:
    page = (repository / "docs" / "performance.md").read_text(encoding="utf-8")
    rendered = render_all(read_report(repository / "docs"))
    assert generated_part(page) == rendered.strip(), "run python -m benchmarks --render"


def test_the_report_names_no_place(repository: Path) -> None:
    path = repository / "docs" / "performance.json"
    if not path.is_file():
        pytest.skip("nothing was measured yet")
    report = json.loads(path.read_text(encoding="utf-8"))
    assert report == without_paths(report)
    assert set(report) <= set(CATALOGUE)
