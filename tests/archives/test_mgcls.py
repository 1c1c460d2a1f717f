"""MGCLS: its listing in either version, its irregular names, its files, and its faults."""

import csv
import hashlib
import logging
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stradavit.acquire.archives.mgcls import FOLDERS, is_field, list_products, read_name, remotes
from stradavit.acquire.archives.s3 import S3Object, object_url, parse_page, parse_xml
from stradavit.acquire.manifest import ManifestRow, read_ledger, read_manifest
from stradavit.acquire.stages import make_manifest
from stradavit.acquire.transfer.fetch import Outcome, fetch
from stradavit.acquire.transfer.listed import Listed
from stradavit.acquire.transfer.web import Web
from stradavit.cutouts.fits import open_product
from stradavit.errors import DataError
from stradavit.settings.sources import MgclsSurvey

from .fake_mgcls import BUCKET, FakeMgcls, cube, packed, sample
from .faults import FAULTS, faulty, record_outcome
from .server import App, CutError, Loopback, Reply, Request, impatient, text

FOLDER = FOLDERS["5pln"]
FIELDS = ("Abell_133", "Abell_13", "Abell_370", "Abell_85", "MACSJ_0025.4-1222B", "RXCJ0510.7-0801")


def survey(**changes: Any) -> MgclsSurvey:
    return MgclsSurvey.model_validate({"source": "mgcls"} | changes)


def listed(app: App, block: MgclsSurvey | None = None, **settings: Any) -> list[Listed]:
    """What the listing of a fake gives."""
    with Loopback(app) as server:
        archives = impatient({"mgcls": f"{server.url}/public"}, **settings)
        with Web(archives) as web:
            return list_products(block or survey(), web, archives.urls)


def fetched(app: App, items: list[Listed], folder: Path, **settings: Any) -> list[Outcome]:
    """How fetching those products from a fake ends."""
    rows = [ManifestRow(i.product, 0, i.location, i.bytes, i.checksum) for i in items]
    with Loopback(app) as server:
        archives = impatient({"mgcls": f"{server.url}/public"}, **settings)
        with Web(archives) as web:
            return fetch(web, remotes(survey(), web, archives.urls, rows), folder, "mgcls")


def fields(items: list[Listed]) -> list[str]:
    found = []
    for item in items:
        image = read_name(item.product)
        assert image is not None
        found.append(image.field)
    return found


def is_listing(request: Request) -> bool:
    return request.path == BUCKET


@pytest.mark.parametrize("version", ["v2", "v1", "v1-strict", "no-marker"])
@pytest.mark.parametrize("page_keys", [1, 5, 1000])
def test_every_page_of_a_listing_is_read_in_either_version(version: str, page_keys: int) -> None:
    fake = FakeMgcls(sample(), page_keys=page_keys, listing=version)
    items = listed(fake)
    assert sorted(fields(items)) == sorted(FIELDS)
    assert [item.product for item in items] == sorted(item.product for item in items)
    for item in items:
        assert item.location == FOLDER + item.product
        assert item.bytes == len(fake.objects[item.location])


def test_an_etag_is_a_checksum_only_if_the_object_came_in_one_piece() -> None:
    checksums = {item.product: item.checksum for item in listed(FakeMgcls(sample()))}
    plain = [name for name in checksums if name.endswith(".fits")]
    assert plain and all(checksums[name].startswith("md5:") for name in plain)
    assert {checksums[name] for name in checksums if name.endswith(".gz")} == {""}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"polarisations": ["Q", "V"]}, {"Abell_85": 2}),
        ({"resolutions": ["Farcsec", "15arcsec"], "include": ["Abell_85"]}, {"Abell_85": 2}),
        ({"products": "fcube", "include": ["MACS J0025.4-1222"]}, {"MACSJ_0025.4-1222B": 1}),
        ({"include": ["Abell_13"]}, {"Abell_13": 1}),
        ({"include": ["Abell_13*"]}, {"Abell_13": 1, "Abell_133": 1}),
        (
            {"include": ["Abell*"], "exclude": ["Abell 13", "*_afix_*"]},
            {"Abell_133": 1, "Abell_85": 1},
        ),
        ({"exclude": [f"{FOLDER}[AM]*"]}, {"RXCJ0510.7-0801": 1}),
    ],
)
def test_products_polarisations_resolutions_and_fields_are_chosen(
    changes: dict[str, Any], expected: dict[str, int]
) -> None:
    found = fields(listed(FakeMgcls(sample()), survey(**changes)))
    assert {name: found.count(name) for name in found} == expected


