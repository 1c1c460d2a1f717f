"""The stages: products to shards, labelled images to benchmarks, shards to corpora."""

import json
import logging
import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from stradavit.acquire.labels import read_labels
from stradavit.acquire.local import read_positions
from stradavit.acquire.manifest import Acquired, read_ledger
from stradavit.cutouts.benchmark import BenchmarkWriter
from stradavit.cutouts.corpus import write_corpus
from stradavit.cutouts.fits import open_product
from stradavit.cutouts.hdf5 import new_atomic_file
from stradavit.cutouts.labelled import (
    central_square,
    exclude_reason,
    images_digest,
    labelled_images,
)
from stradavit.cutouts.product import DEFAULT_MEMORY_MB, Product
from stradavit.cutouts.selection import count_fates, fates, footprints_of, read_guard
from stradavit.cutouts.shards import Shard, ShardWriter, new_shard
from stradavit.cutouts.sky import Footprints, circles, footprints
from stradavit.cutouts.tiling import cut, stretched, tile_corners
from stradavit.cutouts.zscale import limits, scale
from stradavit.errors import DataError, LabelError, MalformedProductError
from stradavit.files import sha256_of
from stradavit.progress import progress
from stradavit.provenance import note_maker
from stradavit.settings import CutoutSettings
from stradavit.settings.sources import (
    BatchBenchmark,
    Benchmark,
    LocalSurvey,
    MiraBestBenchmark,
    MosaicSurvey,
)

logger = logging.getLogger(__name__)

COINCIDE = (
    "%s: the zscale limits of %d images coincide, since more than half of their pixels are equal; "
    "what is left of them is a mask. For pictures that were stretched before set stretch: minmax."
)


def cut_part(
    survey_name: str,
    survey: MosaicSurvey,
    cutouts: CutoutSettings,
    ledger_path: Path,
    out_path: Path,
) -> None:
    """Cut the products of one part of a survey into a shard (paper, sections 3.1 and 3.2).

    Products that cannot be cut are skipped and cutouts without content dropped; both are counted
    by reason in the shard. A part without any cutout makes an empty shard.

    Parameters
    ----------
    survey_name : key of the survey
    survey : its settings
    cutouts : size and limits
    ledger_path : what was acquired; its stem is the number of the part
    out_path : shard to write

    Raises
    ------
    DataError
        If a file is missing or is not the one that was acquired.
    """
    acquired = read_ledger(ledger_path)
    positions = {}
    if isinstance(survey, LocalSurvey) and survey.positions is not None:
        positions = read_positions(Path(survey.positions))
        logger.info(
            "%s: of a picture only the sky of its middle is known, so guards measure from there; "
            "widen guard_arcmin by half the diagonal of the pictures to keep all of them clear",
            survey_name,
        )
    # Only what decides the pixels and rows: where the files lie does not.
    chosen = survey.model_dump(mode="json", include={"planes", "grid", "stretch"})
    attributes = {
        "survey": survey_name,
        "part": Path(ledger_path).stem,
        "settings": json.dumps({**chosen, **cutouts.model_dump(mode="json")}, sort_keys=True),
        "ledger_sha256": sha256_of(ledger_path),
    }
    n_coincide = 0
    with new_shard(out_path, cutouts.size_px, attributes) as shard:
        for item in progress(acquired, desc=f"cut {survey_name}", unit="product"):
            _check_size(item, ledger_path)
            try:
                with (
                    shard.product(item.product, item.sha256) as dropped,
                    open_product(item.path, cutouts.memory_mb) as product,
                ):
                    sky = _sky(product, survey, cutouts.size_px, positions.get(item.path.resolve()))
                    n_coincide += _cut_product(product, survey, cutouts, sky, shard, dropped)
                _check_same(item, ledger_path)
            except MalformedProductError as error:
                # A product that cannot be cut is counted; one that has gone or changed since it
                # was acquired must not end as fewer cutouts.
                _check_same(item, ledger_path, error)
                logger.warning("%s skipped: %s", item.product, error)
    note_maker(out_path, __name__)
    if n_coincide:
        logger.warning(COINCIDE, f"{survey_name}, part {attributes['part']}", n_coincide)


