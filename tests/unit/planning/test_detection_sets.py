"""Images of detection sets and chips: of files that are here, of annotations, and as published."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stradavit.acquire.archives.sardet import IMAGES
from stradavit.acquire.simulated import scenes
from stradavit.cutouts.detection_images import DetectionImages
from stradavit.detection.inputs import lessons_of
from stradavit.planning import detection_sets
from stradavit.planning.detection_sets import DetectionSetPlan
from stradavit.planning.plan import Plan
from stradavit.settings import Settings
from tests.unit.detection.sets import SCENES, write_set

from .test_cutouts import write_shard

Read = Callable[..., Settings]
MakePlan = Callable[..., Plan]

WITHOUT_DETECTION: dict[str, Any] = {
    "surveys": {"sdc1_field": None, "sar_chips": None},
    "corpora": {"chips": None},
    "matrix": {"chips": {"starts": [], "corpora": []}, "detection": {"sar": None, "radio": None}},
    "detection": {"sets": {"sar": None, "radio": None}},
}


def of_name(plan: Plan, name: str) -> DetectionSetPlan:
    (found,) = [one for one in plan.detection_sets if one.name == name]
    return found


def counts(plan: Plan, name: str) -> tuple[int, int, int]:
    found = of_name(plan, name)
    return found.train, found.val, found.test


def coco(folder: Path, split: str, sizes: list[tuple[int, int]]) -> None:
    """Annotations as far as a plan looks at them."""
    path = folder / "Annotations" / f"{split}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    images = [{"id": n, "width": nx, "height": ny} for n, (ny, nx) in enumerate(sizes)]
    path.write_text(json.dumps({"images": images, "annotations": []}))


def coco_overlay(path: Path, **more: Any) -> dict[str, Any]:
    """The default configuration with a copy on disk in place of the drawn scenes."""
    block = {"source": "coco", "table": "sar", "path": str(path)} | more
    return {
        "detection": {"sets": {"sar": None, "copy": block}},
        "surveys": {"sar_chips": {"detection": "copy"}},
        "matrix": {"detection": {"sar": None, "copy": {"baselines": ["vit-tiny"]}}},
    }


def test_without_detection_nothing_new_is_said(read: Read, plan: MakePlan) -> None:
    found = plan(read(WITHOUT_DETECTION))
    assert found.detectors == found.detection_sets == ()
    assert {work.kind for work in found.trainings} == {"reconstruction", "contrastive", "two_stage"}
    assert not {job.stage for job in found.jobs} & {
        "cut_chips",
        "cut_detection",
        "train_detector",
        "detect",
    }
    assert not [space for space in found.disk if "detect" in space.title]


def test_drawn_scenes_and_a_drawn_field_are_counted_by_the_settings(
    read: Read, plan: MakePlan
) -> None:
    settings = read({"detection": {"sets": {"sar": {"images": {"val": 9}}}}})
    found = plan(settings)
    assert counts(found, "sar") == (64, 9, 32)
    # One field of 8 × 8 cutouts; of its rows two are for the test and one is for validation.
    assert counts(found, "radio") == (40, 8, 16)
    assert of_name(found, "radio").pixels == 128**2
    assert {one.basis for one in found.detection_sets} == {"counted"}
    # A field that is in no corpus is drawn all the same, and not cut into shards.
    raw = {item.name: item for item in found.raw}
    assert raw["surveys.sdc1_field"].files_left == 1
    assert "sdc1_field" not in {survey.name for survey in found.surveys}
    assert raw["detection.sets.sar"].files_left == 64 + 9 + 32 + 3
    assert raw["detection.sets.sar"].bytes_left == (64 + 9 + 32) * 128**2
    assert not raw["detection.sets.sar"].is_fetched
    jobs = {job.stage: job.jobs for job in found.jobs}
    assert (jobs["cut_part"], jobs["cut_detection"], jobs["cut_chips"]) == (4, 2, 1)


def test_what_is_said_of_drawn_scenes_is_what_is_drawn() -> None:
    assert len(scenes.CLASSES) == detection_sets._DRAWN_CLASSES


def test_a_set_that_is_here_is_counted_in_its_file(
    read: Read, plan: MakePlan, tmp_path: Path
) -> None:
    path = tmp_path / "results" / "detection" / "sar.h5"
    path.parent.mkdir(parents=True)
    copy = dataclasses.replace(SCENES[2], name="test/empty", split="test")
    write_set(path, [*SCENES[:-1], copy])
    for overlay, learned in (
        ({}, 5),
        ({"min_side_px": 17}, 3),
        # The empty image is one of the test too.
        ({"skip_empty": False, "min_side_px": 17}, 6),
        ({"skip_empty": False, "skip_held_out": False}, 7),
    ):
        settings = read({"detection": {"training": overlay}})
        found = of_name(plan(settings), "sar")
        images = DetectionImages(path)
        assert (found.train, found.val, found.test) == (7, 0, 3)
        assert found.learned == len(lessons_of(images, settings.detection.training).numbers)
        assert found.learned == learned
        assert (found.scored, found.is_cut, found.classes) == (3, True, 2)
        assert found.pixels == images.shapes.prod(axis=1).mean()
        images.close()
    disk = {space.title: space for space in plan(read()).disk}
    assert disk["detection sets"].here == path.stat().st_size
    # That of the radio set.
    assert disk["detection sets"].to_come == 64 * 128**2 * 2
    path.write_bytes(b"damaged")
    assert counts(plan(read()), "sar") == (64, 16, 32)


def test_annotations_on_this_disk_are_counted(read: Read, plan: MakePlan, tmp_path: Path) -> None:
    copy = tmp_path / "data" / "copy"
    for split, sizes in (("train", [(10, 20), (30, 40)]), ("val", [(5, 6)]), ("test", [])):
        coco(copy, split, sizes)
    # As `stradavit.acquire.coco_copy` finds it: below the folder that is named.
    found = plan(read(coco_overlay(tmp_path / "data")))
    assert counts(found, "copy") == (2, 1, 0)
    assert of_name(found, "copy").pixels == (200 + 1200 + 30) / 3
    assert "its annotations" in of_name(found, "copy").source
    # A copy stays where it is.
    assert "detection.sets.copy" not in {item.name for item in found.raw}
    some = plan(read(coco_overlay(copy, splits=["train", "test"])))
    assert counts(some, "copy") == (2, 0, 0)


def test_a_copy_that_is_not_here_yet(read: Read, plan: MakePlan, tmp_path: Path) -> None:
    nowhere = coco_overlay(tmp_path / "nowhere")
    nowhere["matrix"]["chips"] = {"starts": [], "corpora": []}
    unknown = of_name(plan(read(nowhere)), "copy")
    assert (unknown.images, unknown.basis) == (0, "assumed")
    assert unknown.source.endswith("nowhere cannot be read yet")
    classes = ["ship", "aircraft", "car", "tank", "bridge", "harbor"]
    sardet = of_name(plan(read(coco_overlay(tmp_path / "nowhere", classes=classes))), "copy")
    assert (sardet.train, sardet.val, sardet.test) == tuple(IMAGES.values())
    assert sardet.basis == "published"


def test_sardet_is_fetched_and_made_into_chips(read: Read, plan: MakePlan, tmp_path: Path) -> None:
    overlay = {
        "detection": {"sets": {"sar": None, "sardet": {"source": "sardet", "table": "sar"}}},
        "surveys": {"sar_chips": {"detection": "sardet", "splits": ["train", "val"], "parts": 2}},
        "matrix": {"detection": {"sar": None, "sardet": {"baselines": ["vit-tiny"]}}},
    }
    settings = read(overlay)
    found = plan(settings)
    assert counts(found, "sardet") == (94_493, 10_492, 11_613)
    chips = {survey.name: survey for survey in found.surveys}["sar_chips"]
    assert chips.cutouts.value == chips.products.value == 94_493 + 10_492
    assert chips.cutouts.basis == "published"
    (item,) = [item for item in found.raw if item.name == "detection.sets.sardet"]
    assert (item.is_fetched, item.files_left, item.basis) == (True, 1, "assumed")
    corpora = {corpus.name: corpus for corpus in found.corpora}
    assert corpora["chips"].cutouts.value == 94_493 + 10_492
    assert corpora["chips"].cutouts.source == "the sum of its surveys"
    assert {work.kind: work.corpus for work in found.trainings}["chips"] == "chips"

    results = tmp_path / "results"
    unpacked = results / "raw" / "sardet" / "files" / "version-3"
    unpacked.mkdir(parents=True)
    (unpacked / "a.png").write_bytes(bytes(77))
    (results / "raw" / "sardet" / "sources.json").write_text("{}")
    write_shard(results / "shards" / "sar_chips" / "0.h5", 128, 40)
    begun = plan(settings)
    (item,) = [item for item in begun.raw if item.name == "detection.sets.sardet"]
    assert (item.files_here, item.bytes_here, item.files_left, item.bytes_left) == (1, 77, 0, 0)
    chips = {survey.name: survey for survey in begun.surveys}["sar_chips"]
    assert (chips.parts_cut, chips.cutouts_here) == (1, 40)
    assert chips.cutouts.value == 94_493 + 10_492
    write_shard(results / "shards" / "sar_chips" / "1.h5", 128, 30)
    chips = {survey.name: survey for survey in plan(settings).surveys}["sar_chips"]
    assert (chips.cutouts.value, chips.cutouts.source) == (70, "in its shards")


@pytest.mark.parametrize(
    ("overlay", "images", "files"),
    [
        ({}, 64**2, 1),
        ({"products": None}, 3 * 64**2, 3),
        ({"catalogue": "training"}, round(0.05 * 64**2), 1),
        ({"products": None, "truth": {"SKAMid_B1_1000h_v3.fits": "a.txt"}}, 3 * 64**2, 2),
    ],
)
def test_truth_of_the_paper_comes_from_the_archive(
    overlay: dict[str, Any],
    images: int,
    files: int,
    repository: Path,
    tmp_path: Path,
    plan: MakePlan,
) -> None:
    more = tmp_path / "more.yaml"
    more.write_text(json.dumps({"detection": {"sets": {"radio": overlay}}}))
    paths = [repository / "config.yaml", repository / "workflow/config/paper.yaml", more]
    found = plan(Settings.read(*paths), device="cuda")
    radio = of_name(found, "radio")
    assert radio.images == images
    assert (radio.test, radio.val) == (round(images * 0.25), round(images * 0.125))
    (item,) = [item for item in found.raw if item.name == "detection.sets.radio"]
    assert (item.is_fetched, item.files_left) == (True, files)
    full = files * 228_644_250
    assert item.bytes_left == pytest.approx(full / 20 if "catalogue" in overlay else full, abs=5)
    # Only the mosaics of a corpus are cut into shards, and they are fetched once.
    assert [item.name for item in found.raw].count("surveys.sdc1") == 1
