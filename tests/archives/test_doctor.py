"""`stradavit doctor`: what answers, what is missing, what to do; whatever the archives do."""

import dataclasses
import json
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from stradavit.acquire.archives import doctor as doctor_module
from stradavit.acquire.archives import sardet
from stradavit.acquire.archives.credentials import OPAL_PASSWORD, OPAL_USER
from stradavit.acquire.archives.doctor import Finding, doctor, examine
from stradavit.acquire.archives.hub import fetch_model
from stradavit.acquire.archives.mirabest_releases import RELEASES
from stradavit.acquire.archives.sdc1 import FULL_SHARES
from stradavit.acquire.archives.source_contact import HORTON, sardet_questions
from stradavit.acquire.transfer.web import Web
from stradavit.settings import Settings
from stradavit.settings.encoders import HubEncoder
from stradavit.settings.sources import SDC1_SHARES

from .fake_casda import PASSWORD, USER, FakeCasda, Image, fits_image
from .fake_first import first
from .fake_hub import COMMIT, MODEL, TOKEN, FakeHub, safetensors
from .fake_kaggle import FakeKaggle, members
from .fake_lotss import FakeLotss
from .fake_lotss_cutouts import lotss_cutouts
from .fake_mgcls import FakeMgcls
from .fake_mgcls import sample as mgcls_sample
from .fake_sdc1 import FakeSdc1
from .fake_zenodo import zenodo
from .faults import FAULTS, faulty, record_outcome
from .routes import routes
from .server import App, Loopback, Reply, Request, files, impatient

SDC1_IMAGE = "SKAMid_B1_1000h_v3.fits"
# Which blocks of the settings speak to which server.
SUBJECTS = {
    "mgcls": ("surveys.mgcls",),
    "casda": ("surveys.askap",),
    "lotss": ("surveys.lotss",),
    "sdc1": ("surveys.sdc1",),
    "first": ("benchmarks.rgz",),
    "zenodo": ("benchmarks.rgz",),
    "mirabest": ("benchmarks.mirabest",),
    "cutouts": ("benchmarks.horton",),
    "cds": ("benchmarks.horton",),
    "hub": ("encoders.tiny",),
}
RECORDS = ("14195049", "4288837", "5588282")


def adql(app: App) -> App:
    """`app` for questions with TOP, which the fakes' own database spells LIMIT."""

    def translated(request: Request) -> Reply:
        if "TOP" in request.form.get("query", "") if request.method == "POST" else False:
            body = re.sub(rb"SELECT\+TOP\+(\d+)(.*)$", rb"SELECT\2+LIMIT+\1", request.body)
            request = dataclasses.replace(request, body=body)
        return app(request)

    return translated


@dataclass
class World:
    """All archives on this machine."""

    servers: dict[str, Loopback]
    hub: FakeHub
    lotss: FakeLotss

    def settings(self, subjects: tuple[str, ...] = (), **archives: Any) -> Settings:
        """Settings that configure all archives, or the blocks named only."""
        url = {name: server.url for name, server in self.servers.items()}
        urls = {
            "mgcls": f"{url['mgcls']}/public",
            "casda_tap": f"{url['casda']}/tap",
            "casda_login": f"{url['casda']}/proxy",
            "casda_data": f"{url['casda']}/data",
            "lotss_tap": f"{url['lotss']}/tap",
            "lotss_files": f"{url['lotss']}/public/DR2/mosaics",
            "lotss_cutouts": url["cutouts"],
            "sdc1": f"{url['sdc1']}/index.php/s",
            "first": f"{url['first']}/cgi-bin/firstcutout",
            "zenodo": url["zenodo"],
            "cds": f"{url['cds']}/ftp",
            "mirabest": url["mirabest"],
            "hub": url["hub"],
        }
        blocks: dict[str, dict[str, Any]] = {
            "surveys": {
                "mgcls": {"source": "mgcls"},
                "askap": {"source": "casda"},
                "lotss": {"source": "lotss"},
                "sdc1": {"source": "sdc1", "files": [SDC1_IMAGE], "bytes": {SDC1_IMAGE: 28800}},
            },
            "benchmarks": {
                "rgz": {"source": "rgz"},
                "mirabest": {"source": "mirabest"},
                "horton": {"source": "horton"},
            },
            "encoders": {
                "tiny": {"source": "hub", "repo": "someone/tiny"},
                "vit": {"source": "scratch"},
            },
        }
        if subjects:
            blocks = {
                block: {name: v for name, v in entries.items() if f"{block}.{name}" in subjects}
                for block, entries in blocks.items()
            }
        blocks["surveys"]["drawn"] = {"source": "simulated", "like": "sdc1"}
        patience = {"attempts": 1, "urls": urls} | archives
        return Settings.parse(
            {
                **blocks,
                "corpora": {"all": {"surveys": list(blocks["surveys"])}},
                "matrix": {"baselines": list(blocks["encoders"])},
                "archives": impatient(**patience).model_dump(),
            }
        )


