"""Radio Galaxy Zoo: labels as a naive reading gives them, and only cutouts that show something."""

import csv
import io
import math
import random
import re
import tarfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from astropy.io import fits

from stradavit.acquire.archives import labelled_cutouts, rgz
from stradavit.acquire.archives.catalogue_positions import (
    j_name_position,
    one_source,
    separation_arcmin,
)
from stradavit.acquire.archives.cutout_files import check_image
from stradavit.acquire.archives.rgz_tables import TABLE
from stradavit.acquire.labels import LabelledImage, read_labels
from stradavit.acquire.stages import acquire_benchmark
from stradavit.acquire.transfer.web import Web
from stradavit.cutouts.fits import open_product
from stradavit.errors import DataError
from stradavit.settings.sources import RgzBenchmark

from .benchmark_runs import (
    PASSING,
    Content,
    impatient_at,
    left_out,
    passes_unnoticed,
    run,
    survives,
    told,
)
from .fake_first import first
from .fake_zenodo import blocked, limited, zenodo
from .faults import FAULTS, faulty, record_outcome
from .routes import routes
from .server import App, Loopback, Request, html, text

RECORD = "14195049"
HEADER = "CatID,RGZID,ZooniverseID,RA,Dec,N_votes,N_total,CL,N_comp,N_peaks,LAE,TSA,OL,TF,TF_err,DC"
CLASSES = ("1c1p", "1c2p", "1c3p", "2c2p", "2c3p", "3c3p")


def j_name(ra_deg: float, dec_deg: float) -> str:
    tenths = round(ra_deg / 15 * 36000)
    arcsec = round(abs(dec_deg) * 3600)
    ra = f"{tenths // 36000:02d}{tenths // 600 % 60:02d}{tenths % 600 / 10:04.1f}"
    dec = f"{arcsec // 3600:02d}{arcsec // 60 % 60:02d}{arcsec % 60:02d}"
    return f"J{ra}{'-' if dec_deg < 0 else '+'}{dec}"


def place(number: int) -> tuple[float, float]:
    return 150.0 + 0.15 * number, -5.0 + number


def line(number: int, label: str, **changes: Any) -> str:
    ra_deg, dec_deg = changes.pop("place", place(number))
    cells = {
        "CatID": number,
        "RGZID": changes.pop("RGZID", f"RGZ_{j_name(ra_deg, dec_deg)}"),
        "ZooniverseID": f"ARG{number:05d}",
        "RA": f"{ra_deg:.5f}",
        "Dec": f"{dec_deg:.5f}",
        "N_votes": 20,
        "N_total": 30,
        "CL": 0.65,
        "N_comp": label[0],
        "N_peaks": label[2],
        "LAE": 20.0 + number,
        "TSA": 1,
        "OL": 1,
        "TF": 1,
        "TF_err": 1,
        "DC": "",
    }
    assert changes.keys() <= cells.keys()
    return ",".join(str(value) for value in (cells | changes).values())


def catalogue() -> bytes:
    """30 rows: every label and every oddity that is known of the real table."""
    rows = [line(number, CLASSES[number % 6]) for number in range(12)]
    rows += [
        line(12, "1c1p", LAE=0),
        line(13, "1c1p", LAE=""),
        line(14, "1c1p", CL=0.64),
        line(15, "4c4p"),
        line(16, "1c4p"),
        line(17, "2c1p"),
        # The name says another place than the columns: 1.2 arcmin away, and 0.8 arcmin away.
        line(18, "2c2p", RGZID=j_name(place(18)[0], place(18)[1] + 1.2 / 60)),
        line(19, "2c2p", RGZID=j_name(place(19)[0], place(19)[1] + 0.8 / 60)),
        # Row 0 again, with the same label and with another; and once more under another name.
        line(20, "1c1p", place=place(0)),
        line(21, "1c2p", place=place(0), LAE=20.0),
        line(22, "1c1p", RGZID="J" + j_name(*place(0))[1:-1] + "7", place=place(0), DC="0"),
        # A pointer to a duplicate that lies elsewhere, and two of them.
        line(23, "1c1p", DC="1"),
        line(24, "3c3p", DC="2;3"),
        # So small that eight pixels are asked for.
        line(25, "1c1p", LAE=4.2),
        line(26, "2c3p", RGZID=f"RGZ{j_name(*place(26))}a"),
        line(27, "2c3p", RA="", Dec=""),
        line(28, "3c3p", RA="", Dec="", RGZID="nameless"),
        line(29, "3c3p", place=(359.99999, -1.25)),
    ]
    assert len(rows) == 30
    return "\r\n".join([HEADER, *rows, ""]).encode()


