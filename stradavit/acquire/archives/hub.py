"""Models of the Hugging Face hub: config, preprocessor and safetensors of one commit.

They come by the transfer layer, not by huggingface_hub, because that client checks no hash on the
plain path and reads its endpoint, time-outs and Xet switch once, at import: one listing and three
verified files are less than checking up on it. Its cache is read, though, so that a model which is
on this disk already, or was brought to a machine without network, is not fetched again.
"""

import hashlib
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from stradavit.acquire.archives.hub_api import (
    COMMIT,
    SHA256,
    HubFile,
    HubWeb,
    commit_of,
    describe_refusal,
    files_of,
)
from stradavit.acquire.transfer.fetch import Content, Outcome, Remote, fetch
from stradavit.acquire.transfer.web import Web, WebError
from stradavit.errors import DataError
from stradavit.files import read_json, sha256_of, write_json
from stradavit.settings.archives import ArchiveSettings

logger = logging.getLogger(__name__)

WEIGHTS = "model.safetensors"
WANTED: dict[str, Content] = {
    "config.json": "json",
    "preprocessor_config.json": "json",
    WEIGHTS: "safetensors",
}
RECORD = "hub.json"
BLOCK = 1 << 20
REPO = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


@dataclass(frozen=True)
class HubModel:
    """A model on this disk: where, of which commit, and the SHA-256 digest of each file."""

    repo: str
    commit: str
    folder: Path
    files: Mapping[str, str]


def fetch_model(repo: str, revision: str, archives: ArchiveSettings, folder: Path) -> HubModel:
    """Bring a model to this disk, or find it there.

    Parameters
    ----------
    repo : such as facebook/vit-mae-base
    revision : a commit (40 hex digits), or a branch or tag, which is resolved to one
    archives : how often to try, and where the hub is
    folder : a folder named by the commit is made in it; a pinned model in it needs no request

    Raises
    ------
    DataError
        If the hub has no such model or revision, wants a login, cannot be reached, or a file is
        missing or differs from its published digest.
    """
    if not REPO.fullmatch(repo) or ".." in repo:
        raise DataError(
            f"{repo!r} is no name of a hub model; expected such as facebook/dinov2-base"
        )
    is_pinned = COMMIT.fullmatch(revision) is not None
    if is_pinned and (found := find_model(repo, revision, folder)):
        return found
    if _is_offline():
        found = find_model(repo, revision, folder)
        if found is None:
            raise DataError(
                _not_downloaded(repo, revision, "HF_HUB_OFFLINE is set and the cache lacks it")
            )
        return found
    try:
        with HubWeb(archives) as web:
            return _download(web, archives.urls.hub, repo, revision, folder)
    except WebError as error:
        if error.is_permanent:
            raise
        found = find_model(repo, revision, folder)
        if found is None:
            raise DataError(_not_downloaded(repo, revision, str(error))) from error
        logger.warning(
            "%s: the hub did not answer (%s); going on with commit %s from this disk, which may "
            "not be the newest of %s",
            *(repo, error, found.commit, revision),
        )
        return found


def _download(web: Web, hub: str, repo: str, revision: str, folder: Path) -> HubModel:
    commit = commit_of(web, hub, repo, revision)
    if commit != revision:
        logger.info("%s: %s is commit %s; pin it by `revision: %s`", repo, revision, commit, commit)
    listed = files_of(web, hub, repo, commit)
    missing = [name for name in WANTED if name not in listed]
    if missing:
        raise DataError(_missing(repo, commit, missing, sorted(listed)))
    if (cached := _in_cache(repo, commit)) and _same(cached, listed):
        logger.info("%s: found in the cache of huggingface_hub", repo)
        return cached
    target = folder / commit
    remotes = [_remote(f"{hub}/{repo}/resolve/{commit}", listed[name]) for name in WANTED]
    outcomes = fetch(web, remotes, target, repo)
    for outcome in outcomes:
        if outcome.state != "fetched":
            raise _refused(web, hub, repo, commit, outcome)
    files = {outcome.name: outcome.sha256 for outcome in outcomes}
    write_json(
        target / RECORD,
        {"repo": repo, "revision": revision, "commit": commit, "files": files},
    )
    return HubModel(repo, commit, target, files)