def test_basic_products_are_neither_tables_nor_planes_of_a_cube_that_is_there() -> None:
    names = [item.product for item in listed(FakeMgcls(sample()), survey(products="basic"))]
    assert names == [
        "Abell_13.fits.gz",
        "Abell_133.Peel.fits.gz",
        "Abell_168.1pln.fits.gz",
        "Abell_2811.1pln.fits.gz",
        "Abell_2811B.1pln.fits.gz",
        "Abell_4038.Fix.1pln.fits.gz",
        "Abell_85.fits",
        "Bullet.APSCal.1pln.fits.gz",
        "J0232.2-4420.Fix.1pln.fits.gz",
    ]
    block = survey(products="basic", include=["*.1pln.*"], exclude=["*Fix*", "Abell_2811"])
    names = [item.product for item in listed(FakeMgcls(sample()), block)]
    assert names == [
        "Abell_168.1pln.fits.gz",
        "Abell_85.1pln.fits.gz",
        "Bullet.APSCal.1pln.fits.gz",
    ]
    block = survey(products="basic", polarisations=["Q"])
    assert [item.product for item in listed(FakeMgcls(sample()), block)] == [
        "Abell_13.QPoln.fits.gz"
    ]


@pytest.mark.parametrize(
    ("wanted", "field", "expected"),
    [
        ("Abell_13", "Abell_133", False),
        ("Abell_13", "Abell_13", True),
        ("Abell 2811†", "Abell_2811B", True),
        ("Abell_2811B", "Abell_2811", False),
        ("Abell 3365", "Abell_3365A", True),
        ("Abell_3365", "Abell_3365C", False),
        ("El Gordo", "ElGordo", True),
        ("RXCJ1314.4-2515", "RXCJ1314", True),
        ("RXCJ0225.1-2928", "RXCJ0225.1-22928", True),
        ("J0528.9-3927", "J0528.9-3927_B", True),
        ("Bullet", "BulletB", False),
    ],
)
def test_a_field_is_found_by_its_name_and_no_other(wanted: str, field: str, expected: bool) -> None:
    assert is_field(wanted, field) is expected


def test_the_real_names_are_read_and_every_cluster_has_one_field(shared_data: Path) -> None:
    with (shared_data / "benchmarks/mgcls-protege/protege_catalogue.csv").open() as opened:
        names = sorted({row["original_image"] for row in csv.DictReader(opened)})
    images = [read_name(name) for name in names]
    assert len(names) == 115
    assert {(i.kind, i.polarisation, i.resolution) for i in images if i} == {
        ("5pln", "I", "Farcsec")
    }
    found = [image.field for image in images if image]
    assert len(set(found)) == 115
    with (shared_data / "catalogues/meerkat/mgcls_clusters.csv").open() as opened:
        clusters = [row["name"] for row in csv.DictReader(opened)]
    fields_of = {
        cluster: [field for field in found if is_field(cluster, field)] for cluster in clusters
    }
    # The Bullet is in the table twice, and its enhanced files have the name of the other row.
    assert [name for name, fields in fields_of.items() if len(fields) != 1] == ["Bullet"]
    assert len({field for fields in fields_of.values() for field in fields}) == 115