def packed(table: bytes, name: str = f"RGZ_DR1/{TABLE}") -> bytes:
    opened = io.BytesIO()
    with tarfile.open(fileobj=opened, mode="w:gz") as archive:
        for path, body in (("RGZ_DR1/../../escape.csv", b"x"), ("README", b"r"), (name, table)):
            member = tarfile.TarInfo(path)
            member.size = len(body)
            archive.addfile(member, io.BytesIO(body))
    return opened.getvalue()


BENCHMARK = RgzBenchmark(source="rgz")


def acquire(web: Web, folder: Path) -> list[LabelledImage]:
    return rgz.acquire("rgz_dr1", BENCHMARK, web, web.archives.urls, folder)


def archive(table: bytes | None = None, **moods: Any) -> App:
    return routes(
        {
            "/api/": zenodo(RECORD, {"other.csv": b"a\n1\n", TABLE: table or catalogue()}),
            "/cgi-bin/": first(**moods),
        }
    )


def write(path: Path, table: bytes) -> Path:
    path.write_bytes(table)
    return path


# -- label rules ------------------------------------------------------------------------------


def naive(table: bytes) -> dict[str, tuple[str, float, float, float]]:
    """Image -> label, position, size: the rules of the archive's fact sheet, read literally."""
    found = {}
    for row in csv.DictReader(io.StringIO(table.decode())):
        label = row["N_comp"] + "c" + row["N_peaks"] + "p"
        if row["CL"] == "" or float(row["CL"]) < 0.65 or label not in CLASSES:
            continue
        if row["LAE"] == "" or float(row["LAE"]) <= 0:
            continue
        name = row["RGZID"].replace("RGZ_", "").replace("RGZ", "")
        digits = re.sub("[^0-9.+-]", "", name)
        named = None
        if digits:
            ra = float(digits[:2]) * 15 + float(digits[2:4]) / 4 + float(digits[4:8]) / 240
            dec = float(digits[9:11]) + float(digits[11:13]) / 60 + float(digits[13:15]) / 3600
            named = ra, -dec if digits[8] == "-" else dec
        if row["RA"]:
            ra, dec = float(row["RA"]), float(row["Dec"])
            if (
                named
                and math.hypot((ra - named[0]) * math.cos(math.radians(dec)), dec - named[1])
                > 1 / 60
            ):
                ra, dec = named
        elif named:
            ra, dec = named
        else:
            continue
        size = 1.5 * float(row["LAE"]) / 60
        if size < 8 * 1.8 / 60:
            size = 8 * 1.8 / 60
        found.setdefault(name + "_" + label, (label, ra, dec, size))
    return found


def random_table(seed: int) -> bytes:
    draw = random.Random(seed)
    rows = []
    for number in range(300):
        ra_deg, dec_deg = draw.uniform(0, 359), draw.uniform(-60, 60)
        off = draw.choice([0, 0, 0.5, 0.9, 1.1, 30]) / 60
        rows.append(
            line(
                number,
                f"{draw.randint(1, 4)}c{draw.randint(1, 4)}p",
                place=(ra_deg, dec_deg),
                RGZID=draw.choice(["RGZ_", "RGZ", ""]) + j_name(ra_deg, dec_deg + off),
                CL=draw.choice([0.5, 0.64, 0.65, 0.66, 1.0]),
                LAE=draw.choice([0, 1, 5, 9.5, 9.7, 60, 300.25]),
            )
        )
    rows += draw.sample(rows, 30)
    return "\n".join([HEADER, *rows, ""]).encode()


@pytest.mark.parametrize("table", [catalogue(), *map(random_table, range(5))])
def test_labels_places_and_sizes_are_those_of_a_naive_reading(tmp_path: Path, table: bytes) -> None:
    samples, left = rgz.read_samples(write(tmp_path / "t.csv", table), BENCHMARK)
    expected = naive(table)
    assert [sample.image for sample in samples] == list(expected)
    for sample in samples:
        label, ra_deg, dec_deg, size_arcmin = expected[sample.image]
        assert sample.label == label
        assert sample.position_deg == pytest.approx((ra_deg, dec_deg), abs=1e-6)
        assert sample.size_arcmin == pytest.approx(size_arcmin)
    assert len(samples) + len(left) == table.count(b"\n") - 1


