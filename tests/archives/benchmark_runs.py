"""Runs of a benchmark's acquisition against fake archives, compared file by file."""

import csv
from collections.abc import Callable
from pathlib import Path

import pytest

from stradavit.acquire.labels import LabelledImage
from stradavit.acquire.transfer.web import Web
from stradavit.errors import DataError
from stradavit.files import sha256_of
from stradavit.settings.archives import ArchiveSettings

from .faults import faulty, record_outcome
from .server import App, Loopback, Request, impatient

# What a second try heals; everything else must be told.
PASSING = {"cut", "stall", "range200", "429s", "429date", "500once", "503once"}

URLS = {
    "zenodo": "",
    "first": "/cgi-bin/firstcutout",
    "cds": "/ftp",
    "lotss_cutouts": "",
    "mirabest": "/research/MiraBest",
}

Acquire = Callable[[Web, Path], list[LabelledImage]]
Content = list[tuple[str, str, str, str, str]]


def impatient_at(server: Loopback) -> ArchiveSettings:
    """Archive settings under which a server stands in for all archives of benchmarks."""
    return impatient({name: server.url + path for name, path in URLS.items()})


def run(acquire: Acquire, app: App, out: Path) -> tuple[Content, Loopback]:
    """Acquire into `out`/files; what came, and the server with its requests."""
    with Loopback(app) as server, Web(impatient_at(server)) as web:
        images = acquire(web, out / "files")
    return content(images, out), server


def content(images: list[LabelledImage], out: Path) -> Content:
    """Images with their labels, files and digests."""
    return [
        (
            row.image,
            row.label,
            row.source,
            row.path.relative_to(out.absolute()).as_posix() + f" {row.member}",
            sha256_of(row.path),
        )
        for row in images
    ]


def left_out(out: Path) -> dict[str, tuple[str, str]]:
    """State and reason of what was left out, by image."""
    with (out / "left_out.csv").open(encoding="utf-8", newline="") as opened:
        return {row["image"]: (row["state"], row["reason"]) for row in csv.DictReader(opened)}


def survives(
    archive: str,
    step: str,
    fault: str,
    match: Callable[[Request], bool] | str,
    acquire: Acquire,
    app: App,
    right: Content,
    out: Path,
) -> None:
    """Acquire under a fault: the right content or a message; then, without it, the right content.

    Nothing that was complete may be fetched again.
    """
    try:
        came, _ = run(acquire, faulty(app, fault, match), out / "tried")
    except DataError as error:
        assert fault not in PASSING, f"a second try would have healed it: {error}"
        record_outcome(archive, step, fault, error)
        assert not list((out / "tried").rglob("*.html"))
    else:
        assert came == right, "other files than the right ones, and nobody was told"
        record_outcome(archive, step, fault, "right file")
    here = {path for path in (out / "tried").rglob("*.fits") if path.is_file()}
    healed, server = run(acquire, app, out / "tried")
    assert healed == right
    n_cutouts = server.count(method="POST") + server.count("cutout.fits")
    n_files = len({row[3] for row in right if ".fits" in row[3]})
    assert n_cutouts == n_files - len(here), "a cutout was fetched twice, or not at all"


def passes_unnoticed(
    archive: str,
    step: str,
    match: Callable[[Request], bool] | str,
    acquire: Acquire,
    app: App,
    right: Content,
    out: Path,
) -> None:
    """Acquire with other pixels where no checksum is published: they are as good as the right ones.

    The page of faults must say so.
    """
    came, _ = run(acquire, faulty(app, "wrong_bytes", match), out)
    assert [row[:4] for row in came] == [row[:4] for row in right]
    said = "not noticed: no checksum is published; SHA-256 is kept"
    record_outcome(archive, step, "wrong_bytes", said)


def told(acquire: Acquire, app: App, out: Path, match: str) -> str:
    """The message an acquisition ends with."""
    with pytest.raises(DataError, match=match) as caught:
        run(acquire, app, out)
    return str(caught.value)
