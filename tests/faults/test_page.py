"""The page on reliability names tests that exist."""

import ast
import re
from pathlib import Path


def test_every_test_on_the_page_exists(repository: Path) -> None:
    page = (repository / "docs" / "reliability.md").read_text(encoding="utf-8")
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", page)
    assert len(named) >= 20
    for file, name in named:
        tree = ast.parse((repository / file).read_text(encoding="utf-8"))
        assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, name


def test_the_sections_of_others_have_their_marks(repository: Path) -> None:
    page = (repository / "docs" / "reliability.md").read_text(encoding="utf-8")
    for section in ("chaos", "fuzz"):
        begin, end = f"<!-- {section}: begin -->", f"<!-- {section}: end -->"
        assert page.count(begin) == page.count(end) == 1
        assert page.index(begin) < page.index(end)
