"""Unpacking tar and zip files from elsewhere: no paths that lead out, no links, no bombs."""

import os
import shutil
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from stradavit.acquire.transfer.names import safe_name
from stradavit.acquire.transfer.tars import TAR_DAMAGE, open_tar
from stradavit.errors import DataError
from stradavit.settings.archives import ArchiveSettings

BLOCK = 1 << 20
# RuntimeError is how zipfile says that a member is encrypted.
DAMAGE = (*TAR_DAMAGE, zipfile.BadZipFile)
# Bytes of a zip's table for each member that may be in it.
TABLE_BYTES = 256
MAX_DEPTH = 16


@dataclass(frozen=True)
class _Member:
    """A file in an archive file, with the size it claims."""

    name: str
    size: int
    is_file: bool
    open: Callable[[], IO[bytes] | None]


def unpack(
    path: Path,
    folder: Path,
    archives: ArchiveSettings,
    wanted: Callable[[str], bool] | None = None,
) -> list[Path]:
    """Unpack the regular files of a .tar, .tar.gz or .zip into `folder`, which is whole or absent.

    Parameters
    ----------
    path : the archive file; its kind is read from its bytes
    folder : made by this; if it is there already, it is what an earlier call made
    archives : `unpack_members` and `unpack_gb` bound what may come out
    wanted : which members to unpack, by their name; all if absent

    Returns
    -------
    Absolute paths of the files in `folder`, sorted

    Raises
    ------
    DataError
        If the archive file is damaged, holds a link, a device, an unsafe or a repeated name, or
        more than the bounds allow. Nothing of it is left then.
    """
    folder = Path(folder).absolute()
    if not folder.is_dir():
        beside = folder.with_name(f".{folder.name}.part")
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir(parents=True)
        try:
            _unpack_into(Path(path), beside, archives, wanted)
            beside.replace(folder)
        except DAMAGE as error:
            raise DataError(
                f"{path}: cannot be unpacked ({error}). Delete it and run this again to fetch anew."
            ) from error
        except OSError as error:
            raise DataError(
                f"{path}: cannot be unpacked into {folder} ({error.strerror or error}). Make room, "
                "or delete the file if it is damaged, and run this again."
            ) from error
        finally:
            shutil.rmtree(beside, ignore_errors=True)
    return sorted(found for found in folder.rglob("*") if found.is_file())


def _unpack_into(
    path: Path, folder: Path, archives: ArchiveSettings, wanted: Callable[[str], bool] | None
) -> None:
    most_bytes = int(archives.unpack_gb * 1e9)
    n_bytes, seen = 0, set()
    for number, member in enumerate(_members(path, archives.unpack_members), 1):
        where = f"{path}: the member {ascii(member.name)[:100]}"
        if number > archives.unpack_members:
            raise _bomb(path, f"more than {archives.unpack_members} members", "unpack_members")
        relative = _checked_name(member.name, where)
        if not member.is_file or relative is None:
            continue
        if relative.casefold() in seen:
            raise DataError(f"{where} is there twice. Nothing was unpacked: do not use it.")
        seen.add(relative.casefold())
        if wanted is not None and not wanted(relative):
            continue
        target = folder / relative
        target.parent.mkdir(parents=True, exist_ok=True)
        source = member.open()
        assert source is not None
        with source, target.open("xb") as out:
            # What a member claims to be is not believed: what comes out is counted.
            while block := source.read(BLOCK):
                n_bytes += len(block)
                if n_bytes > most_bytes:
                    raise _bomb(path, f"more than {archives.unpack_gb:g} GB", "unpack_gb")
                out.write(block)
            out.flush()
            os.fsync(out.fileno())


def _is_tar(path: Path) -> bool:
    try:
        with open_tar(path):
            return True
    except tarfile.TarError:
        return False


def _members(path: Path, most: int) -> Iterator[_Member]:
    if zipfile.is_zipfile(path) and not _is_tar(path):
        _check_table(path, most)
        with zipfile.ZipFile(path) as opened:
            for info in opened.infolist():
                kind = info.external_attr >> 28
                # 0: no Unix mode; 8: a regular file; 4: a folder.
                if kind not in (0, 4, 8):
                    raise _no_file(path, info.filename)
                yield _Member(
                    info.filename,
                    info.file_size,
                    not info.is_dir(),
                    lambda info=info, opened=opened: opened.open(info),  # type: ignore[misc]
                )
        return
    with open_tar(path) as tar:
        for entry in tar:
            if not (entry.isreg() or entry.isdir()):
                raise _no_file(path, entry.name)
            yield _Member(
                entry.name,
                entry.size,
                entry.isreg(),
                lambda entry=entry, tar=tar: tar.extractfile(entry),  # type: ignore[misc]
            )


def _check_table(path: Path, most: int) -> None:
    """Refuse a zip whose table would fill the memory, which zipfile reads whole."""
    with path.open("rb") as opened:
        # As zipfile itself looks for it: another way of looking might find another table.
        end = zipfile._EndRecData(opened)  # type: ignore[attr-defined]
    if end is not None and end[zipfile._ECD_SIZE] > most * TABLE_BYTES:  # type: ignore[attr-defined]
        raise _bomb(path, f"more than {most} members", "unpack_members")


def _checked_name(name: str, where: str) -> str | None:
    """Name below the folder; None for hidden files, which desktops strew into archive files."""
    steps = [step for step in name.rstrip("/").split("/") if step != "."]
    if name.startswith("/") or len(steps) > MAX_DEPTH:
        raise DataError(f"{where} leads out of its folder. Nothing was unpacked: do not use it.")
    if any(step.startswith(".") and step != ".." for step in steps):
        return None
    try:
        return "/".join(safe_name(step) for step in steps)
    except DataError:
        raise DataError(f"{where} has no safe name. Nothing was unpacked: do not use it.") from None


def _no_file(path: Path, name: str) -> DataError:
    return DataError(
        f"{path}: the member {ascii(name)[:100]} is a link or a device; expected files and folders "
        "only. Nothing was unpacked: do not use it."
    )


def _bomb(path: Path, found: str, key: str) -> DataError:
    return DataError(
        f"{path}: unpacks to {found}. Nothing was unpacked; raise archives.{key} if that is right."
    )
