"""docs/faults.md is what the tests of this folder found; the name of this file lets it run last."""

import os
from pathlib import Path

import pytest

from .fault_table import PAGE, collect, page, rows_of

REMEDY = "run `python -m tests.archives.fault_table`"


def test_the_page_is_what_the_tests_give(
    fault_record: Path, request: pytest.FixtureRequest
) -> None:
    if os.environ.get("STRADAVIT_FAULT_PAGE") == "writing":
        pytest.skip("the page is being written")
    found = collect(fault_record)
    text = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
    known = set(rows_of(text))
    new = [row for row in rows_of(page(found)) if row not in known]
    assert not new, f"{PAGE} lacks {new[:3]}; {REMEDY}"
    folder = Path(__file__).parent
    collected = {item.path for item in request.session.items if item.path.parent == folder}
    is_whole = (
        collected == set(folder.glob("test_*.py"))
        and not request.config.option.keyword
        and not any("::" in argument for argument in request.config.args)
        and not request.session.testsfailed
    )
    if is_whole:
        assert rows_of(page(found)) == rows_of(text), f"{PAGE} has rows no test gives; {REMEDY}"
