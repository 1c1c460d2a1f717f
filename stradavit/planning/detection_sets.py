"""How many images each detection set has, or is expected to have, and the chips made of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stradavit.acquire.archives.sardet import CLASSES, IMAGES
from stradavit.acquire.coco_copy import ANNOTATIONS, MAX_DEPTH
from stradavit.errors import DataError
from stradavit.files import read_json
from stradavit.planning.cutouts import SurveyPlan, shards_here
from stradavit.planning.known import Basis, Known
from stradavit.settings import Settings
from stradavit.settings.detection import (
    SPLITS,
    CocoSet,
    DetectionSet,
    DetectorTraining,
    SardetSet,
    SimulatedScenes,
    TruthSet,
)
from stradavit.settings.sources import ArchiveSurvey, ChipsSurvey

if TYPE_CHECKING:
    from stradavit.cutouts.detection_images import DetectionImages

# Pixels of an image of SARDet-100K, on average, by the sizes in the papers of its ten parts.
SARDET_PIXELS = 182_000
# Share of a field that the training catalogues of SDC1 tell of.
_TOLD_FOR_TRAINING = 0.05
# Kinds of drawn targets and of SDC1's objects; `stradavit.acquire.simulated` and the challenge
# say why.
_DRAWN_CLASSES = _OBJECT_CLASSES = 3
_USUAL_CLASSES = len(CLASSES)


@dataclass(frozen=True)
class DetectionSetPlan:
    """Images of a detection set.

    Parameters
    ----------
    name : key in the config
    train, val, test : images of the splits
    learned : images of the split train that a detector is shown
    scored : images of the split that tables show
    pixels : of an image, on average
    classes : without the background
    is_cut : whether its file is there
    basis, source : of the numbers of images
    """

    name: str
    train: int
    val: int
    test: int
    learned: int
    scored: int
    pixels: float
    classes: int
    is_cut: bool
    basis: Basis
    source: str

    @property
    def images(self) -> int:
        """Of all splits."""
        return self.train + self.val + self.test


def chips_in_use(settings: Settings) -> list[str]:
    """Surveys of chips that some run is trained on, in the order of the config."""
    corpora = settings.matrix.chips.corpora
    wanted = {survey for name in corpora for survey in settings.corpus(name).surveys}
    return [name for name in settings.surveys if name in wanted]


def fields_in_use(settings: Settings) -> list[str]:
    """Surveys whose mosaics a detection set is cut from, in the order of the config."""
    sets = [settings.detection.sets[name] for name in settings.used_detection_sets()]
    wanted = {block.survey for block in sets if isinstance(block, TruthSet)}
    return [name for name in settings.surveys if name in wanted]


def set_plan(
    name: str, settings: Settings, fields: Mapping[str, SurveyPlan], results_dir: Path
) -> DetectionSetPlan:
    """Counted in the set's file if that is here, else in what it will be made of.

    Parameters
    ----------
    name : of the set
    fields : the surveys that sets are cut from
    """
    block, training = settings.detection.sets[name], settings.detection.training
    path = results_dir / "detection" / f"{name}.h5"
    counts = _in_file(path, training)
    if counts is not None:
        return _plan(name, block, counts, True, Known(0, "counted", "its file"))
    match block:
        case SimulatedScenes():
            counts = block.images.model_dump() | {"pixels": block.side_px**2}
            counts["classes"] = _DRAWN_CLASSES
            known = Known(0, "counted", "drawn; of about side_px²")
        case CocoSet():
            counts, known = _of_coco(block)
        case SardetSet():
            counts, known = _published(), Known(0, "published", "SARDet-100K")
        case TruthSet():
            counts, known = _of_field(block, settings, fields[block.survey])
    return _plan(name, block, counts, False, known)


def chips_plan(
    name: str, survey: ChipsSurvey, images: DetectionSetPlan, size_px: int, results_dir: Path
) -> SurveyPlan:
    """A survey of chips: one of each image of its splits."""
    n = sum(getattr(images, split) for split in survey.splits)
    pictures = Known(n, images.basis, f"images of {survey.detection}")
    found = shards_here(name, survey.parts, size_px, results_dir)
    n_here = sum(found.values())
    if len(found) == survey.parts:
        chips = Known(n_here, "counted", "in its shards")
    else:
        splits = " and ".join(survey.splits)
        said = f"at most: images of {survey.detection}, {splits}; {images.source}"
        chips = Known(n, images.basis, said)
    return SurveyPlan(name, pictures, chips, survey.parts, len(found), n_here)


def _plan(
    name: str, block: DetectionSet, counts: dict[str, Any], is_cut: bool, known: Known
) -> DetectionSetPlan:
    # Sets need not have all splits.
    of_split = {split: int(counts.get(split, 0)) for split in SPLITS}
    return DetectionSetPlan(
        name,
        **of_split,
        learned=int(counts.get("learned", of_split["train"])),
        scored=of_split[block.scored],
        pixels=float(counts["pixels"]),
        classes=len(block.classes) if block.classes else int(counts["classes"]),
        is_cut=is_cut,
        basis=known.basis,
        source=known.source,
    )


def _in_file(path: Path, training: DetectorTraining) -> dict[str, Any] | None:
    """What the set's file holds; None if there is none that can be read."""
    if not path.is_file():
        return None
    from stradavit.cutouts.detection_images import DetectionImages

    try:
        images = DetectionImages(path)
    except DataError:
        return None
    counts: dict[str, Any] = {split: len(images.of_split(split)) for split in SPLITS}
    counts["pixels"] = images.shapes.prod(axis=1).mean()
    counts["classes"] = len(images.classes)
    counts["learned"] = _learned(images, training)
    images.close()
    return counts


