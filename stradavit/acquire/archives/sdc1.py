"""SKA Science Data Challenge 1 (Bonaldi et al. 2021): simulated fields behind public share links.

There is no list to ask and no checksum to compare. Which share is which file is in the survey's
`shares`; whether the right file came is told by its size and by its header, since all nine images
have one size and a share may be replaced.
"""

import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal

from astropy.io import fits

from stradavit.acquire.manifest import ManifestRow
from stradavit.acquire.transfer.fetch import Outcome, Remote, fetch, safe_name
from stradavit.acquire.transfer.listed import Listed
from stradavit.acquire.transfer.web import Web
from stradavit.errors import DataError
from stradavit.settings.archives import ArchiveUrls
from stradavit.settings.sources import Sdc1Survey

PAGE = "https://www.skao.int/en/464/ska-science-data-challenge-1"
SHARE_REMEDY = (
    f"Its share may have expired or been replaced: put the token of its link on {PAGE} into the "
    "survey's `shares`"
)
TOKEN = re.compile(r"[A-Za-z0-9]{6,64}")
IMAGE = re.compile(r"SKAMid_(?P<band>B[125])_(8|100|1000)h_v\d+\.fits")

# |CDELT| of the images of each band, degrees: nothing else in a header tells them apart.
PIXEL_DEG = {"B1": 1.67847e-4, "B2": 6.71387e-5, "B5": 1.02168e-5}
PIXEL_TOLERANCE = 0.01

MHZ = {"B1": 560, "B2": 1400, "B5": 9200}
TRAINING_SHARES = {
    "TrainingSet_B1_v2.txt": "iTOVkIL6EfXkcdR",
    "TrainingSet_B2_v2.txt": "0HMJmNhPywxQdY4",
    "TrainingSet_B5_v2.txt": "Y5CIa5V3QiBu1M1",
}
FULL_SHARES = {
    "True_560_v2.txt": "CZENkk6JdyVqIHw",
    "True_1400_v2.txt": "J2WFVTsFevJBHKj",
    "True_9200_v2.txt": "Vao072pgtP9NESB",
}
TRUTH_BYTES = {"True_1400_v2.txt": 228_644_250}

# Id to class; training sets append selection and the pixel.
TRUTH_COLUMNS = 12
# Training sets begin with 18 lines of prose, and descriptions wrap.
TRUTH_HEADER_LINES = 60
OF_NUMBERS = b"0123456789+-.eEnaNifIF \t\r\n"
LONGEST_LINE = 4096
HEADER_BLOCKS = 36
FITS_BLOCK = 2880
CARD = 80
MAX_AXES = 999


def list_products(survey: Sdc1Survey, web: Web, urls: ArchiveUrls) -> list[Listed]:
    """The chosen images, sorted by name; nothing is asked, since there is no list.

    Raises
    ------
    DataError
        If a token or a name is none.
    """
    return [
        Listed(safe_name(name), _token(name, survey.shares[name]), survey.bytes.get(name))
        for name in sorted(set(survey.files))
    ]


def remotes(
    survey: Sdc1Survey, web: Web, urls: ArchiveUrls, rows: Sequence[ManifestRow]
) -> Iterator[Remote]:
    """Where the files of a manifest are fetched from."""
    for row in rows:
        yield Remote(
            name=row.product,
            url=_share_url(urls, row.product, row.location),
            bytes=row.bytes,
            checksum=row.checksum,
            content="fits",
            verify=partial(wrong_image, name=row.product),
        )


def fetch_rows(
    survey: Sdc1Survey,
    web: Web,
    urls: ArchiveUrls,
    rows: Sequence[ManifestRow],
    folder: Path,
    what: str,
) -> list[Outcome]:
    """Fetch the files of a manifest, one at a time: the shares are of an institute's own cloud."""
    with Web(web.archives.model_copy(update={"streams": 1})) as single:
        outcomes = fetch(single, list(remotes(survey, single, urls, rows)), folder, what)
    return [
        replace(outcome, reason=f"{outcome.reason}. {SHARE_REMEDY}")
        if outcome.state == "refused"
        else outcome
        for outcome in outcomes
    ]


