"""What the Hugging Face hub says: commits, listings with digests, and why it refuses."""

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Unpack
from urllib.parse import quote, urljoin, urlsplit

import httpx2 as httpx

from stradavit.acquire.transfer.web import Answer, Options, Web
from stradavit.errors import DataError
from stradavit.settings.archives import ArchiveSettings

COMMIT = re.compile(r"[0-9a-f]{40}")
SHA256 = re.compile(r"[0-9a-f]{64}")
# The seconds until more may be asked, in the hub's own header: "api";r=0;t=55
RESET = re.compile(r"\br=0\s*;\s*t=(\d+)")
MAX_PAGES = 50


@dataclass(frozen=True)
class HubFile:
    """A file as the listing of a commit gives it: its SHA-256 if it is large, else its git name."""

    name: str
    bytes: int
    sha256: str
    git_sha1: str


class HubWeb(Web):
    """Requests that carry the user's token, from HF_TOKEN only, to the hub and nowhere else."""

    def __init__(self, archives: ArchiveSettings) -> None:
        super().__init__(archives)
        self._hub = urlsplit(archives.urls.hub)[:2]
        token = os.environ.get("HF_TOKEN", "").strip()
        scheme, host = self._hub[0], urlsplit(archives.urls.hub).hostname
        # In the clear it would be anybody's; a local server is not reached over a network.
        is_private = scheme == "https" or host in ("127.0.0.1", "localhost", "::1")
        is_plain = token.isascii() and token.isprintable() and " " not in token
        self._login = f"Bearer {token}" if token and is_private and is_plain else ""

    @contextmanager
    def stream(self, method: str, url: str, **options: Unpack[Options]) -> Iterator[httpx.Response]:
        """As `Web.stream`; the client drops the token when it is redirected to another host."""
        if self._login and urlsplit(url)[:2] == self._hub:
            options["headers"] = {**(options.get("headers") or {}), "Authorization": self._login}
        with super().stream(method, url, **options) as response:
            reset = RESET.search(response.headers.get("RateLimit", ""))
            if response.status_code == 429 and reset and "Retry-After" not in response.headers:
                response.headers["Retry-After"] = reset[1]
            yield response


def commit_of(web: Web, hub: str, repo: str, revision: str) -> str:
    """The commit a revision stands for.

    Raises
    ------
    DataError
        If there is no such model or revision, it wants a login, or the answer names no commit.
    """
    url = f"{hub}/api/models/{repo}/revision/{quote(revision, safe='')}"
    answer = _ask(web, url, repo, revision)
    commit = _parsed(answer, url).get("sha")
    if not isinstance(commit, str) or not COMMIT.fullmatch(commit):
        raise DataError(
            f"{url}: the answer names the commit {commit!r}; expected `sha` with 40 hex digits. "
            "Check that archives.urls.hub is a Hugging Face hub."
        )
    if COMMIT.fullmatch(revision) and commit != revision:
        raise DataError(
            f"{url}: answers with commit {commit}, but {revision} was asked for. Not fetched: a "
            "pinned model must not change. Check archives.urls.hub, which may be a poor mirror."
        )
    return commit


def files_of(web: Web, hub: str, repo: str, commit: str) -> dict[str, HubFile]:
    """The files at the top of a commit, by name, with their sizes and digests."""
    url: str | None = f"{hub}/api/models/{repo}/tree/{commit}?recursive=false&expand=false"
    files: dict[str, HubFile] = {}
    for _ in range(MAX_PAGES):
        assert url is not None
        answer = _ask(web, url, repo, commit)
        entries = _parsed(answer, url, list)
        for entry in entries:
            file = _listed_file(entry, url)
            if file is not None:
                files[file.name] = file
        url = _next_page(answer, url)
        if url is None:
            return files
    raise DataError(
        f"{hub}: the listing of {repo} does not end after {MAX_PAGES} pages; expected one. Check "
        "archives.urls.hub."
    )


def _listed_file(entry: Any, url: str) -> HubFile | None:
    try:
        if entry["type"] != "file" or "/" in entry["path"]:
            return None
        large = entry.get("lfs") or {}
        sha256 = str(large.get("oid", "")).removeprefix("sha256:").lower()
        size = large.get("size", entry["size"])
        file = HubFile(str(entry["path"]), int(size), sha256, str(entry["oid"]).lower())
        is_named = SHA256.fullmatch(file.sha256) if file.sha256 else COMMIT.fullmatch(file.git_sha1)
        if file.bytes < 0 or not is_named:
            raise ValueError("no digest")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(
            f"{url}: lists {str(entry)[:120]!r}; expected type, path, size and oid ({error!r}). "
            "Check that archives.urls.hub is a Hugging Face hub."
        ) from error
    return file


def _next_page(answer: Answer, url: str) -> str | None:
    found = re.search(r'<([^>]+)>\s*;\s*rel="?next"?', answer.headers.get("link", ""))
    if found is None:
        return None
    following: str = urljoin(url, found[1])
    # The login goes with the request, so the list must not lead it elsewhere.
    if urlsplit(following)[:2] != urlsplit(url)[:2]:
        raise DataError(f"{url}: the next page of the listing is on another host; not followed.")
    return following


def _ask(web: Web, url: str, repo: str, revision: str) -> Answer:
    answer = web.answer("GET", url)
    if answer.status != 200:
        raise DataError(describe_refusal(answer, repo, revision, url))
    return answer


def _parsed(answer: Answer, url: str, kind: type = dict) -> Any:
    try:
        value = json.loads(answer.text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise DataError(
            f"{url}: answers with {answer.text[:60]!r}; expected JSON ({error}). A proxy or a "
            "login page may stand between; check archives.urls.hub."
        ) from error
    if not isinstance(value, kind):
        raise DataError(
            f"{url}: answers with a {type(value).__name__}; expected a {kind.__name__}. Check that "
            "archives.urls.hub is a Hugging Face hub."
        )
    return value


def describe_refusal(answer: Answer, repo: str, revision: str, url: str) -> str:
    """What the hub's status and its `X-Error-Code` mean, and what to do."""
    code = answer.headers.get("x-error-code", "")
    has_token = bool(os.environ.get("HF_TOKEN"))
    if "invalid credentials" in answer.headers.get("x-error-message", "").lower():
        return (
            f"{repo}: the hub refuses the token in HF_TOKEN. Make a new one at the hub, or unset "
            "HF_TOKEN: public models need none."
        )
    if code == "GatedRepo" or (answer.status == 403 and not code):
        return (
            f"{repo} at {revision}: access is granted on request only (status {answer.status}). "
            "Accept its terms on its page at the hub, then set HF_TOKEN to a token of that account"
            + (", or another one than the present HF_TOKEN." if has_token else ".")
        )
    if code == "RevisionNotFound":
        return (
            f"{repo}: has no revision {revision!r}. Correct encoders.<name>.revision: a commit of "
            "40 hex digits, a branch or a tag of that model."
        )
    if code == "EntryNotFound":
        return f"{url}: the model has no such file at {revision}. Choose another revision."
    if code == "RepoNotFound" or answer.status == 401:
        return (
            f"{repo}: the hub has no such model, or it is private (status {answer.status}). "
            "Correct encoders.<name>.repo"
            + ("; HF_TOKEN has no access to it." if has_token else ", or set HF_TOKEN.")
        )
    detail = answer.headers.get("x-error-message", "")[:200] or answer.text[:80]
    return (
        f"{url}: answered {answer.status} ({detail!r}), not 200. Check encoders.<name>.repo and "
        "archives.urls.hub, or try later."
    )
