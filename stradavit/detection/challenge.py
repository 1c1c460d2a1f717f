"""What the SKA Science Data Challenge 1 would say of the boxes a detector found.

The scorer asks for a catalogue, and boxes tell little of what it wants; everything else is made up
here from the pixels or from the training images, and said below. It is therefore a lower bound of
what the detector could earn, and comparable between encoders, not with the challenge's results.
"""

import logging
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stradavit.acquire.archives.sdc1 import IMAGE, MHZ
from stradavit.acquire.detection_sources import read_sources
from stradavit.acquire.truth_catalogue import SIZE_EXPONENTIAL, TRUTH_FIELDS
from stradavit.cutouts.detection_images import DetectionImages
from stradavit.cutouts.fits import open_product
from stradavit.cutouts.product import Product
from stradavit.cutouts.truth_boxes import EXPONENTIAL_TO_GAUSS, ProductSky, as_slices, read_near
from stradavit.cutouts.truth_tiles import KINDS, PLANE
from stradavit.detection.coco import Detection
from stradavit.detection.sdc1_scorer import ChallengeCount, score_field
from stradavit.errors import DataError
from stradavit.files import sha256_of

logger = logging.getLogger(__name__)

# A match earns 1 at most and a false detection costs 1, so one that is as likely false as true is
# not worth submitting.
MIN_SCORE = 0.5
# A box no larger than the beam is of a source whose size cannot be seen; none is 0.
LEAST_SIZE_BEAMS = 0.1


@dataclass(frozen=True)
class _Field:
    """The scored cutouts of one product."""

    item: dict[str, Any]
    band_mhz: int
    truth: NDArray[np.void]  # sources whose centroid lies on a scored cutout
    n_bright: int  # of these the ones that have a box


def challenge_score(
    images: DetectionImages, sources_path: Path, split: str, found: Sequence[Detection]
) -> dict[str, Any] | None:
    """The challenge's score of what was found in one split of a detection set.

    Of a detection with a score of at least `MIN_SCORE` are submitted:

    - position (core and centroid): the middle of the box, through the product's WCS;
    - flux: the sum of the product's pixels in the box over the area of the beam, without any
      background; a detection without positive flux cannot be submitted and is left out;
    - `b_maj`, `b_min`: the sides of the box less the beam, in quadrature; `pa`: 0 if it is wider
      than high, else 90; `core_frac`: 0;
    - `size`, and `class` where the detector knows only sources: the commonest of the sources with a
      box in the training images; else the class that was found.

    True are all sources of the catalogue, faint ones too, whose centroid lies on a cutout of the
    split: those elsewhere were not looked for. Each product is a field by itself. The scorer asks
    for one of three bands, by which it takes the beam and the place of the training area: the
    product's name says it, else the one nearest to its frequency. It compares positions and sizes
    with that band's beam, and takes no account of the field's size, noise or least flux, so it also
    means something for a small drawn field; its beam of 0.63 arcsec at 560 MHz is narrower than
    the 1.5 arcsec of the images, there as in the challenge.

    Parameters
    ----------
    images : a set made from truth catalogues
    sources_path : its `sources.json`
    split : which images were searched
    found : COCO results; `image_id` is the number of an image, boxes are in pixels of it

    Returns
    -------
    `score`: sum over matches (each in [0, 1]) less the number of false detections; `percent`:
    100 × score / number of sources with a box on the cutouts of the split, which is about the
    most that can be earned; `n_detections`, `n_matched`, `n_false`; `band_mhz`, null if products
    differ in it. None if no band is known.

    Raises
    ------
    DataError
        If the sources are not those the images were cut from, or a file has changed or is missing.
    """
    items = _items(images, sources_path)
    numbers: dict[str, list[int]] = {}
    for number in images.of_split(split).tolist():
        numbers.setdefault(images.place(number)[0], []).append(number)
    fields, codes = [], {"size": Counter[int](), "class": Counter[int]()}
    for name in sorted({images.place(number)[0] for number in range(len(images))}):
        field = _field(images, items[name], numbers.get(name, []), codes)
        if field is None:
            return None
        fields.append(field)
    commonest = {name: max(count, key=lambda code: (count[code], -code), default=1)
                 for name, count in codes.items()}  # fmt: skip
    total = ChallengeCount()
    worthy = [one for one in found if one["score"] >= MIN_SCORE]
    for field in fields:
        own = set(numbers.get(field.item["product"], []))
        some = [one for one in worthy if one["image_id"] in own]
        submitted = _catalogue(images, field, some, commonest)
        truth = _as_table({name: field.truth[name] for name in TRUTH_FIELDS})
        total += score_field(submitted, truth, field.band_mhz)
    n_bright = sum(field.n_bright for field in fields)
    bands = {field.band_mhz for field in fields}
    return {
        "score": total.score,
        "percent": 100.0 * total.score / n_bright if n_bright else 0.0,
        "n_detections": total.n_detections,
        "n_matched": total.n_matched,
        "n_false": total.n_false,
        "band_mhz": bands.pop() if len(bands) == 1 else None,
    }


def _items(images: DetectionImages, sources_path: Path) -> dict[str, dict[str, Any]]:
    """What the set consists of, by product."""
    if sha256_of(sources_path) != images.attribute("sources_sha256"):
        raise DataError(
            f"{sources_path}: is not what {images.path} was cut from. Cut the detection set again."
        )
    return {item["product"]: item for item in read_sources(sources_path)["products"]}


