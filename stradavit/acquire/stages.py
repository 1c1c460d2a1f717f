"""The three stages of acquisition: manifest of a survey, one part of it, a labelled benchmark.

What draws, fetches or reads is imported where its kind of source is met: a list of names should not
wait for astropy.
"""

import logging
from collections import Counter
from pathlib import Path

from stradavit.acquire.labels import LabelledImage, write_labels
from stradavit.acquire.manifest import (
    Acquired,
    ManifestRow,
    read_manifest,
    write_ledger,
    write_manifest,
)
from stradavit.acquire.transfer.checksums import hash_file
from stradavit.errors import DataError, LabelError
from stradavit.progress import progress
from stradavit.provenance import note_maker
from stradavit.settings.archives import ArchiveSettings
from stradavit.settings.sources import (
    ArchiveBenchmark,
    ArchiveSurvey,
    BatchBenchmark,
    Benchmark,
    FolderBenchmark,
    LocalSurvey,
    MosaicSurvey,
    SimulatedBenchmark,
    SimulatedSurvey,
)

logger = logging.getLogger(__name__)


def make_manifest(
    survey_name: str, survey: MosaicSurvey, out_path: Path, archives: ArchiveSettings | None = None
) -> None:
    """Write what a survey should consist of.

    Parameters
    ----------
    survey_name : key of the survey in the config
    survey : its settings
    out_path : CSV file; columns as in `stradavit.acquire.manifest`
    archives : where archives are and how they are asked; the defaults if absent

    Raises
    ------
    DataError
        If a pattern of a local survey matches nothing, a file or its table cannot be read, or an
        archive cannot be asked what it has.
    """
    if isinstance(survey, ArchiveSurvey):
        from stradavit.acquire.archive_stages import archive_manifest

        rows = archive_manifest(survey_name, survey, archives or ArchiveSettings())
    elif isinstance(survey, LocalSurvey):
        from stradavit.acquire.local import local_manifest

        rows = local_manifest(survey_name, survey)
    else:
        from stradavit.acquire.simulated.products import simulated_manifest

        rows = simulated_manifest(survey)
    write_manifest(out_path, rows)
    logger.info("%s: %d products in %d parts", survey_name, len(rows), survey.parts)


def acquire_part(
    survey_name: str,
    survey: MosaicSurvey,
    manifest_path: Path,
    part: int,
    out_path: Path,
    archives: ArchiveSettings | None = None,
) -> None:
    """Bring the products of one part into reach and write their ledger.

    Products of archives are fetched and simulated ones drawn into `files/` beside the ledger; local
    ones stay where they are. What an archive did not give is listed in `<part>.missing.csv`.

    Parameters
    ----------
    survey_name, survey : key and settings of the survey
    manifest_path : what `make_manifest` wrote
    part : from 0
    out_path : ledger, a CSV file
    archives : where archives are and how they are asked; the defaults if absent

    Raises
    ------
    DataError
        If there is no such part, a file is gone or differs from the manifest's checksum, or an
        archive did not give what it must; calling again goes on from there.
    """
    if not 0 <= part < survey.parts:
        raise DataError(
            f"{survey_name}: has no part {part}; its {survey.parts} parts are counted from 0 "
            f"(surveys.{survey_name}.parts)."
        )
    wanted = [row for row in read_manifest(manifest_path) if row.part == part]
    folder = Path(out_path).absolute().parent / "files"
    if isinstance(survey, ArchiveSurvey):
        from stradavit.acquire.archive_stages import acquire_archive_part

        what = f"{survey_name}, part {part}"
        patience = archives or ArchiveSettings()
        acquired = acquire_archive_part(what, survey, wanted, folder, out_path, patience)
    else:
        acquired = _bring(survey_name, survey, wanted, manifest_path, folder)
    write_ledger(out_path, acquired)
    note_maker(out_path, __name__, settings=survey.model_dump(mode="json"))
    logger.info("%s, part %d: %d products", survey_name, part, len(acquired))


def _bring(
    survey_name: str,
    survey: LocalSurvey | SimulatedSurvey,
    wanted: list[ManifestRow],
    manifest_path: Path,
    folder: Path,
) -> list[Acquired]:
    """Products that are drawn, or lie on this disk."""
    acquired = []
    for row in progress(wanted, desc=f"acquire {survey_name}", unit="product"):
        if isinstance(survey, SimulatedSurvey):
            path = _drawn(row, survey, manifest_path, folder)
        else:
            path = Path(row.location)
        acquired.append(_acquired(row, path, manifest_path))
    return acquired