@pytest.fixture(autouse=True)
def at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv(OPAL_USER, USER)
    monkeypatch.setenv(OPAL_PASSWORD, PASSWORD)
    monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(tmp_path / "kaggle"))
    for name in ("HF_TOKEN", "KAGGLE_USERNAME", "KAGGLE_KEY"):
        monkeypatch.delenv(name, raising=False)


def image(number: int, quality: str) -> Image:
    name = f"image.i.EMU_{number}.SB{number}.cont.taylor.0.restored.conv.fits"
    return Image(f"cube-{number}", name, fits_image(number), quality=quality)


@pytest.fixture
def world() -> Iterator[World]:
    casda = FakeCasda([image(n, "GOOD" if n % 2 else "UNCERTAIN") for n in range(1, 8)])
    lotss = FakeLotss(["P000+23", "P124+62"])
    images = {SDC1_SHARES[SDC1_IMAGE]: (SDC1_IMAGE, b"x" * 28800)}
    hub = FakeHub(
        files={**MODEL, "model.safetensors": safetensors(**{"vit.register_tokens": 4, "vit.a": 8})}
    )
    records = {
        f"/api/records/{record}": zenodo(record, {"table.csv": b"a,b\n"}) for record in RECORDS
    }
    apps: dict[str, App] = {
        "mgcls": FakeMgcls(mgcls_sample(16)),
        "casda": adql(casda),
        "lotss": lotss,
        "sdc1": FakeSdc1(images),
        "first": first({(162.5, -60.0): "no_data"}),
        "zenodo": routes(records),
        "mirabest": files({f"/{RELEASES['F'].path}": b"\x1f\x8b" + bytes(98)}),
        "cutouts": lotss_cutouts({(0.0, -60.0): "no_coverage"}),
        "cds": files({f"/ftp/{HORTON}.gz": b"\x1f\x8b" + bytes(98)}),
        "hub": hub,
    }
    with ExitStack() as stack:
        servers = {name: stack.enter_context(Loopback(app)) for name, app in apps.items()}
        casda.url, lotss.url = servers["casda"].url, servers["lotss"].url
        yield World(servers, hub, lotss)


def found(settings: Settings) -> dict[tuple[str, str], Finding]:
    """Findings by subject and question."""
    return {(each.subject, each.question): each for each in examine(settings)}


