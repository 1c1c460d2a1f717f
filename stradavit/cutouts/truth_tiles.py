"""Cutouts of mosaics with the boxes of their truth catalogues, divided by bands of the sky.

Cutouts are those of the first plane, on the grid and with the stretch of a survey's. Rows of
cutouts are divided as whole bands: the first for testing, the next for validation, the others for
training. A source belongs to the cutout its centroid lies in, where its box is clipped at the
border; where its box reaches into another cutout, that part is a region to ignore there. A source
whose box touches rows of two splits is a region to ignore everywhere: no source that is learned is
scored.
"""

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stradavit.cutouts.detection_images import Scene
from stradavit.cutouts.fits import open_product
from stradavit.cutouts.quantise import quantise
from stradavit.cutouts.sky import Floats, Footprints, footprints, near
from stradavit.cutouts.tiling import cut, stretched, tile_corners
from stradavit.cutouts.truth_boxes import (
    ProductSky,
    as_slices,
    background_and_noise,
    highest_peaks,
    read_near,
    truth_boxes,
)
from stradavit.cutouts.truth_grid import has_truth, homes, split_rows, touched
from stradavit.cutouts.zscale import scale
from stradavit.errors import DataError, MalformedProductError
from stradavit.files import sha256_of
from stradavit.progress import progress
from stradavit.settings import CutoutSettings
from stradavit.settings.detection import Split, TruthSet

logger = logging.getLogger(__name__)

# By SDC1's codes 1, 2, 3.
KINDS = ("steep-spectrum AGN", "flat-spectrum AGN", "star-forming")
PLANE = 0
# Thinner slivers of a box that reach into another cutout are nothing to ignore.
SLIVER_PX = 1e-3
# Nearer than this is within: products may touch.
TOUCH_ARCMIN = 1e-6


@dataclass(frozen=True)
class _Placed:
    """A source on a cutout: x0, y0, x1, y1 in pixels of the cutout."""

    box: tuple[float, float, float, float]
    label: int
    is_crowd: bool
    source: str


@dataclass(frozen=True)
class _Cutouts:
    """The cutouts of one product that are kept, and what lies on them."""

    item: dict[str, Any]
    corners: list[tuple[int, int]]
    limits: Floats  # (n, 2) low and high of the cutouts; NaN of those that are dropped
    splits: list[Split | None]  # of each cutout's row
    sky: Footprints
    placed: list[list[_Placed]]
    n_columns: int
    is_kept: NDArray[np.bool_]  # (n,)


def truth_scenes(
    block: TruthSet, cutouts: CutoutSettings, sources: dict[str, Any]
) -> tuple[tuple[str, ...], Iterator[Scene], dict[str, Any]]:
    """Cut the products of a detection set and put boxes on them; see the head of this module.

    Each product is read twice: which sources are bright enough has to be known before the first
    cutout is given away, since a box may reach into it.

    Parameters
    ----------
    block : settings of the set
    cutouts : size and limits of the cutouts
    sources : what `stradavit.acquire.truth_sources.truth_sources` returned

    Returns
    -------
    classes : names; `source`, or the challenge's kinds of object
    scenes : cutouts in the order of products, rows and columns, called
        "<product>/y<y0>x<x0>"; those without a source are among them. Their `sources` are
        "<product>/<id of the catalogue>"
    counts : `products`; `skipped`, products by reason; `dropped`, cutouts by reason, of which
        `no_truth` lie off the catalogue's area; `images` by split; and `sources`: of all in the
        catalogues those `outside` the cutouts, on a cutout that is dropped (`on_dropped`),
        too `faint`, of an `other_class`, `shared_by_splits`, and the rest, `boxes`. Of these some
        are `clipped`. `ignored` is the number of regions to ignore. Complete at once.

    Raises
    ------
    DataError
        If a file is not the one that was acquired, a product has no WCS or beam, too few rows of
        cutouts to divide, or shares its sky with another one.
    """
    classes, label_of = _classes(block)
    counts: dict[str, Any] = {"products": 0, "skipped": Counter(), "dropped": Counter()}
    counts |= {"images": Counter(), "sources": Counter()}
    products = []
    for item in progress(sources["products"], desc="find sources", unit="product"):
        _check_files(item)
        try:
            products.append(_cutouts_of(item, block, cutouts, label_of, counts))
        except MalformedProductError as error:
            logger.warning("%s skipped: %s", item["product"], error)
            counts["skipped"][error.reason] += 1
    _refuse_shared_sky(products)
    counts["products"] = len(products)
    told = {name: dict(n) if isinstance(n, Counter) else n for name, n in counts.items()}
    return classes, _scenes(products, cutouts), told


