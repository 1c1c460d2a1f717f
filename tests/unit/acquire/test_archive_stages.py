"""The stages for surveys of archives: listed, fetched, what is missing listed, and continued."""

import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType

import pytest

from stradavit.acquire.archive_stages import BENCHMARKS, SURVEYS
from stradavit.acquire.labels import LabelledImage, read_labels
from stradavit.acquire.manifest import ManifestRow, read_ledger, read_manifest
from stradavit.acquire.stages import acquire_benchmark, acquire_part, make_manifest
from stradavit.acquire.transfer.fetch import Outcome, Remote
from stradavit.acquire.transfer.listed import Listed
from stradavit.acquire.transfer.missing import read_missing
from stradavit.acquire.transfer.web import Web
from stradavit.errors import DataError
from stradavit.settings.archives import ArchiveUrls
from stradavit.settings.sources import (
    ArchiveBenchmark,
    ArchiveSurvey,
    MiraBestBenchmark,
    Sdc1Survey,
)
from tests.archives.faults import faulty
from tests.archives.server import Loopback, files, impatient

NAMES = [f"{i}.txt" for i in range(12)]
BODIES = {f"/{name}": f"body of {name}".encode() for name in NAMES}


@pytest.fixture
def archive(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module of an archive whose list and files are those above."""

    def list_products(survey: ArchiveSurvey, web: Web, urls: ArchiveUrls) -> list[Listed]:
        return [Listed(name, f"key of {name}", len(BODIES[f"/{name}"])) for name in NAMES]

    def remotes(
        survey: ArchiveSurvey, web: Web, urls: ArchiveUrls, rows: Sequence[ManifestRow]
    ) -> Iterator[Remote]:
        for row in rows:
            assert row.location == f"key of {row.product}"
            yield Remote(row.product, f"{urls.sdc1}/{row.product}", row.bytes, row.checksum)

    module = ModuleType("stradavit.acquire.archives.sdc1")
    module.list_products = list_products  # type: ignore[attr-defined]
    module.remotes = remotes  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return module


def survey(**more: object) -> Sdc1Survey:
    """A survey the module above answers for."""
    return Sdc1Survey.model_validate({"source": "sdc1", **more})


def test_every_source_has_its_module(repository: Path) -> None:
    folder = repository / "stradavit" / "acquire" / "archives"
    assert set(SURVEYS) == set(ArchiveSurvey.__subclasses__())
    assert set(BENCHMARKS) == set(ArchiveBenchmark.__subclasses__())
    for name in (*SURVEYS.values(), *BENCHMARKS.values()):
        assert (folder / f"{name}.py").is_file()


def test_all_parts_together_hold_everything_and_a_rerun_asks_nothing(
    archive: ModuleType, tmp_path: Path
) -> None:
    with Loopback(files(BODIES)) as server:
        archives = impatient({"sdc1": server.url})
        make_manifest("s", survey(parts=3), tmp_path / "m.csv", archives)
        ledgers = [tmp_path / "raw" / f"{part}.csv" for part in range(3)]
        for part, path in enumerate(ledgers):
            acquire_part("s", survey(parts=3), tmp_path / "m.csv", part, path, archives)
        acquired = [row for path in ledgers for row in read_ledger(path)]
        assert {row.product: row.path.read_bytes() for row in acquired} == {
            name: BODIES[f"/{name}"] for name in NAMES
        }
        assert server.count() == len(NAMES)
        # Another number of parts moves products between ledgers and fetches nothing.
        make_manifest("s", survey(), tmp_path / "m.csv", archives)
        acquire_part("s", survey(), tmp_path / "m.csv", 0, ledgers[0], archives)
        assert len(read_ledger(ledgers[0])) == len(NAMES)
        assert server.count() == len(NAMES)


def test_what_has_come_of_a_product_needs_no_more_room(
    archive: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "raw" / "files"
    folder.mkdir(parents=True)
    for name in NAMES[1:]:
        (folder / f"{name}.part").write_bytes(BODIES[f"/{name}"][:-1])
    # Room for the file that has not begun, and for the last byte of the others.
    usage = shutil.disk_usage(tmp_path)
    free = len(BODIES[f"/{NAMES[0]}"]) + len(NAMES) - 1
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=free))
    with Loopback(files(BODIES)) as server:
        archives = impatient({"sdc1": server.url})
        make_manifest("s", survey(), tmp_path / "m.csv", archives)
        acquire_part("s", survey(), tmp_path / "m.csv", 0, tmp_path / "raw" / "0.csv", archives)
    assert len(read_ledger(tmp_path / "raw" / "0.csv")) == len(NAMES)


def test_a_frozen_manifest_is_followed_without_asking(archive: ModuleType, tmp_path: Path) -> None:
    make_manifest("s", survey(), tmp_path / "m.csv", impatient())
    lines = (tmp_path / "m.csv").read_text().splitlines()
    (tmp_path / "frozen.csv").write_text("\n".join(lines[:5]) + "\n")
    del archive.list_products
    frozen = survey(frozen_manifest=str(tmp_path / "frozen.csv"), parts=5)
    make_manifest("s", frozen, tmp_path / "m.csv", impatient())
    rows = read_manifest(tmp_path / "m.csv")
    assert len(rows) == 4
    assert len({row.part for row in rows}) > 1


@pytest.mark.parametrize("allowed", [0, 1])
def test_refused_products_are_listed_and_few_may_be_allowed(
    archive: ModuleType, tmp_path: Path, allowed: int
) -> None:
    ledger = tmp_path / "raw" / "0.csv"
    with Loopback(faulty(files(BODIES), "404", "/3.txt")) as server:
        archives = impatient({"sdc1": server.url})
        chosen = survey(allow_missing=allowed)
        make_manifest("s", chosen, tmp_path / "m.csv", archives)
        if not allowed:
            with pytest.raises(
                DataError, match=r"1 refused of 12 .*0\.missing\.csv.*3\.txt: answe"
            ):
                acquire_part("s", chosen, tmp_path / "m.csv", 0, ledger, archives)
            assert not ledger.exists()
        else:
            acquire_part("s", chosen, tmp_path / "m.csv", 0, ledger, archives)
            assert len(read_ledger(ledger)) == 11
        assert read_missing(ledger) == [("3.txt", "refused", "answered 404")]
        # All the rest was fetched before it failed.
        assert server.count() == 12
        server.app = files(BODIES)
        acquire_part("s", chosen, tmp_path / "m.csv", 0, ledger, archives)
        assert server.count() == 13
        assert len(read_ledger(ledger)) == 12
        assert read_missing(ledger) == []


def test_failed_products_are_never_allowed(archive: ModuleType, tmp_path: Path) -> None:
    with Loopback(faulty(files(BODIES), "503forever", "/3.txt")) as server:
        archives = impatient({"sdc1": server.url})
        chosen = survey(allow_missing=12)
        make_manifest("s", chosen, tmp_path / "m.csv", archives)
        with pytest.raises(DataError, match=r"1 failed and 0 refused of 12.*Run it again"):
            acquire_part("s", chosen, tmp_path / "m.csv", 0, tmp_path / "0.csv", archives)


def test_a_forgotten_row_is_a_failure(archive: ModuleType, tmp_path: Path) -> None:
    archive.remotes = lambda survey, web, urls, rows: iter(())
    make_manifest("s", survey(), tmp_path / "m.csv", impatient())
    with pytest.raises(DataError, match=r"12 failed .*was not asked for"):
        acquire_part("s", survey(), tmp_path / "m.csv", 0, tmp_path / "0.csv", impatient())


def test_a_module_may_fetch_by_itself(archive: ModuleType, tmp_path: Path) -> None:
    def fetch_rows(
        survey: ArchiveSurvey,
        web: Web,
        urls: ArchiveUrls,
        rows: Sequence[ManifestRow],
        folder: Path,
        what: str,
    ) -> list[Outcome]:
        assert what == "s, part 0"
        return [Outcome(row.product, "refused", "no rights") for row in rows]

    archive.fetch_rows = fetch_rows
    make_manifest("s", survey(), tmp_path / "m.csv", impatient())
    with pytest.raises(DataError, match=r"12 refused of 12 files.*no rights"):
        acquire_part("s", survey(), tmp_path / "m.csv", 0, tmp_path / "0.csv", impatient())


@pytest.mark.parametrize("name", ["../x", ".hidden", "a/b/c"])
def test_names_of_an_archive_stay_in_its_folder(
    archive: ModuleType, tmp_path: Path, name: str
) -> None:
    archive.list_products = lambda survey, web, urls: [Listed(name, "x")]
    with pytest.raises(DataError, match="no safe file name"):
        make_manifest("s", survey(), tmp_path / "m.csv", impatient())
    (tmp_path / "m.csv").write_text(f"product,part,location,bytes,checksum\n{name},0,x,,\n")
    with pytest.raises(DataError, match="no safe file name"):
        acquire_part("s", survey(), tmp_path / "m.csv", 0, tmp_path / "0.csv", impatient())


def test_an_archive_with_nothing_is_an_error(archive: ModuleType, tmp_path: Path) -> None:
    archive.list_products = lambda survey, web, urls: []
    with pytest.raises(DataError, match="lists no product that matches"):
        make_manifest("s", survey(), tmp_path / "m.csv", impatient())


def test_a_benchmark_writes_its_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def acquire(
        name: str, benchmark: MiraBestBenchmark, web: Web, urls: ArchiveUrls, folder: Path
    ) -> list[LabelledImage]:
        assert folder == tmp_path / "files"
        folder.mkdir()
        image = folder / "a.png"
        image.write_bytes(b"x")
        return [LabelledImage("a", image, None, "FR I", "src", 1.0, 2.0)]

    module = ModuleType("stradavit.acquire.archives.mirabest")
    module.acquire = acquire  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    benchmark = MiraBestBenchmark(source="mirabest")
    acquire_benchmark("b", benchmark, tmp_path / "labels.csv", impatient())
    (row,) = read_labels(tmp_path / "labels.csv")
    assert (row.label, row.path) == ("FR I", tmp_path / "files" / "a.png")
