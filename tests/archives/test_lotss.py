"""LoTSS DR2 from a server of this machine: lists, files, and everything that goes wrong."""

import logging
import os
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stradavit.acquire.archives.lotss import list_products, remotes
from stradavit.acquire.archives.votable import ServiceError, read_votable
from stradavit.acquire.manifest import ManifestRow, read_ledger
from stradavit.acquire.stages import acquire_part, make_manifest
from stradavit.acquire.transfer.fetch import Outcome, fetch
from stradavit.acquire.transfer.listed import Listed
from stradavit.acquire.transfer.web import Web
from stradavit.cutouts.fits import open_product
from stradavit.errors import DataError
from stradavit.settings.sources import LotssSurvey

from .fake_lotss import FakeLotss
from .faults import FAULTS, faulty, record_outcome
from .server import App, Loopback, impatient

FIELDS = ["P000+23", "P124+62", "P005-02", "P10Hetdex"]


class Bench:
    """A fake archive, its server, and the two steps of acquiring from it."""

    def __init__(self, fake: FakeLotss, app: App | None, folder: Path, **urls: str) -> None:
        self.fake, self.folder = fake, folder
        self.server = Loopback(app or fake)
        fake.url = self.server.url
        self.archives = impatient({**fake.urls(), **urls})

    def listing(self, **changes: Any) -> list[Listed]:
        with Web(self.archives) as web:
            return list_products(survey(**changes), web, self.archives.urls)

    def fetch(self, rows: list[ManifestRow], **changes: Any) -> list[Outcome]:
        with Web(self.archives) as web:
            wanted = remotes(survey(**changes), web, self.archives.urls, rows)
            return fetch(web, wanted, self.folder, "lotss")


def survey(**changes: Any) -> LotssSurvey:
    return LotssSurvey.model_validate({"source": "lotss", **changes})


def expected(fake: FakeLotss) -> list[Listed]:
    """The right list of 6-arcsec mosaics."""
    return [
        Listed(
            f"{name}-mosaic-blanked.fits",
            name,
            len(fake.high[name]),
            f"adler32:{zlib.adler32(fake.high[name]):08x}",
        )
        for name in sorted(fake.fields)
    ]


def manifest(listed: list[Listed]) -> list[ManifestRow]:
    return [
        ManifestRow(item.product, 0, item.location, item.bytes, item.checksum) for item in listed
    ]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(FakeLotss(FIELDS), None, tmp_path / "files")
    with made.server:
        yield made


def faulty_bench(tmp_path: Path, fault: str, where: str, **fake: Any) -> Bench:
    archive = FakeLotss(FIELDS, **fake)
    return Bench(archive, faulty(archive, fault, where), tmp_path / "files")


# -- listing ------------------------------------------------------------------------------------


def test_list_has_names_sizes_and_checksums(bench: Bench) -> None:
    listed = bench.listing()
    assert listed == expected(bench.fake)


def test_one_list_cut_short_is_asked_for_again(tmp_path: Path) -> None:
    made = faulty_bench(tmp_path, "truncated", "/tap/sync")
    made.server.app = faulty(made.fake, "truncated", "/tap/sync", 1)
    with made.server:
        assert made.listing() == expected(made.fake)


def test_patterns_choose_fields_and_must_match(bench: Bench) -> None:
    chosen = bench.listing(fields=("P0*", "P124+62"))
    assert [item.location for item in chosen] == ["P000+23", "P005-02", "P124+62"]
    with pytest.raises(DataError, match=r"none of its 4 fields matches 'P9\*'.*`fields`"):
        bench.listing(fields=("P0*", "P9*"))


def test_the_20_arcsec_mosaics_have_no_published_checksum(bench: Bench) -> None:
    listed = bench.listing(product="low-mosaic-blanked.fits", fields=("P000+23",))
    assert listed == [Listed("P000+23-low-mosaic-blanked.fits", "P000+23")]


def test_more_fields_than_a_service_sends_by_default(tmp_path: Path) -> None:
    archive = FakeLotss([])
    archive.fields = [f"P{number:04}+10" for number in range(2100)]
    archive.high = dict.fromkeys(archive.fields, b"x" * 10)
    made = Bench(archive, None, tmp_path)
    with made.server:
        assert len(made.listing()) == 2100