def test_images_of_unknown_names_are_told(caplog: pytest.LogCaptureFixture) -> None:
    objects = sample() | {f"{FOLDER}Abell_9_something_pol_I_new.fits.gz": packed(b"")}
    with caplog.at_level(logging.WARNING):
        assert len(listed(FakeMgcls(objects))) == len(FIELDS)
    assert "Abell_9_something_pol_I_new.fits.gz" in caplog.text


def test_versions_of_one_field_are_told(caplog: pytest.LogCaptureFixture) -> None:
    objects = sample() | {f"{FOLDERS['basic']}Abell_4038.Peel.1pln.fits.gz": packed(b"")}
    with caplog.at_level(logging.WARNING):
        listed(FakeMgcls(objects), survey(products="basic"))
    assert (
        "Abell_4038.Fix.1pln.fits.gz, Abell_4038.Peel.1pln.fits.gz are of the same" in caplog.text
    )


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"include": ["Abell_3"]}, "'Abell_3', which matches none of the 6 .*Abell_370"),
        ({"exclude": ["*"]}, "leaves none of 6"),
        ({"products": "basic", "polarisations": ["V"]}, "holds nothing of .*basic I"),
    ],
)
def test_a_choice_that_leaves_nothing_is_an_error(changes: dict[str, Any], match: str) -> None:
    with pytest.raises(DataError, match=match):
        listed(FakeMgcls(sample()), survey(**changes))


@pytest.mark.parametrize("letter", ["A", "a"])
def test_equal_names_in_two_folders_are_an_error_that_exclude_settles(letter: str) -> None:
    name = f"{letter}bell_85_aFix_pol_I_15arcsec_5pln_cor.fits"
    objects = sample() | {f"{FOLDER}old/{name}": b"x"}
    with pytest.raises(DataError, match=r"more than one file, such as .*old/.bell_85.*`exclude`"):
        listed(FakeMgcls(objects))
    items = listed(FakeMgcls(objects), survey(exclude=[f"{FOLDER}old/*"]))
    assert len(items) == len(FIELDS)


def page(contents: str = "", rest: str = "<IsTruncated>false</IsTruncated>") -> Reply:
    return text(f"<ListBucketResult>{rest}{contents}</ListBucketResult>", kind="application/xml")


def contents(key: str, size: str = "2880") -> str:
    return f"<Contents><Key>{key}</Key><Size>{size}</Size></Contents>"


GOOD = f"{FOLDER}Abell_85_aFix_pol_I_15arcsec_5pln_cor.fits"


@pytest.mark.parametrize(
    ("reply", "match"),
    [
        (
            text(
                '<!DOCTYPE x [<!ENTITY a "aa"><!ENTITY b "&a;&a;">]>'
                "<ListBucketResult>&b;</ListBucketResult>"
            ),
            "holds '<!DOCTYPE'",
        ),
        (text("<ListBucketResult><Contents>"), "is no XML .*begins with '<ListBucketResult>"),
        (text("Service\x1b[2Junavailable"), r"is no XML .*begins with 'Service \[2Junavailable'"),
        (text("<html><body>login</body></html>"), "answered with <html>; expected"),
        (
            text("<Error><Code>AccessDenied</Code><Message>No</Message></Error>"),
            r"<Error> \(AccessDenied: No\)",
        ),
        (
            text("<Error><Code>AccessDenied</Code><Message>No</Message></Error>", 403),
            r"refused with status 403 \(AccessDenied: No\)\. Open https.* help desk",
        ),
        (text("gone", 404), r"refused with status 404\. Open https"),
        (page(contents("elsewhere/x.fits")), "'elsewhere/x.fits', which is not below the prefix"),
        (page(contents(GOOD, "-1")), "the size '-1'"),
        (page(contents(GOOD, "")), "the size ''"),
        (page("", "<IsTruncated>true</IsTruncated>"), "breaks off"),
        (page(contents(GOOD), "<IsTruncated>true</IsTruncated>"), "goes in circles"),
        (
            page(
                contents(GOOD),
                "<IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken>",
            ),
            "goes in circles",
        ),
        (
            page(contents(f"{FOLDER}-rf\u00a0x_aFix_pol_I_15arcsec_5pln_cor.fits")),
            "no safe file name",
        ),
    ],
)
def test_an_answer_that_is_no_listing_is_an_error_with_a_remedy(reply: Reply, match: str) -> None:
    with pytest.raises(DataError, match=match):
        listed(lambda request: reply)