def _remote(base: str, file: HubFile) -> Remote:
    return Remote(
        name=file.name,
        url=f"{base}/{file.name}",
        bytes=file.bytes,
        checksum=f"sha256:{file.sha256}" if file.sha256 else "",
        content=WANTED[file.name],
        verify=None if file.sha256 else lambda path: _git_fault(path, file.git_sha1),
    )


def _git_fault(path: Path, git_sha1: str) -> str | None:
    """Why a small file is not the one git names so; the hub publishes no other digest of it."""
    hasher = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb") as opened:
        while block := opened.read(BLOCK):
            hasher.update(block)
    found = hasher.hexdigest()
    return None if found == git_sha1 else f"its git object is {found}, the hub lists {git_sha1}"


def _refused(web: Web, hub: str, repo: str, commit: str, outcome: Outcome) -> DataError:
    """The error for a file that did not come, with the hub's own reason if it gives one."""
    url = f"{hub}/{repo}/resolve/{commit}/{outcome.name}"
    if outcome.state == "refused":
        try:
            answer = web.answer("HEAD", url, follow=False)
        except WebError:
            pass
        else:
            if answer.status in (401, 403, 404) or "x-error-code" in answer.headers:
                return DataError(describe_refusal(answer, repo, commit, url))
    return DataError(_not_downloaded(repo, commit, f"{outcome.name}: {outcome.reason}"))


def _missing(repo: str, commit: str, missing: list[str], listed: list[str]) -> str:
    message = (
        f"{repo} at {commit}: has no {' and no '.join(missing)}; its files are "
        f"{', '.join(listed[:20]) or 'none'}."
    )
    pickles = [name for name in listed if name.endswith((".bin", ".pt", ".pth", ".ckpt"))]
    if WEIGHTS in missing and pickles:
        return (
            f"{message} {pickles[0]} is a pickle, which may run code, and is never loaded from the "
            "hub. Choose a revision with safetensors, or convert it yourself and use "
            "`source: local`."
        )
    return f"{message} Choose a revision that has them, or complete a folder for `source: local`."


def _not_downloaded(repo: str, revision: str, reason: str) -> str:
    return (
        f"{repo} at {revision} could not be downloaded from the Hugging Face hub: "
        f"{reason.rstrip('.')}. Where there is no network, download the folder on another machine "
        f"({', '.join(WANTED)}), copy it here, and write `source: local` with its `path`."
    )


# -- what is on this disk -------------------------------------------------------------------------


def find_model(repo: str, revision: str, folder: Path) -> HubModel | None:
    """A whole model on this disk: fetched before, or in the cache of huggingface_hub."""
    records = Path(folder).glob(f"*/{RECORD}")
    for path in sorted(records, key=lambda path: path.stat().st_mtime, reverse=True):
        try:
            record = read_json(path)
            known = repo == record["repo"] and revision in (record["commit"], record["revision"])
            digests = {name: str(record["files"][name]) for name in WANTED}
            if known and all(sha256_of(path.parent / n) == d for n, d in digests.items()):
                return HubModel(repo, str(record["commit"]), path.parent, digests)
        except (OSError, ValueError, KeyError, TypeError) as error:
            logger.warning("%s: not used (%s)", path, error)
    return _in_cache(repo, revision)


def _in_cache(repo: str, revision: str) -> HubModel | None:
    from huggingface_hub import constants, try_to_load_from_cache

    digests: dict[str, str] = {}
    snapshot = Path()
    for name in WANTED:
        path = try_to_load_from_cache(repo, name, constants.HF_HUB_CACHE, revision)
        if not isinstance(path, str) or not Path(path).is_file():
            return None
        digests[name] = sha256_of(Path(path))
        snapshot = Path(path).parent
        # The cache names the content of large files by its digest.
        blob = Path(path).resolve().name
        if SHA256.fullmatch(blob) and blob != digests[name]:
            logger.warning("%s: damaged, its digest is %s; not used", path, digests[name])
            return None
    return HubModel(repo, snapshot.name, snapshot, digests)


def _same(model: HubModel, listed: Mapping[str, HubFile]) -> bool:
    """Whether a model on disk is what the hub lists."""
    for name in WANTED:
        file = listed[name]
        if file.sha256 and file.sha256 != model.files[name]:
            return False
        if not file.sha256 and _git_fault(model.folder / name, file.git_sha1):
            return False
    return True


def _is_offline() -> bool:
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)
