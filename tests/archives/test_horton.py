"""Horton et al.: exactly one initial class, sizes from redshifts, every flag kept."""

import gzip
import json
import math
import random
from pathlib import Path
from typing import Any

import astropy.units as u
import pytest
from astropy.cosmology import Planck18

from stradavit.acquire.archives import horton, labelled_cutouts
from stradavit.acquire.archives.horton_catalogue import COLUMNS, FLAGS, read_catalogue
from stradavit.acquire.archives.vizier import read_lines
from stradavit.acquire.labels import LabelledImage
from stradavit.acquire.transfer.web import Web
from stradavit.cutouts.fits import open_product
from stradavit.errors import DataError
from stradavit.settings.sources import HortonBenchmark

from .benchmark_runs import Content, left_out, passes_unnoticed, run, survives, told
from .fake_lotss_cutouts import lotss_cutouts
from .fake_vizier import cds
from .faults import FAULTS, faulty, record_outcome
from .routes import routes
from .server import App, Request, html

CATALOGUE = "J/A+A/699/A338"
CLASSES = ("FR I", "FR II", "Hybrid", "Spiral", "Relaxed double")


def line(
    name: str,
    initial: tuple[int, ...],
    redshift: float | None = None,
    size_kpc: float | None = None,
    others: tuple[int, ...] = (0,) * 15,
    derived: tuple[int, ...] = (0,) * 8,
    n_features: int = 1,
) -> str:
    """One line as the CDS prints it: E23.17, F23.17, E23.17, F20.16, then digits."""
    z = "" if redshift is None else f"{redshift:.16e}"
    size = "" if size_kpc is None else f"{size_kpc:.17f}"
    luminosity = "" if redshift is None else "1.2345678901234567e+25"
    flags = [int(k in initial) for k in range(5)] + list(others)
    numbers = " ".join(map(str, flags)) + f" {n_features:>2} " + " ".join(map(str, derived))
    text = f"{name:<22}  {z:>23} {size:>23} {luminosity:>23} {10.4946479797363281:>20.16f} 1 "
    return text + numbers


# Position of a row from its number, as its name says it.
def name(number: int, sign: str = "+") -> str:
    return f"ILTJ{number:02d}{2 * number:02d}07.{number:02d}{sign}{20 + number}3{number % 10}05.5"


def place(number: int, sign: int = 1) -> tuple[float, float]:
    ra_deg = 15 * (number + 2 * number / 60 + (7 + number / 100) / 3600)
    return ra_deg, sign * (20 + number + (30 + number % 10) / 60 + 5.5 / 3600)


def catalogue() -> list[str]:
    """Twelve rows: each class, blanks, two initial flags, none."""
    return [
        line(name(0), (0,), 0.43234, 573.768),
        line(name(1), (1,), 0.2322, 351.15, derived=(1, 1, 0, 0, 1, 0, 1, 0), n_features=12),
        line(name(2), (2,)),
        line(name(3), (3,), 1.1, 900.0, others=(1, 0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 1)),
        line(name(4, "-"), (4,), 0.05, 400.0),
        line(name(5), (0, 3), 0.18, 693.8),
        line(name(6), ()),
        # A redshift without a size, a size without a redshift, and values that say nothing.
        line(name(7), (0,), 0.3, None),
        line(name(8), (1,), None, 500.0),
        line(name(9), (1,), 0.0, 500.0),
        # Larger than the service gives.
        line(name(10), (1,), 0.001, 900.0),
        line(name(11), (1,), 0.5, -1.0),
    ]


BENCHMARK = HortonBenchmark(source="horton")


def acquire(web: Web, folder: Path) -> list[LabelledImage]:
    return horton.acquire("lotss_dr2", BENCHMARK, web, web.archives.urls, folder)


def archive(lines: list[str] | None = None, packed: bool = False, **moods: Any) -> App:
    table = {"catalog.dat": catalogue() if lines is None else lines}
    return routes({"/ftp/": cds(CATALOGUE, table, packed=packed), "/dr2-": lotss_cutouts(**moods)})


def write(path: Path, lines: list[str]) -> Path:
    path.write_text("".join(f"{text}\n" for text in lines), encoding="ascii")
    return path


# -- label rules ------------------------------------------------------------------------------


