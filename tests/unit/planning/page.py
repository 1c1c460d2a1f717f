"""Writes the outputs in docs/planning.md: `python -m tests.unit.planning.page`.

The page is a text with commands; below each stands what it prints where nothing has been made.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

REPOSITORY = Path(__file__).parents[3]
PAGE = REPOSITORY / "docs" / "planning.md"
REMEDY = "run `python -m tests.unit.planning.page`"

_PAIR = re.compile(r"```bash\n(stradavit plan[^\n]*)\n```\n\n```text\n(.*?)```", re.S)
_FREE = re.compile(r"[\d.]+ [kMGT]?B are free(: TOO\s+LITTLE[^\n]*)?")


def examples(text: str) -> list[tuple[str, str]]:
    """Commands of a page, and what it says they print."""
    found = [(pair[1], pair[2]) for pair in _PAIR.finditer(text)]
    assert len(found) == text.count("stradavit plan -"), "a command without its output"
    return found


def output_of(command: str, folder: Path) -> str:
    """What a command prints beside the configurations, without results or fetched models."""
    for name in ("config.yaml", "workflow/config/paper.yaml"):
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / name, target)
    done = subprocess.run(
        [Path(sys.executable).parent / "stradavit", *command.split()[1:]],
        cwd=folder,
        env=os.environ | {"HF_HUB_CACHE": str(folder / "no-hub")},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def without_free_space(text: str) -> str:
    """An output without what differs from disk to disk."""
    return _FREE.sub("… are free", text)


def write() -> None:
    """Put the outputs of now below the commands of the page."""
    with tempfile.TemporaryDirectory() as name:

        def renewed(pair: re.Match[str]) -> str:
            output = output_of(pair[1], Path(name))
            return f"```bash\n{pair[1]}\n```\n\n```text\n{output}```"

        text = _PAIR.sub(renewed, PAGE.read_text(encoding="utf-8"))
    PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write()