def test_real_rows_are_read_as_by_hand(shared_data: Path) -> None:
    path = shared_data / "catalogues/rgz/RGZ_DR1_ATLAS_radio_classifications_sample43.csv"
    samples, left = rgz.read_samples(path, BENCHMARK)
    expected = naive(path.read_bytes())
    # The authors' rule keeps the letter that tells two sources of one name apart.
    assert [sample.image for sample in samples] == list(expected)
    assert len(samples) + len(left) == 43
    sources = {sample.image: sample.source for sample in samples}
    assert sources["J032810.0-272637_1c1p"] == sources["J032810.1-272637_1c1p"]  # 307 <-> 322
    assert sources["J033553.3-272740a_1c1p"] != sources["J033551.9-272652b_1c1p"]
    assert {sample.label for sample in samples} == {"1c1p", "1c2p", "1c3p", "2c2p"}


def test_each_row_left_out_is_told_why(tmp_path: Path) -> None:
    _, left = rgz.read_samples(write(tmp_path / "t.csv", catalogue()), BENCHMARK)
    reasons = sorted(row.reason.split(":")[0] for row in left)
    assert reasons == sorted(
        ["no angular extent"] * 2
        + ["below the consensus", "no position"]
        + ["other class"] * 3
        + ["repeated"]
    )


def test_duplicates_share_a_source_and_nothing_else_does(tmp_path: Path) -> None:
    samples, _ = rgz.read_samples(write(tmp_path / "t.csv", catalogue()), BENCHMARK)
    groups = defaultdict(set)
    for sample in samples:
        groups[sample.source].add(sample.image.split("_")[0])
    together = {frozenset(names) for names in groups.values() if len(names) > 1}
    name = {number: j_name(*place(number)) for number in range(30)}
    assert together == {
        frozenset({name[0], name[0][:-1] + "7"}),
        frozenset({name[1], name[23]}),
        frozenset({name[2], name[3], name[24]}),
    }
    both = [sample for sample in samples if sample.image.startswith(name[0])]
    assert [sample.label for sample in both] == ["1c1p", "1c2p"]
    assert both[0].file == both[1].file, "one cutout serves both labels"


def test_classes_of_the_settings_decide_what_is_fetched(tmp_path: Path) -> None:
    benchmark = RgzBenchmark(source="rgz", classes=("4c4p", "1c1p"), consensus_min=0.0)
    samples, _ = rgz.read_samples(write(tmp_path / "t.csv", catalogue()), benchmark)
    assert {sample.label for sample in samples} == {"4c4p", "1c1p"}
    assert any(sample.image.startswith(j_name(*place(14))) for sample in samples)


def test_names_of_sources_cannot_lead_out_of_the_folder(tmp_path: Path) -> None:
    evil = "../../" + j_name(*place(1))
    table = "\n".join([HEADER, line(1, "1c1p", RGZID=evil), ""]).encode()
    samples, _ = rgz.read_samples(write(tmp_path / "t.csv", table), BENCHMARK)
    assert ".." not in Path(samples[0].file).parts
    assert re.fullmatch(r"[0-9a-f]{2}/[^/]+", samples[0].file)


@pytest.mark.parametrize(
    ("name", "position"),
    [
        ("ILTJ000003.76+314705.5", (0.0156666667, 31.7848611111)),
        ("RGZ_J235959.9-000001", (359.999583333, -0.000277777778)),
        ("J013744.1+044004b", (24.43375, 4.66777778)),
        ("J246000.0+000000", None),
        ("J016000.0+000000", None),
        ("J010000.0+006000", None),
        ("J010000.0+900001", None),
        ("J0100+0000", None),
        ("", None),
    ],
)
def test_positions_of_names(name: str, position: tuple[float, float] | None) -> None:
    assert j_name_position(name) == (position and pytest.approx(position, abs=1e-8))


