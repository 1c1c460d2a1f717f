"""First questions to the archives of surveys: is it there, how much is it, is it as described?"""

import re
from collections import Counter
from functools import partial

from stradavit.acquire.archives import casda, lotss, mgcls, sdc1
from stradavit.acquire.archives.casda_links import check_login, link_of
from stradavit.acquire.archives.contact import (
    HEADER_RANGE,
    Questions,
    Said,
    said_of_fits,
    size_text,
)
from stradavit.acquire.archives.credentials import Login, opal_login
from stradavit.acquire.archives.s3 import S3Object, list_objects, object_url
from stradavit.acquire.archives.tap import ask_tap, literal
from stradavit.acquire.manifest import ManifestRow
from stradavit.acquire.transfer.listed import Listed
from stradavit.acquire.transfer.web import Web
from stradavit.settings.archives import ArchiveUrls
from stradavit.settings.sources import CasdaSurvey, LotssSurvey, MgclsSurvey, Sdc1Survey

LOTSS_FIELDS = 841
# How the calibration of a field ended: aFix, noFix, and spellings of them.
FIX = re.compile(r"_([A-Za-z]*fix)_", re.IGNORECASE)


def mgcls_questions(survey: MgclsSurvey, web: Web, urls: ArchiveUrls) -> Questions:
    """The listing of the chosen folder, and the header of one plain file in it."""
    objects: list[S3Object] = []

    def listing() -> Said:
        folder = mgcls.FOLDERS[survey.products]
        objects.extend(list_objects(web, urls.mgcls, folder, "MGCLS", mgcls.REMEDY))
        chosen = mgcls.choose(survey, objects)
        fixes = Counter(name for item in objects for name in FIX.findall(item.key))
        n_md5 = sum(bool(item.md5) for item in objects)
        sizes = [item.bytes for item in objects]
        total = sum(item.bytes for item in chosen.values())
        spread = f"{size_text(min(sizes))} to {size_text(max(sizes))}"
        named = ", ".join(f"{n} {fix}" for fix, n in sorted(fixes.items()))
        return Said(
            f"{len(objects)} keys ({named or 'no aFix or noFix'}), {spread}; the ETag is an MD5 "
            f"digest for {n_md5}; {len(chosen)} are chosen, {size_text(total)}",
            bytes=total,
        )

    yield "listing", listing
    plain = [item for item in objects if item.key.lower().endswith(".fits")]
    if plain:
        yield (
            "header of one file",
            lambda: said_of_fits(
                web.answer("GET", object_url(urls.mgcls, plain[0].key), headers=HEADER_RANGE), True
            ),
        )


def casda_questions(survey: CasdaSurvey, web: Web, urls: ArchiveUrls) -> Questions:
    """Five images, the quality levels in use, the login, and the right to one image.

    Nothing is staged: that mails the owner of the account.
    """
    first: list[str] = []
    login: list[Login] = []

    def five() -> Said:
        adql = casda.question(survey).replace("SELECT ", "SELECT TOP 5 ", 1)
        rows = ask_tap(web, urls.casda_tap, adql, casda.COLUMNS, "CASDA")
        first.extend(str(row["obs_publisher_did"]) for row in rows)
        if not rows:
            return Said(
                "the question finds nothing",
                "fault",
                "Check collections, project, filenames and subtype of the survey.",
            )
        kilobytes = [float(row["access_estsize"] or 0) for row in rows]
        return Said(
            f"{len(rows)} rows, such as {rows[0]['filename']} ({first[0]}); about "
            f"{size_text(int(1e3 * sum(kilobytes) / len(rows)))} each"
        )

    def levels() -> Said:
        adql = (
            "SELECT o.quality_level, COUNT(*) AS n FROM ivoa.obscore AS o WHERE "
            f"o.dataproduct_subtype = {literal(survey.subtype)} GROUP BY o.quality_level"
        )
        rows = ask_tap(web, urls.casda_tap, adql, ("quality_level", "n"), "CASDA")
        counts = {str(row["quality_level"] or "none"): row["n"] for row in rows}
        text = ", ".join(f"{n} {level}" for level, n in sorted(counts.items())) or "none"
        if absent := [level for level in survey.quality if level not in counts]:
            return Said(f"{text}; none is {' or '.join(absent)}", "note", "Correct `quality`.")
        return Said(text)

    def log_in() -> Said:
        found = opal_login()
        check_login(web, urls.casda_login, found)
        login.append(found)
        return Said("credentials are there, and the login is good")

    def right() -> Said:
        link = link_of(web, urls.casda_login, login[0], first[0])
        return Said(f"{first[0]} may be staged; {size_text(link.bytes)}")

    yield "five images", five
    yield "quality levels", levels
    yield "OPAL login", log_in
    if first and login:
        yield "right to one image", right


