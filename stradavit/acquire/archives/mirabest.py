"""MiraBest (Porter & Scaife 2023): pickled batches, checked against their published digests.

A pickle is a program, so nothing is read before the file and each batch in it have the digests
the authors' own loaders expect; and even then only through the restricted unpickler.
"""

import hashlib
import logging
from collections import Counter
from dataclasses import replace
from pathlib import Path, PurePosixPath

from stradavit.acquire.archives.mirabest_releases import RELEASES, Release
from stradavit.acquire.batch_benchmark import batch_labels
from stradavit.acquire.batches import BATCH_NAME
from stradavit.acquire.labels import LabelledImage
from stradavit.acquire.positions import name_sources
from stradavit.acquire.transfer.fetch import Remote, fetch
from stradavit.acquire.transfer.tars import TAR_DAMAGE, open_tar
from stradavit.acquire.transfer.web import Web
from stradavit.errors import DataError, LabelError
from stradavit.settings.archives import ArchiveUrls
from stradavit.settings.sources import BatchBenchmark, MiraBestBenchmark

logger = logging.getLogger(__name__)

BLOCK = 2**20
MAX_MEMBERS = 1000
MAX_BYTES = 2**30


def acquire(
    benchmark_name: str, benchmark: MiraBestBenchmark, web: Web, urls: ArchiveUrls, folder: Path
) -> list[LabelledImage]:
    """Labelled images of the wanted releases; images of one place on the sky share a source.

    Several releases are pooled, as the paper did with F and N; of their divisions into training
    and test images nothing is then left.

    Raises
    ------
    DataError
        If a release cannot be fetched or is not the published one.
    LabelError
        If no label has a name, or no file name holds a position.
    """
    rows: list[LabelledImage] = []
    for name in benchmark.releases:
        release = _release(name, benchmark.digests)
        path = _fetched(benchmark_name, name, release, web, urls, folder)
        check_batches(path, release)
        # Not validated: a path that is here needs no variables expanded.
        batches = BatchBenchmark.model_construct(
            source="batches",
            path=str(path),
            side_px=benchmark.side_px,
            label_names=benchmark.label_names,
            filename_pattern=benchmark.filename_pattern,
        )
        rows += [
            replace(row, image=f"{name}-{PurePosixPath(row.image).name}")
            for row in batch_labels(benchmark_name, batches)
        ]
    positions = [(row.ra_deg, row.dec_deg) for row in rows]
    n_placed = sum(ra_deg == ra_deg for ra_deg, _ in positions)
    if benchmark.filename_pattern is not None and not n_placed:
        raise LabelError(
            f"{benchmark_name}: none of the {len(rows)} file names in the batches holds a "
            "position, so neither folds nor the guard of the sky could tell sources apart. "
            f"Correct benchmarks.{benchmark_name}.filename_pattern, or set it to null."
        )
    # Releases show the same sources: the second telescope's image must not be in another fold.
    sources = name_sources(positions, [row.image for row in rows])
    rows = [replace(row, source=source) for row, source in zip(rows, sources, strict=True)]
    if benchmark.publishes_split:
        return rows
    _warn_of_pool(benchmark_name, benchmark, rows)
    return [replace(row, split="") for row in rows]


def _warn_of_pool(
    benchmark_name: str, benchmark: MiraBestBenchmark, rows: list[LabelledImage]
) -> None:
    """Say how many sources the pooled releases share: what they are is not what they seem."""
    n_images = Counter(row.source for row in rows)
    logger.warning(
        "%s: pools the releases %s: %d images of %d sources, %d of which have more than one image. "
        "Folds keep the images of a source together, as the paper's did not; still, there are "
        "fewer objects than images, seen by telescopes of different resolution. The published "
        "divisions into training and test images are given up.",
        benchmark_name,
        " and ".join(benchmark.releases),
        len(rows),
        len(n_images),
        sum(count > 1 for count in n_images.values()),
    )


def _release(name: str, digests: dict[str, dict[str, str]] | None) -> Release:
    """A release with its published digests, or with those of the settings."""
    if digests is None or name not in digests:
        return RELEASES[name]
    batches = {batch: md5 for batch, md5 in digests[name].items() if batch != "archive"}
    return replace(RELEASES[name], md5=digests[name].get("archive", ""), batches=batches)


def _fetched(
    benchmark_name: str, name: str, release: Release, web: Web, urls: ArchiveUrls, folder: Path
) -> Path:
    remote = Remote(
        name=PurePosixPath(release.path).name,
        url=f"{urls.mirabest}/{release.path}",
        checksum=f"md5:{release.md5}" if release.md5 else "",
        content="tar.gz",
        most_bytes=MAX_BYTES,
    )
    outcome = fetch(web, [remote], folder, f"{benchmark_name}: MiraBest {name}")[0]
    if outcome.path is None:
        raise DataError(
            f"MiraBest {name}: {remote.name} did not come from {urls.mirabest} "
            f"({outcome.reason}). The server is slow and old: run again later. If you have a "
            "copy, use it with source: batches and its path."
        )
    return outcome.path


def check_batches(path: Path, release: Release) -> None:
    """See that the batches in a .tar.gz are those of a release, all of them and no others.

    Raises
    ------
    DataError
        Naming the batch that is missing, not published, or has another digest.
    """
    found: dict[str, str] = {}
    try:
        with open_tar(path) as archive:
            n_bytes = 0
            for number, member in enumerate(archive):
                n_bytes += member.size
                if number >= MAX_MEMBERS or n_bytes > MAX_BYTES:
                    raise DataError(f"{path}: holds more than a release of MiraBest. Not read.")
                name = PurePosixPath(member.name).name
                is_batch = BATCH_NAME.fullmatch(name) is not None
                if member.isfile() and (is_batch or name in release.batches):
                    if name in found:
                        raise DataError(f"{path}: holds {name} twice. Not read.")
                    digest = hashlib.md5(usedforsecurity=False)
                    opened = archive.extractfile(member)
                    assert opened is not None
                    while block := opened.read(BLOCK):
                        digest.update(block)
                    found[name] = digest.hexdigest()
    except (OSError, *TAR_DAMAGE) as error:
        raise DataError(
            f"{path}: cannot be read as an archive file ({error}). Delete it, and run again."
        ) from error
    for name in sorted(found.keys() | release.batches.keys()):
        expected = release.batches.get(name, "not published")
        if found.get(name, "missing") != expected:
            raise DataError(
                f"{path}: {name} has the MD5 digest {found.get(name, '(missing)')}; the published "
                f"one is {expected}. Not read. Delete the file, and run again to fetch it."
            )