def test_angle_between_places() -> None:
    assert separation_arcmin((10.0, 0.0), (10.0, 1.0)) == pytest.approx(60)
    assert separation_arcmin((359.5, 60.0), (0.5, 60.0)) == pytest.approx(30, rel=1e-3)
    assert separation_arcmin((0.0, 90.0), (180.0, 90.0)) == pytest.approx(0, abs=1e-9)
    assert separation_arcmin((0.0, -90.0), (77.0, 90.0)) == pytest.approx(180 * 60)


def test_rows_are_one_source_also_by_way_of_others() -> None:
    tokens = [["a", 1], ["b"], ["c", 2, 1], ["d", 2], ["b", 9]]
    assert one_source(list("uvwxy"), tokens) == ["u", "v", "u", "u", "v"]


# -- the whole --------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["loose", "packed", "old spelling"])
def test_whole_benchmark(tmp_path: Path, form: str) -> None:
    files = {TABLE: catalogue()}
    if form == "packed":
        files = {"RGZ_DR1_tables.tar.gz": packed(catalogue())}
    spelling = "old" if form == "old spelling" else "new"
    app = routes({"/api/": zenodo(RECORD, files, spelling), "/cgi-bin/": first()})
    images, server = run(acquire, app, tmp_path)
    expected = naive(catalogue())
    assert {row[0]: row[1] for row in images} == {name: row[0] for name, row in expected.items()}
    n_files = len({row[3] for row in images})
    assert n_files == len(images) - 1, "two labels of one source share a cutout"
    assert server.count("firstcutout") == n_files
    assert not list(tmp_path.parent.rglob("escape.csv"))
    _, again = run(acquire, app, tmp_path)
    assert again.count("firstcutout") == 0, "what is here is not asked for again"


def test_cutouts_show_the_place_in_the_size_that_was_asked_for(tmp_path: Path) -> None:
    with_server: list[Request] = []
    fake = archive()

    def app(request: Request) -> Any:
        with_server.append(request)
        return fake(request)

    images, _ = run(acquire, app, tmp_path)
    wanted = naive(catalogue())
    for image, _, _, file, _ in images:
        _, ra_deg, dec_deg, size_arcmin = wanted[image]
        with open_product(tmp_path / file.split()[0]) as product:
            assert product.shape == (round(size_arcmin * 60 / 1.8),) * 2
            assert min(product.shape) >= 8
            header = fits.Header.fromfile(tmp_path / file.split()[0])
            assert separation_arcmin((header["CRVAL1"], header["CRVAL2"]), (ra_deg, dec_deg)) < 0.01
    forms = [request.form for request in with_server if request.method == "POST"]
    assert {form["ImageType"] for form in forms} == {"FITS File"}
    sizes = {path.stat().st_size % 2880 for path in tmp_path.rglob("*.fits")}
    assert 0 in sizes and len(sizes) > 1, "files with and without padding must both be kept"


def test_a_real_cutout_is_kept_and_another_place_is_told(shared_data: Path) -> None:
    path = shared_data / "mosaics/vla/first_cutout_J105007+304037.fits"
    assert check_image(path, (162.53, 30.677), 1.0) is None
    assert "off centre: by 2.0" in str(check_image(path, (162.53, 30.711), 1.0))


def test_places_without_an_image_are_left_out_and_listed(tmp_path: Path) -> None:
    moods = {
        place(1): "no_data",
        place(2): "off_centre",
        place(3): "constant",
        place(4): "blank",
        place(5): "no_wcs",
    }
    images, _ = run(acquire, archive(moods=moods), tmp_path)
    here = {row[0] for row in images}
    gone = {number: f"{j_name(*place(number))}_{CLASSES[number % 6]}" for number in range(1, 6)}
    assert here == set(naive(catalogue())) - set(gone.values())
    listed = left_out(tmp_path)
    for number, words in enumerate(
        ["no first data", "off centre: by 2.00 arcmin", "constant image", "blank image", "no posi"],
        start=1,
    ):
        state, reason = listed[gone[number]]
        assert state == "refused" and words in reason.lower()
        record_outcome("first", "cutouts", list(moods.values())[number - 1], f"refused: {words}")
    assert listed[f"{j_name(*place(12))}_1c1p"] == ("catalogue", "no angular extent: 0")
    assert not list(tmp_path.rglob("*.part*"))