def naive(lines: list[str]) -> dict[str, tuple[str, float]]:
    """Source -> label and size: by words and not by columns, as the authors' own script reads."""
    found = {}
    for text in lines:
        words = text.split()
        initial = words[-29:-24]
        if initial.count("1") != 1:
            continue
        size = 5.0
        if text[24:47].strip() and text[48:71].strip():
            z, kpc = float(text[24:47]), float(text[48:71])
            if z > 0 and kpc > 0:
                angle = (kpc * u.kpc / Planck18.angular_diameter_distance(z)).to_value("")
                size = (angle * u.rad).to_value(u.arcmin)
        if size <= 120:
            found[words[0]] = CLASSES[initial.index("1")], size
    return found


def random_lines(seed: int) -> list[str]:
    draw = random.Random(seed)

    def digits(n: int) -> tuple[int, ...]:
        return tuple(draw.randint(0, 1) for _ in range(n))

    return [
        line(
            f"ILTJ{draw.randint(0, 23):02d}{draw.randint(0, 59):02d}{draw.randint(0, 59):02d}."
            f"{k % 100:02d}{draw.choice('+-')}{draw.randint(0, 89):02d}5959.9",
            tuple(draw.sample(range(5), draw.choice([0, 1, 1, 1, 1, 2]))),
            draw.choice([None, 0.0, -0.1, draw.uniform(0.01, 3)]),
            draw.choice([None, 0.0, draw.uniform(50, 4000)]),
            digits(15),
            digits(8),
            draw.randint(0, 12),
        )
        for k in range(60)
    ]


@pytest.mark.parametrize("lines", [catalogue(), *map(random_lines, range(5))])
def test_labels_and_sizes_are_those_of_a_naive_reading(tmp_path: Path, lines: list[str]) -> None:
    assert {len(text) for text in lines} == {177}
    rows = read_catalogue(write(tmp_path / "catalog.dat", lines))
    samples, left = horton.choose_samples(rows, BENCHMARK)
    expected = naive(lines)
    assert [sample.image for sample in samples] == list(expected)
    for sample in samples:
        assert sample.label == expected[sample.image][0]
        assert sample.size_arcmin == pytest.approx(expected[sample.image][1])
    assert len(samples) + len(left) == len(lines)


def test_columns_are_those_of_the_read_me() -> None:
    # Byte by byte, counted from 1, as the catalogue's ReadMe lists them.
    bytes_of = {"FRI": 120, "Relaxed": 128, "Cshaped": 130, "MultHSpot": 142, "Restarted": 150}
    bytes_of |= {"Cluster": 152, "Unknown": 158, "Hasany1": 163, "Has1": 169, "EM": 177}
    for label, byte in bytes_of.items():
        assert COLUMNS[label] == slice(byte - 1, byte)
    assert COLUMNS["FeatureCT"] == slice(159, 161)
    assert len(COLUMNS) == 29 and sum(map(len, FLAGS.values())) == 28


def test_each_row_left_out_is_told_why(tmp_path: Path) -> None:
    rows = read_catalogue(write(tmp_path / "catalog.dat", catalogue()))
    _, left = horton.choose_samples(rows, BENCHMARK)
    assert {row.image: row.reason.split(":")[0] for row in left} == {
        name(5): "several initial classes",
        name(6): "no initial class",
        name(10): "too large for the service",
    }


def test_settings_decide_sizes_and_classes(tmp_path: Path) -> None:
    rows = read_catalogue(write(tmp_path / "catalog.dat", catalogue()))
    benchmark = HortonBenchmark(
        source="horton", classes=("FR I", "Hybrid"), enlargement=1.5, fallback_arcmin=4.0
    )
    samples, _ = horton.choose_samples(rows, benchmark)
    sizes = {sample.image: sample.size_arcmin for sample in samples}
    assert sizes.keys() == {name(0), name(2), name(7)}
    assert sizes[name(2)] == 6.0
    assert sizes[name(0)] == pytest.approx(1.5 * naive(catalogue())[name(0)][1])


@pytest.mark.parametrize(
    ("spoilt", "match"),
    [
        (lambda text: text[:-1], "176 characters instead of 177"),
        (lambda text: text[:119] + "2" + text[120:], "FRI is 2 instead of 0 or 1"),
        (lambda text: text[:119] + "x" + text[120:], "invalid literal"),
        (lambda text: "J" + text[1:], "instead of one such as ILTJ"),
        (lambda text: text[:30] + "abc" + text[33:], "could not convert"),
        (lambda text: "ILTJ/../" + text[8:], "instead of one such as ILTJ"),
    ],
)
def test_lines_of_other_columns_are_told(tmp_path: Path, spoilt: Any, match: str) -> None:
    lines = catalogue()
    lines[3] = spoilt(lines[3])
    with pytest.raises(DataError, match=rf"catalog\.dat, line 4: found .*{match}"):
        read_catalogue(write(tmp_path / "catalog.dat", lines))