def _check_size(item: Acquired, ledger_path: Path) -> None:
    try:
        found = item.path.stat().st_size
    except OSError as error:
        raise DataError(
            f"{item.path}: cannot be found ({error.strerror}), though {ledger_path} lists it. "
            "Delete the ledger and acquire the part again."
        ) from error
    if found != item.bytes:
        raise DataError(
            f"{item.path}: has {found} bytes, {ledger_path} says {item.bytes}: it has changed. "
            "Delete the ledger and acquire the part again."
        )


def _check_same(
    item: Acquired, ledger_path: Path, error: MalformedProductError | None = None
) -> None:
    """A product that has been read is the one that was acquired: a flipped byte shows nowhere else.

    Hashed after it was cut, when its bytes are still in memory.
    """
    _check_size(item, ledger_path)
    if sha256_of(item.path) != item.sha256:
        # A fetched file of the right size would not be asked for again while it lies there.
        is_ours = item.path.is_relative_to(Path(ledger_path).absolute().parent)
        remedy = "Delete both" if is_ours else "Put the right one back, or delete the ledger"
        raise DataError(
            f"{item.path}: {f'{error.detail}; it ' if error else ''}does not have the SHA-256 that "
            f"{ledger_path} lists: it is damaged, or was changed. {remedy}, and acquire the part "
            "again."
        ) from error


def _sky(
    product: Product, survey: MosaicSurvey, size_px: int, position: tuple[float, float] | None
) -> Footprints:
    """Footprints of the cutouts of a plane, in the order of `tile_corners`."""
    corners = tile_corners(product.shape, size_px, survey.grid)
    if product.wcs is None and position is not None:
        # Only the sky of the image's middle is known, and not how wide a pixel is.
        return circles(np.tile(position, (len(corners), 1)), np.zeros(len(corners)))
    return footprints(product.wcs, corners, size_px)


def _cut_product(
    product: Product,
    survey: MosaicSurvey,
    cutouts: CutoutSettings,
    sky: Footprints,
    shard: ShardWriter,
    dropped: Counter[str],
) -> int:
    """Append the cutouts of a product; returns how many have coinciding limits."""
    places = tile_corners(product.shape, cutouts.size_px, survey.grid)
    number_of = {place: number for number, place in enumerate(places)}
    beam_major, beam_minor = product.beam_arcsec or (math.nan, math.nan)
    n_coincide = 0
    for cutout in cut(product, cutouts.size_px, survey.planes, survey.grid):
        kept = stretched(cutout.pixels, survey.stretch, cutouts.constant_std)
        if isinstance(kept, str):
            dropped[kept] += 1
            continue
        levels, low, high = kept
        n_coincide += low == high
        number = number_of[cutout.y0, cutout.x0]
        shard.append(
            levels,
            plane=cutout.plane,
            y0=cutout.y0,
            x0=cutout.x0,
            ra_deg=sky.centres[number, 0],
            dec_deg=sky.centres[number, 1],
            corner_ra_deg=sky.corners[number, :, 0],
            corner_dec_deg=sky.corners[number, :, 1],
            radius_arcsec=sky.radius_arcsec[number],
            beam_major_arcsec=beam_major,
            beam_minor_arcsec=beam_minor,
            pixel_scale_arcsec=product.pixel_scale_arcsec or math.nan,
            finite_fraction=1.0,  # else it were dropped
            low=low,
            high=high,
        )
    return n_coincide


