"""The sources are in the project's style, typed, and import in one direction."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import BIN, run_snakemake

# A package may import those to its right; those in one group do not know each other.
DIRECTION = (
    {"tracing"},
    {"paper", "planning"},
    {"evaluation", "detection"},
    {"training"},
    {"objectives", "models", "views"},
    {"cutouts"},
    {"acquire"},
    {"settings", "progress", "provenance"},
    {"files", "machine"},
    {"disk"},
    {"errors"},
)


@pytest.mark.parametrize(
    "command",
    [
        ("ruff", "check", "."),
        ("ruff", "format", "--check", "."),
        ("mypy",),
        ("snakefmt", "--check", "Snakefile", "workflow"),
    ],
    ids=" ".join,
)
def test_sources_pass(repository: Path, command: tuple[str, ...]) -> None:
    done = subprocess.run(
        [BIN / command[0], *command[1:]], cwd=repository, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_workflow_lints(workflow: Path) -> None:
    done = run_snakemake(workflow, "--lint")
    assert done.returncode == 0, done.stdout + done.stderr


def test_texts_the_report_shows_are_there(repository: Path) -> None:
    sources = [repository / "Snakefile", *(repository / "workflow" / "rules").glob("*.smk")]
    texts = [
        source.parent / name
        for source in sources
        for name in re.findall(r'(?:report: |caption=)"(.+\.rst)"', source.read_text("utf-8"))
    ]
    assert len(texts) >= 3
    assert [text for text in texts if not text.is_file()] == []


def imports_of(path: Path) -> set[str]:
    """First names below `stradavit` that a file imports, inside functions too."""
    modules: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: relative import"
            modules.add(node.module)
        elif isinstance(node, ast.Import):
            modules.update(alias.name for alias in node.names)
    return {m.split(".")[1] for m in modules if m.startswith("stradavit.")}


def test_imports_point_one_way(repository: Path) -> None:
    rank = {package: i for i, group in enumerate(DIRECTION) for package in group}
    wrong = []
    for path in sorted((repository / "stradavit").rglob("*.py")):
        package = path.relative_to(repository / "stradavit").parts[0].removesuffix(".py")
        if package in ("cli", "commands", "__init__"):
            continue
        for imported in imports_of(path) - {package}:
            if rank[imported] <= rank[package]:
                wrong.append(f"{path.relative_to(repository)} imports {imported}")
    assert not wrong


def test_help_is_quick_because_stages_are_imported_late(repository: Path) -> None:
    code = (
        "import sys; from stradavit.cli import build_parser; build_parser(); "
        "heavy = {'torch', 'numpy', 'astropy', 'pandas', 'pydantic'} & set(sys.modules); "
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=repository)
