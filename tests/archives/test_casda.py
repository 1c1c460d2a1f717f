"""ASKAP images from a CASDA of this machine: login, staging, links, and all that goes wrong."""

import json
import logging
import os
import re
import stat
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import keyring
import keyring.credentials
import keyring.errors
import pytest

from stradavit.acquire.archives import casda_staging
from stradavit.acquire.archives.casda import fetch_rows, is_released, list_products, product_name
from stradavit.acquire.archives.casda_jobs import JobError, read_job
from stradavit.acquire.archives.casda_links import LinkError, link_in, read_sidecar
from stradavit.acquire.archives.casda_notes import NOTES, KnownJob, known_jobs, note_job
from stradavit.acquire.archives.credentials import OPAL_PASSWORD, OPAL_USER, opal_login
from stradavit.acquire.archives.votable import ServiceError, read_votable
from stradavit.acquire.manifest import ManifestRow, read_ledger
from stradavit.acquire.stages import acquire_part, make_manifest
from stradavit.acquire.transfer.fetch import Outcome, Remote
from stradavit.acquire.transfer.listed import Listed
from stradavit.acquire.transfer.missing import read_missing
from stradavit.acquire.transfer.names import safe_name
from stradavit.acquire.transfer.web import Web
from stradavit.errors import DataError, SettingsError
from stradavit.settings.sources import CasdaSurvey

from .fake_casda import PASSWORD, SIGNATURE, USER, USUAL, FakeCasda, Image, fits_image
from .faults import FAULTS, faulty, record_outcome
from .server import Loopback, Request, impatient

RACS = "The Rapid ASKAP Continuum Survey"


def images(number: int) -> list[Image]:
    """Images of one collection."""
    return [
        Image(
            f"cube-{n}",
            f"image.i.EMU_{n:04}-55.SB{n}.cont.taylor.0.restored.conv.fits",
            fits_image(n),
        )
        for n in range(1, number + 1)
    ]


class Bench:
    """A fake archive, its server, and the two steps of acquiring from it."""

    def __init__(self, fake: FakeCasda, folder: Path) -> None:
        self.fake, self.folder = fake, folder
        self.server = Loopback(fake)
        fake.url = self.server.url
        self.archives = impatient(fake.urls())

    def listing(self, **changes: Any) -> list[Listed]:
        with Web(self.archives) as web:
            return list_products(survey(**changes), web, self.archives.urls)

    def bring(self, rows: list[ManifestRow] | None = None) -> dict[str, Outcome]:
        """Outcomes by identifier."""
        wanted = self.rows() if rows is None else rows
        with Web(self.archives) as web:
            found = fetch_rows(survey(), web, self.archives.urls, wanted, self.folder, "askap")
        assert [outcome.name for outcome in found] == [row.product for row in wanted]
        return {row.location: outcome for row, outcome in zip(wanted, found, strict=True)}

    def rows(self) -> list[ManifestRow]:
        return [
            ManifestRow(product_name(i.identifier, i.filename), 0, i.identifier, None, "")
            for i in self.fake.images
        ]

    def right(self, outcome: Outcome) -> bool:
        """Whether a file came, and is what the archive holds."""
        by_name = {product_name(i.identifier, i.filename): i.body for i in self.fake.images}
        if outcome.state != "fetched":
            assert outcome.path is None and not (self.folder / outcome.name).exists()
            return False
        assert outcome.path is not None and outcome.path.read_bytes() == by_name[outcome.name]
        return True

    def states(self) -> list[str]:
        return [outcome.state for outcome in self.bring().values()]

    def spoil(self, fault: str, part: str, times: int | None = -1) -> None:
        """Lay a fault over requests whose path holds `part`."""

        def match(request: Request) -> bool:
            is_sidecar = request.path.endswith(".checksum")
            return part in request.path and (is_sidecar or part != "/download/")

        def image_only(request: Request) -> bool:
            return "/download/" in request.path and not request.path.endswith(".checksum")

        meant = image_only if part == "/download/" else match
        self.server.app = faulty(self.fake, fault, meant, times)

    def notes(self) -> list[Path]:
        return sorted((self.folder / NOTES).glob("*"))


def survey(**changes: Any) -> CasdaSurvey:
    return CasdaSurvey.model_validate({"source": "casda", **changes})