def test_packed_tables_are_read_and_bombs_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "catalog.dat.gz"
    path.write_bytes(gzip.compress(b"a\n\nb\n"))
    assert read_lines(path) == ["a", "b"]
    path.write_bytes(gzip.compress(b"a" * 1000)[:-9])
    with pytest.raises(DataError, match="is not a table"):
        read_lines(path)
    monkeypatch.setattr("stradavit.acquire.archives.vizier.MAX_TABLE_BYTES", 100)
    path.write_bytes(gzip.compress(b"a" * 1000))
    with pytest.raises(DataError, match="more than 100 bytes"):
        read_lines(path)


# -- the whole --------------------------------------------------------------------------------


@pytest.mark.parametrize("packed", [False, True])
def test_whole_benchmark(tmp_path: Path, packed: bool) -> None:
    images, server = run(acquire, archive(packed=packed), tmp_path)
    expected = naive(catalogue())
    assert {row[0]: row[1] for row in images} == {key: row[0] for key, row in expected.items()}
    assert {row[1] for row in images} == set(CLASSES)
    asked = [request for request in server.requests if "cutout" in request.path]
    assert len(asked) == len(images)
    assert all("," not in request.target and "%2B" in request.target for request in asked[:1])
    _, again = run(acquire, archive(packed=packed), tmp_path)
    assert again.count("cutout") == 0, "what is here is not asked for again"


def test_cutouts_show_the_place_in_the_size_that_was_asked_for(tmp_path: Path) -> None:
    def look(web: Web, folder: Path) -> list[LabelledImage]:
        rows = acquire(web, folder)
        for row in rows:
            number = int(row.image[4:6])
            ra_deg, dec_deg = place(number, -1 if number == 4 else 1)
            assert (row.ra_deg, row.dec_deg) == pytest.approx((ra_deg, dec_deg), abs=1e-9)
            with open_product(row.path) as product:
                side = round(naive(catalogue())[row.image][1] * 2)
                assert product.shape == (side, side)
        return rows

    run(look, archive(), tmp_path)


def test_every_flag_is_kept_beside_the_cutout(tmp_path: Path) -> None:
    images, _ = run(acquire, archive(), tmp_path)
    files = {row[0]: tmp_path / row[3].split()[0] for row in images}
    for source, path in files.items():
        kept = json.loads(path.with_suffix(".json").read_text())
        text = next(text for text in catalogue() if text.startswith(source))
        assert list(kept["raw_flags"].values()).count(1) == text.split()[-29:].count("1")
        assert kept["name"] == source and kept["file"] == path.name
    one = json.loads(files[name(1)].with_suffix(".json").read_text())
    assert one["labels"] == {
        "initial": ["FRII"],
        "morphology": [],
        "environment": [],
        "derived": ["Hasany1", "hasany2", "Has2", "MS"],
    }
    # hasany2 and Has2 are the second and fifth digits; MS the seventh.
    assert one["raw_flags"]["FeatureCT"] == 12
    three = json.loads(files[name(3)].with_suffix(".json").read_text())
    assert three["labels"]["morphology"] == ["Cshaped", "Wings", "MultHSpot"]
    assert three["labels"]["environment"] == ["Cluster", "Unknown"]
    assert (three["redshift"], three["size_kpc"]) == (1.1, 900.0)
    none = json.loads(files[name(2)].with_suffix(".json").read_text())
    assert (none["redshift"], none["size_kpc"], none["cutout_arcmin"]) == (None, None, 5.0)


def test_lost_sidecars_come_back_without_a_request(tmp_path: Path) -> None:
    run(acquire, archive(), tmp_path)
    sidecars = list(tmp_path.rglob("*.json"))
    before = {path: path.read_bytes() for path in sidecars}
    sidecars[0].unlink()
    sidecars[1].write_text("{")
    _, server = run(acquire, archive(), tmp_path)
    assert server.count("cutout") == 0
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.json")} == before


def test_places_without_an_image_are_left_out_and_listed(tmp_path: Path) -> None:
    moods = {
        place(0): "no_coverage",
        place(1): "blank",
        place(2): "constant",
        place(3): "no_wcs",
        place(7): "image of another source",
    }
    fake = archive(moods=moods)

    def app(request: Request) -> Any:
        if "cutout" in request.path and name(7)[4:6] + ":" in request.query["pos"][0][:3]:
            # The image of another source.
            elsewhere = f"{place(8)[0]:.6f}+{place(8)[1]:.6f}"
            target = f"/dr2-cutout.fits?pos={elsewhere}&size={request.query['size'][0]}"
            return fake(Request("GET", target, request.headers))
        return fake(request)

    images, _ = run(acquire, app, tmp_path)
    gone = {name(number) for number in (0, 1, 2, 3, 7)}
    assert {row[0] for row in images} == set(naive(catalogue())) - gone
    listed = left_out(tmp_path)
    words = ["no data", "blank image", "constant image", "no position", "another place"]
    for source, mood, word in zip(sorted(gone), moods.values(), words, strict=True):
        state, reason = listed[source]
        assert state == "refused" and reason.startswith(word)
        record_outcome("lotss cutouts", "cutouts", mood, f"refused: {word}")


