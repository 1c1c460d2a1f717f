"""First questions to what benchmarks and weights come from."""

import json
from pathlib import Path

from stradavit.acquire.archives import first, horton_catalogue, kaggle, lotss_cutouts
from stradavit.acquire.archives.contact import (
    Questions,
    Said,
    page_text,
    said_of_fits,
    size_text,
)
from stradavit.acquire.archives.hub import WANTED, WEIGHTS, find_model
from stradavit.acquire.archives.hub_api import COMMIT, HubWeb, commit_of, files_of
from stradavit.acquire.archives.mirabest_releases import RELEASES
from stradavit.acquire.archives.zenodo import record_files
from stradavit.acquire.transfer.remote import Remote
from stradavit.acquire.transfer.web import Web
from stradavit.errors import DataError
from stradavit.settings.archives import ArchiveUrls
from stradavit.settings.encoders import HubEncoder
from stradavit.settings.sources import (
    HortonBenchmark,
    MiraBestBenchmark,
    RgzBenchmark,
)

# Records that hold MiraBest; the files themselves come from where the authors' loaders take them.
MIRABEST_RECORDS = ("4288837", "5588282")
HORTON = "J/A+A/699/A338/catalog.dat"
COVERED_BY_FIRST, NOT_BY_FIRST = (162.5, 30.0), (162.5, -60.0)
COVERED_BY_LOTSS, NOT_BY_LOTSS = "180 50", "0 -60"
# Enough for the table of tensors of a ViT-Base.
TENSORS_RANGE = {"Range": "bytes=8-262143"}


def rgz_questions(benchmark: RgzBenchmark, web: Web, urls: ArchiveUrls) -> Questions:
    """The record of the catalogue, and two cutouts: where FIRST looked, and where it did not."""

    def cutout(position_deg: tuple[float, float], is_covered: bool) -> Said:
        remote = first.first_cutout(urls, "probe.fits", position_deg, 5.0, 1.0)
        return _cutout(web, remote, "POST", is_covered)

    yield f"Zenodo record {benchmark.record}", lambda: _record(web, urls, benchmark.record)
    yield "cutout of FIRST", lambda: cutout(COVERED_BY_FIRST, True)
    yield "place FIRST never saw", lambda: cutout(NOT_BY_FIRST, False)


def mirabest_questions(benchmark: MiraBestBenchmark, web: Web, urls: ArchiveUrls) -> Questions:
    """The files of the wanted releases, and the records that hold them too."""
    for name in dict.fromkeys(benchmark.release):
        url = f"{urls.mirabest}/{RELEASES[name].path}"
        yield f"release {name}", lambda url=url: _file(web, url)  # type: ignore[misc]
    for record in MIRABEST_RECORDS:
        yield f"Zenodo record {record}", lambda record=record: _other_record(web, urls, record)  # type: ignore[misc]


def horton_questions(benchmark: HortonBenchmark, web: Web, urls: ArchiveUrls) -> Questions:
    """The catalogue, packed or not, and three cutouts: a good one, none, and one too large."""

    def catalogue() -> Said:
        found = {}
        for name in (HORTON, f"{HORTON}.gz"):
            answer = web.answer("HEAD", f"{urls.cds}/{name}")
            found[name.rpartition("/")[2]] = answer.status
        text = ", ".join(f"{name}: {status}" for name, status in found.items())
        if 200 not in found.values():
            return Said(text, "fault", "Set archives.urls.cds to another mirror of the CDS.")
        return Said(f"{text} (lines of {horton_catalogue.LINE_WIDTH} characters)")

    def cutout(position: str, size_arcmin: float, is_covered: bool) -> Said:
        remote = lotss_cutouts.lotss_cutout(urls, "probe.fits", position, (0.0, 0.0), size_arcmin)
        return _cutout(web, remote, "GET", is_covered)

    def too_large() -> Said:
        answer = web.answer(
            "GET",
            f"{urls.lotss_cutouts}/dr2-cutout.fits",
            params=(("pos", COVERED_BY_LOTSS), ("size", str(lotss_cutouts.MAX_ARCMIN + 1))),
        )
        if said_of_fits(answer).state != "fault":
            return Said("an image came, where none was expected", "note")
        return Said(f"status {answer.status}: {page_text(answer)}, no image, as described")

    yield "catalogue of the CDS", catalogue
    yield "cutout of LoTSS", lambda: cutout(COVERED_BY_LOTSS, 5.0, True)
    yield "place LoTSS never saw", lambda: cutout(NOT_BY_LOTSS, 5.0, False)
    yield "cutout that is too large", too_large


