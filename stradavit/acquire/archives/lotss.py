"""LoTSS DR2 mosaics: the list of fields by TAP, the files from a plain tree of folders.

The VO service publishes size and Adler-32 of each 6-arcsec mosaic; of the 20-arcsec ones it
publishes neither. Mosaics are of 64-bit floats, 0.6 to 0.8 GB each.
"""

import logging
import re
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from urllib.parse import quote, unquote, urlsplit

from stradavit.acquire.archives.foreign_text import quoted
from stradavit.acquire.archives.tap import REMEDY, ask_tap
from stradavit.acquire.archives.votable import Row
from stradavit.acquire.manifest import ManifestRow
from stradavit.acquire.transfer.fetch import Remote
from stradavit.acquire.transfer.listed import Listed
from stradavit.acquire.transfer.web import Web
from stradavit.errors import DataError
from stradavit.settings.archives import ArchiveUrls
from stradavit.settings.sources import LotssSurvey

logger = logging.getLogger(__name__)

COLUMNS = ("mosaic_id", "accref", "accsize", "adler32")
QUESTION = f"SELECT {', '.join(COLUMNS)} FROM lotss_dr2.mosaics"

# P000+23 as a rule, but also P17 or P10Hetdex.
FIELD = re.compile(r"P\d+[A-Za-z0-9]*([+-]\d+[A-Za-z0-9]*)?")
ADLER32 = re.compile(r"[0-9a-f]{1,8}")

# The product whose size and checksum the table holds.
LISTED_PRODUCT = "mosaic-blanked.fits"


def list_products(survey: LotssSurvey, web: Web, urls: ArchiveUrls) -> list[Listed]:
    """The mosaics of all fields that match, in the order of their names.

    Raises
    ------
    DataError
        If the list cannot be had in full, a row makes no sense, or a pattern matches no field.
    """
    where = f"LoTSS, {urls.lotss_tap}"
    fields: dict[str, Listed] = {}
    for row in ask_tap(web, urls.lotss_tap, QUESTION, COLUMNS, "LoTSS"):
        field = _field(row, where)
        listed = _listed(field, row, survey.product, where)
        if fields.setdefault(field, listed) != listed:
            raise DataError(
                f"{where}: the field {field} has two rows that differ; expected one. {REMEDY}"
            )
    for pattern in survey.fields:
        if not any(fnmatchcase(field, pattern) for field in fields):
            raise DataError(
                f"{where}: none of its {len(fields)} fields matches {pattern!r}; their names are "
                f"such as {', '.join(sorted(fields)[:3]) or '–'}. Correct the survey's `fields`."
            )
    chosen = sorted(f for f in fields if any(fnmatchcase(f, p) for p in survey.fields))
    known = [fields[field].bytes or 0 for field in chosen]
    logger.info(
        "LoTSS: %d of %d fields, %s; %.1f GB are announced",
        *(len(chosen), len(fields), survey.product, sum(known) / 1e9),
    )
    return [fields[field] for field in chosen]


def remotes(
    survey: LotssSurvey, web: Web, urls: ArchiveUrls, rows: Sequence[ManifestRow]
) -> Iterator[Remote]:
    """Where the mosaics come from.

    `urls.lotss_files` is a tree with a folder for each field; where it holds `{field}` it is the
    whole address instead, so that the archive's other door works too:
    `https://vo.astron.nl/getproduct/LoTSS-DR2/{field}`.

    Raises
    ------
    DataError
        If a row is none of LoTSS, or of another product than the survey's.
    """
    for row in rows:
        field = row.location
        if not FIELD.fullmatch(field) or row.product != _name(field, survey.product):
            raise DataError(
                f"the manifest has the product {row.product!r} at {field!r}; expected a field such "
                f"as P000+23 and its {survey.product}. It belongs to other settings: delete it, or "
                "correct frozen_manifest."
            )
        # The sign of a field is written as %2B: behind some servers a bare one becomes a blank.
        encoded = quote(field, safe="")
        template = urls.lotss_files
        if "{field}" not in template:
            template += "/{field}/{product}"
        url = template.replace("{field}", encoded).replace("{product}", survey.product)
        yield Remote(row.product, url, row.bytes, row.checksum, "fits")


def _name(field: str, product: str) -> str:
    return f"{field}-{product}"


def _field(row: Row, where: str) -> str:
    """Name of the field: the row's own, or the tail of its address."""
    tail = unquote(urlsplit(str(row["accref"] or "")).path.rsplit("/", 1)[-1])
    for candidate in (str(row["mosaic_id"] or ""), tail):
        if FIELD.fullmatch(candidate.strip()):
            return candidate.strip()
    raise DataError(
        f"{where}: a row has the mosaic_id {quoted(str(row['mosaic_id']), 80)!r} and the accref "
        f"{quoted(str(row['accref']), 80)!r}; expected a field such as P000+23. {REMEDY}"
    )


def _listed(field: str, row: Row, product: str, where: str) -> Listed:
    if product != LISTED_PRODUCT:
        return Listed(_name(field, product), field)
    size, adler32 = row["accsize"], row["adler32"]
    if size is not None and (not isinstance(size, int) or size <= 0):
        raise DataError(f"{where}: {field} has the accsize {size!r}; expected bytes. {REMEDY}")
    if isinstance(adler32, int):
        adler32 = f"{adler32:08x}"
    digits = str(adler32 or "").strip().lower().removeprefix("0x")
    if not digits:
        return Listed(_name(field, product), field, size)
    if not ADLER32.fullmatch(digits):
        raise DataError(
            f"{where}: {field} has the adler32 {quoted(digits, 40)!r}; expected up to 8 hex "
            f"digits. {REMEDY}"
        )
    # Written without leading zeros by some.
    return Listed(_name(field, product), field, size, f"adler32:{digits:0>8}")
