"""ASKAP images of CASDA: listed by TAP without login, staged and fetched with the OPAL login.

astroquery.casda is not used: its wait has no end, it loses the reason when a job fails, drops rows
without rights silently, and checks no checksum.
"""

import logging
import re
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from stradavit.acquire.archives.casda_links import check_login
from stradavit.acquire.archives.casda_notes import KnownJob, jobs_for, known_jobs
from stradavit.acquire.archives.casda_staging import BATCH_FILES, Staging
from stradavit.acquire.archives.credentials import opal_login
from stradavit.acquire.archives.foreign_text import quoted
from stradavit.acquire.archives.tap import ask_tap, literal
from stradavit.acquire.archives.votable import Cell, Row
from stradavit.acquire.manifest import ManifestRow
from stradavit.acquire.transfer.fetch import Outcome, Remote
from stradavit.acquire.transfer.journal import Journal
from stradavit.acquire.transfer.listed import Listed
from stradavit.acquire.transfer.web import Web
from stradavit.errors import DataError
from stradavit.settings.archives import ArchiveUrls
from stradavit.settings.sources import CasdaSurvey

logger = logging.getLogger(__name__)

COLUMNS = (
    "obs_publisher_did",
    "filename",
    "access_estsize",
    "quality_level",
    "obs_release_date",
)
IDENTIFIER = re.compile(r"[a-z_]+(-\d+){1,2}")
FITS_SUFFIX = re.compile(r"\.fits?(\.gz|\.fz)?$", re.IGNORECASE)
MAX_STEM = 150


def list_products(survey: CasdaSurvey, web: Web, urls: ArchiveUrls) -> list[Listed]:
    """The released images of wanted quality, in the order of their names.

    Quality and release are judged here, not in the question, so that what is left out is counted.

    Raises
    ------
    DataError
        If the list cannot be had in full, a row makes no sense, or nothing is left.
    """
    rows = ask_tap(web, urls.casda_tap, question(survey), COLUMNS, "CASDA")
    now = datetime.now(UTC)
    left_out: Counter[str] = Counter()
    listed: dict[str, Listed] = {}
    estimate_kb = 0.0
    for row in rows:
        identifier = str(row["obs_publisher_did"] or "").strip()
        if not IDENTIFIER.fullmatch(identifier):
            raise DataError(
                f"CASDA, {urls.casda_tap}: a row has the obs_publisher_did "
                f"{quoted(identifier, 80)!r}; expected such as cube-1170. The service has changed: "
                "report this to the project."
            )
        quality = str(row["quality_level"] or "none").strip()
        if quality not in survey.quality:
            left_out[f"of quality {quoted(quality, 40)}"] += 1
        elif not is_released(row["obs_release_date"], now):
            left_out["not released"] += 1
        else:
            # Several rows of a file differ in what is not asked for.
            product = product_name(identifier, str(row["filename"] or ""))
            if identifier not in listed:
                estimate_kb += _number(row)
            listed[identifier] = Listed(product, identifier)
    for reason, count in sorted(left_out.items()):
        logger.info("CASDA: %d images left out, %s", count, reason)
    if not listed:
        said = ", ".join(f"{count} {reason}" for reason, count in sorted(left_out.items()))
        raise DataError(
            f"CASDA: of {len(rows)} images none can be taken ({said or 'none was found'}). Check "
            f"collections, project, filenames and quality; the question was: {question(survey)}"
        )
    products = sorted(listed.values(), key=lambda item: item.product)
    logger.info(
        "CASDA: %d images, about %.0f GB by the archive's estimate",
        len(products),
        estimate_kb / 1e6,
    )
    return products[: survey.max_products]


