"""Which code a result was made by: the modules a stage runs through, and their hash."""

import ast
import hashlib
from functools import cache
from pathlib import Path

PACKAGE_DIR = Path(__file__).parent

# These reach a result only through values that are recorded beside it, or not at all.
WITHOUT_EFFECT = ("settings", "errors", "files", "progress", "provenance", "cli")


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
