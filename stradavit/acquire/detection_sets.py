"""Acquisition of a detection set: which pictures and annotations it consists of."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stradavit.acquire.archives.sardet import differences, is_sardet
from stradavit.acquire.coco_copy import CocoCopy, find_copy
from stradavit.acquire.detection_sources import write_sources
from stradavit.errors import DataError
from stradavit.files import sha256_of
from stradavit.provenance import note_maker
from stradavit.settings.archives import ArchiveSettings
from stradavit.settings.detection import CocoSet, DetectionSet, SardetSet, SimulatedScenes

logger = logging.getLogger(__name__)


def acquire_detection(
    name: str,
    block: DetectionSet,
    out_path: Path,
    ledgers: Sequence[Path] = (),
    archives: ArchiveSettings | None = None,
) -> None:
    """Bring a detection set into reach and write what it consists of.

    Drawn scenes, and what an archive has, are put into `files/` beside `out_path`; pictures on this
    disk stay where they are.

    Parameters
    ----------
    name, block : key and settings of the detection set
    out_path : JSON to write, see `stradavit.acquire.detection_sources`
    ledgers : of the survey whose truth it is; none for pictures
    archives : where archives are and how they are asked; the defaults if absent

    Raises
    ------
    DataError
        If there is no copy, its annotations are faulty (one error lists all faults), pictures are
        missing, a class of the settings is not among its categories, or an archive did not give
        what it must; calling again goes on from there.
    """
    sources: dict[str, Any]
    if isinstance(block, SimulatedScenes):
        from stradavit.acquire.simulated.scenes import draw_scenes

        folder = Path(out_path).absolute().parent / "files"
        digest = draw_scenes(block, folder)
        sources = coco_sources(name, find_copy(folder), block.classes)
        # Annotations stay the same if only the drawing of pixels is edited; the set must not.
        sources["pixels_sha256"] = digest
    elif isinstance(block, CocoSet):
        copy = find_copy(Path(block.path).expanduser(), block.splits)
        sources = coco_sources(name, copy, block.classes)
    elif isinstance(block, SardetSet):
        from stradavit.acquire.archives.kaggle import SARDET, download, unpacked

        folder = Path(out_path).absolute().parent / "files"
        folder.mkdir(parents=True, exist_ok=True)
        note = download(archives or ArchiveSettings(), SARDET, block.version, folder)
        sources = coco_sources(name, find_copy(unpacked(folder, note["version"])), block.classes)
        sources["download"] = note
    else:
        from stradavit.acquire.truth_sources import truth_sources

        sources = truth_sources(name, block, out_path, ledgers, archives)
    for warning in sources.get("warnings", []):
        logger.warning("%s: %s", name, warning)
    write_sources(out_path, sources)
    note_maker(out_path, __name__, settings=block.model_dump(mode="json"))


def coco_sources(name: str, copy: CocoCopy, classes: tuple[str, ...] | None) -> dict[str, Any]:
    """What `sources.json` says of a copy.

    Raises
    ------
    DataError
        If a class of the settings is not among its categories.
    """
    absent = [one for one in classes or () if one not in copy.categories]
    if absent:
        raise DataError(
            f"{copy.root}: has no category {', '.join(map(repr, absent))}; its categories are "
            f"{', '.join(copy.categories)}. Correct detection.sets.{name}.classes."
        )
    for split in copy.files:
        boxes = copy.boxes_of_class(split).total()
        logger.info("%s, %s: %d images, %d boxes", name, split, copy.n_images(split), boxes)
    return {
        "kind": "coco",
        "root": str(copy.root),
        "annotations": {
            split: {"path": str(file.path), "sha256": sha256_of(file.path)}
            for split, file in copy.files.items()
        },
        "folders": {split: str(folder) for split, folder in copy.folders.items()},
        "classes": list(copy.categories),
        "warnings": differences(copy) if is_sardet(copy) else [],
    }
