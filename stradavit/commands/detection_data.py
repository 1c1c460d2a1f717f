"""Detection sets: acquiring, checking and cutting images with boxes, and chips from them."""

from pathlib import Path
from typing import Any

from stradavit.commands.command import (
    ARCHIVES,
    BLOCK,
    NAME,
    PATH,
    PATHS,
    Namespace,
    archive_settings,
    command,
    source_block,
)


def _detection_set(text: str) -> Any:
    from stradavit.settings.detection import DetectionSet

    return source_block(DetectionSet, text, "set")


SET = BLOCK | {"help": "Its block under `detection.sets` in the config."}
SET_NAME = NAME | {"help": "Name of the detection set."}
CUTOUTS = BLOCK | {"help": "The block `cutouts` of the config."}


@command(
    "acquire-detection",
    "Bring a detection set to this disk: pictures with boxes, or truth catalogues.",
    name=SET_NAME,
    set=SET,
    ledgers=PATHS | {"default": [], "help": "Ledgers of the survey whose truth it is."},
    out=PATH | {"help": "What it consists of, to write (JSON); files lie beside it."},
    archives=ARCHIVES,
)
def acquire_detection(a: Namespace) -> str:
    """Acquire a detection set."""
    from stradavit.acquire.detection_sets import acquire_detection

    archives = archive_settings(a.archives)
    acquire_detection(a.name, _detection_set(a.set), a.out, a.ledgers, archives)
    return f"detection set {a.name}: {a.out}"


@command(
    "check-detection",
    "Say what a detection set holds and what is wrong with it; status 1 if it cannot be used.",
    set=BLOCK
    | {
        "default": None,
        "help": "Block of a set on this disk or of drawn scenes, as in the config.",
    },
    file=PATH | {"default": None, "help": "Or a file that cut-detection made: is it whole?"},
    cutouts=CUTOUTS | {"default": "{}"},
)
def check_detection(a: Namespace) -> str:
    """Print the validator's report."""
    from stradavit.cutouts.detection_report import describe
    from stradavit.errors import SettingsError

    if (a.set is None) == (a.file is None):
        raise SettingsError("give either --set or --file.")
    return describe(_report_of_file(a.file) if a.set is None else _report_of_set(a))


def _report_of_file(path: Path) -> dict[str, Any]:
    from stradavit.cutouts.detection_images import DetectionImages

    images = DetectionImages(path)
    images.verify()
    return images.report


def _report_of_set(a: Namespace) -> dict[str, Any]:
    from tempfile import TemporaryDirectory

    from stradavit.acquire.detection_sets import acquire_detection
    from stradavit.acquire.detection_sources import read_sources
    from stradavit.cutouts.detection_stages import check_detection
    from stradavit.errors import SettingsError
    from stradavit.settings import CutoutSettings

    block = _detection_set(a.set)
    if block.source not in ("coco", "simulated"):
        raise SettingsError(
            f"--set: a set of source {block.source} is checked when it is cut: run the workflow "
            "up to results/detection/<set>.h5, and give that file with --file."
        )
    with TemporaryDirectory() as folder:
        sources_path = Path(folder) / "sources.json"
        acquire_detection("the set", block, sources_path)
        cutouts = CutoutSettings.parse(a.cutouts)
        return check_detection("the set", block, cutouts, read_sources(sources_path))


@command(
    "cut-detection",
    "Check a detection set and put its images and boxes into one file.",
    name=SET_NAME,
    set=SET,
    cutouts=CUTOUTS,
    sources=PATH | {"help": "What the set consists of (JSON)."},
    out=PATH | {"help": "Images with boxes to write (HDF5)."},
)
def cut_detection(a: Namespace) -> str:
    """Cut a detection set."""
    from stradavit.cutouts.detection_stages import cut_detection
    from stradavit.settings import CutoutSettings

    cutouts = CutoutSettings.parse(a.cutouts)
    cut_detection(a.name, _detection_set(a.set), cutouts, a.sources, a.out)
    return f"images with boxes of {a.name}: {a.out}"


@command(
    "cut-chips",
    "Resize the pictures of a detection set into a verified shard, for pretraining.",
    name=NAME | {"help": "Name of the survey."},
    detection=PATH | {"help": "Images with boxes."},
    splits={
        "nargs": "+",
        "choices": ("train", "val", "test"),
        "help": "Splits to take; a picture that another split has too is dropped.",
    },
    part={"type": int, "metavar": "N", "help": "Part to cut, from 0."},
    parts={"type": int, "metavar": "N", "help": "Number of parts."},
    size_px={"type": int, "metavar": "N", "help": "Side of a chip."},
    out=PATH | {"help": "Shard to write (HDF5)."},
)
def cut_chips(a: Namespace) -> str:
    """Cut one part of a survey of chips."""
    from stradavit.cutouts.chips import cut_chips

    cut_chips(a.name, a.splits, a.detection, a.part, a.parts, a.size_px, a.out)
    return f"shard of {a.name}: {a.out}"