def test_a_page_of_the_store_is_read() -> None:
    answer = """<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">
    <Name>public</Name><Prefix>repository/x/</Prefix>
    <KeyCount>1</KeyCount><MaxKeys>1000</MaxKeys><IsTruncated>true</IsTruncated>
    <NextContinuationToken>t1</NextContinuationToken>
    <Contents><Key>repository/x/A_aFix_pol_I_15arcsec_5pln_cor.fits.gz</Key>
    <LastModified>2021-11-01T00:00:00.000Z</LastModified>
    <ETag>"00000000000000000000000000000000-3"</ETag><Size>5760</Size>
    <StorageClass>STANDARD</StorageClass></Contents>
    <Contents><Key>repository/x/a&amp;b</Key><ETag>&quot;00000000000000000000000000000ABC&quot;</ETag>
    <Size>7</Size></Contents></ListBucketResult>"""
    read = parse_page(answer, "where", "remedy")
    assert (read.is_truncated, read.token, read.next_marker) == (True, "t1", "")
    assert read.objects == [
        S3Object("repository/x/A_aFix_pol_I_15arcsec_5pln_cor.fits.gz", 5760, ""),
        S3Object("repository/x/a&b", 7, "00000000000000000000000000000abc"),
    ]
    encoded = answer.replace("<Name>", "<EncodingType>url</EncodingType><Name>")
    encoded = encoded.replace("a&amp;b", "a%2Bb+c")
    assert parse_page(encoded, "where", "remedy").objects[1].key == "repository/x/a+b c"


def test_a_listing_without_end_is_an_error() -> None:
    def endless(request: Request) -> Reply:
        number = int(request.query.get("continuation-token", ["0"])[0])
        more = f"<NextContinuationToken>{number + 1}</NextContinuationToken>"
        return page(rest=f"<IsTruncated>true</IsTruncated>{more}")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("stradavit.acquire.archives.s3.MAX_PAGES", 5)
        with pytest.raises(DataError, match="more than 5 pages"):
            listed(endless)


def test_a_listing_larger_than_allowed_is_an_error() -> None:
    fake = FakeMgcls(sample())
    with pytest.raises(DataError, match="max_small_mb"):
        listed(fake, max_small_mb=0.001)


def test_keys_are_quoted_and_lead_nowhere_else() -> None:
    assert object_url("http://h/b/", "a+b/c d?e#f") == "http://h/b/a%2Bb/c%20d%3Fe%23f"
    for key in ("../x", "a/../b", "/a", "a//b", ""):
        with pytest.raises(DataError, match="no plain path"):
            object_url("http://h/b", key)


def test_a_manifest_of_another_archive_is_an_error() -> None:
    archives = impatient()
    rows = [ManifestRow("a.fits", 0, "P000+23", None, "")]
    with Web(archives) as web, pytest.raises(DataError, match=r"'a.fits' at 'P000\+23'"):
        list(remotes(survey(), web, archives.urls, rows))


def test_well_formed_xml_is_read_and_namespaces_do_not_matter() -> None:
    root = parse_xml('<?xml version="1.0" encoding="UTF-8"?><a xmlns="x"><b/></a>', "w", "r")
    assert root[0].tag == "{x}b"


