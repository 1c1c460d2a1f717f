"""SARDet-100K from Kaggle: one archive file of a pinned version, verified and unpacked safely.

Plain requests through the transfer layer, not kagglehub: that client is no dependency of ours, and
keeps archive and unpacked copy in a cache of its own, twice the size on another disk.
"""

import base64
import binascii
import json
import logging
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stradavit.acquire.archives.sardet import SardetCopy, read_copy
from stradavit.acquire.transfer.archive_files import unpack
from stradavit.acquire.transfer.fetch import Outcome, Remote, fetch
from stradavit.acquire.transfer.web import Answer, Web, WebError
from stradavit.errors import DataError
from stradavit.files import write_json
from stradavit.settings.archives import ArchiveSettings

logger = logging.getLogger(__name__)

SARDET = "greatbird/sardet-100k"
DATASET = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
REMEDY = (
    "Or download it by hand from its page at Kaggle (or a mirror), and name the folder that holds "
    "Annotations and JPEGImages as the local copy."
)


@dataclass(frozen=True)
class Download:
    """What Kaggle says of one version of a data set before it is fetched."""

    dataset: str
    version: int
    url: str
    params: tuple[tuple[str, str], ...]
    bytes: int | None
    checksum: str


def acquire_sardet(
    archives: ArchiveSettings,
    out_path: Path,
    local: Path | None = None,
    version: int | None = None,
    dataset: str = SARDET,
) -> SardetCopy:
    """Bring SARDet-100K to this disk, or take a copy that is there, and write what it holds.

    Parameters
    ----------
    archives : how often to try, and where Kaggle is
    out_path : JSON to write: the images' folder, the annotation files, categories and counts; a
        download is unpacked into `version-<n>/` beside it
    local : folder of a copy in either of its layouts; nothing is downloaded then
    version : of the data set at Kaggle; its current one, which is written down, if absent
    dataset : owner/name at Kaggle

    Raises
    ------
    DataError
        If Kaggle wants a login or consent, cannot be reached, sends something else than it
        promised, or the copy lacks images or annotations.
    """
    out_path = Path(out_path)
    source: dict[str, Any]
    if local is not None:
        copy, source = read_copy(Path(local).expanduser()), {"local": str(local)}
    else:
        folder = out_path.absolute().parent
        source = download(archives, dataset, version, folder)
        copy = read_copy(unpacked(folder, source["version"]))
    for warning in copy.warnings:
        logger.warning("%s: %s", copy.root, warning)
    write_json(out_path, {"source": source, **copy.to_json()})
    return copy


def download(
    archives: ArchiveSettings, dataset: str, version: int | None, folder: Path
) -> dict[str, Any]:
    """Fetch a data set into `folder`, unpack it into `version-<n>/`, and say which version it is.

    The archive file is deleted once it is unpacked; a note beside the unpacked copy keeps a second
    call from fetching it again, and a second call that names the version from asking at all.
    """
    with _telling(dataset), Web(archives) as web:
        auth = read_credentials()
        version = version or current_version(web, archives.urls.kaggle, dataset, auth)
        note_path = folder / f"version-{version}.json"
        note = _read_note(note_path)
        is_here = unpacked(folder, version).is_dir()
        if is_here and note is not None and note["dataset"] == dataset:
            logger.info("%s, version %d: is here already", dataset, version)
            return note
        wanted = locate(web, archives.urls.kaggle, dataset, version, auth)
        name = f"{dataset.replace('/', '-')}-{version}.zip"
        remote = Remote(
            name=name,
            url=wanted.url,
            params=wanted.params,
            bytes=wanted.bytes,
            checksum=wanted.checksum,
            content="zip",
            auth=auth,
        )
        (outcome,) = fetch(web, [remote], folder, dataset)
    if outcome.state != "fetched" or outcome.path is None:
        raise DataError(_not_fetched(dataset, version, outcome))
    unpack(outcome.path, unpacked(folder, version), archives)
    note = {
        "dataset": dataset,
        "version": version,
        "bytes": outcome.bytes,
        "sha256": outcome.sha256,
        "published": wanted.checksum,
    }
    write_json(note_path, note)
    outcome.path.unlink()
    return note


@contextmanager
def _telling(dataset: str) -> Iterator[None]:
    """Says of what breaks down which data set it was, and how to do without Kaggle."""
    try:
        yield
    except WebError as error:
        raise DataError(f"Kaggle, {dataset}: {error} {REMEDY}") from error


def unpacked(folder: Path, version: int) -> Path:
    """Where `download` unpacks a version."""
    return folder / f"version-{version}"


def current_version(web: Web, kaggle: str, dataset: str, auth: tuple[str, str] | None) -> int:
    """The newest version of a data set."""
    if not DATASET.fullmatch(dataset) or ".." in dataset:
        raise DataError(f"{dataset!r} is no name of a Kaggle data set; expected owner/name.")
    url = f"{kaggle}/api/v1/datasets/view/{dataset}"
    answer = web.answer("GET", url, auth=auth)
    if answer.status != 200:
        raise DataError(_refusal(answer, dataset, auth is not None))
    try:
        version = json.loads(answer.text)["currentVersionNumber"]
        if not isinstance(version, int) or version < 1:
            raise ValueError(f"the version {version!r}")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(
            f"{url}: answers with {answer.text[:60]!r}; expected JSON with currentVersionNumber "
            f"({error!r}). Check archives.urls.kaggle. {REMEDY}"
        ) from error
    return version


