"""First questions about detection sets: is the copy whole, do their archives have them?"""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from stradavit.acquire.archives import sdc1
from stradavit.acquire.archives.contact import Questions, Said
from stradavit.acquire.archives.sardet import differences, is_sardet
from stradavit.acquire.archives.source_contact import sardet_questions
from stradavit.acquire.archives.survey_contact import said_of_share
from stradavit.acquire.coco_copy import find_copy
from stradavit.acquire.transfer.web import Web
from stradavit.settings import Settings
from stradavit.settings.archives import ArchiveUrls
from stradavit.settings.detection import CocoSet, SardetSet, TruthSet
from stradavit.settings.sources import ChipsSurvey, Sdc1Survey


def detection_visits(settings: Settings) -> Iterator[tuple[str, Callable[[Web], Questions]]]:
    """Whom to ask for the sets that are compared on or chips are made of, as `doctor.visits`."""
    urls = settings.archives.urls
    surveys = settings.surveys
    chips = {survey.detection for survey in surveys.values() if isinstance(survey, ChipsSurvey)}
    for name, block in settings.detection.sets.items():
        subject = f"detection.sets.{name}"
        if name not in chips | {*settings.matrix.detection}:
            continue
        match block:
            case CocoSet():
                yield subject, partial(coco_questions, name, block)
            case SardetSet():
                written = Path("results/raw") / name / "sources.json"
                if not written.is_file():
                    yield subject, partial(sardet_questions, urls=urls)
            case TruthSet():
                survey = surveys[block.survey]
                products = survey.files if isinstance(survey, Sdc1Survey) else ()
                if products or block.truth:  # else the truth is drawn with the sky
                    yield subject, partial(truth_questions, name, block, products, urls=urls)


def coco_questions(name: str, block: CocoSet, web: Web) -> Questions:
    """Whether the annotations of a copy on this disk can be read, and every picture is there."""

    def copy() -> Said:
        found = find_copy(Path(block.path).expanduser(), block.splits)
        counts = ", ".join(f"{found.n_images(split):,} {split}" for split in found.files)
        n_boxes = sum(found.boxes_of_class(split).total() for split in found.files)
        said = f"{found.root}: {counts} images, {n_boxes:,} boxes; every picture is there"
        absent = [one for one in block.classes or () if one not in found.categories]
        if absent:
            return Said(
                f"{found.root}: has no category {', '.join(map(repr, absent))}; its categories are "
                f"{', '.join(found.categories)}",
                "fault",
                f"Correct detection.sets.{name}.classes.",
            )
        unlike = differences(found) if is_sardet(found) else []
        if unlike:
            return Said(f"{said}; {'; '.join(unlike)}", "note")
        return Said(f"{said}, as published" if is_sardet(found) else said)

    yield "copy on this disk", copy


def truth_questions(
    name: str, block: TruthSet, products: tuple[str, ...], web: Web, urls: ArchiveUrls
) -> Questions:
    """The catalogues that are named, and the shares of those an archive has.

    Parameters
    ----------
    products : images of the survey if it is SDC1's; drawn mosaics have their truth beside them
    """
    named = block.truth or {}
    for product, path in named.items():
        yield f"truth of {product}", partial(_named, name, Path(path))
    # As `stradavit.acquire.truth_sources` asks for them.
    images = (
        tuple(one for one in block.products or products if one not in named) if products else ()
    )
    if not images:
        return
    unused = dict.fromkeys(images, "unused")
    survey = Sdc1Survey(source="sdc1", files=images, shares=unused)
    remedy = (
        "The share may have been withdrawn: fetch the catalogue by hand, and name it in "
        f"detection.sets.{name}.truth."
    )
    for remote in sdc1.truth_remotes(survey, urls, block.catalogue):
        ask = partial(said_of_share, web, remote.url, remote.bytes, remedy)
        yield f"share of {remote.name}", ask


def _named(name: str, path: Path) -> Said:
    if path.is_file():
        return Said(f"{path} is there")
    return Said(f"{path} is no file", "fault", f"Correct detection.sets.{name}.truth.")