def cut_benchmark(name: str, benchmark: Benchmark, labels_path: Path, out_path: Path) -> None:
    """Stretch the labelled images of a benchmark into one file (paper, section 4).

    Limits are those of the finite pixels; blank pixels become 0 afterwards. Images that are
    unreadable or have no content are left out and counted.

    Parameters
    ----------
    name : key of the benchmark
    benchmark : its settings
    labels_path : what was acquired
    out_path : file to write, see `stradavit.cutouts.benchmark`

    Raises
    ------
    LabelError
        If a class of the settings has no image.
    DataError
        If no image is left, or a file is missing.
    """
    rows = read_labels(labels_path)
    classes = None if benchmark.classes is None else list(benchmark.classes)
    wanted = [row for row in rows if classes is None or row.label in classes]
    excluded: Counter[str] = Counter()
    if len(wanted) < len(rows):
        excluded["other_class"] = len(rows) - len(wanted)
    side_px = None
    if isinstance(benchmark, BatchBenchmark | MiraBestBenchmark):
        side_px = benchmark.side_px
    kept: Counter[str] = Counter()
    n_coincide = 0
    with new_atomic_file(out_path) as file:
        writer = BenchmarkWriter(file)
        found = labelled_images(wanted, side_px, DEFAULT_MEMORY_MB, labels_path)
        for row, image in progress(found, total=len(wanted), desc=f"cut {name}", unit="image"):
            reason = image if isinstance(image, str) else None
            if not isinstance(image, str):
                image = central_square(image, benchmark.crop_px)
                reason = exclude_reason(image)
            if reason is not None:
                excluded[reason] += 1
                logger.info("%s left out: %s", row.image, reason)
                continue
            assert not isinstance(image, str)
            low, high = limits(image, benchmark.stretch)
            n_coincide += low == high
            writer.append(scale(image, low, high), row)
            kept[row.label] += 1
        if not kept:
            raise DataError(
                f"benchmark {name}: no image is left of the {len(rows)} in {labels_path}: "
                f"{json.dumps(excluded)}."
            )
        missing = [label for label in classes or () if label not in kept]
        if missing:
            raise LabelError(
                f"benchmark {name}: no image of the classes {missing}; {labels_path} has "
                f"{sorted({row.label for row in rows})}, left out: {json.dumps(excluded)}. "
                f"Correct benchmarks.{name}.classes."
            )
        attributes = {
            "excluded": json.dumps(excluded, sort_keys=True),
            "settings": benchmark.to_json(),
            "labels_sha256": sha256_of(labels_path),
            "images_sha256": images_digest(wanted),
        }
        writer.finish(classes or sorted(kept), attributes)
    note_maker(out_path, __name__)
    if n_coincide:
        logger.warning(COINCIDE, name, n_coincide)


def cut_corpus(
    corpus_name: str,
    shard_paths: Mapping[str, list[Path]],
    guards: Mapping[str, tuple[Path, float]],
    out_path: Path,
) -> None:
    """Choose the cutouts a run is pretrained on, away from the sky of the benchmarks.

    Parameters
    ----------
    corpus_name : key of the corpus
    shard_paths : shards of each survey
    guards : for each guarded benchmark its file (`cut_benchmark`) and its guard radius, arcmin; a
        detection set's file (`cut_detection`) guards its images for validation and testing
    out_path : file to write, see `stradavit.cutouts.corpus`

    Raises
    ------
    DataError
        If nothing is left, a shard is not what it should be, or a guarded benchmark has no
        positions, so that nothing can be kept away from it.
    """
    watch = [read_guard(name, path, arcmin) for name, (path, arcmin) in guards.items()]
    shards = {survey: [Shard(path) for path in paths] for survey, paths in shard_paths.items()}
    everything = [shard for survey in shards.values() for shard in survey]
    if not everything:
        raise DataError(f"corpus {corpus_name}: it has no shards; name surveys in its settings.")
    for survey, some in shards.items():
        for shard in some:
            shard.expect(survey, everything[0])
    rows = [shard.rows() for shard in everything]
    table = np.concatenate(rows)
    fate = fates(footprints_of(table), table["checksum"], watch)
    by_shard = np.split(fate, np.cumsum([len(r) for r in rows])[:-1])
    remaining = iter(by_shard)
    counts = {
        survey: count_fates(some, [next(remaining) for _ in some], list(guards))
        for survey, some in shards.items()
    }
    for survey, count in counts.items():
        logger.info("corpus %s, %s: %s", corpus_name, survey, json.dumps(count))
    if not (fate == "kept").any():
        raise DataError(
            f"corpus {corpus_name} is empty: no cutout is left. {json.dumps(counts)}. Cutouts of "
            f"{everything[0].size_px} px may be too large for the products, or the guards too wide."
        )
    kept = [np.flatnonzero(f == "kept") for f in by_shard]
    used = {
        guard.benchmark: {"positions_sha256": guard.digest(), "arcmin": guard.guard_arcmin}
        for guard in watch
    }
    write_corpus(out_path, everything, kept, counts, used)
    note_maker(out_path, __name__)
