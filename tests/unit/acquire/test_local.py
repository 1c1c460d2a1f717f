"""Local surveys and positions."""

from dataclasses import replace
from pathlib import Path

import pytest

from stradavit.acquire.local import local_manifest, read_positions, survey_files
from stradavit.acquire.manifest import read_ledger, read_manifest, write_manifest
from stradavit.acquire.stages import acquire_part, make_manifest
from stradavit.errors import DataError
from stradavit.files import sha256_of
from stradavit.settings.sources import LocalSurvey


def survey(*files: object, **more: object) -> LocalSurvey:
    return LocalSurvey.model_validate({"source": "local", "files": [str(f) for f in files], **more})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.fits", "a.fits", "deep/a.fits", "deep/er/c d.fits", "notes.txt"):
        path = tmp_path / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return tmp_path / "data"


def test_files_are_sorted_and_found_once(folder: Path) -> None:
    (folder / "link.fits").symlink_to(folder / "a.fits")
    found = survey_files("s", survey(folder / "**/*.fits", folder / "a.fits", folder / "link.fits"))
    names = [path.relative_to(folder).as_posix() for path in found]
    assert names == ["a.fits", "b.fits", "deep/a.fits", "deep/er/c d.fits"]


def test_pattern_without_match_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    with pytest.raises(DataError, match=r"surveys\.s\.files: no file matches 'x/\*\.fits'.*data"):
        survey_files("s", survey("a.fits", "x/*.fits"))


def test_products_have_safe_unique_names_that_survive_a_move(folder: Path) -> None:
    rows = local_manifest("s", survey(folder / "**/*.fits", parts=3))
    names = [row.product for row in rows]
    assert len(set(names)) == 4
    assert all(set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789.-") for name in names)
    moved = folder.rename(folder.parent / "moved")
    again = local_manifest("s", survey(moved / "**/*.fits", parts=3))
    assert [(row.product, row.part) for row in again] == [(row.product, row.part) for row in rows]


def test_parts_together_hold_every_file_once(folder: Path, tmp_path: Path) -> None:
    chosen = survey(folder / "**/*.fits", parts=3)
    make_manifest("s", chosen, tmp_path / "m.csv")
    acquired = []
    for part in range(3):
        acquire_part("s", chosen, tmp_path / "m.csv", part, tmp_path / "raw" / f"{part}.csv")
        acquired += read_ledger(tmp_path / "raw" / f"{part}.csv")
    assert {row.product for row in acquired} == {
        r.product for r in read_manifest(tmp_path / "m.csv")
    }
    assert all(row.sha256 == sha256_of(row.path) for row in acquired)
    assert all(row.bytes == row.path.stat().st_size for row in acquired)


def test_part_that_is_not_there_is_refused(folder: Path, tmp_path: Path) -> None:
    chosen = survey(folder / "a.fits", parts=2)
    make_manifest("s", chosen, tmp_path / "m.csv")
    with pytest.raises(DataError, match="no part 2; its 2 parts are counted from 0"):
        acquire_part("s", chosen, tmp_path / "m.csv", 2, tmp_path / "2.csv")


def test_file_that_vanished_is_named(folder: Path, tmp_path: Path) -> None:
    chosen = survey(folder / "a.fits")
    make_manifest("s", chosen, tmp_path / "m.csv")
    (folder / "a.fits").unlink()
    with pytest.raises(DataError, match=r"a\.fits: cannot be read .* make it again"):
        acquire_part("s", chosen, tmp_path / "m.csv", 0, tmp_path / "0.csv")
    assert not (tmp_path / "0.csv").exists()


def test_file_of_another_digest_is_refused(folder: Path, tmp_path: Path) -> None:
    chosen = survey(folder / "a.fits")
    make_manifest("s", chosen, tmp_path / "m.csv")
    rows = read_manifest(tmp_path / "m.csv")
    others = [replace(row, checksum="sha256:" + "f" * 64) for row in rows]
    write_manifest(tmp_path / "m.csv", others)
    with pytest.raises(DataError, match="damaged or was changed"):
        acquire_part("s", chosen, tmp_path / "m.csv", 0, tmp_path / "0.csv")


def test_positions_are_keyed_by_resolved_path(folder: Path) -> None:
    table = folder / "positions.csv"
    table.write_text("filename,ra_deg,dec_deg,note\ndeep/../a.fits,-1.5,2,x\nb.fits,,,y\n")
    assert read_positions(table) == {(folder / "a.fits").resolve(): (358.5, 2.0)}


@pytest.mark.parametrize(
    ("row", "match"),
    [
        ("a.fits,12h30m,1", "line 2: found the position"),
        ("a.fits,10,95", "decimal degrees"),
        ("a.fits,nan,5", "decimal degrees"),
        ("a.fits,10,", "leave both cells empty"),
        ("a.fits,1,2\na.fits,1,3", "line 3: a.fits has two different positions"),
    ],
)
def test_bad_positions_stop_the_manifest(folder: Path, row: str, match: str) -> None:
    table = folder / "positions.csv"
    table.write_text(f"filename,ra_deg,dec_deg\n{row}\n")
    with pytest.raises(DataError, match=match):
        make_manifest("s", survey(folder / "*.fits", positions=str(table)), folder / "m.csv")