def _drawn(row: ManifestRow, survey: SimulatedSurvey, manifest_path: Path, folder: Path) -> Path:
    """The product a row means."""
    from stradavit.acquire.simulated.products import product_number
    from stradavit.acquire.simulated.surveys import draw_product

    number = product_number(row, survey, manifest_path)
    return draw_product(survey.like, number, survey.side_px, survey.seed, folder)


def _acquired(row: ManifestRow, path: Path, manifest_path: Path) -> Acquired:
    try:
        hasher = hash_file(path, row.checksum)
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror}), though {manifest_path} lists it as "
            f"{row.product}. Put it back, or delete the manifest and make it again."
        ) from error
    if not hasher.is_right or row.bytes not in (None, hasher.bytes):
        found = hasher.found or f"sha256:{hasher.sha256}"
        size = "any number of" if row.bytes is None else row.bytes
        raise DataError(
            f"{path}: has {hasher.bytes} bytes and the checksum {found}; {manifest_path} says "
            f"{size} bytes and {row.checksum or 'no checksum'}. It is damaged or was changed: put "
            "the right file there, or delete the manifest and make it again."
        )
    return Acquired(row.product, path, hasher.sha256, hasher.bytes)


def acquire_benchmark(
    benchmark_name: str,
    benchmark: Benchmark,
    out_path: Path,
    archives: ArchiveSettings | None = None,
) -> None:
    """Bring the labelled images of a benchmark into reach and write their labels.

    Images of archives are fetched and simulated ones drawn into `files/` beside the labels; others
    stay where they are. Images whose class is not among `benchmark.classes` are left out and
    counted.

    Parameters
    ----------
    benchmark_name, benchmark : key and settings of the benchmark
    out_path : `labels.csv`; columns as in `stradavit.acquire.labels`
    archives : where archives are and how they are asked; the defaults if absent

    Raises
    ------
    DataError, LabelError
        If labels and images do not fit together, a file is damaged or missing, or a class of the
        settings has no image, or an archive did not give what it must; calling again goes on from
        there.
    """
    folder = Path(out_path).absolute().parent / "files"
    if isinstance(benchmark, ArchiveBenchmark):
        from stradavit.acquire.archive_stages import acquire_archive_benchmark

        rows = acquire_archive_benchmark(
            benchmark_name, benchmark, folder, archives or ArchiveSettings()
        )
    elif isinstance(benchmark, SimulatedBenchmark):
        rows = _draw(benchmark_name, benchmark, folder)
    elif isinstance(benchmark, FolderBenchmark):
        from stradavit.acquire.folder_benchmark import folder_labels

        rows = folder_labels(benchmark_name, benchmark)
    else:
        from stradavit.acquire.batch_benchmark import batch_labels

        assert isinstance(benchmark, BatchBenchmark)
        rows = batch_labels(benchmark_name, benchmark)
    kept = _of_classes(benchmark_name, benchmark.classes, rows)
    write_labels(out_path, kept)
    note_maker(out_path, __name__, settings=benchmark.model_dump(mode="json"))
    counts = Counter(row.label for row in kept)
    n_sources = len({row.source for row in kept})
    logger.info("%s: %s; %d sources", benchmark_name, _listed(counts), n_sources)
    sides: Counter[str] = Counter(row.split for row in kept if row.split)
    if sides:
        logger.info("%s: published as %s", benchmark_name, _listed(sides))


def _draw(benchmark_name: str, benchmark: SimulatedBenchmark, folder: Path) -> list[LabelledImage]:
    from stradavit.acquire.simulated.benchmarks import draw_benchmark

    drawn = draw_benchmark(benchmark.like, benchmark.images_per_class, benchmark.seed, folder)
    return [
        LabelledImage(
            item.image, item.path, None, item.label, item.source, *item.position_deg, item.split
        )
        for item in progress(drawn, desc=f"acquire {benchmark_name}", unit="image")
    ]


def _of_classes(
    benchmark_name: str, classes: tuple[str, ...] | None, rows: list[LabelledImage]
) -> list[LabelledImage]:
    """Rows whose class is wanted; every wanted class must have some."""
    if classes is None:
        return rows
    counts = Counter(row.label for row in rows)
    absent = [name for name in classes if name not in counts]
    if absent:
        raise LabelError(
            f"benchmarks.{benchmark_name}.classes: no image has the label "
            f"{', '.join(map(repr, absent))}; the labels are {_listed(counts)}. Correct the names."
        )
    others = Counter({name: n for name, n in counts.items() if name not in classes})
    if others:
        logger.warning(
            "%s: %d images left out, of other classes than benchmarks.%s.classes: %s",
            benchmark_name,
            others.total(),
            benchmark_name,
            _listed(others),
        )
    return [row for row in rows if row.label in classes]


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{n} of {name!r}" for name, n in sorted(counts.items())[:20])
