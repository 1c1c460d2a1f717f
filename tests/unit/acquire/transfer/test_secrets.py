"""Passwords and pre-signed addresses: in no log, error, journal, ledger or foreign request."""

import base64
import logging
from pathlib import Path

import pytest

from stradavit.acquire.manifest import ManifestRow, write_manifest
from stradavit.acquire.transfer.fetch import Remote, fetch
from stradavit.acquire.transfer.missing import missing_path, settle
from stradavit.acquire.transfer.web import Web, WebError
from stradavit.errors import DataError
from tests.archives.faults import FAULTS, faulty
from tests.archives.server import Loopback, Reply, Request, files, impatient, redirect

PASSWORD, SIGNATURE = "hunter2-geheim", "X-Amz-Signature=c0ffee"
ENCODED = base64.b64encode(f"me:{PASSWORD}".encode()).decode()
SECRETS = (PASSWORD, "c0ffee", ENCODED, "secret-path")


def tells_a_secret(text: str) -> bool:
    """Whether a text holds any of them."""
    return any(secret in text for secret in SECRETS)


@pytest.mark.parametrize("fault", FAULTS)
def test_nothing_written_or_said_holds_a_secret(
    tmp_path: Path,
    fault: str,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG)
    table = tmp_path / "0.csv"
    with (
        Loopback(faulty(files({"/secret-path/a": b"x" * 100}), fault)) as server,
        Web(impatient(timeout_s=1.0)) as web,
    ):
        remote = Remote(
            "a",
            f"{server.url}/secret-path/a?{SIGNATURE}",
            secret=True,
            auth=("me", PASSWORD),
            checksum="crc32:00000000",
        )
        outcomes = fetch(web, [remote], tmp_path / "files", "test")
        assert server.requests[0].headers["authorization"] == f"Basic {ENCODED}"
        errors = []
        try:
            settle("test", outcomes, table, 0)
        except DataError as error:
            errors.append(error)
        try:
            web.text(remote.url, auth=("me", PASSWORD), secret=True)
        except WebError as error:
            errors.append(error)
            assert error.__cause__ is None
    written = "".join(path.read_text("latin1") for path in tmp_path.rglob("*") if path.is_file())
    said = capfd.readouterr()
    assert missing_path(table).exists()
    for text in (written, caplog.text, said.out, said.err, repr(remote), *map(str, errors)):
        assert not tells_a_secret(text)


def test_addresses_lose_query_and_user_even_if_not_secret(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    with Loopback(files({})) as server, Web(impatient()) as web:
        address = server.url.replace("//", f"//me:{PASSWORD}@")
        with pytest.raises(
            WebError, match=r"GET http://127\.0\.0\.1:\d+/a: answered 404"
        ) as caught:
            web.text(f"{address}/a?{SIGNATURE}")
    assert not tells_a_secret(str(caught.value) + caplog.text)


@pytest.mark.parametrize("is_other", [True, False])
def test_a_password_does_not_follow_to_another_host(tmp_path: Path, is_other: bool) -> None:
    def target(request: Request) -> Reply:
        return Reply(200, {}, request.headers.get("authorization", "none").encode())

    with Loopback(target) as other, Loopback(target) as server, Web(impatient()) as web:
        goal = f"{other.url if is_other else server.url}/b"
        server.app = lambda request: redirect(goal) if request.path == "/a" else target(request)
        remote = Remote("a", f"{server.url}/a", auth=("me", PASSWORD))
        (outcome,) = fetch(web, [remote], tmp_path, "test")
        assert outcome.path is not None
        assert (outcome.path.read_text() == "none") == is_other
        assert tells_a_secret(web.text(f"{server.url}/a", auth=("me", PASSWORD))) != is_other


def test_a_manifest_holds_no_address(tmp_path: Path) -> None:
    write_manifest(tmp_path / "m.csv", [ManifestRow("a", 0, "cube-7", 5, "sha1:" + "0" * 40)])
    assert "http" not in (tmp_path / "m.csv").read_text()
