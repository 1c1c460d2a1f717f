"""The stage that puts a detection set into one file, and the validator that looks at it before."""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stradavit.acquire.coco import CocoBox, CocoImage, Faults, read_coco
from stradavit.acquire.detection_sources import read_sources
from stradavit.cutouts.detection_images import Scene, write_detection_images
from stradavit.cutouts.detection_report import LeftOut, Tally, describe
from stradavit.cutouts.image import open_image
from stradavit.cutouts.quantise import quantise
from stradavit.errors import DataError, MalformedProductError
from stradavit.files import sha256_of
from stradavit.progress import progress
from stradavit.provenance import note_maker
from stradavit.settings import CutoutSettings
from stradavit.settings.detection import SPLITS, DetectionSet, Split, TruthSet

logger = logging.getLogger(__name__)

# A thinner box has no area: in float32, little enough may remain of it once it is mirrored or
# resized that a detector cannot be trained on it. torchvision drops proposals below the same.
LEAST_SIDE_PX = 0.01


def cut_detection(
    name: str, block: DetectionSet, cutouts: CutoutSettings, sources_path: Path, out_path: Path
) -> None:
    """Put the images and boxes of a detection set into one file, with the validator's report.

    Pictures keep their size and their values: 0..255 or 0..65535 becomes [0, 1], colours become
    their luminance. Boxes are clipped to their image; those without area or wholly outside are left
    out and counted. Images without boxes stay.

    Parameters
    ----------
    name, block : key and settings of the detection set
    cutouts : memory one picture may take; size and limits of cutouts with truth
    sources_path : what `stradavit.acquire.detection_sets.acquire_detection` wrote
    out_path : file to write, see `stradavit.cutouts.detection_images`

    Raises
    ------
    DataError
        If annotations have changed since, or pictures are unreadable or of another size than the
        annotations say: one error lists all of them.
    """
    sources = read_sources(sources_path)
    report: dict[str, Any] = {}
    classes, scenes = _scenes(name, block, cutouts, sources, report)
    attributes = {
        # Only what decides images and boxes: how tables call the set does not.
        "settings": block.model_dump(mode="json", exclude={"title", "table", "scored"})
        | {"cutouts": cutouts.model_dump(mode="json")},
        "sources_sha256": sha256_of(sources_path),
        "report": report,
    }
    write_detection_images(out_path, classes, scenes, attributes)
    note_maker(out_path, __name__)
    logger.info("%s:\n%s", name, describe(report))


def check_detection(
    name: str, block: DetectionSet, cutouts: CutoutSettings, sources: dict[str, Any]
) -> dict[str, Any]:
    """The validator's report of a set, without writing anything; memory holds one image.

    Parameters
    ----------
    name, block, cutouts : as for `cut_detection`
    sources : what `sources.json` says

    Raises
    ------
    DataError
        As `cut_detection`.
    """
    report: dict[str, Any] = {}
    _, scenes = _scenes(name, block, cutouts, sources, report)
    for _ in scenes:
        pass
    return report


def _scenes(
    name: str,
    block: DetectionSet,
    cutouts: CutoutSettings,
    sources: dict[str, Any],
    report: dict[str, Any],
) -> tuple[Sequence[str], Iterator[Scene]]:
    """Classes and scenes; `report` is filled when the last scene has been taken."""
    classes: Sequence[str]
    scenes: Iterator[Scene]
    left_out = None
    more: dict[str, Any] = {"warnings": list(sources.get("warnings", []))}
    if (sources["kind"] == "truth") != isinstance(block, TruthSet):
        raise DataError(
            f"{name}: its sources are of kind {sources['kind']}, its settings of source "
            f"{block.source}. Acquire the set again (stradavit acquire-detection)."
        )
    if isinstance(block, TruthSet):
        from stradavit.cutouts.truth_tiles import truth_scenes

        classes, scenes, more["counts"] = truth_scenes(block, cutouts, sources)
    else:
        classes = block.classes or tuple(sources["classes"])
        absent = [one for one in classes if one not in sources["classes"]]
        if absent:
            raise DataError(
                f"{name}: has no category {', '.join(map(repr, absent))}; its categories are "
                f"{', '.join(sources['classes'])}. Correct detection.sets.{name}.classes."
            )
        left_out = LeftOut()
        scenes = coco_scenes(name, classes, sources, cutouts.memory_mb, left_out)
    return classes, _tallied(classes, scenes, left_out, more, report)


