"""MGCLS DR1, the MeerKAT Galaxy Cluster Legacy Survey (Knowles et al. 2022), in an object store.

Names are irregular (`Abell_370_afix_pol_I_…`, `MACSJ_0025.4-1222B_…`, `Abell_4038.Fix.1pln…`), so
none is ever constructed: the folder is listed and its names are read. Which planes of a cube are
cut is a matter of the survey's `planes`, not of what is fetched.
"""

import difflib
import logging
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from stradavit.acquire.archives.s3 import S3Object, list_objects, object_url
from stradavit.acquire.manifest import ManifestRow
from stradavit.acquire.transfer.fetch import Remote, safe_name
from stradavit.acquire.transfer.listed import Listed
from stradavit.acquire.transfer.web import Web
from stradavit.errors import DataError
from stradavit.settings.archives import ArchiveUrls
from stradavit.settings.sources import MgclsSurvey

logger = logging.getLogger(__name__)

DATA_PREFIX = "repository/10.48479/7epd-w356/data/"
FOLDERS = {
    "5pln": f"{DATA_PREFIX}enhanced_products/5pln_cubes/",
    "fcube": f"{DATA_PREFIX}enhanced_products/frequency_cubes/",
    "basic": f"{DATA_PREFIX}basic_products/",
}
LANDING_PAGE = "https://archive-gw-1.kat.ac.za/public/repository/10.48479/7epd-w356/index.html"
REMEDY = (
    f"Open {LANDING_PAGE} in a browser: if it works there, compare archives.urls.mgcls with where "
    "its files lie and try again later; if it asks for a login, its help desk must say how to get "
    "in."
)

IMAGE = re.compile(r"\.fits(\.gz)?$", re.IGNORECASE)
ENHANCED = re.compile(
    r"(?P<field>.+)_[a-z]*fix_pol_(?P<polarisation>[IQUV])_(?P<resolution>15|F)arcsec"
    r"_(?P<kind>5pln|fcube)_cor\.fits(\.gz)?",
    re.IGNORECASE,
)
# A field's own dots are followed by digits (J0232.2-4420), those of tokens by a letter, but 1pln.
BASIC = re.compile(r"(?P<field>.+?)(?P<tokens>(\.(\d+pln|[a-z]\w*))*)\.fits(\.gz)?", re.IGNORECASE)
POLARISATION_TOKEN = re.compile(r"([IQUV])Poln", re.IGNORECASE)
PLANES_TOKEN = re.compile(r"\.\d+pln(?=\.)", re.IGNORECASE)
# Tables of sources that lie among the basic images.
TABLE_TOKEN = "sntab"

RESOLUTIONS = {"15": "15arcsec", "F": "Farcsec"}

# Fields whose files are named otherwise than in the survey's own table of targets; all other
# differences are of blanks, underscores and a last letter.
ALIASES = {
    "rxcj1314.4-2515": "rxcj1314",
    "rxcj0225.1-2928": "rxcj0225.1-22928",
    "rxcj2351.0-1954": "rxcj2351.0-19",
}


@dataclass(frozen=True)
class ImageName:
    """What the name of a file says: its field, the kind of product, and which of several it is.

    `resolution` is empty for basic products, which have one.
    """

    field: str
    kind: str
    polarisation: str
    resolution: str


def list_products(survey: MgclsSurvey, web: Web, urls: ArchiveUrls) -> list[Listed]:
    """The files of the chosen product, polarisations and resolutions, sorted by name.

    Raises
    ------
    DataError
        If the archive cannot be listed, a pattern of `include` matches nothing, nothing is left,
        or a name is unsafe or not unique.
    """
    folder = FOLDERS[survey.products]
    objects = list_objects(web, urls.mgcls, folder, "MGCLS", REMEDY)
    chosen = choose(survey, objects)
    products = sorted(chosen)
    logger.info("MGCLS: %d of %d files below %s", len(products), len(objects), folder)
    return [
        Listed(
            product=safe_name(name),
            location=chosen[name].key,
            bytes=chosen[name].bytes,
            checksum=f"md5:{chosen[name].md5}" if chosen[name].md5 else "",
        )
        for name in products
    ]


def remotes(
    survey: MgclsSurvey, web: Web, urls: ArchiveUrls, rows: Sequence[ManifestRow]
) -> Iterator[Remote]:
    """Where the files of a manifest are fetched from."""
    for row in rows:
        if row.location.rpartition("/")[2] != row.product:
            raise DataError(
                f"MGCLS: the manifest has {row.product!r} at {row.location!r}; expected an object "
                "key that ends in the name. Delete the manifest and make it again."
            )
        yield Remote(
            name=row.product,
            url=object_url(urls.mgcls, row.location),
            bytes=row.bytes,
            checksum=row.checksum,
            content="fits.gz" if row.product.lower().endswith(".gz") else "fits",
        )


def read_name(name: str) -> ImageName | None:
    """What a file name says; None if it is no image, or named as no image is known to be."""
    if not IMAGE.search(name) or TABLE_TOKEN in name.lower():
        return None
    if found := ENHANCED.fullmatch(name):
        return ImageName(
            found["field"],
            found["kind"].lower(),
            found["polarisation"].upper(),
            RESOLUTIONS[found["resolution"].upper()],
        )
    if "_pol_" in name.lower() or not (found := BASIC.fullmatch(name)):
        return None
    token = POLARISATION_TOKEN.search(found["tokens"])
    return ImageName(found["field"], "basic", token[1].upper() if token else "I", "")


