"""CIFAR-like pickled batches, as MiraBest and FR-DEEP are published.

A batch is a mapping with `data`, `labels` and `filenames`. MiraBest keeps data as one array of
images, FR-DEEP as a list of flat ones.
"""

import hashlib
import re
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stradavit.acquire.restricted_pickle import load_arrays
from stradavit.acquire.transfer.tars import TAR_DAMAGE, check_sum, open_tar
from stradavit.errors import DataError

BATCH_NAME = re.compile(r"([\w-]+_)?batch(_[\w-]+)?")
DIGEST_FILE = "hash.md5"
DIGEST_LINE = re.compile(r"([0-9a-fA-F]{32})[ *]+(\S+)")
MAX_FILE_BYTES = 2**30
MAX_ARCHIVE_BYTES = 2**33
MAX_ARCHIVE_MEMBERS = 100_000


def load_batch(path: Path) -> dict[str, Any]:
    """The mapping in one batch file; see `restricted_pickle.load_arrays` for what it may hold."""
    path = Path(path)
    return load_arrays(_read_file(path), str(path))


def iter_batches(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Batches in the order of their names, each with its name.

    Parameters
    ----------
    path : a batch file, a folder or a .tar.gz that holds batches (also in subfolders). Archives
        are read in memory and never unpacked.

    Raises
    ------
    DataError
        If there is no batch, one is damaged, holds more than arrays, or differs from its digest in
        a `hash.md5` beside it.
    """
    path = Path(path)
    if path.is_dir():
        yield from _folder_batches(path)
    elif path.name.lower().endswith((".tar.gz", ".tgz", ".tar")):
        yield from _archive_batches(path)
    else:
        yield path.name, load_batch(path)


def iter_batch_images(path: Path, side_px: int) -> Iterator[NDArray[Any]]:
    """Images (side_px, side_px) of all batches; the k-th is member k of `path`.

    Raises
    ------
    DataError
        As `iter_batches`, or if the data of a batch are not images of that side.
    """
    for name, batch in iter_batches(path):
        yield from batch_images(f"{path}: {name}", batch, side_px)


def batch_images(where: str, batch: dict[str, Any], side_px: int) -> list[NDArray[Any]]:
    """Images (side_px, side_px) of one batch, whatever its layout.

    Raises
    ------
    DataError
        Naming `where`, if the data are not images of that side.
    """
    data = batch.get("data")
    if not isinstance(data, list | np.ndarray):
        raise DataError(f"{where}: has the keys {sorted(batch)[:9]}; expected data among them.")
    images = []
    for index, item in enumerate(data):
        image = np.asarray(item)
        fits = image.shape in ((side_px, side_px), (side_px**2,))
        if not fits or image.dtype.kind not in "biuf":
            raise DataError(
                f"{where}: image {index} has the shape {image.shape} and dtype {image.dtype}; "
                f"expected numbers, {side_px} x {side_px} or flat. Correct side_px."
            )
        images.append(image.reshape(side_px, side_px))
    return images


def _batch_name(name: str) -> bool:
    path = PurePosixPath(name)
    hidden = any(part.startswith(".") for part in path.parts)
    return not hidden and BATCH_NAME.fullmatch(path.name) is not None


def _verified(
    where: Path, names: list[str], read: Callable[[str], bytes]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Batches among `names`, each checked against the digest file of its folder."""
    batches = sorted(name for name in names if _batch_name(name))
    if not batches:
        raise DataError(
            f"{where}: none of its {len(names)} files ({', '.join(sorted(names)[:5])}) is a batch; "
            "expected names such as data_batch_1. Correct benchmarks.<name>.path."
        )
    digests: dict[str, str] = {}
    for name in names:
        if PurePosixPath(name).name == DIGEST_FILE:
            folder = PurePosixPath(name).parent
            for digest, file in DIGEST_LINE.findall(read(name).decode("latin1")):
                digests[str(folder / file)] = digest.lower()
    for name in batches:
        raw = read(name)
        found = hashlib.md5(raw, usedforsecurity=False).hexdigest()
        if digests.get(name, found) != found:
            raise DataError(
                f"{where}: {name} has the MD5 digest {found}; {DIGEST_FILE} says {digests[name]}. "
                "It is damaged or was changed: fetch it again."
            )
        yield name, load_arrays(raw, f"{where}: {name}")


def _folder_batches(folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    names = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    yield from _verified(folder, names, lambda name: _read_file(folder / name))


def _archive_batches(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        with open_tar(path) as archive:
            # Links and devices are passed over: only what the archive itself holds is read.
            members: dict[str, tarfile.TarInfo] = {}
            n_bytes = 0
            for number, member in enumerate(archive, 1):
                n_bytes += member.size
                check_sum(path, n_bytes, number, MAX_ARCHIVE_BYTES, MAX_ARCHIVE_MEMBERS)
                if member.isfile():
                    members[member.name] = member

            def read(name: str) -> bytes:
                if members[name].size > MAX_FILE_BYTES:
                    raise DataError(f"{path}: {name} has more than {MAX_FILE_BYTES} bytes.")
                opened = archive.extractfile(members[name])
                assert opened is not None
                return opened.read()

            yield from _verified(path, list(members), read)
    except (OSError, *TAR_DAMAGE) as error:
        raise DataError(
            f"{path}: cannot be read as an archive ({error}), looked for from {Path.cwd()}. Fetch "
            "it again, or give the folder that holds the batches."
        ) from error


def _read_file(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise DataError(f"{path}: has {size} bytes; a batch has at most {MAX_FILE_BYTES}.")
        return path.read_bytes()
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror}), looked for from {Path.cwd()}. Give a "
            "batch file, or the folder or .tar.gz that holds the batches."
        ) from error
