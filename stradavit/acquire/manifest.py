"""Manifests say which products should exist, ledgers which were acquired.

A survey is divided into a fixed number of parts; the part of a product follows from its name, so
that adding a product changes only the part it falls into.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from stradavit.acquire.table import from_table, read_table, relative_to_table, write_table
from stradavit.acquire.transfer.checksums import parse
from stradavit.errors import DataError

MANIFEST_COLUMNS = ("product", "part", "location", "bytes", "checksum")
LEDGER_COLUMNS = ("product", "path", "sha256", "bytes")
REMEDY = "Delete it and run the rule that makes it again."

SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class ManifestRow:
    """One product that should exist.

    Parameters
    ----------
    product : unique name, safe as a file name
    part : which part of the survey it belongs to, from 0
    location : where it comes from, in the words of its source
    bytes : exact size of the file; None if unknown beforehand
    checksum : of the file, its kind and its hexadecimal digits, such as `md5:…` (see
        `stradavit.acquire.transfer.checksums`); empty if unknown beforehand
    """

    product: str
    part: int
    location: str
    bytes: int | None = None
    checksum: str = ""


@dataclass(frozen=True)
class Acquired:
    """One product that exists: `path` is absolute, `bytes` the size of the file."""

    product: str
    path: Path
    sha256: str
    bytes: int


def part_of(product: str, parts: int) -> int:
    """Part of a product: a hash of its name alone, the same on every machine."""
    digest = hashlib.sha256(product.encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:8], "big") % parts


def write_manifest(path: Path, rows: Sequence[ManifestRow]) -> None:
    """Write a manifest, sorted by product."""
    _refuse_repeats(path, [row.product for row in rows])
    cells = sorted(
        (row.product, row.part, row.location, "" if row.bytes is None else row.bytes, row.checksum)
        for row in rows
    )
    write_table(path, MANIFEST_COLUMNS, cells, checked=True)


def read_manifest(path: Path) -> list[ManifestRow]:
    """The rows of a manifest.

    Raises
    ------
    DataError
        If the file is missing or damaged, or a product is named twice.
    """
    rows = []
    for row in read_table(path, MANIFEST_COLUMNS, REMEDY, checked=True):
        part, size, checksum = row["part"], row["bytes"], row["checksum"]
        if not part.isdecimal() or not (size.isdecimal() or not size):
            raise DataError(
                f"{path}, line {row.line}: found part {part!r} and {size!r} bytes; expected a "
                f"number, and a number or nothing. {REMEDY}"
            )
        try:
            parse(checksum)
        except DataError as error:
            raise DataError(f"{path}, line {row.line}: {error} {REMEDY}") from None
        n_bytes = int(size) if size else None
        rows.append(ManifestRow(row["product"], int(part), row["location"], n_bytes, checksum))
    _refuse_repeats(path, [row.product for row in rows])
    return rows


def write_ledger(path: Path, rows: Sequence[Acquired]) -> None:
    """Write what was acquired, sorted by product; paths below the ledger become relative."""
    _refuse_repeats(path, [row.product for row in rows])
    write_table(
        path,
        LEDGER_COLUMNS,
        sorted(
            (row.product, relative_to_table(row.path, path), row.sha256, row.bytes) for row in rows
        ),
        checked=True,
    )


def read_ledger(path: Path) -> list[Acquired]:
    """What was acquired, with absolute paths; whether the files are still there is not checked.

    Raises
    ------
    DataError
        If the ledger is missing or damaged, or a product is named twice.
    """
    rows = []
    for row in read_table(path, LEDGER_COLUMNS, REMEDY, checked=True):
        size, sha256 = row["bytes"], row["sha256"]
        if not size.isdecimal() or not SHA256.fullmatch(sha256):
            raise DataError(
                f"{path}, line {row.line}: found {size!r} bytes and sha256 {sha256!r}; expected a "
                f"number and 64 hexadecimal digits. {REMEDY}"
            )
        rows.append(Acquired(row["product"], from_table(row["path"], path), sha256, int(size)))
    _refuse_repeats(path, [row.product for row in rows])
    return rows


def _refuse_repeats(path: Path, products: Sequence[str]) -> None:
    repeated = [name for name, count in Counter(products).items() if count > 1]
    if repeated:
        raise DataError(
            f"{path}: {len(repeated)} products have more than one row, such as {repeated[0]}; "
            f"expected one each. {REMEDY}"
        )
