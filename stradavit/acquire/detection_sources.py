"""`sources.json` of a detection set: which pictures and annotations it consists of.

Of kind `coco` it has

- `root`, the folder of the copy; `folders`, where the file names of each split begin;
- `annotations`: path and SHA-256 of the COCO file of each split;
- `classes`: all names in the order of their ids; `warnings`: what is not as published;
- `download`: which version was fetched, if it was; `pixels_sha256` of drawn scenes.

Of kind `truth` it has what `stradavit.acquire.truth_sources` says.

Paths of what the workflow has acquired are stored relative to the file, so that its bytes, which
are hashed, do not depend on where the results lie; paths of a user's own data are absolute.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stradavit.errors import DataError
from stradavit.files import read_json, write_json


def write_sources(path: Path, sources: dict[str, Any]) -> None:
    """Write `sources`, whose paths are absolute, atomically and sealed."""
    folder = Path(path).absolute().parent

    def stored(place: str) -> str:
        is_acquired = Path(place).is_relative_to(folder.parent)  # beside it are the surveys
        return Path(os.path.relpath(place, folder)).as_posix() if is_acquired else place

    write_json(path, _with_paths(sources, stored), sealed=True)


def read_sources(path: Path) -> dict[str, Any]:
    """What `write_sources` was given, with paths from here.

    Raises
    ------
    DataError
        If the file cannot be read, fails its seal, or is of another kind.
    """
    remedy = "Delete the file and acquire the set again (stradavit acquire-detection)."
    try:
        sources = read_json(path)
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: cannot be read as JSON ({error!r}). {remedy}") from error
    kind = sources.get("kind") if isinstance(sources, dict) else None
    if kind not in ("coco", "truth"):
        raise DataError(f"{path}: its kind is {kind!r}; expected coco or truth. {remedy}")
    folder = Path(path).absolute().parent
    try:
        return _with_paths(sources, lambda place: os.path.normpath(folder / place))
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: does not say what it must ({error!r}). {remedy}") from error


def _with_paths(sources: dict[str, Any], change: Callable[[str], str]) -> dict[str, Any]:
    if sources["kind"] == "truth":
        products = [
            item | {key: change(item[key]) for key in ("path", "truth")}
            for item in sources["products"]
        ]
        return sources | {"products": products}
    annotations = {
        split: noted | {"path": change(noted["path"])}
        for split, noted in sources["annotations"].items()
    }
    folders = {split: change(folder) for split, folder in sources["folders"].items()}
    root = change(sources["root"])
    return sources | {"root": root, "annotations": annotations, "folders": folders}
