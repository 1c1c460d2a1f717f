"""A folder that is either the whole new set of files or the old one."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stradavit.disk import named_refusals
from stradavit.files import sweep, temporary_beside


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """A temporary folder beside `path` that takes its place only if the block succeeds.

    Whatever `path` held before is gone afterwards: a table of an earlier configuration must not
    lie among those of this one.

    Raises
    ------
    DiskError
        If the system refuses to write.
    """
    path = Path(path).absolute()
    temporary = temporary_beside(path)
    retired = temporary.with_name(temporary.name + ".old")
    with named_refusals(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        sweep(path.parent)
        for leftover in (temporary, retired):
            shutil.rmtree(leftover, ignore_errors=True)
        temporary.mkdir()
        try:
            yield temporary
            # A folder cannot replace one that is not empty, so the old one steps aside first.
            if path.exists():
                path.replace(retired)
            temporary.replace(path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
            shutil.rmtree(retired, ignore_errors=True)