def _tallied(
    classes: Sequence[str],
    scenes: Iterator[Scene],
    left_out: LeftOut | None,
    more: dict[str, Any],
    report: dict[str, Any],
) -> Iterator[Scene]:
    tally = Tally(classes)
    for scene in scenes:
        yield tally.see(scene)
    report.update(tally.report(left_out, more))


def coco_scenes(
    name: str,
    classes: Sequence[str],
    sources: dict[str, Any],
    memory_mb: int,
    left_out: LeftOut,
) -> Iterator[Scene]:
    """The pictures of a copy with their boxes, in the order of splits and annotation files.

    Parameters
    ----------
    name : key of the detection set
    classes : those whose boxes are kept, in the order labels count
    sources : `sources.json` of kind `coco`
    memory_mb : most memory one picture may take
    left_out : is filled

    Raises
    ------
    DataError
        After the last picture, listing all that are unreadable or of another size than stated.
    """
    faults = Faults()
    for split in SPLITS:
        if split not in sources["annotations"]:
            continue
        noted = sources["annotations"][split]
        path, folder = Path(noted["path"]), Path(sources["folders"][split])
        _check_annotations(path, noted["sha256"])
        images = read_coco(path).images
        for image in progress(images, desc=f"cut {name}, {split}", unit="image"):
            scene = _scene(split, image, folder, classes, memory_mb, left_out, faults)
            if scene is not None:
                yield scene
    if faults.number:
        raise DataError(
            f"{name}: {faults.number:,} pictures are not as their annotations say. Get the data "
            f"set again, or take them out of the annotations.\n{faults.listed()}"
        )


def _check_annotations(path: Path, sha256: str) -> None:
    try:
        found = sha256_of(path)
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror}). Put it back, or acquire the set again."
        ) from error
    if found != sha256:
        raise DataError(
            f"{path}: has changed since it was acquired. Acquire the set again (stradavit "
            "acquire-detection)."
        )


def _scene(
    split: Split,
    image: CocoImage,
    folder: Path,
    classes: Sequence[str],
    memory_mb: int,
    left_out: LeftOut,
    faults: Faults,
) -> Scene | None:
    """A picture with its boxes; None if it is not what its annotation says."""
    path = folder / image.name
    try:
        product = open_image(path, memory_mb)
    except MalformedProductError as error:
        faults.add(str(error))
        return None
    ny, nx = product.shape
    if (ny, nx) != (image.ny, image.nx):
        faults.add(f"{path}: is {nx} x {ny} px, the annotations say {image.nx} x {image.ny} px")
        return None
    pixels = product.read(0, 0, ny) / np.float32(product.full_scale)
    kept: list[tuple[tuple[float, float, float, float], CocoBox]] = []
    for box in image.boxes:
        if box.label not in classes:
            left_out.other_class[split][box.label] += 1
            continue
        corners = _clipped(box, split, image, left_out)
        if corners is not None:
            kept.append((corners, box))
    return Scene(
        name=f"{split}/{image.name}",
        split=split,
        # The weights of the luminance add up to a little more than 1 in float32.
        levels=quantise(np.minimum(pixels, np.float32(1.0))),
        boxes=np.array([corners for corners, _ in kept], np.float32).reshape(-1, 4),
        labels=np.array([classes.index(box.label) for _, box in kept], np.int64),
        is_crowd=np.array([box.is_crowd for _, box in kept], np.bool_),
        sources=tuple(box.source or f"{split}/{box.id}" for _, box in kept),
        low=0.0,
        high=product.full_scale,
    )


def _clipped(
    box: CocoBox, split: Split, image: CocoImage, left_out: LeftOut
) -> tuple[float, float, float, float] | None:
    """A box x0, y0, x1, y1 within its image; None, and counted, if nothing is left of it."""
    name = f"{split}/{image.name} box {box.id}"
    # In float32, as stored.
    corner = np.array([box.x, box.y, box.x + box.width, box.y + box.height]).astype(np.float32)
    if (corner[2:] - corner[:2]).min() < LEAST_SIDE_PX:
        left_out.note("no_area", split, name)
        return None
    x0, y0, x1, y1 = (float(value) for value in corner)
    inside = max(0.0, x0), max(0.0, y0), min(float(image.nx), x1), min(float(image.ny), y1)
    if min(inside[2] - inside[0], inside[3] - inside[1]) < LEAST_SIDE_PX:
        left_out.note("outside", split, name)
        return None
    if inside != (x0, y0, x1, y1):
        left_out.note("clipped", split, name)
    return inside