@pytest.mark.parametrize("mood", ["gif", "cube", "cut_short"])
def test_what_is_no_image_counts_as_missing(tmp_path: Path, mood: str) -> None:
    app = archive(moods={place(1): mood})
    message = told(
        acquire, app, tmp_path, r"1 of 21 cutouts did not come .*Run again.*allow_missing"
    )
    record_outcome("first", "cutouts", mood, DataError(message))
    benchmark = RgzBenchmark(source="rgz", allow_missing=1)

    def lenient(web: Web, folder: Path) -> list[LabelledImage]:
        return rgz.acquire("rgz_dr1", benchmark, web, web.archives.urls, folder)

    images, _ = run(lenient, app, tmp_path)
    assert len(images) == len(naive(catalogue())) - 1


def test_a_service_that_gives_nothing_is_soon_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(labelled_cutouts, "FIRST_ROUND", 5)
    monkeypatch.setattr(labelled_cutouts, "SILENT", 5)
    app = routes(
        {"/api/": zenodo(RECORD, {TABLE: catalogue()}), "/cgi-bin/": lambda request: html()}
    )
    with Loopback(app) as server, Web(impatient_at(server)) as web:
        with pytest.raises(DataError, match="none of the last 5 cutouts came"):
            acquire(web, tmp_path / "files")
        assert server.count("firstcutout") <= 5 * 3
    states = [state for state, _ in left_out(tmp_path).values()]
    assert states.count("not_asked") > 10 and "fetched" not in states


# -- faults -----------------------------------------------------------------------------------


FEW = "\n".join([HEADER, *(line(k, "2c3p") for k in (1, 7, 8, 11)), ""]).encode()


@pytest.fixture(scope="module")
def right(tmp_path_factory: pytest.TempPathFactory) -> Content:
    return run(acquire, archive(FEW), tmp_path_factory.mktemp("right"))[0]


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("step", ["record", "catalogue", "one cutout"])
def test_faults(tmp_path: Path, right: Content, step: str, fault: str) -> None:
    ra_hours = f"{place(7)[0] / 15:.8f}"
    match: Any = {
        "record": lambda request: request.path.endswith(RECORD),
        "catalogue": TABLE,
        "one cutout": lambda request: request.form.get("RA", "").startswith(ra_hours),
    }[step]
    name = "zenodo" if step != "one cutout" else "first"
    if name == "first" and fault == "wrong_bytes":
        passes_unnoticed(name, step, match, acquire, archive(FEW), right, tmp_path)
        return
    survives(name, step, fault, match, acquire, archive(FEW), right, tmp_path)


def test_zenodo_turns_programs_away_by_their_name(tmp_path: Path) -> None:
    app = routes({"/api/": lambda request: blocked(), "/cgi-bin/": first()})
    message = told(acquire, app, tmp_path, "archives.contact")
    record_outcome("zenodo", "record", "403 page by User-Agent", DataError(message))
    _, server = run(acquire, archive(), tmp_path)
    agents = {request.headers["user-agent"] for request in server.requests}
    assert all(agent.startswith("stradavit/") for agent in agents)


def test_zenodo_asks_to_wait(tmp_path: Path) -> None:
    app = routes({"/api/": limited(zenodo(RECORD, {TABLE: catalogue()}), 2), "/cgi-bin/": first()})
    images, _ = run(acquire, app, tmp_path)
    assert len(images) == len(naive(catalogue()))
    record_outcome("zenodo", "record", "429 with X-RateLimit-Reset", "right file")


@pytest.mark.parametrize(
    ("files", "match"),
    [
        ({}, "lists no files"),
        ({"a.csv": b"a\n1\n"}, r"has the files a\.csv; expected DR1_FIRST"),
        ({"a.tar.gz": b"", "b.tar.gz": b""}, "has the files"),
        ({"a.tar.gz": packed(b"x", "RGZ/other.csv")}, "holds no DR1_FIRST"),
        ({TABLE: b"RGZID,RA\nJ,1\n"}, "expected a header with the columns RGZID, RA, Dec, CL"),
    ],
)
def test_records_without_the_table_are_told(
    tmp_path: Path, files: dict[str, bytes], match: str
) -> None:
    app = routes({"/api/": zenodo(RECORD, files), "/cgi-bin/": first()})
    told(acquire, app, tmp_path, match)