def _classes(block: TruthSet) -> tuple[tuple[str, ...], dict[int, int]]:
    """Class names, and the label of each of the challenge's codes that has one."""
    known = ("source",) if block.labels == "source" else KINDS
    wanted = known if block.classes is None else block.classes
    if unknown := [name for name in wanted if name not in known]:
        raise DataError(
            f"detection set on {block.survey}: has no class {unknown[0]!r}; with labels: "
            f"{block.labels} its classes are {', '.join(known)}. Correct its classes."
        )
    if block.labels == "source":
        return wanted, dict.fromkeys((1, 2, 3), 0)
    return wanted, {KINDS.index(name) + 1: label for label, name in enumerate(wanted)}


def _check_files(item: dict[str, Any]) -> None:
    path, truth = Path(item["path"]), Path(item["truth"])
    remedy = "Delete the sources.json of the detection set and acquire it again."
    if not path.is_file() or path.stat().st_size != item["bytes"]:
        raise DataError(f"{path}: is not the file of {item['bytes']} bytes it was. {remedy}")
    if not truth.is_file() or sha256_of(truth) != item["truth_sha256"]:
        raise DataError(f"{truth}: is not the truth catalogue it was. {remedy}")


def _cutouts_of(
    item: dict[str, Any],
    block: TruthSet,
    cutouts: CutoutSettings,
    label_of: dict[int, int],
    counts: dict[str, Any],
) -> _Cutouts:
    size = cutouts.size_px
    with open_product(Path(item["path"]), cutouts.memory_mb) as product:
        sky = ProductSky(product, item["product"])
        rows, n_rows = read_near(Path(item["truth"]), sky)
        boxes = truth_boxes(rows, sky, block.min_box_px)
        corners = tile_corners(product.shape, size, "tiles")
        middle = 0.5 * (boxes[:, :2] + boxes[:, 2:])
        home = homes(middle, product.shape, size)
        is_on_truth = has_truth(corners, size, middle)
        limits = np.full((len(corners), 2), np.nan)
        noise = np.full(len(corners), np.nan)
        measured = np.full(len(rows), np.nan)
        order = np.argsort(home, kind="stable")
        starts = np.searchsorted(home[order], np.arange(len(corners) + 1))
        for number, cutout in enumerate(cut(product, size, (PLANE,), "tiles")):
            kept = "no_truth"
            if is_on_truth[number]:
                found = stretched(cutout.pixels, "zscale", cutouts.constant_std)
                if not isinstance(found, str):
                    limits[number] = found[1:]
                    background, noise[number] = background_and_noise(cutout.pixels)
                    own = order[starts[number] : starts[number + 1]]
                    peaks = _brightest(cutout.pixels, boxes[own], cutout.y0, cutout.x0)
                    measured[own] = peaks - background
                    continue
                kept = found
            counts["dropped"][kept] += 1
        # Both are too high: the one by the primary beam, the other by neighbours and noise. The
        # lower one is the nearer; of sources on no cutout there is only the first.
        peaks = np.fmin(highest_peaks(rows, sky), measured)
        is_kept = np.isfinite(noise)
        splits = split_rows(item["product"], corners, is_kept, block)
        sky_of = footprints(sky.wcs, corners, size)
        n_columns = product.shape[1] // size
    result = _Cutouts(
        item, corners, limits, splits, sky_of, [[] for _ in corners], n_columns, is_kept
    )

    is_home_kept = (home >= 0) & is_kept[home]
    typical = float(np.nanmedian(noise))
    is_bright = peaks >= block.min_snr * np.where(is_home_kept, noise[home], typical)
    labels = [label_of.get(int(code), -1) for code in rows["class"]]
    tally = counts["sources"]
    tally["outside"] += n_rows - int((home >= 0).sum())
    tally["on_dropped"] += int(((home >= 0) & ~is_home_kept).sum())
    tally["faint"] += int((is_home_kept & ~is_bright).sum())
    for number in np.flatnonzero(is_bright).tolist():
        if labels[number] < 0:
            tally["other_class"] += int(is_home_kept[number])
            continue
        at = int(home[number]) if is_home_kept[number] else None
        # Drawn catalogues all count from 1: an id is one source only within its product.
        named = f"{item['product']}/{rows['id'][number]}"
        _place(result, boxes[number], at, labels[number], named, size, tally)
    used = [split for split, kept in zip(splits, is_kept, strict=True) if kept and split]
    counts["images"].update(used)
    return result