def _learned(images: "DetectionImages", training: DetectorTraining) -> int:
    """Images an epoch shows, as `stradavit.detection.inputs.lessons_of` chooses them."""
    numbers = images.of_split("train")
    if training.skip_held_out:
        elsewhere = images.checksums[images.splits != "train"]
        numbers = numbers[~np.isin(images.checksums[numbers], elsewhere)]
    if not training.skip_empty:
        return len(numbers)
    n_shown = 0
    for number in numbers.tolist():
        boxes = images.boxes(number)[~images.is_crowd(number)]
        sides = (boxes[:, 2:] - boxes[:, :2]).min(axis=1, initial=np.inf)
        n_shown += bool((sides >= training.min_side_px).any())
    return n_shown


def _of_coco(block: CocoSet) -> tuple[dict[str, Any], Known]:
    """By the annotations on this disk."""
    folder = Path(block.path).expanduser()
    counts: dict[str, Any] = {"pixels": 0.0, "classes": _USUAL_CLASSES}
    n_pixels = n_images = 0
    for split in block.splits:
        images = _images_of(folder, split)
        if images is None:
            if set(block.classes or ()) == set(CLASSES):
                known = Known(0, "published", f"SARDet-100K; {folder} cannot be read yet")
                return _published(), known
            return counts, Known(0, "assumed", f"{folder} cannot be read yet")
        counts[split] = len(images)
        n_images += len(images)
        n_pixels += sum(image["width"] * image["height"] for image in images)
    counts["pixels"] = n_pixels / max(n_images, 1)
    return counts, Known(0, "counted", "its annotations; those without boxes among them")


def _images_of(folder: Path, split: str) -> list[dict[str, Any]] | None:
    """The images an annotation file names; strict reading is left to the stage that cuts."""
    patterns = ["*/" * depth + f"{ANNOTATIONS}/{split}.json" for depth in range(MAX_DEPTH)]
    paths = [path for pattern in patterns for path in sorted(folder.glob(pattern))]
    try:
        (path,) = paths
        images: list[dict[str, Any]] = read_json(path)["images"]
        return [{"width": int(one["width"]), "height": int(one["height"])} for one in images]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _published() -> dict[str, Any]:
    return {**IMAGES, "pixels": SARDET_PIXELS, "classes": len(CLASSES)}


def _of_field(
    block: TruthSet, settings: Settings, field: SurveyPlan
) -> tuple[dict[str, Any], Known]:
    """By the cutouts of the field, whose rows are divided."""
    survey = settings.surveys[block.survey]
    n = field.cutouts.value
    if block.products is not None:
        n *= len(set(block.products)) / max(field.products.value, 1)
    if block.catalogue == "training" and isinstance(survey, ArchiveSurvey) and not block.truth:
        n *= _TOLD_FOR_TRAINING
    test, val = round(n * block.test_fraction), round(n * block.val_fraction)
    counts = {"train": round(n) - test - val, "val": val, "test": test}
    counts["pixels"] = settings.cutouts.size_px**2
    counts["classes"] = 1 if block.labels == "source" else _OBJECT_CLASSES
    said = f"at most: cutouts of {block.survey}, {field.cutouts.source.removeprefix('at most: ')}"
    return counts, Known(0, field.cutouts.basis, said)
