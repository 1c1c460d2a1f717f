"""What a detection set from truth catalogues consists of: products, and the truth of each."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stradavit.acquire.manifest import Acquired, read_ledger
from stradavit.errors import DataError
from stradavit.files import sha256_of
from stradavit.settings.archives import ArchiveSettings
from stradavit.settings.detection import TruthSet

logger = logging.getLogger(__name__)


def truth_sources(
    name: str,
    block: TruthSet,
    out_path: Path,
    ledgers: Sequence[Path],
    archives: ArchiveSettings | None = None,
) -> dict[str, Any]:
    """The products of a survey with the truth catalogue that belongs to each.

    The truth of a product is the file `block.truth` names for it, else `<product>.truth.csv` beside
    it, as drawn mosaics have, else, if it is called as an SDC1 image is, the archive's catalogue of
    its band, fetched into `files/` beside `out_path`.

    Parameters
    ----------
    name : key of the detection set
    block : its settings
    out_path : where the result will be written
    ledgers : of all parts of the survey
    archives : where archives are and how they are asked; the defaults if absent

    Returns
    -------
    `{"kind": "truth", "products": [...]}` with, for each product in order of their names, its
    `product`, absolute `path`, `sha256` and `bytes`, and its `truth` (absolute) and `truth_sha256`

    Raises
    ------
    DataError
        If there is no product, the settings name one that is not there, or a truth catalogue is
        missing or does not come; calling again fetches only what is still missing.
    """
    acquired = [item for ledger in ledgers for item in read_ledger(ledger)]
    chosen = _chosen(name, block, {item.product: item for item in acquired})
    folder = Path(out_path).absolute().parent / "files"
    digests: dict[Path, str] = {}
    products = []
    for item in chosen:
        path = _truth_of(name, block, item, folder, archives or ArchiveSettings())
        # One catalogue is that of all depths of a band.
        if path not in digests:
            digests[path] = sha256_of(path)
        products.append(
            {
                "product": item.product,
                "path": str(item.path),
                "sha256": item.sha256,
                "bytes": item.bytes,
                "truth": str(path),
                "truth_sha256": digests[path],
            }
        )
    logger.info("%s: %d products, %d truth catalogues", name, len(products), len(digests))
    return {"kind": "truth", "products": products}


def _chosen(name: str, block: TruthSet, there: dict[str, Acquired]) -> list[Acquired]:
    """The products to take, by name."""
    if not there:
        raise DataError(
            f"{name}: the survey {block.survey} has no product in its ledgers; expected at least "
            f"one. Correct detection.sets.{name}.survey."
        )
    for key, named in (("products", block.products), ("truth", block.truth)):
        if unknown := [product for product in named or () if product not in there]:
            raise DataError(
                f"{name}: the survey {block.survey} has no product {unknown[0]!r}; it has "
                f"{', '.join(sorted(there)[:8])}. Correct detection.sets.{name}.{key}."
            )
    wanted = there if block.products is None else block.products
    return [there[product] for product in sorted(set(wanted))]


def _truth_of(
    name: str, block: TruthSet, item: Acquired, folder: Path, archives: ArchiveSettings
) -> Path:
    """The truth catalogue of a product, which is there."""
    if block.truth is not None and item.product in block.truth:
        named = Path(block.truth[item.product]).absolute()
        if not named.is_file():
            raise DataError(
                f"{named}: is no file; expected the truth catalogue of {item.product}. Correct "
                f"detection.sets.{name}.truth."
            )
        return named
    beside = item.path.with_suffix(".truth.csv")
    return beside if beside.is_file() else _fetched(name, block, item, folder, archives)


def _fetched(
    name: str, block: TruthSet, item: Acquired, folder: Path, archives: ArchiveSettings
) -> Path:
    """The archive's catalogue of the band of a product."""
    from stradavit.acquire.archives.sdc1 import IMAGE, truth_remotes
    from stradavit.acquire.transfer.fetch import fetch
    from stradavit.acquire.transfer.journal import Journal
    from stradavit.acquire.transfer.web import Web
    from stradavit.settings.sources import Sdc1Survey

    image = item.path.name
    if not IMAGE.fullmatch(image):
        raise DataError(
            f"{name}: the product {item.product} ({item.path}) has no truth catalogue: none is "
            f"beside it, and its name is none of SDC1. Name one in detection.sets.{name}.truth, or "
            f"leave the product out with detection.sets.{name}.products."
        )
    # Only the name matters: the image is here, and the share it came from plays no part.
    survey = Sdc1Survey(source="sdc1", files=(image,), shares={image: "unused"})
    (remote,) = truth_remotes(survey, archives.urls, block.catalogue)
    outcome = Journal(folder).fetched(remote)
    if outcome is None:
        with Web(archives) as web:
            (outcome,) = fetch(web, [remote], folder, f"truth of {name}")
    if outcome.path is None:
        raise DataError(
            f"{name}: {remote.name}, the truth of {item.product}, did not come ({outcome.reason}). "
            "Run it again later; if its share has gone, fetch the catalogue by hand and name it in "
            f"detection.sets.{name}.truth."
        )
    return outcome.path
