"""Weights of the hub: the right file of the right commit, or an error that says what to do."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stradavit.acquire.archives import hub
from stradavit.acquire.archives.hub import WANTED, HubModel, fetch_model
from stradavit.acquire.archives.hub_api import HubWeb
from stradavit.acquire.transfer.web import Web
from stradavit.errors import DataError
from stradavit.files import sha256_of

from .fake_hub import COMMIT, MODEL, TOKEN, FakeHub, git_sha1, safetensors, sha256
from .faults import FAULTS, faulty, record_outcome
from .server import App, Loopback, Reply, Request, impatient, text

REPO = "someone/tiny"


@pytest.fixture(autouse=True)
def no_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.delenv("HF_TOKEN", raising=False)


@pytest.fixture
def served() -> Iterator[tuple[FakeHub, Loopback]]:
    fake = FakeHub()
    with Loopback(fake) as server:
        yield fake, server


def fetched(server: Loopback, folder: Path, revision: str = "main", repo: str = REPO) -> HubModel:
    return fetch_model(repo, revision, impatient({"hub": server.url}), folder)


def is_right(model: HubModel, files: Any = MODEL) -> bool:
    """Whether folder and digests are of the three files, and nothing else came."""
    assert set(model.files) == set(WANTED)
    assert not (model.folder / "pytorch_model.bin").exists()
    return all(
        (model.folder / name).read_bytes() == files[name]
        and model.files[name] == sha256(files[name])
        for name in WANTED
    )


def test_a_branch_becomes_a_commit_and_is_fetched_once(
    served: tuple[FakeHub, Loopback], tmp_path: Path
) -> None:
    _, server = served
    model = fetched(server, tmp_path / "models")
    assert is_right(model)
    assert (model.commit, model.folder) == (COMMIT, tmp_path / "models" / COMMIT)
    record = json.loads((model.folder / "hub.json").read_text())
    assert record["commit"] == COMMIT
    assert record["revision"] == "main"
    assert record["files"] == dict(model.files)
    n_files = server.count("/resolve/")
    assert n_files == len(WANTED)
    assert fetched(server, tmp_path / "models") == model
    assert server.count("/resolve/") == n_files
    assert not server.count("pytorch_model.bin")


def test_a_pinned_model_on_this_disk_needs_no_hub(
    served: tuple[FakeHub, Loopback], tmp_path: Path
) -> None:
    _, server = served
    model = fetched(server, tmp_path, COMMIT)
    n_requests = len(server.requests)
    assert fetched(server, tmp_path, COMMIT) == model
    assert len(server.requests) == n_requests
    (model.folder / "config.json").write_bytes(b"changed by hand")
    assert is_right(fetched(server, tmp_path, COMMIT))


# The steps at which a fault may befall a fetch, and the requests of each.
STEPS: dict[str, str] = {
    "commit": "/revision/",
    "listing": "/tree/",
    "config": "/config.json",
    "redirect": "/resolve/" + COMMIT + "/model.safetensors",
    "weights": "/blob/",
}
# A redirect has no body to spoil; the end of the first answer is a list that is not used.
NO_FAULT = {("redirect", "truncated"), ("redirect", "wrong_bytes"), ("commit", "wrong_bytes")}
HARMLESS = {"cut", "429s", "429date", "500once", "503once", "stall", "range200"}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("step", STEPS)
def test_every_fault_ends_well_or_in_words(step: str, fault: str, tmp_path: Path) -> None:
    with Loopback(faulty(FakeHub(), fault, STEPS[step])) as server:
        ending: DataError | str
        try:
            model = fetched(server, tmp_path)
        except DataError as error:
            ending = error
            assert REPO in str(error) or server.url in str(error)
            assert "hub" in str(error)
        else:
            ending = "right file"
            assert is_right(model)
        record_outcome("hub", step, fault, ending)
        is_whole = (step, fault) in NO_FAULT
        assert isinstance(ending, str) == (fault in HARMLESS or is_whole), ending
        assert server.count() < 40
    for path in tmp_path.rglob("*.safetensors"):
        assert sha256_of(path) == sha256(MODEL["model.safetensors"])
    for name in ("config.json", "preprocessor_config.json"):
        for path in tmp_path.rglob(name):
            assert path.read_bytes() == MODEL[name]


def test_what_was_cut_goes_on_where_it_ended(tmp_path: Path) -> None:
    body = safetensors(bytes(range(256)) * 4096)
    fake = FakeHub(files={**MODEL, "model.safetensors": body})
    with Loopback(faulty(fake, "cut", "/blob/", times=None)) as server:
        with pytest.raises(DataError, match=r"model\.safetensors.*`source: local`"):
            fetched(server, tmp_path)
        server.app = fake
        model = fetched(server, tmp_path)
        last = [request for request in server.requests if "/blob/" in request.target][-1]
    assert last.headers["range"].startswith("bytes=")
    assert not last.headers["range"].startswith("bytes=0-")
    assert is_right(model, fake.files)


def test_killed_before_its_record_it_fetches_nothing_twice(
    served: tuple[FakeHub, Loopback], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    _, server = served
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(hub, "write_json", killed)
        fetched(server, tmp_path)
    n_files = server.count("/resolve/")
    assert is_right(fetched(server, tmp_path))
    assert server.count("/resolve/") == n_files == len(WANTED)


def own(name: str) -> tuple[App, str]:
    """Faults of hubs and mirrors only, and what the error must say; "" where there is none."""

    def limited(request: Request) -> Reply:
        seen.append(request.target)
        if "/tree/" in request.target and sum("/tree/" in target for target in seen) == 1:
            limits = {
                "RateLimit": '"api";r=0;t=2',
                "RateLimit-Policy": '"fixed window";"api";q=500;w=300',
            }
            return Reply(429, limits, b"rate limited")
        return FakeHub()(request)

    seen: list[str] = []
    without = {name: body for name, body in MODEL.items() if name != "model.safetensors"}
    short = {name: body for name, body in MODEL.items() if name == "config.json"}

    def other_commit(request: Request) -> Reply:
        if "/revision/" in request.target:
            return text(json.dumps({"sha": "0" * 40}), kind="application/json")
        return FakeHub()(request)

    def no_commit(request: Request) -> Reply:
        if "/revision/" in request.target:
            return text(json.dumps({"sha": "main"}), kind="application/json")
        return FakeHub()(request)

    def odd_listing(request: Request) -> Reply:
        if "/tree/" in request.target:
            odd = [{"type": "file", "path": "config.json", "size": "many", "oid": "x"}]
            return text(json.dumps(odd), kind="application/json")
        return FakeHub()(request)

    def endless(request: Request) -> Reply:
        if "/tree/" in request.target:
            link = {"Link": f'<{request.target.split("?")[0]}?cursor=1>; rel="next"'}
            return Reply(200, link, b"[]")
        return FakeHub()(request)

    apps: dict[str, tuple[App, str]] = {
        "no X-Repo-Commit": (FakeHub(names_commit=False), ""),
        "size mismatch": (
            FakeHub(sizes={"model.safetensors": 7}),
            r"model\.safetensors.*`source: local`",
        ),
        "429 with RateLimit": (limited, ""),
        "401 unknown model": (FakeHub(repo="another/model"), "no such model, or it is private"),
        "gated": (FakeHub(is_gated=True), "on request only.*set HF_TOKEN"),
        "revision unknown": (FakeHub(branches=()), "has no revision 'main'"),
        "entry gone": (FakeHub(hidden=("config.json",)), "no such file"),
        "no safetensors": (FakeHub(files=without), "is a pickle.*never loaded from the hub"),
        "no preprocessor": (FakeHub(files=short), "no preprocessor_config.json and no model"),
        "302 to another path": (FakeHub(store=""), ""),
        "no redirect": (FakeHub(store=None), ""),
        "renamed": (FakeHub(repo="someone/new", renamed_from=REPO), ""),
        "paged listing": (FakeHub(page_entries=2), ""),
        "endless listing": (endless, "does not end after 50 pages"),
        "listing goes elsewhere": (
            FakeHub(page_entries=2, next_host="http://elsewhere.example"),
            "on another host; not followed",
        ),
        "no commit": (no_commit, "expected `sha` with 40 hex digits"),
        "another commit": (other_commit, "a pinned model must not change"),
        "odd listing": (odd_listing, "expected type, path, size and oid"),
    }
    return apps[name]


@pytest.mark.parametrize(
    "name",
    [
        "no X-Repo-Commit",
        "size mismatch",
        "429 with RateLimit",
        "401 unknown model",
        "gated",
        "revision unknown",
        "entry gone",
        "no safetensors",
        "no preprocessor",
        "302 to another path",
        "no redirect",
        "renamed",
        "paged listing",
        "endless listing",
        "listing goes elsewhere",
        "no commit",
        "another commit",
        "odd listing",
    ],
)
def test_what_only_hubs_do(name: str, tmp_path: Path) -> None:
    app, said = own(name)
    with Loopback(app) as server:
        revision = COMMIT if name == "another commit" else "main"
        if said:
            with pytest.raises(DataError, match=said) as caught:
                fetched(server, tmp_path, revision)
            record_outcome("hub", "own", name, caught.value)
        else:
            assert is_right(fetched(server, tmp_path, revision))
            record_outcome("hub", "own", name, "right file")
        assert not server.count("pytorch_model.bin")


def test_the_wait_the_hub_asks_for_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float | None] = []
    monkeypatch.setattr(Web, "wait", lambda self, attempt, wait_s=None: asked.append(wait_s))
    with Loopback(own("429 with RateLimit")[0]) as server:
        assert is_right(fetched(server, tmp_path))
    assert asked == [2.0]


def test_the_token_goes_to_the_hub_alone_and_is_never_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    fake = FakeHub(is_gated=True)
    with Loopback(fake.blob) as store, Loopback(fake) as server:
        fake.store = store.url
        assert is_right(fetched(server, tmp_path))
        assert all(r.headers["authorization"] == f"Bearer {TOKEN}" for r in server.requests)
        assert store.requests
        assert not any("authorization" in request.headers for request in store.requests)
    written = "".join(p.read_text("latin1") for p in tmp_path.rglob("*") if p.is_file())
    for told in (caplog.text, written):
        assert TOKEN not in told
        assert "aSignature" not in told


def test_a_bad_token_is_named_and_not_shown(
    served: tuple[FakeHub, Loopback], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(DataError, match="refuses the token in HF_TOKEN") as caught:
        fetched(served[1], tmp_path)
    assert "hf_wrong" not in str(caught.value)


@pytest.mark.parametrize(
    ("hub_url", "sent"),
    [
        ("https://hub.example", "Bearer hf_x"),
        ("http://127.0.0.1:1", "Bearer hf_x"),
        ("http://hub.example", ""),
    ],
)
def test_no_token_in_the_clear(hub_url: str, sent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_x")
    with HubWeb(impatient({"hub": hub_url})) as web:
        assert web._login == sent


def cached(cache: Path, commit: str = COMMIT, files: Any = MODEL) -> Path:
    """A snapshot as huggingface_hub keeps it."""
    repo = cache / f"models--{REPO.replace('/', '--')}"
    (repo / "refs").mkdir(parents=True)
    (repo / "refs" / "main").write_text(commit)
    (repo / "blobs").mkdir()
    snapshot = repo / "snapshots" / commit
    snapshot.mkdir(parents=True)
    for name in WANTED:
        digest = (sha256 if name.endswith(".safetensors") else git_sha1)(files[name])
        (repo / "blobs" / digest).write_bytes(files[name])
        (snapshot / name).symlink_to(repo / "blobs" / digest)
    return snapshot


@pytest.mark.parametrize("revision", ["main", COMMIT])
def test_the_cache_of_huggingface_hub_is_used(
    served: tuple[FakeHub, Loopback], tmp_path: Path, revision: str
) -> None:
    snapshot = cached(tmp_path / "cache")
    model = fetched(served[1], tmp_path / "models", revision)
    assert model.folder == snapshot
    assert is_right(model)
    assert not served[1].count("/resolve/")
    assert bool(served[1].requests) == (revision == "main")


def test_a_damaged_cache_is_not(served: tuple[FakeHub, Loopback], tmp_path: Path) -> None:
    snapshot = cached(tmp_path / "cache")
    (snapshot / "model.safetensors").resolve().write_bytes(b"broken")
    model = fetched(served[1], tmp_path / "models", COMMIT)
    assert model.folder == tmp_path / "models" / COMMIT
    assert is_right(model)


def test_offline(
    served: tuple[FakeHub, Loopback], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "_is_offline", lambda: True)
    with pytest.raises(DataError, match=r"HF_HUB_OFFLINE is set.*`source: local`"):
        fetched(served[1], tmp_path / "models")
    cached(tmp_path / "cache")
    assert is_right(fetched(served[1], tmp_path / "models"))
    assert not served[1].requests


@pytest.mark.parametrize("kept", ["fetched before", "in the cache"])
def test_a_hub_out_of_reach_leaves_what_is_here(
    kept: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Loopback(FakeHub()) as server:
        if kept == "fetched before":
            fetched(server, tmp_path / "models")
        else:
            cached(tmp_path / "cache")
    model = fetched(server, tmp_path / "models")
    assert is_right(model)
    assert "may not be the newest of main" in caplog.text
    with pytest.raises(DataError, match=r"other/tiny at main could not be downloaded.*reached"):
        fetched(server, tmp_path / "models", repo="other/tiny")


@pytest.mark.parametrize("repo", ["../../etc", "a/b/c", "a/..", "", "-a/b", "a/b?c"])
def test_names_that_are_none(repo: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is no name of a hub model"):
        fetch_model(repo, "main", impatient(), tmp_path)


def test_an_encoder_of_the_hub_end_to_end(
    tmp_path: Path, served: tuple[FakeHub, Loopback], capsys: pytest.CaptureFixture[str]
) -> None:
    from stradavit.cli import main
    from stradavit.models.hub import load_encoder
    from stradavit.models.stages import acquire_encoder
    from stradavit.settings.encoders import HubEncoder, ScratchEncoder

    tiny = {
        "image_px": 32,
        "width": 16,
        "layers": 1,
        "heads": 2,
        "mlp_width": 16,
        "decoder_width": 8,
        "decoder_layers": 1,
        "decoder_heads": 2,
        "decoder_mlp_width": 8,
    }
    scratch = ScratchEncoder.parse({"source": "scratch", "architecture": tiny})
    acquire_encoder("tiny", scratch, 1, tmp_path / "published")
    fake, server = served
    fake.files = {path.name: path.read_bytes() for path in (tmp_path / "published").iterdir()}
    wanted = HubEncoder(source="hub", repo=REPO, revision="main")
    out_dir = tmp_path / "out"
    acquire_encoder("tiny", wanted, None, out_dir, impatient({"hub": server.url}))
    card = load_encoder(out_dir).card
    assert card["commit"] == COMMIT
    assert card["files"]["model.safetensors"] == sha256(fake.files["model.safetensors"])
    assert not list((out_dir / ".hub").rglob("*.part"))
    # As the workflow calls it, and into a folder that has the files.
    n_files = server.count("/resolve/")
    archives = impatient({"hub": server.url}).to_json()
    options = ["--name", "tiny", "--encoder", wanted.model_dump_json(), "--archives", archives]
    assert main(["acquire-encoder", *options, "--out", str(out_dir / "model.safetensors")]) == 0
    assert server.count("/resolve/") == n_files
    absent = HubEncoder(source="hub", repo="someone/absent").model_dump_json()
    options = ["--name", "absent", "--encoder", absent, "--archives", archives]
    assert main(["acquire-encoder", *options, "--out", str(tmp_path / "no" / "model")]) == 1
    assert "no such model, or it is private" in capsys.readouterr().err
