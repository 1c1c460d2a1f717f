"""docs/planning.md shows what the command prints."""

from pathlib import Path

from .page import PAGE, REMEDY, examples, output_of, without_free_space


def test_the_page_shows_what_the_command_prints(tmp_path: Path) -> None:
    found = examples(PAGE.read_text(encoding="utf-8"))
    assert len(found) == 2
    for command, shown in found:
        printed = output_of(command, tmp_path)
        assert without_free_space(printed) == without_free_space(shown), REMEDY