def test_an_object_of_no_bytes_and_folder_marks_are_no_reason_to_stop() -> None:
    objects = sample() | {FOLDER: b"", f"{FOLDER}readme.txt": b""}
    assert len(listed(FakeMgcls(objects))) == len(FIELDS)


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_of_the_listing(fault: str) -> None:
    app = faulty(FakeMgcls(sample(), page_keys=5), fault, is_listing)
    ending: Exception | str
    try:
        items = listed(app)
    except DataError as error:
        ending = error
        assert "MGCLS: the listing of" in str(error)
        assert "archives.urls.mgcls" in str(error) or "later" in str(error)
    else:
        ending = "right list"
        assert sorted(fields(items)) == sorted(FIELDS)
    is_passing = fault in ("cut", "stall", "429s", "429date", "500once", "503once", "range200")
    # Changed bytes hit a key here, which then lies elsewhere. In a size or a digest they would be
    # found at the download, which is why both are compared there.
    assert isinstance(ending, str) is is_passing
    record_outcome("mgcls", "listing", fault, ending)


def two_products() -> tuple[dict[str, bytes], list[Listed]]:
    """One packed file without a checksum, one plain with, as listed."""
    names = ("Abell_13_noFix_pol_I_15arcsec", "Abell_85_aFix_pol_I_15arcsec")
    objects = {
        f"{FOLDER}{names[0]}_5pln_cor.fits.gz": packed(cube("5pln", 1, 48)),
        f"{FOLDER}{names[1]}_5pln_cor.fits": cube("5pln", 2, 48),
    }
    return objects, listed(FakeMgcls(objects))


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_of_the_download(fault: str, tmp_path: Path) -> None:
    objects, items = two_products()
    app = faulty(FakeMgcls(objects), fault, "Abell_13_")
    outcomes = fetched(app, items, tmp_path)
    by_name = {outcome.name: outcome for outcome in outcomes}
    assert len(by_name) == 2
    assert by_name[items[1].product].state == "fetched"
    spoilt = by_name[items[0].product]
    for outcome in outcomes:
        path = tmp_path / outcome.name
        if outcome.state == "fetched":
            assert outcome.path == path
            assert path.read_bytes() == objects[FOLDER + outcome.name]
        else:
            assert outcome.reason
            assert not path.exists()
    permanent = {"html200", "truncated", "wrong_bytes", "401", "403html", "404", "410", "409"}
    transient = {"500forever", "503forever"}
    expected = "refused" if fault in permanent else "failed" if fault in transient else "fetched"
    assert spoilt.state == expected
    record_outcome("mgcls", "download", fault, spoilt)


def test_a_key_that_is_listed_but_gone_is_refused_and_the_rest_comes(tmp_path: Path) -> None:
    objects, items = two_products()
    fake = FakeMgcls(objects, gone=frozenset({items[0].location}))
    outcomes = {o.name: o for o in fetched(fake, items, tmp_path)}
    assert outcomes[items[0].product].state == "refused"
    assert "404" in outcomes[items[0].product].reason
    assert outcomes[items[1].product].state == "fetched"
    record_outcome("mgcls", "download", "listed, but 404 NoSuchKey", outcomes[items[0].product])


def test_slow_down_is_waited_out(tmp_path: Path) -> None:
    objects, items = two_products()
    outcomes = fetched(FakeMgcls(objects, slow_down=2), items, tmp_path)
    assert {outcome.state for outcome in outcomes} == {"fetched"}
    record_outcome("mgcls", "download", "503 SlowDown twice", outcomes)


def test_a_size_other_than_listed_is_refused(tmp_path: Path) -> None:
    objects, items = two_products()
    other = dict(objects)
    other[items[0].location] = packed(cube("5pln", 3, 40))
    outcomes = {o.name: o for o in fetched(FakeMgcls(other), items, tmp_path)}
    spoilt = outcomes[items[0].product]
    assert spoilt.state != "fetched" and not (tmp_path / spoilt.name).exists()
    record_outcome("mgcls", "download", "another size than listed", spoilt)


def test_packed_files_stay_packed_whatever_the_store_says(tmp_path: Path) -> None:
    objects, items = two_products()
    outcomes = fetched(FakeMgcls(objects, is_encoding_told=True), items, tmp_path)
    for outcome in outcomes:
        assert outcome.state == "fetched"
        assert (tmp_path / outcome.name).read_bytes() == objects[FOLDER + outcome.name]