def sardet_questions(web: Web, urls: ArchiveUrls) -> Questions:
    """The current version of SARDet-100K at Kaggle, and size and digest of its archive file."""
    found = [0]

    def version() -> Said:
        auth = kaggle.read_credentials()
        found[0] = kaggle.current_version(web, urls.kaggle, kaggle.SARDET, auth)
        return Said(f"{kaggle.SARDET} has the version {found[0]}")

    def archive_file() -> Said:
        auth = kaggle.read_credentials()
        wanted = kaggle.locate(web, urls.kaggle, kaggle.SARDET, found[0], auth)
        return Said(
            f"{size_text(wanted.bytes)}, {wanted.checksum or 'no digest'}; as much again unpacked",
            bytes=None if wanted.bytes is None else 2 * wanted.bytes,
        )

    yield "version at Kaggle", version
    if found[0]:
        yield "archive file", archive_file


def hub_questions(encoder: HubEncoder, web: HubWeb, hub: str, kept: Path) -> Questions:
    """The commit of the revision, the files of that commit, and the tensors of its weights.

    `kept` is the folder an earlier fetch would have left the model in.
    """
    repo, found = encoder.repo, [""]

    def commit() -> Said:
        found[0] = commit_of(web, hub, repo, encoder.revision)
        if COMMIT.fullmatch(encoder.revision):
            return Said(f"{repo} has the commit {found[0]}")
        return Said(
            f"{repo}: {encoder.revision} is {found[0]}",
            "note",
            f"Pin it: `revision: {found[0]}`.",
        )

    def files() -> Said:
        listed = files_of(web, hub, repo, found[0])
        names = ", ".join(f"{file.name} {size_text(file.bytes)}" for file in listed.values())
        if missing := [name for name in WANTED if name not in listed]:
            remedy = "Choose a revision that has them; pickles (.bin) are never loaded."
            return Said(f"no {', no '.join(missing)}; there are {names}", "fault", remedy)
        is_here = find_model(repo, found[0], kept) is not None
        total = sum(listed[name].bytes for name in WANTED)
        digest = listed[WEIGHTS].sha256[:12]
        where = "; is on this disk already" if is_here else ""
        return Said(f"{names}; weights {digest}…{where}", bytes=0 if is_here else total)

    def tensors() -> Said:
        url = f"{hub}/{repo}/resolve/{found[0]}/{WEIGHTS}"
        answer = web.answer("GET", url, headers=TENSORS_RANGE)
        if answer.status != 206:
            return Said(f"answered a range with status {answer.status}", "note")
        try:
            table, _ = json.JSONDecoder().raw_decode(answer.text)
            names = sorted(name for name in table if name != "__metadata__")
        except (ValueError, TypeError, RecursionError):
            return Said("its table of tensors cannot be read in its first 256 kB", "note")
        registers = [name for name in names if name.endswith("register_tokens")]
        return Said(f"{len(names)} tensors, {names[0]} … {names[-1]}; registers: {registers}")

    yield "commit", commit
    if found[0]:
        yield "files", files
        yield "tensors", tensors


def _record(web: Web, urls: ArchiveUrls, record: str) -> Said:
    files = record_files(web, urls, record)
    sizes = [file.bytes or 0 for file in files]
    said = [f"{file.name} {size_text(file.bytes)} {file.checksum or '–'}" for file in files]
    return Said("; ".join(said), bytes=sum(sizes))


def _other_record(web: Web, urls: ArchiveUrls, record: str) -> Said:
    # Not what is fetched from: worth knowing where the first source fails, and no fault.
    try:
        return Said(_record(web, urls, record).answer)
    except DataError as error:
        return Said(str(error), "note")


def _file(web: Web, url: str) -> Said:
    answer = web.answer("HEAD", url)
    length = answer.headers.get("content-length", "")
    if answer.status != 200 or "html" in answer.headers.get("content-type", ""):
        kind = answer.headers.get("content-type", "")
        return Said(
            f"status {answer.status}, {kind or 'no type'}",
            "fault",
            "Try later, or give a copy by `source: batches` and its path.",
        )
    n_bytes = int(length) if length.isdecimal() else None
    return Said(size_text(n_bytes), bytes=n_bytes)


def _cutout(web: Web, remote: Remote, method: str, is_covered: bool) -> Said:
    answer = web.answer(method, remote.url, params=remote.params, form=remote.form)
    if is_covered:
        return said_of_fits(answer)
    if said_of_fits(answer).state == "good":
        return Said("an image came, where none was expected", "note")
    words = f"status {answer.status}: {page_text(answer)}"
    if remote.no_data.lower() in answer.text.lower():
        return Said(f"{words}, recognised as no data")
    return Said(
        f"{words}, which says nothing of {remote.no_data!r}",
        "note",
        "Such pages are refused all the same; report their words to the project.",
    )