def locate(
    web: Web, kaggle: str, dataset: str, version: int, auth: tuple[str, str] | None
) -> Download:
    """Size and MD5 digest of a version's archive file, by asking for its first byte.

    A HEAD would not do: the address Kaggle redirects to is signed for GET.
    """
    url = f"{kaggle}/api/v1/datasets/download/{dataset}"
    params = (("dataset_version_number", str(version)),)
    one_byte = {"Range": "bytes=0-0"}
    try:
        answer = web.answer("GET", url, params=params, auth=auth, headers=one_byte)
    except WebError as error:
        if error.status != 200:
            raise
        # It sends everything instead of one byte: its headers say as much.
        with web.stream("GET", url, params=params, auth=auth, headers=one_byte) as response:
            answer = Answer(response.status_code, response.headers, "", "")
    if answer.status not in (200, 206):
        raise DataError(_refusal(answer, dataset, auth is not None))
    if "html" in answer.headers.get("content-type", ""):
        raise DataError(
            f"Kaggle answers with a page instead of the archive file of {dataset}, version "
            f"{version}. It may want a login: set KAGGLE_USERNAME and KAGGLE_KEY. {REMEDY}"
        )
    size = None
    if answer.status == 206:
        found = re.fullmatch(r"bytes 0-0/(\d+)", answer.headers.get("content-range", ""))
        size = int(found[1]) if found else None
    elif answer.headers.get("content-length", "").isdecimal():
        size = int(answer.headers["content-length"])
    checksum = google_md5(answer.headers.get("x-goog-hash", ""))
    if not checksum:
        logger.warning(
            "%s: Kaggle publishes no MD5 digest of version %d; only its size and the checksums in "
            "the archive file guard it",
            *(dataset, version),
        )
    return Download(dataset, version, url, params, size, checksum)


def google_md5(header: str) -> str:
    """The MD5 digest in `X-Goog-Hash` as `md5:<hex>`; empty if it holds none."""
    for item in header.split(","):
        kind, _, value = item.strip().partition("=")
        if kind.lower() == "md5":
            try:
                digest = base64.b64decode(value, validate=True)
            except binascii.Error:
                return ""
            return f"md5:{digest.hex()}" if len(digest) == 16 else ""
    return ""


def read_credentials() -> tuple[str, str] | None:
    """User and key from KAGGLE_USERNAME and KAGGLE_KEY, or from kaggle.json; None without any.

    Raises
    ------
    DataError
        If only one of them is set, or the file is damaged or readable by others.
    """
    user, key = os.environ.get("KAGGLE_USERNAME", ""), os.environ.get("KAGGLE_KEY", "")
    if user and key:
        return user, key
    if user or key:
        raise DataError(
            f"{'KAGGLE_USERNAME' if user else 'KAGGLE_KEY'} is set, but not "
            f"{'KAGGLE_KEY' if user else 'KAGGLE_USERNAME'}: set both, or neither."
        )
    folder = os.environ.get("KAGGLE_CONFIG_DIR")
    path = (Path(folder) if folder else Path.home() / ".kaggle") / "kaggle.json"
    try:
        mode = path.stat().st_mode
    except OSError:
        return None
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise DataError(
            f"{path}: is open to other users (mode {stat.S_IMODE(mode):o}); it holds "
            f"a key. Run `chmod 600 {path}`."
        )
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        user, key = values["username"], values["key"]
        if not (isinstance(user, str) and isinstance(key, str) and user and key):
            raise ValueError
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        # Nothing of the file or of the parser's complaint is shown: both could hold the key.
        raise DataError(
            f"{path}: holds no `username` and `key` in JSON. Download it again from the page of "
            "your Kaggle account, or set KAGGLE_USERNAME and KAGGLE_KEY."
        ) from None
    return user, key


def _read_note(path: Path) -> dict[str, Any] | None:
    try:
        note = json.loads(path.read_text(encoding="utf-8"))
        return note if {"dataset", "version"} <= note.keys() else None
    except (OSError, ValueError, AttributeError):
        return None


def _refusal(answer: Answer, dataset: str, has_login: bool) -> str:
    if answer.status in (401, 403):
        login = (
            "its login was refused, or its terms are not accepted"
            if has_login
            else "it wants a login or consent to its terms, and no credentials were found"
        )
        return (
            f"Kaggle does not give {dataset} (status {answer.status}): {login}. Accept the terms "
            "on its page, set KAGGLE_USERNAME and KAGGLE_KEY (or keep ~/.kaggle/kaggle.json), and "
            f"run again. {REMEDY}"
        )
    if answer.status == 404:
        return f"Kaggle has no data set or version of {dataset} (status 404). {REMEDY}"
    return f"Kaggle answers {answer.status} for {dataset}; expected 200 or 206. {REMEDY}"


def _not_fetched(dataset: str, version: int, outcome: Outcome) -> str:
    again = "Run again: what has come is kept." if outcome.state == "failed" else ""
    return f"{dataset}, version {version}: {outcome.state}: {outcome.reason}. {again} {REMEDY}"