@pytest.fixture(autouse=True)
def login(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(OPAL_USER, USER)
    monkeypatch.setenv(OPAL_PASSWORD, PASSWORD)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(FakeCasda(images(3)), tmp_path / "files")
    with made.server:
        yield made


@pytest.fixture(autouse=True)
def silence(
    request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> Iterator[None]:
    """No test leaves a secret in what it logs, at any level, or writes, or in arguments."""
    caplog.set_level(logging.DEBUG)
    yield
    made = request.node.funcargs.get("bench")
    if made is None:
        return
    jobs = set(made.fake.jobs)
    # All phases: the fixture's own records are not in caplog.text any more.
    logged = "\n".join(record.getMessage() for record in caplog.get_records("call"))
    arguments = (
        Path("/proc/self/cmdline").read_text() if Path("/proc/self/cmdline").exists() else ""
    )
    for path in tmp_path.rglob("*"):
        if path.is_file() and path.suffix != ".fits":
            written = path.read_text(encoding="utf-8", errors="replace")
            is_note = NOTES in path.parts
            secrets = set(made.fake.secrets()) - (jobs if is_note else set())
            assert not [secret for secret in secrets if secret in written], path
            assert not is_note or stat.S_IMODE(path.stat().st_mode) == 0o600
    for secret in made.fake.secrets():
        assert secret not in logged and secret not in arguments


def no_secret(fake: FakeCasda, *told: object) -> None:
    """No secret in an error and what it was raised from, or in outcomes."""
    for thing in told:
        while thing is not None:
            for secret in fake.secrets():
                assert secret not in f"{thing} {thing!r}"
            thing = thing.__cause__ or thing.__context__ if isinstance(thing, Exception) else None


# -- listing ------------------------------------------------------------------------------------


def test_list_names_files_and_their_identifiers(bench: Bench) -> None:
    assert bench.listing() == [
        Listed(
            f"image.i.EMU_{n:04}-55.SB{n}.cont.taylor.0.restored.conv.cube-{n}.fits", f"cube-{n}"
        )
        for n in (1, 2, 3)
    ]


def test_listing_needs_no_login(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(OPAL_USER)
    bench.listing()
    assert all("authorization" not in request.headers for request in bench.server.requests)


@pytest.mark.parametrize(
    ("choice", "numbers"),
    [
        ({}, [1, 2, 3, 4]),
        ({"collections": ("EMU",)}, [1, 2]),
        ({"collections": ("The Rapid%", "Bob's")}, [3, 4]),
        ({"project": "AS110"}, [3]),
        ({"project": "AS110", "collections": ("EMU",)}, []),
        ({"filenames": "RACS-DR1%"}, [3]),
        ({"where": "obs_publisher_did = 'cube-2' OR 1 = 0"}, [2]),
        ({"subtype": "cont.noise.t0"}, [7]),
        ({"quality": ("BAD",)}, [5]),
        ({"max_products": 2}, [3, 4]),
    ],
)
def test_filters(bench: Bench, choice: dict[str, Any], numbers: list[int]) -> None:
    bench.fake.images = [
        *images(2),
        Image("cube-3", "RACS-DR1_0000-12A.fits", b"", RACS),
        Image("cube-4", "", b"", "Bob's"),
        Image("cube-5", "bad.fits", b"", quality="BAD"),
        Image("cube-6", "soon.fits", b"", released="2999-01-01T00:00:00.000Z"),
        Image("cube-7", "noise.fits", b"", subtype="cont.noise.t0"),
    ]
    if numbers:
        found = sorted(item.location for item in bench.listing(**choice))
        assert found == [f"cube-{n}" for n in numbers]
    else:
        with pytest.raises(DataError, match=r"of 0 images none can be taken.*SELECT"):
            bench.listing(**choice)


def test_what_is_left_out_is_counted(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.fake.images[0].quality = "REJECTED"
    bench.fake.images[1].released = ""
    assert len(bench.listing()) == 1
    assert "1 images left out, of quality REJECTED" in caplog.text
    assert "1 images left out, not released" in caplog.text


def test_a_survey_of_which_nothing_is_left_is_an_error(bench: Bench) -> None:
    for image in bench.fake.images:
        image.quality = "BAD"
    with pytest.raises(DataError, match=r"of 3 images none can be taken \(3 of quality BAD\)"):
        bench.listing()


@pytest.mark.parametrize(
    ("date", "is_past"),
    [
        ("2023-08-02T03:51:19.728Z", True),
        ("2023-08-02", True),
        ("2999-01-01T00:00:00Z", False),
        ("", False),
        (None, False),
        ("soon", False),
    ],
)
def test_release_dates(date: str | None, is_past: bool) -> None:
    assert is_released(date, datetime(2026, 1, 1, tzinfo=UTC)) is is_past


@pytest.mark.parametrize(
    ("filename", "name"),
    [
        ("a.fits", "a.cube-1.fits"),
        ("a.b.FITS", "a.b.cube-1.fits"),
        ("a.fits.gz", "a.cube-1.fits.gz"),
        ("", "cube-1.fits"),
        ("../../etc/passwd", "etc-passwd.cube-1.fits"),
        ("-rf *\x00\n.fits", "rf.cube-1.fits"),
        ("x" * 500 + ".fits", "x" * 150 + ".cube-1.fits"),
    ],
)
def test_names_of_files_are_unique_and_safe(filename: str, name: str) -> None:
    assert safe_name(product_name("cube-1", filename)) == name


@pytest.mark.parametrize("identifier", ["", "../cube-1", "cube-1?x=1", "cube"])
def test_identifiers_are_checked(bench: Bench, identifier: str) -> None:
    bench.fake.images[0].identifier = identifier
    with pytest.raises(DataError, match=r"obs_publisher_did .* expected such as cube-1170"):
        bench.listing()
    with pytest.raises(DataError, match="expected an identifier of CASDA"):
        bench.bring()


@pytest.mark.parametrize("ending", ["OVERFLOW", "ERROR"])
def test_a_list_that_is_cut_or_breaks_off_is_no_list(bench: Bench, ending: str) -> None:
    bench.fake.tap_ending = ending
    with pytest.raises(DataError, match=f"CASDA.*{ending}") as raised:
        bench.listing()
    record_outcome("casda", "listing", f"{ending} after the table", raised.value)


def test_a_refused_question_is_quoted(bench: Bench) -> None:
    with pytest.raises(ServiceError, match=r"UsageFault: no such column: x.*SELECT o\.obs_pub"):
        bench.listing(where="x = 1")


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_of_the_listing(bench: Bench, fault: str) -> None:
    right = bench.listing()
    bench.spoil(fault, "/tap/sync")
    try:
        listed = bench.listing()
    except DataError as error:
        assert str(error).startswith("CASDA")
        record_outcome("casda", "listing", fault, error)
    else:
        assert listed == right
        record_outcome("casda", "listing", fault, "right list")


# -- login --------------------------------------------------------------------------------------


class Keys:
    """A keyring with some entries."""

    def __init__(self, *entries: tuple[str, str, str], error: Exception | None = None) -> None:
        self.entries, self.error = entries, error

    def get_credential(self, service: str, user: str | None) -> Any:
        if self.error:
            raise self.error
        for name, owner, password in self.entries:
            if name == service and user in (None, owner):
                return keyring.credentials.SimpleCredential(owner, password)
        return None


@pytest.mark.parametrize(
    ("entries", "user", "found"),
    [
        ([("stradavit:opal", "a@b", "p")], "a@b", ("a@b", "p")),
        ([("stradavit:opal", "a@b", "p")], None, ("a@b", "p")),
        ([("astroquery:casda.csiro.au", "a@b", "q")], "a@b", ("a@b", "q")),
        ([("stradavit:opal", "c@d", "p")], "a@b", None),
        ([], None, None),
    ],
)
def test_a_keyring_fills_what_the_environment_leaves_open(
    monkeypatch: pytest.MonkeyPatch,
    entries: list[tuple[str, str, str]],
    user: str | None,
    found: tuple[str, str] | None,
) -> None:
    monkeypatch.delenv(OPAL_PASSWORD)
    monkeypatch.delenv(OPAL_USER)
    if user:
        monkeypatch.setenv(OPAL_USER, user)
    monkeypatch.setattr(keyring, "get_credential", Keys(*entries).get_credential)
    if found:
        assert opal_login().auth == found
    else:
        with pytest.raises(DataError, match="the keyring has nothing for stradavit:opal"):
            opal_login()


def test_the_environment_goes_before_the_keyring(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyring, "get_credential", Keys(error=RuntimeError()).get_credential)
    assert opal_login().auth == (USER, PASSWORD)
    assert PASSWORD not in repr(opal_login()) and USER not in repr(opal_login())


def test_a_keyring_that_fails_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(OPAL_PASSWORD)
    locked = Keys(error=keyring.errors.KeyringError("locked"))
    monkeypatch.setattr(keyring, "get_credential", locked.get_credential)
    with pytest.raises(DataError, match=rf"{OPAL_PASSWORD} is not set; the keyring cannot be read"):
        opal_login()
    monkeypatch.setitem(sys.modules, "keyring", None)
    with pytest.raises(DataError, match="`keyring` is not installed"):
        opal_login()


def test_without_login_nothing_is_asked(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(OPAL_USER)
    monkeypatch.delenv(OPAL_PASSWORD)
    monkeypatch.setattr(keyring, "get_credential", Keys().get_credential)
    with pytest.raises(DataError, match=rf"{OPAL_USER} and {OPAL_PASSWORD} is not set.*Register"):
        bench.bring()
    assert not bench.server.requests


def test_a_wrong_password_is_tried_once(bench: Bench) -> None:
    bench.fake.password = "another"
    with pytest.raises(DataError, match=r"CASDA refuses the OPAL login \(401\)") as raised:
        bench.bring()
    assert len(bench.server.requests) == 1
    no_secret(bench.fake, raised.value)
    record_outcome("casda", "login", "wrong password (401)", raised.value)


def test_a_service_that_is_closed_is_named(bench: Bench) -> None:
    bench.fake.is_available = False
    with pytest.raises(DataError, match="not available \\(back on Monday\\)"):
        bench.bring()


def test_settings_take_no_password() -> None:
    with pytest.raises(SettingsError, match="password: unknown key"):
        CasdaSurvey.parse({"source": "casda", "password": ""})


# -- staging and files --------------------------------------------------------------------------


def test_files_are_staged_fetched_and_checked(bench: Bench) -> None:
    outcomes = bench.bring()
    assert all(bench.right(outcome) for outcome in outcomes.values())
    assert len(bench.fake.jobs) == 1 and not bench.notes()
    journal = (bench.folder / ".journal.jsonl").read_text().splitlines()
    assert all(json.loads(line)["checksum"].startswith("sha1:") for line in journal)


def test_the_login_goes_to_the_proxy_only_and_tokens_into_bodies(bench: Bench) -> None:
    bench.bring()
    for request in bench.server.requests:
        assert ("authorization" in request.headers) == request.path.startswith("/proxy/")
        assert "tok-" not in request.target


def test_nothing_is_staged_or_asked_twice(bench: Bench) -> None:
    bench.bring()
    del bench.server.requests[:]
    assert bench.states() == ["fetched"] * 3
    assert not bench.server.requests
    # One file lost: it alone is staged.
    next(bench.folder.glob("*cube-2.fits")).unlink()
    assert bench.states() == ["fetched"] * 3
    assert [[i.identifier for i in job.images] for job in bench.fake.jobs.values()][1:] == [
        ["cube-2"]
    ]


def test_jobs_hold_twenty_files_and_run_one_after_the_other(tmp_path: Path) -> None:
    made = Bench(FakeCasda(images(45)), tmp_path / "files")
    with made.server:
        assert made.states() == ["fetched"] * 45
    assert [len(job.images) for job in made.fake.jobs.values()] == [20, 20, 5]
    asked = [request.path for request in made.server.requests if request.method == "GET"]
    third = next(n for n, path in enumerate(asked) if list(made.fake.jobs)[2] in path)
    fetched = [n for n, path in enumerate(asked) if list(made.fake.jobs)[1] in path]
    assert max(fetched) < third


PHASES = {
    "at once": ("COMPLETED",),
    "suspended": ("QUEUED", "SUSPENDED", "SUSPENDED", "EXECUTING", "COMPLETED"),
    "held": ("QUEUED", "HELD", "UNKNOWN", "COMPLETED"),
    "long": ("QUEUED",) * 9 + ("EXECUTING",) * 9 + ("COMPLETED",),
}


@pytest.mark.parametrize("script", PHASES.values(), ids=PHASES)
def test_phases_that_are_waited_for(bench: Bench, script: tuple[str, ...]) -> None:
    bench.fake.scripts = [script]
    assert bench.states() == ["fetched"] * 3 and len(bench.fake.jobs) == 1
    record_outcome("casda", "staging", " ".join(dict.fromkeys(script)), "right file")


def test_an_aborted_job_is_named_and_forgotten(bench: Bench) -> None:
    bench.fake.scripts = [("QUEUED", "ABORTED"), USUAL]
    outcomes = bench.bring()
    assert {outcome.state for outcome in outcomes.values()} == {"failed"}
    assert "ABORTED" in outcomes["cube-1"].reason and not bench.notes()
    record_outcome("casda", "staging", "ABORTED", outcomes["cube-1"])
    assert bench.states() == ["fetched"] * 3


def test_a_job_in_error_is_made_again_in_halves(bench: Bench) -> None:
    bench.fake.images = images(8)
    bench.fake.bad_in_jobs = {"cube-7"}
    outcomes = bench.bring()
    assert [len(job.images) for job in bench.fake.jobs.values()] == [8, 4, 4]
    assert [n for n in range(1, 9) if outcomes[f"cube-{n}"].state == "fetched"] == [1, 2, 3, 4]
    reason = outcomes["cube-7"].reason
    assert outcomes["cube-7"].state == "failed"
    assert "ended in ERROR: Could not stage … of the archive" in reason
    no_secret(bench.fake, *outcomes.values())
    record_outcome("casda", "staging", "ERROR with a reason", outcomes["cube-7"])
    # Later calls corner the bad one.
    bench.bring()
    last = bench.bring()
    assert [key for key, outcome in last.items() if outcome.state != "fetched"] == ["cube-7"]
    assert last["cube-7"].state == "refused" and not bench.notes()


def test_a_job_that_is_gone_meanwhile_is_made_again_once(bench: Bench) -> None:
    bench.fake.scripts = [("QUEUED", "EXECUTING", "GONE"), USUAL]
    assert bench.states() == ["fetched"] * 3 and len(bench.fake.jobs) == 2


def test_a_job_that_is_gone_again_fails(bench: Bench) -> None:
    bench.fake.scripts = [("QUEUED", "GONE")]
    outcomes = bench.bring()
    assert len(bench.fake.jobs) == 2 and not bench.notes()
    assert outcomes["cube-1"].state == "failed" and "any more" in outcomes["cube-1"].reason
    record_outcome("casda", "staging", "410 while it is waited for, twice", outcomes["cube-1"])


def test_a_job_that_takes_too_long_is_taken_up_by_the_next_call(bench: Bench) -> None:
    usual, bench.archives = bench.archives, impatient(bench.fake.urls(), job_timeout_h=1e-9)
    bench.fake.images = images(30)
    outcomes = bench.bring()
    assert {outcome.state for outcome in outcomes.values()} == {"failed"}
    assert "still PENDING after 1e-09 h" in outcomes["cube-1"].reason
    assert "not asked for, since CASDA fails" in outcomes["cube-30"].reason
    assert len(bench.fake.jobs) == len(bench.notes()) == 1
    record_outcome("casda", "staging", "longer than archives.job_timeout_h", outcomes["cube-1"])
    bench.archives = usual
    assert bench.states() == ["fetched"] * 30
    assert [len(job.images) for job in bench.fake.jobs.values()] == [20, 10] and not bench.notes()


@pytest.mark.parametrize("step", ["wait_for_job", "read_sidecar", "fetch"])
def test_a_call_that_was_killed_leaves_its_job_to_the_next(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    class KilledError(Exception):
        """As good as a signal: nothing catches it."""

    def die(*_: object) -> Any:
        raise KilledError

    with monkeypatch.context() as patched:
        patched.setattr(casda_staging, step, die)
        with pytest.raises(KilledError):
            bench.bring()
    assert len(bench.notes()) == 1
    assert bench.states() == ["fetched"] * 3
    assert len(bench.fake.jobs) == 1 and not bench.notes()


def test_a_download_that_fails_leaves_its_job_to_the_next_call(bench: Bench) -> None:
    bench.spoil("503forever", "/download/")
    assert bench.states() == ["failed"] * 3
    assert len(bench.notes()) == 1
    bench.server.app = bench.fake
    assert bench.states() == ["fetched"] * 3
    assert len(bench.fake.jobs) == 1 and not bench.notes()


@pytest.mark.parametrize("ending", ["gone", "past", "error"])
def test_a_job_of_an_earlier_call_that_is_over_is_replaced(bench: Bench, ending: str) -> None:
    bench.spoil("503forever", "/download/")
    bench.bring()
    (job,) = bench.fake.jobs.values()
    bench.server.app = bench.fake
    if ending == "gone":
        job.is_gone = True
    elif ending == "error":
        job.phase = "ERROR"
    else:
        job.destruction = "2020-01-01T00:00:00.000+0000"
    assert bench.states() == ["fetched"] * 3
    assert len(bench.fake.jobs) == 2 and not bench.notes()


def test_old_notes_are_deleted(bench: Bench) -> None:
    note_job(bench.folder, KnownJob("j", bench.archives.urls.casda_data, ("cube-1",)))
    (note,) = bench.notes()
    os.utime(note, (0, 0))
    assert not known_jobs(bench.folder, bench.archives.urls.casda_data) and not bench.notes()


def test_notes_of_others_are_passed_over(bench: Bench) -> None:
    (bench.folder / NOTES).mkdir(parents=True)
    (bench.folder / NOTES / "torn.json").write_text('{"job": ')
    (bench.folder / NOTES / "torn.json").chmod(0o600)
    note_job(bench.folder, KnownJob("../phase", bench.archives.urls.casda_data, ("cube-1",)))
    note_job(bench.folder, KnownJob("j", "https://elsewhere.example", ("cube-1",)))
    assert known_jobs(bench.folder, bench.archives.urls.casda_data) == []
    assert bench.states() == ["fetched"] * 3


def test_while_downloads_fail_no_more_is_staged(bench: Bench) -> None:
    bench.fake.images = images(30)
    bench.spoil("503forever", "/download/")
    outcomes = bench.bring()
    assert {outcome.state for outcome in outcomes.values()} == {"failed"}
    assert len(bench.fake.jobs) == 1
    assert "not asked for, since CASDA fails: answered 503" in outcomes["cube-30"].reason


def test_a_job_that_never_starts_is_given_up(bench: Bench) -> None:
    bench.spoil("html200", "/phase")
    outcomes = bench.bring()
    assert "still PENDING after 5 starts" in outcomes["cube-1"].reason
    assert outcomes["cube-1"].state == "failed" and len(bench.notes()) == 1
    record_outcome("casda", "staging", "a start that has no effect", outcomes["cube-1"])


def test_rows_without_rights_are_named_and_the_others_come(bench: Bench) -> None:
    bench.fake.denied, bench.fake.absent = {"cube-1"}, {"cube-2"}
    outcomes = bench.bring()
    assert [outcome.state for outcome in outcomes.values()] == ["refused", "refused", "fetched"]
    assert "permission to access" in outcomes["cube-1"].reason
    assert "NotFoundFault" in outcomes["cube-2"].reason
    assert [len(job.images) for job in bench.fake.jobs.values()] == [1]
    record_outcome("casda", "DataLink", "no permission for one of three", outcomes["cube-1"])


def test_datalink_without_tokens_is_refused(bench: Bench) -> None:
    bench.fake.knows_login = False
    outcomes = bench.bring()
    assert {outcome.state for outcome in outcomes.values()} == {"refused"}
    assert "as if nobody had logged in" in outcomes["cube-1"].reason and not bench.fake.jobs


def test_a_file_that_is_not_the_published_one_is_refused(bench: Bench) -> None:
    bench.fake.wrong_sums, bench.fake.odd_sums = {"cube-1"}, {"cube-2"}
    outcomes = bench.bring()
    assert [bench.right(outcome) for outcome in outcomes.values()] == [False, False, True]
    assert re.search(r"sha1.*staged anew in vain", outcomes["cube-1"].reason)
    assert "expected crc32, sha1 and size" in outcomes["cube-2"].reason
    # The two were staged anew, once.
    assert [len(job.images) for job in bench.fake.jobs.values()] == [3, 2]
    record_outcome("casda", "download", "checksum mismatch", outcomes["cube-1"])
    record_outcome("casda", "checksum file", "no checksum in it", outcomes["cube-2"])


def test_without_a_checksum_file_the_size_is_checked(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.fake.without_sums = {"cube-1"}
    assert bench.states() == ["fetched"] * 3
    assert "CASDA, cube-1: CASDA gave no checksum" in caplog.text


def test_a_text_in_place_of_an_image_is_refused(bench: Bench) -> None:
    bench.fake.trapped = {"cube-2"}
    outcomes = bench.bring()
    assert [bench.right(outcome) for outcome in outcomes.values()] == [True, False, True]
    assert outcomes["cube-2"].state == "refused"
    record_outcome("casda", "download", "200 with the text ServiceUnavailable", outcomes["cube-2"])


def test_a_file_the_job_did_not_bring_is_named(bench: Bench) -> None:
    bench.fake.not_brought = {"cube-3"}
    outcomes = bench.bring()
    assert outcomes["cube-3"].state == "refused" and "none for it" in outcomes["cube-3"].reason


def test_expired_links_are_staged_anew_once(bench: Bench) -> None:
    bench.fake.expired, bench.fake.without_sums = 1, {"cube-1", "cube-2", "cube-3"}
    assert bench.states() == ["fetched"] * 3 and len(bench.fake.jobs) == 2
    record_outcome("casda", "download", "link expired (403)", "right file, staged anew")


def test_links_that_expire_at_once_are_refused(bench: Bench) -> None:
    bench.fake.expired = 9
    outcomes = bench.bring()
    assert len(bench.fake.jobs) == 2 and not bench.notes()
    assert {outcome.state for outcome in outcomes.values()} == {"refused"}
    assert "403" in outcomes["cube-1"].reason
    no_secret(bench.fake, *outcomes.values())
    record_outcome(
        "casda", "download", "link expired (403), also of the second", outcomes["cube-1"]
    )


def test_signed_links_are_used_letter_by_letter(bench: Bench) -> None:
    bench.fake.is_signed = True
    assert bench.states() == ["fetched"] * 3
    (target, *_) = [r.target for r in bench.server.requests if r.path.startswith("/signed/")]
    assert "%2F" in target and "%3B%20filename%3D%22" in target and SIGNATURE in target


def test_a_signed_link_is_nowhere_when_it_fails(bench: Bench) -> None:
    bench.fake.is_signed = True
    bench.spoil("503forever", "/signed/")
    outcomes = bench.bring()
    assert {outcome.state for outcome in outcomes.values()} == {"failed"}
    no_secret(bench.fake, *outcomes.values())


def test_links_are_handed_on_as_secrets(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    handed: list[Remote] = []

    def fetch(web: Web, remotes: list[Remote], *_: object) -> list[Outcome]:
        handed.extend(remotes)
        return [Outcome(remote.name, "failed", "not now") for remote in remotes]

    monkeypatch.setattr(casda_staging, "fetch", fetch)
    bench.bring()
    assert len(handed) == 3 and all(remote.secret for remote in handed)


def test_a_job_that_is_not_taken_is_named_without_its_tokens(bench: Bench) -> None:
    bench.fake.takes_jobs = False
    outcomes = bench.bring()
    assert "it answered 400 (no such data product: " in outcomes["cube-1"].reason
    # Once whole, then in halves: the lone file is at fault itself.
    assert [outcome.state for outcome in outcomes.values()] == ["refused", "failed", "failed"]
    assert bench.server.count("/data/async") == 3
    no_secret(bench.fake, *outcomes.values())
    record_outcome("casda", "staging", "400 for the tokens", outcomes["cube-1"])


def test_a_manifest_that_names_a_file_twice_is_refused(bench: Bench) -> None:
    row = bench.rows()[0]
    with pytest.raises(DataError, match="cube-1 twice"):
        bench.bring([row, ManifestRow("other.fits", 0, row.location, None, "")])


STEPS = {
    "login": "/proxy/tap",
    "DataLink": "/proxy/datalink",
    "staging": "/data/async",
    "watching a job": "/data/async/",
    "checksum file": ".checksum",
    "download": "/download/",
}


@pytest.mark.parametrize("step", ["login", "DataLink", "staging"])
def test_one_page_in_place_of_an_answer_is_no_matter(bench: Bench, step: str) -> None:
    if step == "staging":
        bench.server.app = faulty(
            bench.fake, "html200", lambda r: r.method == "GET" and "async" in r.path, 1
        )
    else:
        bench.spoil("truncated", STEPS[step], 1)
    assert bench.states() == ["fetched"] * 3 and len(bench.fake.jobs) == 1


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("step", STEPS)
def test_faults(bench: Bench, step: str, fault: str) -> None:
    bench.spoil(fault, STEPS[step])
    try:
        outcomes = bench.bring()
    except DataError as error:
        assert "CASDA" in str(error)
        no_secret(bench.fake, error)
        record_outcome("casda", step, fault, error)
    else:
        for outcome in outcomes.values():
            assert bench.right(outcome) or outcome.reason
        no_secret(bench.fake, *outcomes.values())
        record_outcome("casda", step, fault, list(outcomes.values()))
    # Whatever it was: once it is over, the next call brings everything.
    bench.server.app = bench.fake
    assert all(bench.right(outcome) for outcome in bench.bring().values())


def test_from_the_question_to_the_ledger(bench: Bench, tmp_path: Path) -> None:
    bench.fake.denied = {"cube-2"}
    chosen = survey(collections=("EMU",), parts=2, allow_missing=1)
    assert PASSWORD not in chosen.to_json() + bench.archives.to_json()
    make_manifest("askap", chosen, tmp_path / "m.csv", bench.archives)
    found = []
    for part in range(2):
        ledger = tmp_path / "raw" / f"{part}.csv"
        acquire_part("askap", chosen, tmp_path / "m.csv", part, ledger, bench.archives)
        found += read_ledger(ledger)
    by_name = {product_name(i.identifier, i.filename): i.body for i in bench.fake.images}
    assert {row.product: row.path.read_bytes() for row in found} == {
        name: body for name, body in by_name.items() if "cube-2" not in name
    }
    (missing,) = read_missing(tmp_path / "raw" / "0.csv") + read_missing(tmp_path / "raw" / "1.csv")
    assert "cube-2" in missing[0] and missing[1] == "refused" and "permission" in missing[2]


# -- recorded answers ---------------------------------------------------------------------------


@pytest.fixture
def recorded(repository: Path) -> Path:
    shared = Path(os.environ.get("STRADAVIT_SHARED_DATA", repository.parent / "shared" / "data"))
    folder = shared / "archive-responses"
    if not (folder / "casda").is_dir():
        pytest.skip("no recorded answers: set STRADAVIT_SHARED_DATA to the folder that holds them")
    return folder


def test_recorded_jobs(recorded: Path) -> None:
    done = read_job((recorded / "casda" / "completed_job.xml").read_text())
    assert done.phase == "COMPLETED" and done.message == "" and done.destruction is None
    assert set(done.hrefs) == {"cube-244", "cube-244.checksum", "cube-245"}
    assert done.hrefs["cube-245"].endswith("%2Faws4_request&X-Amz-Signature=deadbeef1234567890")
    assert "deadbeef" not in repr(done)
    runs = read_job((recorded / "casda" / "run_job.xml").read_text())
    assert runs.phase == "EXECUTING" and not runs.hrefs
    failed = read_job((recorded / "vo-generic" / "uws" / "job-error.xml").read_text())
    assert (failed.phase, failed.message) == ("ERROR", "We have problem")
    other = read_job((recorded / "vo-generic" / "uws" / "job-with-empty-jobinfo.xml").read_text())
    assert other.phase == "COMPLETED" and other.destruction == datetime(2025, 6, 4, tzinfo=UTC)


def test_recorded_datalink(recorded: Path) -> None:
    def rows(name: str) -> Any:
        return read_votable((recorded / "casda" / f"{name}.xml").read_text(), "CASDA").rows

    link = link_in(rows("datalink"), "x")
    assert link.token == "cube-244" and link.bytes == 1_056_024_576
    assert link_in(rows("vo_tools_service.authenticated.released"), "x").token
    with pytest.raises(LinkError, match="you do not have permission"):
        link_in(rows("datalink_noaccess"), "x")
    with pytest.raises(LinkError, match="as if nobody had logged in"):
        link_in(rows("vo_tools_service.unauthenticated.released"), "x")
    with pytest.raises(ServiceError, match="TransientFault: Service is not currently able"):
        rows("vo_tools_service.error")


def test_recorded_obscore_rows(recorded: Path) -> None:
    rows = read_votable((recorded / "casda" / "partial_unreleased.xml").read_text(), "CASDA").rows
    assert [row["obs_publisher_did"] for row in rows] == ["cube-502", "cube-503", "cube-504"]
    assert [is_released(row["obs_release_date"], datetime.now(UTC)) for row in rows].count(True) > 0
    assert rows[0]["quality_level"] == "UNCERTAIN" and rows[0]["access_estsize"] == 415_027


def test_a_token_beside_an_error_is_none() -> None:
    said = "DefaultFault: file size exceeding 500 GB"
    row = {"service_def": "async_service", "authenticated_id_token": "t", "error_message": said}
    with pytest.raises(LinkError, match="exceeding 500 GB"):
        link_in([row], "x")
    assert link_in([row, row | {"error_message": ""}], "x").token == "t"


# -- answers nobody should send -----------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<html><body>moved</body></html>",
        "<uws:job",
        "<job><phase>COMPLETED</phase></job>",
        '<uws:job xmlns:uws="http://www.ivoa.net/xml/UWS/v1.0"/>',
        '<?xml version="1.0" encoding="x-none"?><a/>',
        # Pages of some gateways begin as XML.
        '<?xml version="1.0"?>\n<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0 Strict//EN"><html/>',
    ],
)
def test_no_job(text: str) -> None:
    with pytest.raises(JobError, match="staging job"):
        read_job(text)


def test_entities_in_a_job_are_refused() -> None:
    with pytest.raises(DataError, match="no archive has reason to send"):
        read_job('<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>')


def test_links_of_other_kinds_are_not_followed() -> None:
    job = read_job(
        '<u:job xmlns:u="http://www.ivoa.net/xml/UWS/v1.0" xmlns:x="http://www.w3.org/1999/xlink">'
        "<u:phase> completed </u:phase><u:results>"
        '<u:result id="cube-1" x:href="file:///etc/passwd"/><u:result id="cube-2" x:href="/a"/>'
        "</u:results></u:job>"
    )
    assert job.phase == "COMPLETED" and not job.hrefs


def test_a_checksum_file_is_three_hexadecimal_words() -> None:
    sha1 = "a" * 40
    assert read_sidecar(f"1a2b3c4d {sha1} 1680", "x") == (f"sha1:{sha1}", 5760)
    assert read_sidecar(f"1A2B3C4D {sha1.upper()} 1680\n", "x") == (f"sha1:{sha1}", 5760)
    for text in ("", f"1a2b3c4d {sha1}", f"1a2b3c4d {sha1} 16g0", f"{sha1} 1a2b3c4d 1680"):
        with pytest.raises(LinkError, match="expected crc32, sha1 and size"):
            read_sidecar(text, "x")