def test_page_of_other_words_means_no_coverage(tmp_path: Path) -> None:
    fake = archive()

    def app(request: Request) -> Any:
        is_meant = "cutout" in request.path and request.query["pos"][0].startswith("00:")
        return html() if is_meant else fake(request)

    images, _ = run(acquire, app, tmp_path)
    assert len(images) == len(naive(catalogue())) - 1
    assert left_out(tmp_path)[name(0)][1].startswith("came as a page in HTML")


def test_a_service_that_gives_nothing_is_soon_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(labelled_cutouts, "FIRST_ROUND", 3)
    monkeypatch.setattr(labelled_cutouts, "SILENT", 3)
    app = routes(
        {"/ftp/": cds(CATALOGUE, {"catalog.dat": catalogue()}), "/dr2-": lambda request: html()}
    )
    told(acquire, app, tmp_path, "none of the last 3 cutouts came")
    monkeypatch.setattr(labelled_cutouts, "SILENT", 100)
    told(acquire, app, tmp_path, "no image is left of 9 sources")


def test_the_fake_is_as_picky_as_the_service() -> None:
    fake = lotss_cutouts()
    pages = {
        "comma": "pos=180.5,50.25&size=5",
        "sign lost": "pos=12:02:00.0+50:15:00.0&size=5",
        "too large": "pos=180.5+50.25&size=121",
        "fine": "pos=180.5+50.25&size=5",
        "sexagesimal": "pos=12:02:00.0+%2B50:15:00.0&size=5",
    }
    kinds = {
        what: fake(Request("GET", f"/dr2-cutout.fits?{query}", {})).headers["Content-Type"]
        for what, query in pages.items()
    }
    assert [what for what, kind in kinds.items() if kind == "application/fits"] == [
        "fine",
        "sexagesimal",
    ]


# -- faults -----------------------------------------------------------------------------------

FEW = [catalogue()[k] for k in (0, 1, 2, 3)]


@pytest.fixture(scope="module")
def right(tmp_path_factory: pytest.TempPathFactory) -> Content:
    return run(acquire, archive(FEW), tmp_path_factory.mktemp("right"))[0]


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("step", ["ReadMe", "catalogue", "one cutout"])
def test_faults(tmp_path: Path, right: Content, step: str, fault: str) -> None:
    match: Any = {
        "ReadMe": "ReadMe",
        "catalogue": "catalog.dat",
        "one cutout": lambda request: "01:02:07" in str(request.query.get("pos")),
    }[step]
    archive_name = "lotss cutouts" if step == "one cutout" else "cds"
    if step == "one cutout" and fault == "html200":
        images, _ = run(acquire, faulty(archive(FEW), fault, match), tmp_path)
        assert [row[0] for row in images] == [name(0), name(2), name(3)]
        record_outcome(archive_name, step, fault, "refused: means no coverage; listed")
        return
    if step == "one cutout" and fault == "wrong_bytes":
        passes_unnoticed(archive_name, step, match, acquire, archive(FEW), right, tmp_path)
        return
    survives(archive_name, step, fault, match, acquire, archive(FEW), right, tmp_path)


def test_catalogue_of_other_lines_is_not_taken(tmp_path: Path) -> None:
    whole, fewer = catalogue(), catalogue()[:-1]
    texts = {"catalog.dat": whole}
    read_me = cds(CATALOGUE, texts)
    table = cds(CATALOGUE, {"catalog.dat": fewer})

    def app(request: Request) -> Any:
        return (read_me if request.path.endswith("ReadMe") else table)(request)

    told(acquire, app, tmp_path, "11 lines of at most 177 characters; its ReadMe says 12")


def test_sizes_shrink_with_distance() -> None:
    rows = [line(name(0), (0,), z, 500.0) for z in (0.05, 0.1, 0.5, 1.0)]
    sizes = [naive([text])[name(0)][1] for text in rows]
    assert sizes == sorted(sizes, reverse=True)
    assert not math.isclose(sizes[0], 5.0)