def test_everything_answers(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert doctor(world.settings()) == 0
    told = " ".join(capsys.readouterr().out.split())
    for words in (
        "18 keys",
        "digest for 8",
        "answers ranges; BITPIX -32",
        "5 rows, such as image.i.EMU_",
        "4 GOOD, 3 UNCERTAIN",
        "the login is good",
        "cube-1 may be staged",
        "2 mosaics; 841 are published",
        "2 fields are chosen",
        "BITPIX -64",
        "28,800 bytes",
        "table.csv 4 B md5:",
        "BITPIX -32, NAXIS 2, NAXIS1 167",
        "recognised as no data",
        "no image, as described",
        "catalog.dat: 404, catalog.dat.gz: 200",
        f"main is {COMMIT}",
        f"revision: {COMMIT}",
        "2 tensors, vit.a … vit.register_tokens",
        "Everything is ready.",
    ):
        assert words in told, words
    # Looking is not fetching: nothing is written, and few questions are asked.
    assert not list(tmp_path.iterdir())
    assert all(server.count() <= 5 for server in world.servers.values())


def test_json_holds_the_same(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor(world.settings(), as_json=True) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["is_ready"] is True
    subjects = {finding["subject"] for finding in report["findings"]}
    assert subjects == {name for names in SUBJECTS.values() for name in names} | {"this machine"}
    sizes = {(f["subject"], f["question"]): f["bytes"] for f in report["findings"]}
    high = world.lotss.high.values()
    assert sizes["surveys.lotss", "fields chosen"] == sum(map(len, high))


def test_nothing_configured_needs_nothing(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor(world.settings(("encoders.vit",))) == 0
    assert "none is configured" in capsys.readouterr().out
    assert not any(server.requests for server in world.servers.values())


@pytest.mark.parametrize("name", SUBJECTS)
def test_one_archive_out_of_reach_is_told_and_hides_no_other(name: str, world: World) -> None:
    settings = world.settings()
    gone = world.servers[name]
    gone.app = lambda request: Reply(503)
    faults = [finding for finding in examine(settings) if finding.state == "fault"]
    assert {finding.subject for finding in faults} == set(SUBJECTS[name])
    for finding in faults:
        assert finding.remedy or re.search(r"archives\.|later|`source: ", finding.answer), finding
    assert doctor(settings) == 1


@pytest.mark.parametrize("fault", FAULTS)
def test_whatever_archives_do_ends_in_words(fault: str, world: World) -> None:
    for server in world.servers.values():
        server.app = faulty(server.app, fault)
    began = time.monotonic()
    findings = examine(world.settings(attempts=2))
    assert time.monotonic() - began < 120
    asked = {finding.subject for finding in findings}
    assert asked >= {name for names in SUBJECTS.values() for name in names}
    for finding in findings:
        assert "does not understand" not in finding.answer, finding
        assert finding.answer
    faults = {finding.subject for finding in findings if finding.state == "fault"}
    is_passing = fault in ("cut", "stall", "429s", "429date", "500once", "503once", "range200")
    record_outcome("doctor", "all", fault, "answers" if not faults else "named in the report")
    if is_passing:
        assert not faults
    elif fault not in ("truncated", "wrong_bytes"):
        assert faults == asked - {"this machine"}


def test_no_login_is_told_with_what_to_do(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("keyring.get_credential", lambda *_: None)
    monkeypatch.delenv(OPAL_PASSWORD)
    finding = found(world.settings(("surveys.askap",)))["surveys.askap", "OPAL login"]
    assert finding.state == "fault"
    assert OPAL_PASSWORD in finding.answer


def test_secrets_are_not_shown(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("KAGGLE_USERNAME", "somebody")
    monkeypatch.setenv("KAGGLE_KEY", "aKeyOfKaggle")
    for as_json in (False, True):
        assert doctor(world.settings(), as_json) == 0
    told = capsys.readouterr().out
    assert "HF_TOKEN is set" in told
    assert "credentials are there" in told
    for secret in (PASSWORD, TOKEN, "aKeyOfKaggle", "tok-cube"):
        assert secret not in told


def test_an_answer_without_end(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_module, "DEADLINE_S", 0.4)

    hub = world.servers["hub"]

    def trickle(request: Request) -> Reply:
        def body() -> Iterator[bytes]:
            while not hub.stopping.wait(0.05):
                yield b" "

        return Reply(200, {"Content-Type": "application/json"}, body())

    hub.app = trickle
    began = time.monotonic()
    finding = found(world.settings(("encoders.tiny",), timeout_s=60.0))["encoders.tiny", "in time"]
    assert finding.state == "fault"
    assert time.monotonic() - began < 30


def test_too_small_a_disk(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def usage(path: Path) -> SimpleNamespace:
        return SimpleNamespace(free=1000)

    monkeypatch.setattr(shutil, "disk_usage", usage)
    finding = found(world.settings(("surveys.lotss",)))["this machine", "disk space"]
    assert finding.state == "fault"
    assert "1 kB are free here" in finding.answer
    assert "larger disk" in finding.remedy


def test_a_package_that_is_not_installed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_module, "PACKAGES", ("astropy", "no-such-package"))
    finding = found(world.settings(("encoders.vit",)))["this machine", "packages"]
    assert finding.state == "fault"
    assert "no-such-package not installed" in finding.answer


def test_a_model_that_was_fetched_is_not_to_be_fetched_again(world: World) -> None:
    settings = world.settings(("encoders.tiny",))
    assert "is on this disk already" not in " ".join(one.answer for one in examine(settings))
    (start,) = settings.nodes()
    tiny = settings.encoders["tiny"]
    assert isinstance(tiny, HubEncoder)
    # Where the stage acquire-encoder of the workflow keeps what the hub sent.
    kept = Path("results/encoders") / start / ".hub"
    fetch_model(tiny.repo, tiny.revision, settings.archives, kept)
    assert "is on this disk already" in " ".join(one.answer for one in examine(settings))


def test_sardet_for_the_day_it_is_configured(world: World) -> None:
    fake = FakeKaggle()
    with Loopback(fake) as server, Web(impatient({"kaggle": server.url})) as web:
        said = {question: ask() for question, ask in sardet_questions(web, web.archives.urls)}
        assert said["version at Kaggle"].answer.endswith("has the version 3")
        assert said["archive file"].bytes == 2 * len(fake.body)
        assert "md5:" in said["archive file"].answer
        assert server.count("/store/") == 1


def spoil_share(world: World) -> None:
    world.servers["sdc1"].app = lambda request: Reply(200, {"Content-Type": "text/html"}, b"<html>")


def shrink_share(world: World) -> None:
    world.servers["sdc1"].app = lambda request: Reply(200, {}, b"x" * 99)


def no_safetensors(world: World) -> None:
    world.hub.files = {n: b for n, b in MODEL.items() if n != "model.safetensors"}


def image_everywhere(world: World) -> None:
    world.servers["first"].app = first()


def other_words(world: World) -> None:
    def app(request: Request) -> Reply:
        return Reply(200, {}, b"<html><body>Nothing here</body></html>")

    world.servers["cutouts"].app = app


@pytest.mark.parametrize(
    ("spoil", "subject", "question", "state", "words"),
    [
        (spoil_share, "surveys.sdc1", f"share of {SDC1_IMAGE}", "fault", "status 200 and a page"),
        (shrink_share, "surveys.sdc1", f"share of {SDC1_IMAGE}", "fault", "28,800 are expected"),
        (no_safetensors, "encoders.tiny", "files", "fault", "no model.safetensors; there are"),
        (image_everywhere, "benchmarks.rgz", "place FIRST never saw", "note", "none was expected"),
        (other_words, "benchmarks.horton", "place LoTSS never saw", "note", "says nothing of"),
        (other_words, "benchmarks.horton", "cutout of LoTSS", "fault", "no FITS"),
    ],
)
def test_what_is_not_as_described(
    spoil: Callable[[World], None],
    subject: str,
    question: str,
    state: str,
    words: str,
    world: World,
) -> None:
    spoil(world)
    finding = found(world.settings((subject,)))[subject, question]
    assert finding.state == state
    assert words in finding.answer
    assert finding.remedy or state == "note" or "FITS" in finding.answer


# -- detection ------------------------------------------------------------------------------------

TRUTH = "True_560_v2.txt"


def with_set(world: World, block: dict[str, Any], **urls: str) -> Settings:
    """Settings with one detection set, which a scratch encoder is compared on."""
    settings = world.settings(("surveys.sdc1", "encoders.vit")).model_dump(mode="json")
    settings["detection"]["sets"] = {"boxes": {"table": "sar"} | block}
    settings["matrix"]["detection"] = {"boxes": {"baselines": ["vit"]}}
    settings["archives"]["urls"] |= urls
    return Settings.parse(settings)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of three pictures."""
    for name, body in members().items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(body)
    return tmp_path / "SARDet_100K"


def said_of_copy(world: World, copy: Path, **more: Any) -> Finding:
    settings = with_set(world, {"source": "coco", "path": str(copy)} | more)
    return found(settings)["detection.sets.boxes", "copy on this disk"]


def test_a_copy_is_looked_through(world: World, copy: Path) -> None:
    finding = said_of_copy(world, copy)
    assert (finding.state, finding.answer) == (
        "good",
        f"{copy}: 1 train, 1 val, 1 test images, 18 boxes; every picture is there",
    )
    finding = said_of_copy(world, copy, classes=["ship", "submarine"])
    assert finding.state == "fault"
    assert finding.answer.startswith(f"{copy}: has no category 'submarine'; its categories are")
    assert finding.remedy == "Correct detection.sets.boxes.classes."
    (copy / "JPEGImages" / "val" / "0001.png").unlink()
    finding = said_of_copy(world, copy)
    assert finding.state == "fault"
    assert "lacks 1 of the 1 images of val.json" in finding.answer
    # Splits that are not read need not be whole.
    assert said_of_copy(world, copy, splits=["train", "test"]).state == "good"


def test_a_copy_of_sardet_is_compared_with_what_is_published(
    world: World, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sardet, "IMAGES", dict.fromkeys(("train", "val", "test"), 1))
    monkeypatch.setattr(sardet, "BOXES", dict.fromkeys(("train", "val", "test"), 6))
    finding = said_of_copy(world, copy)
    assert finding.state == "good"
    assert finding.answer.endswith("every picture is there, as published")
    sardet.BOXES["val"] = 7
    finding = said_of_copy(world, copy)
    assert finding.state == "note"
    assert finding.answer.endswith("; val: has 6 boxes; published are 7")


def test_a_set_that_nothing_is_compared_on_is_not_looked_at(world: World, copy: Path) -> None:
    settings = with_set(world, {"source": "coco", "path": str(copy / "nowhere")})
    assert {one.state for one in examine(settings) if "sets" in one.subject} == {"fault"}
    unused = settings.model_dump(mode="json")
    unused["matrix"]["detection"] = {}
    assert not [one for one in examine(Settings.parse(unused)) if "sets" in one.subject]
    # Chips are made of it.
    unused["surveys"]["chips"] = {"source": "chips", "detection": "boxes"}
    assert [one for one in examine(Settings.parse(unused)) if "sets" in one.subject]


def test_sardet_is_asked_for_until_it_is_here(world: World, tmp_path: Path) -> None:
    with Loopback(FakeKaggle()) as server:
        settings = with_set(world, {"source": "sardet"}, kaggle=server.url)
        finding = found(settings)["detection.sets.boxes", "version at Kaggle"]
        assert finding.answer.endswith("has the version 3")
        server.app = lambda request: Reply(503)
        finding = found(settings)["detection.sets.boxes", "version at Kaggle"]
        assert finding.state == "fault"
        folder = tmp_path / "results" / "raw" / "boxes"
        folder.mkdir(parents=True)
        (folder / "sources.json").write_text("{}")
        assert not [one for one in examine(settings) if "sets" in one.subject]


def test_truth_must_be_within_reach_as_images_are(world: World, tmp_path: Path) -> None:
    block = {"source": "truth", "survey": "sdc1"}
    subject, question = "detection.sets.boxes", f"share of {TRUTH}"
    images = {SDC1_SHARES[SDC1_IMAGE]: (SDC1_IMAGE, b"x" * 28800)}
    world.servers["sdc1"].app = FakeSdc1(images | {FULL_SHARES[TRUTH]: (TRUTH, b"1 2 3")})
    finding = found(with_set(world, block))[subject, question]
    assert (finding.state, finding.answer, finding.bytes) == ("good", "5 bytes", 5)

    world.servers["sdc1"].app = FakeSdc1(images)
    told = found(with_set(world, block))
    assert told["surveys.sdc1", f"share of {SDC1_IMAGE}"].state == "good"
    assert told[subject, question].answer == "status 404 and a page"
    assert told[subject, question].remedy.endswith("name it in detection.sets.boxes.truth.")

    # A catalogue on this disk is not asked for.
    path = tmp_path / "truth.txt"
    settings = with_set(world, block | {"truth": {SDC1_IMAGE: str(path)}})
    finding = found(settings)[subject, f"truth of {SDC1_IMAGE}"]
    assert (finding.state, finding.answer) == ("fault", f"{path} is no file")
    assert finding.remedy == "Correct detection.sets.boxes.truth."
    path.write_text("1 2 3")
    told = found(settings)
    assert told[subject, f"truth of {SDC1_IMAGE}"].answer == f"{path} is there"
    assert (subject, question) not in told

    # Drawn mosaics have theirs beside them.
    assert not [s for s, _ in found(with_set(world, block | {"survey": "drawn"})) if s == subject]
