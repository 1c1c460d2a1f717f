"""Which code a result was made by: the modules a stage runs through, their hash, and a note of it.

The note lies beside a file whose bytes are hashed by what follows: the same data must stay the
same file, whoever makes it.
"""

import ast
import hashlib
from functools import cache
from pathlib import Path
from typing import Any

from stradavit.files import read_json, sha256_of, write_json
from stradavit.machine import maker

PACKAGE_DIR = Path(__file__).parent

# These reach a result only through values that are recorded beside it, or not at all.
WITHOUT_EFFECT = ("settings", "errors", "disk", "files", "progress", "provenance", "machine", "cli")


def imported_files(module: str) -> list[Path]:
    """Files of the package that `module` imports, directly or not, itself included, sorted.

    Read from the source, imports inside functions too, so nothing is executed and the list cannot
    go stale. Modules that cannot change a result (`WITHOUT_EFFECT`) are left out.

    Parameters
    ----------
    module : dotted name such as ``stradavit.evaluation.probe``
    """
    found: set[Path] = set()
    waiting = [_file_of(module)]
    while waiting:
        path = waiting.pop()
        if path is None or path in found:
            continue
        found.add(path)
        waiting.extend(_imports_of(path))
    return sorted(found)


def code_hash(module: str) -> str:
    """Hex SHA-256 over names and bytes of the files `module` runs through."""
    digest = hashlib.sha256()
    for path in imported_files(module):
        digest.update(path.relative_to(PACKAGE_DIR).as_posix().encode() + b"\0")
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def note_maker(path: Path, module: str, **more: Any) -> None:
    """Write beside a finished file by what it was made: ``<name>.made.json``.

    Parameters
    ----------
    path : the file; its SHA-256 is in the note, so a note of another file is known as such
    module : that makes it, as for `code_hash`
    more : what else is to be noted, as JSON values
    """
    path = Path(path)
    note = {
        "file": path.name,
        "sha256": sha256_of(path),
        "module": module,
        "code": code_hash(module),
    }
    write_json(maker_path(path), {**note, **maker(), **more})


def read_maker(path: Path) -> dict[str, Any]:
    """The note beside a file; empty if there is none that can be read."""
    try:
        note = read_json(maker_path(path))
    except (OSError, ValueError):
        return {}
    return note if isinstance(note, dict) else {}


def maker_path(path: Path) -> Path:
    """Where the note on a file lies."""
    return path.with_name(f"{path.name}.made.json")


@cache
def _imports_of(path: Path) -> tuple[Path | None, ...]:
    files: list[Path | None] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            files.extend(_file_of(alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            files.append(_file_of(node.module))
            # `from stradavit.views import crops` names a module, not a thing inside one.
            files.extend(_file_of(f"{node.module}.{alias.name}") for alias in node.names)
    return tuple(files)


@cache
def _file_of(module: str) -> Path | None:
    package, *inner = module.split(".")
    if package != PACKAGE_DIR.name or not inner or inner[0] in WITHOUT_EFFECT:
        return None
    path = PACKAGE_DIR.joinpath(*inner)
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None