def test_answers_that_are_no_record_are_told(tmp_path: Path) -> None:
    for answer in ("[1]", '{"files": [3]}', '{"files": [{"size": 1}]}', '{"files": {}}'):
        app = routes({"/api/": lambda request, answer=answer: text(answer)})
        told(acquire, app, tmp_path, "Zenodo record 14195049: .*(no files|without a name)")


def test_names_of_a_record_do_not_reach_a_terminal_as_they_are(tmp_path: Path) -> None:
    fakes = (
        zenodo(RECORD, {"\x1b[2Ja.csv": b"a"}),
        lambda request: text('{"files": ["\\u001b[2J"]}'),
    )
    for fake in fakes:
        said = told(acquire, routes({"/api/": fake}), tmp_path, r"has the files|without a name")
        assert said.isprintable()


def test_bomb_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stradavit.acquire.archives.rgz_tables.MAX_BYTES", 1000)
    app = routes({"/api/": zenodo(RECORD, {"a.tar.gz": packed(catalogue())})})
    told(acquire, app, tmp_path, "Not unpacked")


def test_killed_run_goes_on_where_it_ended(tmp_path: Path) -> None:
    class Killed(BaseException):
        pass

    right, _ = run(acquire, archive(), tmp_path / "right")
    n_calls = 0

    def dies(web: Web, folder: Path) -> list[LabelledImage]:
        def check(*arguments: Any) -> Any:
            nonlocal n_calls
            n_calls += 1
            if n_calls == 9:
                raise Killed
            return check_image(*arguments)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("stradavit.acquire.archives.first.check_image", check)
            return acquire(web, folder)

    with pytest.raises(Killed):
        run(dies, archive(), tmp_path / "tried")
    here = list((tmp_path / "tried").rglob("*.fits"))
    assert 5 < len(here) < 15
    states = [state for state, _ in left_out(tmp_path / "tried").values()]
    assert "not_asked" in states
    healed, server = run(acquire, archive(), tmp_path / "tried")
    assert healed == right
    assert server.count("firstcutout") == len({row[3] for row in right}) - len(here)


def test_faults_that_pass_are_in_the_matrix() -> None:
    assert set(FAULTS) > PASSING


def test_what_a_busy_server_refused_is_asked_for_once_more(tmp_path: Path) -> None:
    n_asked = 0
    fake = archive(FEW)

    def app(request: Request) -> Any:
        nonlocal n_asked
        if request.form.get("RA", "").startswith(f"{place(7)[0] / 15:.8f}"):
            n_asked += 1
            # One request sees half a file that says it is whole, as a program at its limit sends.
            return faulty(fake, "truncated", "")(request) if n_asked == 1 else fake(request)
        return fake(request)

    images, _ = run(acquire, app, tmp_path)
    assert len(images) == 4 and n_asked == 2


def test_rounds_hold_every_cutout_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labelled_cutouts, "FIRST_ROUND", 4)
    monkeypatch.setattr(labelled_cutouts, "LATER_ROUND", 7)
    images, server = run(acquire, archive(), tmp_path)
    assert [row[0] for row in images] == list(naive(catalogue()))
    assert server.count("firstcutout") == len({row[3] for row in images})
    assert {state for state, _ in left_out(tmp_path).values()} == {"catalogue"}


def test_stage_writes_labels_and_what_was_left_out_beside_them(tmp_path: Path) -> None:
    out_path = tmp_path / "raw" / "labels.csv"
    with Loopback(archive(moods={place(3): "no_data"})) as server:
        benchmark = RgzBenchmark(source="rgz", classes=CLASSES)
        acquire_benchmark("rgz_dr1", benchmark, out_path, impatient_at(server))
    rows = read_labels(out_path)
    assert [row.image for row in rows] == [
        image for image in naive(catalogue()) if not image.startswith(j_name(*place(3)))
    ]
    assert all(row.path.is_file() for row in rows)
    assert (out_path.parent / "left_out.csv").is_file()


def test_other_settings_ask_for_other_files(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", FEW)
    changes: list[dict[str, Any]] = [{}, {"lae_factor": 2.0}, {"centre_tolerance_arcmin": 0.5}]
    names = [
        {sample.file for sample in rgz.read_samples(path, BENCHMARK.model_copy(update=change))[0]}
        for change in changes
    ]
    assert len(set.union(*names)) == 3 * 4
