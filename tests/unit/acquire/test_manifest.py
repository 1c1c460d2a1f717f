"""Manifests and ledgers."""

from pathlib import Path

import pytest

from stradavit.acquire.manifest import (
    Acquired,
    ManifestRow,
    part_of,
    read_ledger,
    read_manifest,
    write_ledger,
    write_manifest,
)
from stradavit.errors import DataError

DIGEST = "0" * 63 + "a"


def test_part_is_a_fixed_function_of_the_name() -> None:
    # Pinned: another value would move products of existing surveys into other parts.
    assert [part_of(name, 16) for name in ("b", "c", "mgcls-0001")] == [10, 2, 15]
    assert part_of("a", 1) == 0


def test_parts_are_in_range_and_all_used() -> None:
    parts = [part_of(f"product-{number}", 7) for number in range(700)]
    assert set(parts) == set(range(7))
    assert max(parts.count(part) for part in range(7)) < 150


def test_manifest_round_trip_is_sorted(tmp_path: Path) -> None:
    rows = [ManifestRow("b", 1, "/x, y", 7, f"sha256:{DIGEST}"), ManifestRow("a", 0, 'say "hi"')]
    write_manifest(tmp_path / "m.csv", rows)
    assert read_manifest(tmp_path / "m.csv") == rows[::-1]


def test_ledger_moves_with_its_folder(tmp_path: Path) -> None:
    old = tmp_path / "old"
    inside, outside = old / "files" / "a.fits", tmp_path / "elsewhere" / "b.fits"
    write_ledger(
        old / "0.csv", [Acquired("a", inside, DIGEST, 1), Acquired("b", outside, DIGEST, 2)]
    )
    new = old.rename(tmp_path / "new")
    ledger = read_ledger(new / "0.csv")
    assert [row.path for row in ledger] == [new / "files" / "a.fits", outside]
    assert [row.bytes for row in ledger] == [1, 2]


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("product,part,location\n", "expected a header with the columns product, part, location"),
        ("product,part,location,bytes,checksum\na,x,b,,\n", "line 2: found part 'x'"),
        (
            "product,part,location,bytes,checksum\na,0,b,,md5:123\n",
            "line 2: 'md5:123' is no checksum",
        ),
        (
            "product,part,location,bytes,checksum\na,0,b,-1,\n",
            "line 2: found part '0' and '-1' bytes",
        ),
        ("product,part,location,bytes,checksum\na,0\n", "line 2: found 2 cells; expected 5"),
        (
            "product,part,location,bytes,checksum\na,0,b,,\na,1,c,,\n",
            "1 products have more than one row",
        ),
    ],
)
def test_damaged_manifest_is_refused(tmp_path: Path, text: str, match: str) -> None:
    path = tmp_path / "m.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=match):
        read_manifest(path)


def test_binary_or_absent_manifest_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    with pytest.raises(DataError, match="cannot be read"):
        read_manifest(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="UTF-8"):
        read_manifest(path)


def test_negative_bytes_in_a_ledger_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "l.csv"
    path.write_text(f"product,path,sha256,bytes\na,a.fits,{DIGEST},-1\n")
    with pytest.raises(DataError, match="found '-1' bytes"):
        read_ledger(path)