def test_checksums_without_leading_zeros_are_filled(tmp_path: Path) -> None:
    archive = FakeLotss(["P000+23"], strips_zeros=True)
    # The adler32 of few bytes begins with zeros.
    archive.high["P000+23"] = b"abc"
    made = Bench(archive, None, tmp_path)
    with made.server:
        assert made.listing()[0].checksum == "adler32:024d0127"


@pytest.mark.parametrize("ending", ["OVERFLOW", "ERROR"])
def test_a_list_that_is_cut_or_breaks_off_is_no_list(tmp_path: Path, ending: str) -> None:
    made = Bench(FakeLotss(FIELDS, tap_ending=ending), None, tmp_path)
    with made.server, pytest.raises(DataError, match=f"LoTSS.*{ending}") as raised:
        made.listing()
    record_outcome("lotss", "listing", f"{ending} after the table", raised.value)


def test_a_refused_question_is_quoted(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stradavit.acquire.archives.lotss.QUESTION", "SELECT x FROM nowhere")
    with pytest.raises(DataError, match=r"Query failed: no such table.*SELECT x FROM nowhere"):
        bench.listing()


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_of_the_listing(tmp_path: Path, fault: str) -> None:
    made = faulty_bench(tmp_path, fault, "/tap/sync")
    # The table is in base64 and holds the port of the server: what the same eight bytes spoil
    # differs from run to run.
    any_of = "stops, or refuses the files of spoilt rows, or nothing that is used was spoilt"
    with made.server:
        try:
            listed = made.listing()
        except DataError as error:
            assert str(error).startswith("LoTSS") and "again" in str(error)
            record_outcome("lotss", "listing", fault, any_of if fault == "wrong_bytes" else error)
        else:
            right = expected(made.fake)
            if listed == right:
                said = any_of if fault == "wrong_bytes" else "right list"
                record_outcome("lotss", "listing", fault, said)
                return
            # A flipped letter inside a readable table: what it spoils cannot be fetched.
            assert fault == "wrong_bytes"
            spoilt = [item for item in listed if item not in right]
            outcomes = made.fetch(manifest(spoilt))
            assert spoilt and {outcome.state for outcome in outcomes} == {"refused"}
            record_outcome("lotss", "listing", fault, any_of)


# -- files --------------------------------------------------------------------------------------


def test_files_come_whole_as_float64_and_only_once(bench: Bench) -> None:
    rows = manifest(bench.listing())
    for outcome, row in zip(bench.fetch(rows), rows, strict=True):
        assert outcome.state == "fetched" and outcome.path is not None
        assert outcome.path.read_bytes() == bench.fake.high[row.location]
        with open_product(outcome.path) as product:
            pixels = product.read(0, 0, product.shape[0])
            assert product.shape == (40, 40) and np.isnan(pixels[:, :5]).all()
    assert bench.server.count("+23/mosaic-blanked.fits") == 1
    again = bench.fetch(rows)
    assert [outcome.state for outcome in again] == ["fetched"] * 4
    assert bench.server.count("mosaic-blanked.fits") == 4


def test_the_sign_of_a_field_is_sent_encoded(bench: Bench) -> None:
    bench.fetch(manifest(bench.listing(fields=("P000+23",))))
    assert bench.server.requests[-1].target == "/public/DR2/mosaics/P000%2B23/mosaic-blanked.fits"


def test_low_mosaics_come_by_their_own_name(bench: Bench) -> None:
    chosen = {"product": "low-mosaic-blanked.fits", "fields": ("P124+62",)}
    (outcome,) = bench.fetch(manifest(bench.listing(**chosen)), **chosen)
    assert outcome.path is not None
    assert outcome.path.read_bytes() == bench.fake.low["P124+62"]


def test_the_other_door_of_the_archive_works_too(tmp_path: Path) -> None:
    archive = FakeLotss(FIELDS)
    made = Bench(archive, None, tmp_path)
    door = f"{made.server.url}/getproduct/LoTSS-DR2/{{field}}"
    made.archives = impatient({**archive.urls(), "lotss_files": door})
    with made.server:
        (outcome,) = made.fetch(manifest(made.listing(fields=("P000+23",))))
    assert outcome.path is not None and outcome.path.read_bytes() == archive.high["P000+23"]


def test_another_checksum_than_published_is_refused(tmp_path: Path) -> None:
    made = Bench(FakeLotss(FIELDS, wrong_sums={"P000+23"}, absent={"P124+62"}), None, tmp_path)
    with made.server:
        outcomes = {outcome.name[:7]: outcome for outcome in made.fetch(manifest(made.listing()))}
    assert outcomes["P000+23"].state == outcomes["P124+62"].state == "refused"
    assert "adler32" in outcomes["P000+23"].reason and "404" in outcomes["P124+62"].reason
    assert outcomes["P005-02"].state == "fetched"
    assert not (tmp_path / "P000+23-mosaic-blanked.fits").exists()


@pytest.mark.parametrize(
    ("product", "location"),
    [
        ("P000+23-mosaic-blanked.fits", "../P000+23"),
        ("P000+23-low-mosaic-blanked.fits", "P000+23"),
        ("P000+24-mosaic-blanked.fits", "P000+23"),
    ],
)
def test_a_frozen_manifest_of_other_settings_is_named(
    bench: Bench, product: str, location: str
) -> None:
    with pytest.raises(DataError, match="belongs to other settings"):
        bench.fetch([ManifestRow(product, 0, location, None, "")])


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("product", ["mosaic-blanked.fits", "low-mosaic-blanked.fits"])
def test_faults_of_the_download(tmp_path: Path, fault: str, product: str) -> None:
    made = faulty_bench(tmp_path, fault, f"P000+23/{product}")
    with made.server:
        rows = manifest(made.listing(product=product, fields=("P000+23", "P124+62")))
        outcome, other = made.fetch(rows, product=product)
    assert other.state == "fetched"
    bodies = made.fake.high if product.startswith("mosaic") else made.fake.low
    if outcome.state == "fetched":
        found = (made.folder / f"P000+23-{product}").read_bytes()
        # Other bytes of the right length: nothing tells where no checksum is published.
        is_untold = fault == "wrong_bytes" and product.startswith("low")
        assert (found == bodies["P000+23"]) is not is_untold
    else:
        assert outcome.reason and not (made.folder / f"P000+23-{product}").exists()
    step = f"download of {product}"
    if fault == "wrong_bytes" and product.startswith("low"):
        record_outcome("lotss", step, fault, "taken: no checksum is published; own SHA-256 noted")
    else:
        record_outcome("lotss", step, fault, outcome)


def test_a_frozen_manifest_asks_nothing_and_gives_the_same_ledger(
    bench: Bench, tmp_path: Path
) -> None:
    make_manifest("lotss", survey(parts=2), tmp_path / "m.csv", bench.archives)
    n_asked = bench.server.count()
    frozen = survey(parts=2, frozen_manifest=str(tmp_path / "m.csv"))
    make_manifest("lotss", frozen, tmp_path / "again.csv", bench.archives)
    assert (tmp_path / "again.csv").read_text() == (tmp_path / "m.csv").read_text()
    assert bench.server.count() == n_asked == 1
    found = []
    for part in range(2):
        ledger = tmp_path / "raw" / f"{part}.csv"
        acquire_part("lotss", frozen, tmp_path / "again.csv", part, ledger, bench.archives)
        found += read_ledger(ledger)
    assert {row.product: row.bytes for row in found} == {
        item.product: item.bytes for item in expected(bench.fake)
    }
    assert bench.server.count("mosaic-blanked.fits") == len(FIELDS)


# -- recorded answers ---------------------------------------------------------------------------


def recorded(repository: Path, *steps: str) -> str:
    shared = Path(os.environ.get("STRADAVIT_SHARED_DATA", repository.parent / "shared" / "data"))
    path = shared.joinpath("archive-responses", *steps)
    if not path.is_file():
        pytest.skip("no recorded answers: set STRADAVIT_SHARED_DATA to the folder that holds them")
    return path.read_text(encoding="utf-8")


@pytest.mark.parametrize("field", ["P000+23", "P124+62"])
def test_recorded_datalink_of_a_mosaic_can_be_read(repository: Path, field: str) -> None:
    table = read_votable(recorded(repository, "lotss", field, "obs.xml"), "LoTSS")
    (this,) = [row for row in table.rows if row["semantics"] == "#this"]
    assert this["access_url"] == f"https://vo.astron.nl/getproduct/LoTSS-DR2/{field}"
    assert this["content_length"] == {"P000+23": 639_106_560, "P124+62": 686_577_600}[field]


def test_recorded_endings_of_tables(repository: Path) -> None:
    cut = read_votable(recorded(repository, "vo-generic", "query", "overflowstatus.xml"), "x")
    assert cut.is_truncated and len(cut.rows) == 3
    with pytest.raises(ServiceError, match="ERROR"):
        read_votable(recorded(repository, "vo-generic", "query", "errorstatus.xml"), "x")
    none = read_votable(recorded(repository, "vo-generic", "query", "missingtable.xml"), "x")
    assert not none.has_table
    assert not read_votable(
        recorded(repository, "vo-generic", "query", "missingcolumns.xml"), "x"
    ).columns


# -- VOTables nobody should send ----------------------------------------------------------------

STREAM = (
    '<VOTABLE version="1.3"><RESOURCE><TABLE><FIELD name="a" datatype="int"/><DATA>{}</DATA>'
    "</TABLE></RESOURCE></VOTABLE>"
)


@pytest.mark.parametrize(
    "text",
    [
        '<!DOCTYPE x [<!ENTITY a "b">]><VOTABLE/>',
        '<?xml version="1.0"?>\n<!DOCTYPE x SYSTEM "file:///etc/passwd">\n<VOTABLE/>',
        STREAM.format('<BINARY><STREAM encoding="base64" href="file:///etc/passwd"/></BINARY>'),
        STREAM.format('<v:BINARY><v:STREAM\n href = "http://127.0.0.1/x"/></v:BINARY>'),
        STREAM.format('<FITS><STREAM href="file:///etc/passwd"/></FITS>'),
        STREAM.format("<PARQUET/>"),
    ],
)
def test_tables_that_reach_elsewhere_are_not_read(text: str) -> None:
    with pytest.raises(DataError, match="no archive has reason"):
        read_votable(text, "x")


def test_tags_that_never_close_take_no_time() -> None:
    begin = time.monotonic()
    with pytest.raises(DataError, match="cannot be read as a VOTable"):
        read_votable("<a " * 100_000, "x")
    assert time.monotonic() - begin < 30


def test_an_overflow_counts_wherever_it_stands() -> None:
    info = '<INFO name="QUERY_STATUS" value="{}"/>'
    table = '<TABLE><FIELD name="a" datatype="int"/>{}</TABLE>'.format(info.format("OVERFLOW"))
    text = f"<VOTABLE><RESOURCE>{info.format('OK')}{table}{info.format('OK')}</RESOURCE></VOTABLE>"
    assert read_votable(text, "x").is_truncated


@pytest.mark.parametrize("text", ["", "no", "<VOTABLE", "<a/>", STREAM.format("<BINARY>")])
def test_broken_tables_are_named(text: str) -> None:
    with pytest.raises(DataError, match=r"cannot be read as a VOTable|no table") as raised:
        if not read_votable(text, "x").has_table:
            raise DataError("no table")
    assert "\n" not in str(raised.value)


def test_quoted_words_of_servers_are_one_short_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    said = "UsageFault: \x1b[31m" + "x\n" * 5000
    table = (
        f'<VOTABLE><RESOURCE><INFO name="QUERY_STATUS" value="ERROR">{said.replace(chr(27), "")}'
    )
    with pytest.raises(ServiceError) as raised:
        read_votable(f"{table}</INFO></RESOURCE></VOTABLE>", "x")
    assert len(str(raised.value)) < 500 and "\n" not in str(raised.value)
