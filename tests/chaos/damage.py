"""Damage to files as disks do it: the time of the file does not tell."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def _same_time(path: Path) -> Iterator[None]:
    before = path.stat()
    yield
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def flip_byte(path: Path, place: float) -> None:
    """Turn one bit over, `place` of the way through the file."""
    with _same_time(path), path.open("rb+") as file:
        file.seek(int(place * path.stat().st_size))
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 1]))


def truncate(path: Path, place: float) -> None:
    """Cut the file off there."""
    with _same_time(path):
        os.truncate(path, int(place * path.stat().st_size))


def delete(path: Path, place: float) -> None:
    """Remove the file."""
    path.unlink()


DAMAGE = {"flip-byte": flip_byte, "truncate": truncate, "delete": delete}