def _brightest(pixels: NDArray[np.float32], boxes: Floats, y0: int, x0: int) -> Floats:
    """The brightest pixel in each box, (n,); sources with lobes are not brightest in the middle."""
    moved = boxes - np.array([x0, y0, x0, y0])
    return np.array([pixels[as_slices(box, pixels.shape)].max() for box in moved], np.float64)


def _place(
    cutouts: _Cutouts,
    box: Floats,
    home: int | None,
    label: int,
    source: str,
    size: int,
    tally: Counter[str],
) -> None:
    """Put a source on every cutout that its box touches."""
    n_columns = cutouts.n_columns
    n_rows = len(cutouts.corners) // n_columns
    x0, y0, x1, y1 = (float(edge) for edge in box)
    columns = touched(x0, x1, size, n_columns)
    rows = touched(y0, y1, size, n_rows)
    # All of a row has one split: its first cutout tells.
    splits = {cutouts.splits[row * n_columns] for row in rows} - {None}
    is_shared = len(splits) > 1
    if home is not None:
        tally["shared_by_splits" if is_shared else "boxes"] += 1
        is_cut = min(x0, y0) < 0 or len(rows) * len(columns) > 1
        is_cut |= x1 > n_columns * size or y1 > n_rows * size
        tally["clipped"] += is_cut and not is_shared
    for row in rows:
        for column in columns:
            number = row * n_columns + column
            edges = np.array([x0, y0, x1, y1]) - np.array([column, row, column, row]) * size
            left, top, right, bottom = np.clip(edges, 0, size).tolist()
            if not cutouts.is_kept[number] or min(right - left, bottom - top) < SLIVER_PX:
                continue
            is_crowd = is_shared or number != home
            tally["ignored"] += is_crowd
            placed = _Placed((left, top, right, bottom), label, is_crowd, source)
            cutouts.placed[number].append(placed)


def _refuse_shared_sky(products: Sequence[_Cutouts]) -> None:
    """A source that two products show could be learned on one and scored on the other."""
    for one, other in combinations(products, 2):
        for a, b in ((one, other), (other, one)):
            kept = Footprints(
                a.sky.centres[a.is_kept], a.sky.corners[a.is_kept], a.sky.radius_arcsec[a.is_kept]
            )
            points = np.concatenate(
                [b.sky.centres[b.is_kept], b.sky.corners[b.is_kept].reshape(-1, 2)]
            )
            if near(kept, points, TOUCH_ARCMIN).any():
                raise DataError(
                    f"{one.item['product']} and {other.item['product']}: show the same sky, so a "
                    "source of the one's training could be in the other's test. Name products "
                    "apart on the sky in the detection set's products, or make a set of each."
                )


def _scenes(products: Sequence[_Cutouts], cutouts: CutoutSettings) -> Iterator[Scene]:
    for plan in products:
        name = plan.item["product"]
        with open_product(Path(plan.item["path"]), cutouts.memory_mb) as product:
            for number, cutout in enumerate(cut(product, cutouts.size_px, (PLANE,), "tiles")):
                split = plan.splits[number]
                if not plan.is_kept[number] or split is None:
                    continue
                low, high = plan.limits[number].tolist()
                placed = plan.placed[number]
                ra, dec = plan.sky.centres[number].tolist()
                yield Scene(
                    name=f"{name}/y{cutout.y0}x{cutout.x0}",
                    split=split,
                    levels=quantise(scale(cutout.pixels, low, high)),
                    boxes=np.array([one.box for one in placed], np.float32).reshape(-1, 4),
                    labels=np.array([one.label for one in placed], np.int64),
                    is_crowd=np.array([one.is_crowd for one in placed], np.bool_),
                    sources=tuple(one.source for one in placed),
                    sky=(ra, dec, float(plan.sky.radius_arcsec[number])),
                    product=name,
                    y0=cutout.y0,
                    x0=cutout.x0,
                    low=low,
                    high=high,
                )
