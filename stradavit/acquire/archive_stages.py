"""What the stages of acquisition do for a survey or benchmark that an archive has."""

import logging
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from stradavit.acquire.labels import LabelledImage
from stradavit.acquire.manifest import Acquired, ManifestRow, part_of, read_manifest
from stradavit.acquire.transfer.fetch import Outcome, Remote, fetch
from stradavit.acquire.transfer.journal import Journal
from stradavit.acquire.transfer.listed import Listed
from stradavit.acquire.transfer.missing import settle
from stradavit.acquire.transfer.names import safe_name
from stradavit.acquire.transfer.web import Web
from stradavit.errors import DataError
from stradavit.settings.archives import ArchiveSettings
from stradavit.settings.sources import (
    ArchiveBenchmark,
    ArchiveSurvey,
    CasdaSurvey,
    HortonBenchmark,
    LotssSurvey,
    MgclsSurvey,
    MiraBestBenchmark,
    RgzBenchmark,
    Sdc1Survey,
)

logger = logging.getLogger(__name__)

# Modules of `stradavit.acquire.archives`. They are named and not imported: one that is not wanted
# is not loaded, and an edit of one is no reason to acquire the others again.
#
# A survey's module has `list_products(survey, web, urls)`, and `remotes(survey, web, urls, rows)`,
# which yields one `Remote` a row, named as its product; or, where rows and files cannot be had one
# by one, `fetch_rows(survey, web, urls, rows, folder, what)`, which gives the outcomes itself.
# A benchmark's module has `acquire(name, benchmark, web, urls, folder)`.
SURVEYS: dict[type[ArchiveSurvey], str] = {
    MgclsSurvey: "mgcls",
    CasdaSurvey: "casda",
    LotssSurvey: "lotss",
    Sdc1Survey: "sdc1",
}
BENCHMARKS: dict[type[ArchiveBenchmark], str] = {
    RgzBenchmark: "rgz",
    MiraBestBenchmark: "mirabest",
    HortonBenchmark: "horton",
}


def archive_manifest(
    survey_name: str, survey: ArchiveSurvey, archives: ArchiveSettings
) -> list[ManifestRow]:
    """What an archive has of a survey, or what its frozen manifest says.

    Raises
    ------
    DataError
        If the archive cannot be asked, has nothing, or gives unsafe or repeated names.
    """
    if survey.frozen_manifest is not None:
        frozen = read_manifest(Path(survey.frozen_manifest))
        listed = [Listed(row.product, row.location, row.bytes, row.checksum) for row in frozen]
        where = survey.frozen_manifest
    else:
        with Web(archives) as web:
            listed = _module(SURVEYS[type(survey)]).list_products(survey, web, archives.urls)
        where = f"the archive of surveys.{survey_name} (source {SURVEYS[type(survey)]})"
    if not listed:
        raise DataError(
            f"{survey_name}: {where} lists no product that matches. Check the choice of products "
            f"in surveys.{survey_name}; `stradavit doctor` asks the archive what it has."
        )
    return [
        ManifestRow(
            safe_name(item.product),
            part_of(item.product, survey.parts),
            item.location,
            item.bytes,
            item.checksum,
        )
        for item in listed
    ]


def acquire_archive_part(
    what: str,
    survey: ArchiveSurvey,
    rows: Sequence[ManifestRow],
    folder: Path,
    ledger_path: Path,
    archives: ArchiveSettings,
) -> list[Acquired]:
    """Fetch the products of one part; those that are here are not asked for again.

    What did not come is listed beside the ledger; everything else was fetched by then.

    Parameters
    ----------
    what : survey and part, for messages
    folder : shared by all parts, so that another number of parts fetches nothing anew

    Raises
    ------
    DataError
        If a product failed, or more were refused than `survey.allow_missing`.
    """
    journal = Journal(folder)
    here = {row.product: journal.fetched(_wanted(row)) for row in rows}
    pending = [row for row in rows if here[row.product] is None]
    outcomes = {outcome.name: outcome for outcome in here.values() if outcome is not None}
    if pending:
        logger.info("%s: %d products are here, %d to come", what, len(outcomes), len(pending))
        with Web(archives) as web:
            fetched = _fetch_rows(what, survey, pending, folder, web, archives)
        outcomes |= {outcome.name: outcome for outcome in fetched}
    # A module that forgets a row must not make a survey smaller in silence.
    for row in rows:
        outcomes.setdefault(row.product, Outcome(row.product, "failed", "was not asked for"))
    wanted = [outcomes[row.product] for row in rows]
    settle(what, wanted, ledger_path, survey.allow_missing)
    return [
        Acquired(outcome.name, outcome.path, outcome.sha256, outcome.bytes)
        for outcome in wanted
        if outcome.path is not None
    ]


def _fetch_rows(
    what: str,
    survey: ArchiveSurvey,
    rows: Sequence[ManifestRow],
    folder: Path,
    web: Web,
    archives: ArchiveSettings,
) -> list[Outcome]:
    module = _module(SURVEYS[type(survey)])
    if hasattr(module, "fetch_rows"):
        outcomes: list[Outcome] = module.fetch_rows(survey, web, archives.urls, rows, folder, what)
        return outcomes
    # As a list: what has come of each already is not asked for as room on the disk again.
    remotes: list[Remote] = list(module.remotes(survey, web, archives.urls, rows))
    return fetch(web, remotes, folder, what)


def _wanted(row: ManifestRow) -> Remote:
    """A row as the journal knows it: its address plays no part."""
    return Remote(row.product, "", row.bytes, row.checksum)


def acquire_archive_benchmark(
    benchmark_name: str, benchmark: ArchiveBenchmark, folder: Path, archives: ArchiveSettings
) -> list[LabelledImage]:
    """Labelled images of a benchmark, fetched into `folder`."""
    with Web(archives) as web:
        module = _module(BENCHMARKS[type(benchmark)])
        rows: list[LabelledImage] = module.acquire(
            benchmark_name, benchmark, web, archives.urls, folder
        )
        return rows


def _module(name: str) -> Any:
    return import_module(f"stradavit.acquire.archives.{name}")