def question(survey: CasdaSurvey) -> str:
    """The question in ADQL; total intensity only."""
    table = "ivoa.obscore AS o"
    conditions = [
        f"o.dataproduct_subtype = {literal(survey.subtype)}",
        "o.pol_states = '/I/'",
    ]
    if survey.collections:
        either = [
            f"o.obs_collection {'LIKE' if '%' in name else '='} {literal(name)}"
            for name in survey.collections
        ]
        conditions.append(f"({' OR '.join(either)})")
    if survey.project is not None:
        table += " JOIN casda.project AS p ON p.short_name = o.obs_collection"
        conditions.append(f"p.opal_code = {literal(survey.project)}")
    if survey.filenames is not None:
        conditions.append(f"o.filename LIKE {literal(survey.filenames)}")
    if survey.where is not None:
        conditions.append(f"({survey.where})")
    columns = ", ".join(f"o.{name}" for name in COLUMNS)
    return f"SELECT {columns} FROM {table} WHERE {' AND '.join(conditions)}"


def fetch_rows(
    survey: CasdaSurvey,
    web: Web,
    urls: ArchiveUrls,
    rows: Sequence[ManifestRow],
    folder: Path,
    what: str,
) -> list[Outcome]:
    """Stage and fetch products in jobs of 20 files, one after the other.

    Files that are complete are neither staged nor fetched again; jobs an earlier call left running
    are taken up. What a job staged is fetched before the next one is made, since links expire.

    Returns
    -------
    one outcome a row, in their order

    Raises
    ------
    DataError
        If there is no login or CASDA refuses it, or a row is none of CASDA.
    """
    for row in rows:
        if not IDENTIFIER.fullmatch(row.location):
            raise DataError(
                f"{what}: the manifest has the product {row.product!r} at {row.location!r}; "
                "expected an identifier of CASDA such as cube-1170. It belongs to another survey: "
                "delete it, or correct frozen_manifest."
            )
    journal = Journal(folder)
    outcomes: dict[str, Outcome] = {}
    left: dict[str, ManifestRow] = {}
    for row in rows:
        here = journal.fetched(Remote(row.product, "", row.bytes, row.checksum))
        if here is not None:
            outcomes[row.product] = here
        elif left.setdefault(row.location, row) is not row:
            raise DataError(
                f"{what}: the manifest has {row.location} twice, as {row.product!r} and "
                f"{left[row.location].product!r}; expected once. Delete it, or correct it."
            )
    if left:
        login = opal_login()
        check_login(web, urls.casda_login, login)
        staging = Staging(web, urls, login, folder, what)
        jobs = jobs_for(known_jobs(folder, urls.casda_data), list(left))
        batches: list[tuple[KnownJob | None, list[ManifestRow]]] = []
        batches += [(job, [left.pop(identifier) for identifier in ids]) for job, ids in jobs]
        others = list(left.values())
        for start in range(0, len(others), BATCH_FILES):
            batches.append((None, others[start : start + BATCH_FILES]))
        for number, (earlier, batch) in enumerate(batches, 1):
            logger.info("%s: staging job %d of %d", what, number, len(batches))
            outcomes |= staging.bring(batch, earlier)
    return [outcomes[row.product] for row in rows]


def is_released(date: Cell, now: datetime) -> bool:
    """Whether a release date is there and past."""
    try:
        released = datetime.fromisoformat(str(date or "").strip())
    except ValueError:
        return False
    return (released if released.tzinfo else released.replace(tzinfo=UTC)) <= now


def product_name(identifier: str, filename: str) -> str:
    """Name of the file here: the archive's, with the identifier, which makes it unique.

    The archive's own may repeat (a field that was observed and deposited twice) or be empty.
    """
    suffix = FITS_SUFFIX.search(filename)
    stem = filename[: suffix.start()] if suffix else filename
    stem = re.sub(r"[^A-Za-z0-9.+_-]+", "-", stem).strip("-.")[:MAX_STEM].rstrip("-.")
    ending = suffix.group().lower() if suffix else ".fits"
    return f"{stem}.{identifier}{ending}" if stem else f"{identifier}{ending}"


def _number(row: Row) -> float:
    value = row["access_estsize"]
    return float(value) if isinstance(value, int | float) else 0.0