def test_the_cutter_opens_what_was_fetched_and_finds_the_planes(tmp_path: Path) -> None:
    objects, items = two_products()
    for outcome in fetched(FakeMgcls(objects), items, tmp_path):
        assert outcome.path is not None
        with open_product(outcome.path) as product:
            assert (product.n_planes, product.shape) == (5, (48, 48))
            plane = product.read(0, 0, 48)
            assert np.isnan(plane[0, 0]) and np.isfinite(plane[24, 24])
            assert product.pixel_scale_arcsec == pytest.approx(1.25, rel=1e-3)


def test_killed_at_random_and_started_again_it_fetches_nothing_twice(tmp_path: Path) -> None:
    objects = sample(48)
    block = survey(resolutions=["15arcsec", "Farcsec"], polarisations=["I", "Q"])
    killer = Killer(FakeMgcls(objects, page_keys=7))
    with Loopback(killer) as server:
        archives = impatient({"mgcls": f"{server.url}/public"}, streams=1)
        manifest, out = tmp_path / "mgcls.csv", tmp_path / "raw" / "0.csv"
        make_manifest("mgcls", block, manifest, archives)
        rows = read_manifest(manifest)
        rng = random.Random(1)
        complete: dict[str, int] = {}
        n_runs = 0
        while not out.exists():
            assert n_runs < 20
            # Some three files further each time, the last time as far as it goes.
            killer.bytes_left = rng.randint(120_000, 300_000)
            arguments = (block.to_json(), archives.to_json(), str(manifest), str(out))
            with subprocess.Popen([sys.executable, "-c", ACQUIRE, *arguments]) as child:
                killer.victim = child
            n_runs += 1
            for path in (tmp_path / "raw" / "files").glob("*.fits*"):
                if path.name.endswith((".fits", ".fits.gz")):
                    complete.setdefault(path.name, server.count(path.name))
        assert n_runs >= 3
        assert sorted(complete) == [row.product for row in rows]
        for name, n_requests in complete.items():
            assert server.count(name) == n_requests, name
    ledger = read_ledger(out)
    assert [item.product for item in ledger] == [row.product for row in rows]
    for item, row in zip(ledger, rows, strict=True):
        assert item.path.read_bytes() == objects[row.location]
        assert item.sha256 == hashlib.sha256(objects[row.location]).hexdigest()
    record_outcome("mgcls", "download", "killed at random and started again", "right file")
    left = {path.name for path in (tmp_path / "raw" / "files").iterdir()}
    assert left - {item.product for item in ledger} <= {".journal.jsonl"}


# What the rule runs, in a process of its own that can be killed.
ACQUIRE = """
import sys
from pathlib import Path
from stradavit.acquire.stages import acquire_part
from stradavit.settings.archives import ArchiveSettings
from stradavit.settings.sources import MgclsSurvey

survey, archives = MgclsSurvey.parse(sys.argv[1]), ArchiveSettings.parse(sys.argv[2])
acquire_part("mgcls", survey, Path(sys.argv[3]), 0, Path(sys.argv[4]), archives)
"""


class Killer:
    """A server that kills its client, as no cleaning up can prevent, after so many bytes."""

    def __init__(self, app: App) -> None:
        self.app = app
        self.bytes_left = 0
        self.victim: subprocess.Popen[bytes] | None = None

    def __call__(self, request: Request) -> Reply:
        reply = self.app(request)
        if is_listing(request) or reply.status not in (200, 206):
            return reply
        body = reply.whole()
        length = {"Content-Length": str(len(body))}
        return Reply(reply.status, {**reply.headers, **length}, self._sent(body))

    def _sent(self, body: bytes) -> Iterator[bytes]:
        for start in range(0, len(body), 4096):
            block = body[start : start + 4096]
            self.bytes_left -= len(block)
            if self.bytes_left < 0:
                assert self.victim is not None
                self.victim.kill()
                self.victim.wait()
                raise CutError
            yield block