def _field(
    images: DetectionImages,
    item: dict[str, Any],
    numbers: list[int],
    codes: dict[str, Counter[int]],
) -> _Field | None:
    """The truth of a product; adds the codes of its training sources to `codes`."""
    with open_product(Path(item["path"])) as product:
        band_mhz = _band_of(item, product)
        if band_mhz is None:
            return None
        sky = ProductSky(product, item["product"])
    rows, _ = read_near(Path(item["truth"]), sky)
    learned = {
        _id_of(source)
        for number in images.of_split("train").tolist()
        if images.place(number)[0] == item["product"]
        for source, crowd in zip(images.sources(number), images.is_crowd(number), strict=True)
        if not crowd
    }
    is_learned = np.isin(rows["id"], list(learned))
    for name, count in codes.items():
        count.update(rows[name][is_learned].tolist())

    x, y = sky.to_pixels(rows["ra_cent"], rows["dec_cent"])
    is_on = np.zeros(len(rows), np.bool_)
    bright: set[int] = set()
    for number in numbers:
        _, y0, x0, _, _ = images.place(number)
        ny, nx = images.shapes[number].tolist()
        column, row = x + 0.5 - x0, y + 0.5 - y0
        is_on |= (column >= 0) & (column < nx) & (row >= 0) & (row < ny)
        bright.update(_id_of(source) for source in images.sources(number))
    truth = rows[is_on]
    return _Field(item, band_mhz, truth, int(np.isin(truth["id"], list(bright)).sum()))


def _id_of(source: str) -> int:
    """The catalogue's id in "<product>/<id>"."""
    return int(source.rpartition("/")[2])


def _band_of(item: dict[str, Any], product: Product) -> int | None:
    """The challenge's band of a product, MHz."""
    named = IMAGE.fullmatch(Path(item["path"]).name)
    if named is not None:
        return MHZ[named["band"]]
    if product.frequency_hz is None:
        logger.warning(
            "%s: no SDC1 score, since neither its name nor its header tells a frequency",
            item["product"],
        )
        return None
    mhz = product.frequency_hz / 1e6
    band = min(MHZ.values(), key=lambda known: abs(math.log(known / mhz)))
    logger.info("%s: %.0f MHz, scored as SDC1's band of %d MHz", item["product"], mhz, band)
    return band


def _catalogue(
    images: DetectionImages, field: _Field, found: Sequence[Detection], commonest: dict[str, int]
) -> pd.DataFrame:
    """What is submitted for the detections in one product."""
    kinds = [KINDS.index(name) + 1 if name in KINDS else None for name in images.classes]
    # In order of the cutouts, so that pixels are read once.
    found = sorted(found, key=lambda one: images.place(one["image_id"])[1:3])
    columns: dict[str, list[float]] = {name: [] for name in ("x", "y", "sum", "wide", "high")}
    classes: list[int] = []
    with open_product(Path(field.item["path"])) as product:
        sky = ProductSky(product, field.item["product"])
        band, band_y0 = np.zeros((0, 0), np.float32), -1
        for one in found:
            _, y0, x0, _, _ = images.place(one["image_id"])
            ny, nx = images.shapes[one["image_id"]].tolist()
            if y0 != band_y0:
                band, band_y0 = product.read(PLANE, y0, y0 + ny), y0
            left, top, wide, high = one["bbox"]
            box = np.array([left, top, left + wide, top + high], np.float64)
            pixels = band[:, x0 : x0 + nx][as_slices(box, (ny, nx))]
            columns["sum"].append(float(pixels.sum(dtype=np.float64)))
            columns["x"].append(x0 + left + 0.5 * wide - 0.5)
            columns["y"].append(y0 + top + 0.5 * high - 0.5)
            columns["wide"].append(wide)
            columns["high"].append(high)
            classes.append(kinds[one["category_id"]] or commonest["class"])
    values = {name: np.array(column, np.float64) for name, column in columns.items()}
    # The two routines of the WCS refuse empty arrays.
    nowhere = np.zeros(0), np.zeros(0)
    ra, dec = sky.to_sky(values["x"], values["y"]) if found else nowhere
    beam = sky.beam_arcsec
    widths = np.stack([values["wide"], values["high"]], axis=-1) * sky.scale_arcsec
    sizes = np.sqrt(np.maximum(widths**2 - beam**2, (LEAST_SIZE_BEAMS * beam) ** 2))
    if commonest["size"] == SIZE_EXPONENTIAL:
        sizes /= EXPONENTIAL_TO_GAUSS
    table = _as_table(
        {
            "id": np.arange(len(found)),
            "ra_core": ra,
            "dec_core": dec,
            "ra_cent": ra,
            "dec_cent": dec,
            "flux": values["sum"] / sky.beam_area_px,
            "core_frac": np.zeros(len(found)),
            "b_maj": sizes.max(axis=1),
            "b_min": sizes.min(axis=1),
            "pa": np.where(values["wide"] > values["high"], 0.0, 90.0),
            "size": np.full(len(found), commonest["size"]),
            "class": np.array(classes, np.int64),
        }
    )
    return table[table["flux"] > 0].reset_index(drop=True)


def _as_table(columns: dict[str, NDArray[Any]]) -> pd.DataFrame:
    """Float64 but for the integers; the scorer adds and divides columns of all kinds."""
    return pd.DataFrame(
        {
            name: values.astype(np.int64 if name in ("id", "size", "class") else np.float64)
            for name, values in columns.items()
        }
    )