def lotss_questions(survey: LotssSurvey, web: Web, urls: ArchiveUrls) -> Questions:
    """The number of mosaics, those that are chosen, and the header of one."""
    chosen: list[Listed] = []

    def count() -> Said:
        adql = "SELECT COUNT(*) AS n FROM lotss_dr2.mosaics"
        (row,) = ask_tap(web, urls.lotss_tap, adql, ("n",), "LoTSS")
        if row["n"] != LOTSS_FIELDS:
            return Said(f"{row['n']} mosaics; {LOTSS_FIELDS} are published", "note")
        return Said(f"{row['n']} mosaics, as published")

    def fields() -> Said:
        chosen.extend(lotss.list_products(survey, web, urls))
        sizes = [item.bytes for item in chosen]
        total = None if None in sizes else sum(size or 0 for size in sizes)
        n_sums = sum(bool(item.checksum) for item in chosen)
        return Said(
            f"{len(chosen)} fields are chosen, {size_text(total)}; {n_sums} with a checksum",
            bytes=total,
        )

    def header() -> Said:
        row = ManifestRow(chosen[0].product, 0, chosen[0].location)
        (remote,) = lotss.remotes(survey, web, urls, [row])
        return said_of_fits(web.answer("GET", remote.url, headers=HEADER_RANGE), True)

    yield "count of mosaics", count
    yield "fields chosen", fields
    if chosen:
        yield "header of one mosaic", header


def sdc1_questions(survey: Sdc1Survey, web: Web, urls: ArchiveUrls) -> Questions:
    """The size behind each share; nothing else is published."""
    listed = sdc1.list_products(survey, web, urls)
    rows = [ManifestRow(item.product, 0, item.location, item.bytes) for item in listed]
    remedy = (
        "The share may have been withdrawn: look up the data challenge's page, and correct "
        "`shares` of the survey."
    )
    for row, remote in zip(rows, sdc1.remotes(survey, web, urls, rows), strict=True):
        ask = partial(said_of_share, web, remote.url, row.bytes, remedy)
        yield f"share of {row.product}", ask


def said_of_share(web: Web, url: str, expected: int | None, remedy: str) -> Said:
    """Whether a share of SDC1 has a file, and one of the expected size.

    Parameters
    ----------
    expected : bytes, if that is known
    remedy : what to do if there is no file
    """
    answer = web.answer("HEAD", url)
    length = answer.headers.get("content-length", "")
    is_page = "html" in answer.headers.get("content-type", "")
    if answer.status != 200 or is_page or not length.isdecimal():
        what = "a page" if is_page else f"the length {length!r}"
        return Said(f"status {answer.status} and {what}", "fault", remedy)
    if expected is not None and int(length) != expected:
        return Said(
            f"{int(length):,} bytes; {expected:,} are expected",
            "fault",
            "The share holds another file: correct `shares`, or `bytes` if it is right.",
            int(length),
        )
    return Said(f"{int(length):,} bytes", bytes=int(length))