def truth_remotes(
    survey: Sdc1Survey, urls: ArchiveUrls, kind: Literal["training", "full"] = "training"
) -> list[Remote]:
    """The catalogues of what was put into the survey's images, one for each band.

    Parameters
    ----------
    survey : tokens and sizes in its `shares` and `bytes` go before the known ones
    kind : training: the sources of 5 % of each field, with the pixel of each; full: all sources

    Raises
    ------
    DataError
        If a file of the survey is of no known band.
    """
    bands = set()
    for name in survey.files:
        found = IMAGE.fullmatch(name)
        if found is None:
            raise DataError(
                f"SDC1: {name!r} names no band, so its truth catalogue is not known; expected a "
                "name such as SKAMid_B1_1000h_v3.fits."
            )
        bands.add(found["band"])
    known = TRAINING_SHARES if kind == "training" else FULL_SHARES
    names = {"training": "TrainingSet_{0}_v2.txt", "full": "True_{1}_v2.txt"}
    catalogues = [names[kind].format(band, MHZ[band]) for band in sorted(bands)]
    return [
        Remote(
            name=name,
            url=_share_url(urls, name, survey.shares.get(name, known[name])),
            bytes=survey.bytes.get(name, TRUTH_BYTES.get(name)),
            content="text",
            verify=wrong_truth,
        )
        for name in catalogues
    ]


def wrong_image(path: Path, name: str) -> str | None:
    """Why a FITS file cannot be the image of that name; None if it can."""
    header = _header(path)
    if header is None:
        return "its FITS header is damaged"
    n_axes, bitpix = header.get("NAXIS"), header.get("BITPIX")
    if not isinstance(n_axes, int) or not 0 <= n_axes <= MAX_AXES:
        return f"its FITS header says NAXIS {n_axes!r}"
    shape = [header.get(f"NAXIS{axis + 1}") for axis in range(n_axes)]
    if bitpix != -32 or len(shape) < 2 or any(length != 1 for length in shape[2:]):
        return f"its header says BITPIX {bitpix} and axes {shape}; expected float32 with one plane"
    found = IMAGE.fullmatch(name)
    step = header.get("CDELT1")
    if found is None:
        return None
    expected = PIXEL_DEG[found["band"]]
    if not isinstance(step, float) or abs(abs(step) / expected - 1.0) > PIXEL_TOLERANCE:
        return f"its header says CDELT1 {step!r}; expected {expected} as in band {found['band']}"
    return None


def wrong_truth(path: Path) -> str | None:
    """Why a text cannot be a whole truth catalogue; None if it can."""
    width = 0
    with Path(path).open("rb") as opened:
        for number, line in enumerate(iter(lambda: opened.readline(LONGEST_LINE), b""), start=1):
            is_row = not line.translate(None, OF_NUMBERS)
            n_cells = len(line.split())
            if not width and is_row and n_cells >= TRUTH_COLUMNS:
                width = n_cells
            elif width and n_cells and not (is_row and n_cells == width):
                shown = line.strip()[:60].decode("latin1")
                return f"its line {number}, {shown!r}, is not {width} numbers as the others are"
            if not width and number >= TRUTH_HEADER_LINES:
                break
    if not width:
        return (
            f"none of its first {TRUTH_HEADER_LINES} lines is of {TRUTH_COLUMNS} or more numbers, "
            "as the rows of a truth catalogue are"
        )
    return None


def _header(path: Path) -> fits.Header | None:
    """The primary header, read from a bounded head of the file."""
    with Path(path).open("rb") as opened:
        head = opened.read(HEADER_BLOCKS * FITS_BLOCK)
    cards = [head[at : at + CARD] for at in range(0, len(head), CARD)]
    end = next((n for n, card in enumerate(cards) if card.rstrip() == b"END"), None)
    if end is None:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            header = fits.Header.fromstring(b"".join(cards[:end]))
            # Values are parsed when they are asked for, and only then found to be broken.
            list(header.values())
        except Exception:
            return None
    return header


def _token(name: str, token: str) -> str:
    if not TOKEN.fullmatch(token):
        raise DataError(
            f"SDC1: the share of {name} is {token[:80]!r}; expected the letters and digits that "
            "follow /s/ in its link. Correct it in the survey's `shares`, or make the manifest "
            "again."
        )
    return token


def _share_url(urls: ArchiveUrls, name: str, token: str) -> str:
    return f"{urls.sdc1}/{_token(name, token)}/download"