def is_field(wanted: str, field: str) -> bool:
    """Whether files of `field` are of the target `wanted`: Abell_13 is not in Abell_133.

    Blanks, underscores and case do not count, and one letter may follow a number: second
    observations have a B (`Abell_2811B`, `J0528.9-3927_B`), Abell 3365 an A.
    """
    target, found = _squeezed(wanted), _squeezed(field)
    target = ALIASES.get(target, target)
    return found == target or (target[-1:].isdigit() and found[:-1] == target and found[-1] in "ab")


def choose(survey: MgclsSurvey, objects: Sequence[S3Object]) -> dict[str, S3Object]:
    """The objects a survey asks for, by file name.

    Raises
    ------
    DataError
        As `list_products`.
    """
    named: list[tuple[str, ImageName, S3Object]] = []
    unread = []
    for item in objects:
        name = item.key.rpartition("/")[2]
        if image := read_name(name):
            named.append((name, image, item))
        elif IMAGE.search(name) and TABLE_TOKEN not in name.lower():
            unread.append(name)
    if unread:
        logger.warning(
            "MGCLS: %d images left out, since their names follow no known rule: %s",
            len(unread),
            ", ".join(sorted(unread)[:10]),
        )
    offered = [entry for entry in named if _is_asked_for(survey, entry[1])]
    if not offered:
        kinds = Counter(f"{i.kind} {i.polarisation} {i.resolution}".strip() for _, i, _ in named)
        listed = ", ".join(f"{n} of {kind}" for kind, n in sorted(kinds.items())) or "no image"
        raise DataError(
            f"MGCLS: {FOLDERS[survey.products]} holds nothing of products {survey.products!r}, "
            f"polarisations {list(survey.polarisations)}, resolutions {list(survey.resolutions)}; "
            f"it holds {listed}. Correct the survey's block."
        )
    kept = _included(survey, offered)
    # Where capitals do not count, as on many disks, one would take the place of the other.
    names = Counter(name.casefold() for name, _, _ in kept)
    if repeated := [name for name, count in names.items() if count > 1]:
        keys = [item.key for name, _, item in kept if name.casefold() == repeated[0]]
        raise DataError(
            f"MGCLS: {len(repeated)} names stand for more than one file, such as {keys}. Leave "
            "all but one of them out with the survey's `exclude`, giving their whole keys."
        )
    chosen = _without_copies({name: item for name, _, item in kept})
    _report_versions(chosen)
    return chosen


def _is_asked_for(survey: MgclsSurvey, image: ImageName) -> bool:
    return (
        image.kind == survey.products
        and image.polarisation in survey.polarisations
        and (image.kind == "basic" or image.resolution in survey.resolutions)
    )


def _included(
    survey: MgclsSurvey, offered: list[tuple[str, ImageName, S3Object]]
) -> list[tuple[str, ImageName, S3Object]]:
    """What `include` names (everything, if it is empty) and `exclude` does not."""

    def matches(pattern: str, entry: tuple[str, ImageName, S3Object]) -> bool:
        name, image, item = entry
        if (
            pattern in (name, item.key)
            or fnmatchcase(name, pattern)
            or fnmatchcase(item.key, pattern)
        ):
            return True
        return not set("*?[") & set(pattern) and is_field(pattern, image.field)

    for pattern in survey.include:
        if not any(matches(pattern, entry) for entry in offered):
            fields = sorted({image.field for _, image, _ in offered})
            near = difflib.get_close_matches(pattern, fields, 5, 0.5) or fields[:5]
            raise DataError(
                f"MGCLS: `include` asks for {pattern!r}, which matches none of the {len(offered)} "
                f"files of this kind; fields of similar name are {', '.join(near)}. Correct it: a "
                "field such as Abell_13, or a pattern of file names such as 'Abell_*'."
            )
    kept = [
        entry
        for entry in offered
        if (not survey.include or any(matches(pattern, entry) for pattern in survey.include))
        and not any(matches(pattern, entry) for pattern in survey.exclude)
    ]
    if not kept:
        raise DataError(
            f"MGCLS: `exclude` {list(survey.exclude)} leaves none of {len(offered)} files. Shorten "
            "it."
        )
    return kept


def _without_copies(chosen: dict[str, S3Object]) -> dict[str, S3Object]:
    """Leave out what another file holds as well, or the same sky would be cut twice.

    That is a plain file beside a packed one, and a `1pln` beside the cube it is plane 0 of. To
    have the small file instead of the cube, `include` asks for '*.1pln.*' only.
    """
    by_name = {name.lower(): name for name in chosen}
    copies = set()
    for low, name in by_name.items():
        is_packed = low.endswith(".gz")
        cube = PLANES_TOKEN.sub("", low).removesuffix(".gz")
        others = {cube, f"{cube}.gz"} if cube != low.removesuffix(".gz") else set()
        if not is_packed:
            others.add(f"{low}.gz")
        if others & set(by_name):
            copies.add(name)
    if copies:
        logger.info(
            "MGCLS: %d files left out, being copies or plane 0 of others: %s",
            len(copies),
            ", ".join(sorted(copies)[:10]),
        )
    return {name: item for name, item in chosen.items() if name not in copies}


def _report_versions(chosen: dict[str, S3Object]) -> None:
    """Name fields that come in several versions: their sky is cut as often."""
    versions: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for name in chosen:
        image = read_name(name)
        assert image is not None
        versions[image.field.lower(), image.polarisation, image.resolution].append(name)
    for names in versions.values():
        if len(names) > 1:
            logger.warning(
                "MGCLS: %s are of the same field; leave all but one out with `exclude`, unless "
                "its sky is meant to be cut more than once",
                ", ".join(sorted(names)),
            )


def _squeezed(name: str) -> str:
    return re.sub(r"[\s_†]+", "", name).casefold()
