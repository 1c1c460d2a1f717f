"""Detection sets in one file: values, boxes, and what the validator finds."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from stradavit.acquire.detection_sets import acquire_detection
from stradavit.acquire.detection_sources import read_sources, write_sources
from stradavit.cutouts.detection_images import DetectionImages
from stradavit.cutouts.detection_report import describe
from stradavit.cutouts.detection_stages import check_detection, cut_detection
from stradavit.detection.inputs import mirror
from stradavit.errors import DataError
from stradavit.settings import CutoutSettings
from stradavit.settings.detection import CocoSet, SimulatedScenes, SplitCounts, TruthSet

from .fake_coco import box, lay_out, noise

CUTOUTS = CutoutSettings()
NO_PRODUCTS = {"kind": "truth", "products": []}
NO_SPLITS = {"kind": "coco", "root": "/", "annotations": {}, "folders": {}, "classes": ["a"]}
GREY, COLOUR, DEEP = noise(1, 21, 33), noise(2, 20, 15, 3), noise(3, 17, 12).astype(np.uint16) * 257


def coco_set(root: Path, **more: Any) -> CocoSet:
    return CocoSet(source="coco", table="sar", path=str(root), **more)


def cut(tmp_path: Path, block: Any) -> DetectionImages:
    acquire_detection("small", block, tmp_path / "raw" / "sources.json")
    out_path = tmp_path / "small.h5"
    cut_detection("small", block, CUTOUTS, tmp_path / "raw" / "sources.json", out_path)
    return DetectionImages(out_path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "copy"
    lay_out(
        root,
        "train",
        {"grey.png": GREY, "colour.png": COLOUR, "deep.png": DEEP, "empty.png": noise(4, 9, 8)},
        [
            box(0, 0, [2, 3, 10.5, 4]),
            box(0, 1, [-3, -2, 10, 6]),
            box(0, 0, [30, 18, 10, 10], iscrowd=1),
            box(0, 0, [5, 5, 0, 3]),
            box(0, 0, [33, 5, 4, 3]),
            box(0, 0, [-8, 5, 8, 3]),
            box(0, 2, [1, 1, 2, 2]),
            box(1, 1, [0, 0, 15, 20]),
        ],
    )
    lay_out(root, "val", {"v.png": noise(5, 8, 8)}, [box(0, 0, [1, 1, 2, 2])])
    lay_out(root, "test", {"t.png": noise(6, 31, 7)}, [])
    return root


def test_values_keep_their_scale(root: Path, tmp_path: Path) -> None:
    images = cut(tmp_path, coco_set(root))
    assert images.names == [
        *("train/grey.png", "train/colour.png", "train/deep.png", "train/empty.png"),
        *("val/v.png", "test/t.png"),
    ]
    assert images.shapes.tolist() == [[21, 33], [20, 15], [17, 12], [9, 8], [8, 8], [31, 7]]
    assert images.splits.tolist() == ["train"] * 4 + ["val", "test"]
    np.testing.assert_allclose(images.image(0), GREY / 255, atol=1e-5)
    luminance = COLOUR @ np.array([0.299, 0.587, 0.114]) / 255
    np.testing.assert_allclose(images.image(1), luminance, atol=1e-5)
    np.testing.assert_array_equal(images.levels(2), DEEP)
    assert images.place(0) == ("", 0, 0, 0.0, 255.0)
    assert images.place(2) == ("", 0, 0, 0.0, 65535.0)
    assert np.isnan(images.sky).all()


def test_white_stays_white(tmp_path: Path) -> None:
    white = np.full((4, 5, 3), 255, np.uint8)
    lay_out(tmp_path / "copy", "val", {"a.png": white}, [])
    images = cut(tmp_path, coco_set(tmp_path / "copy", splits=("val",)))
    assert (images.levels(0) == 65535).all()


def test_boxes_are_corners_clipped_to_their_image(root: Path, tmp_path: Path) -> None:
    images = cut(tmp_path, coco_set(root))
    assert images.classes == ("ship", "tank", "car")
    expected = [[2, 3, 12.5, 7], [0, 0, 7, 4], [30, 18, 33, 21], [1, 1, 3, 3]]
    np.testing.assert_array_equal(images.boxes(0), np.array(expected, np.float32))
    assert images.labels(0).tolist() == [0, 1, 0, 2]
    assert images.is_crowd(0).tolist() == [False, False, True, False]
    assert images.sources(0) == ["train/1", "train/2", "train/3", "train/7"]
    assert images.boxes(1).tolist() == [[0, 0, 15, 20]]
    assert images.boxes(3).shape == (0, 4)


def test_slivers_that_training_could_not_keep_have_no_area(tmp_path: Path) -> None:
    slivers: list[list[float]] = [[0, 1, 1e-6, 5], [1, 2, 5, 0.009], [-9.99999, 3, 10, 4]]
    root = tmp_path / "copy"
    boxes = [box(0, 0, one) for one in [*slivers, [0, 0, 0.02, 5]]]
    lay_out(root, "train", {"a.png": noise(7, 20, 800)}, boxes)
    images = cut(tmp_path, coco_set(root, splits=("train",)))
    np.testing.assert_array_equal(images.boxes(0), np.array([[0, 0, 0.02, 5]], np.float32))
    # The rest has an area on the other side too, where float32 is coarser.
    _, ((x0, _, x1, _),) = mirror(images.image(0), images.boxes(0))
    assert x1 > x0
    counts = images.report["splits"]["train"]
    assert (counts["no_area"], counts["outside"]) == (2, 1)


def test_the_report_counts_all_that_was_left_out(root: Path, tmp_path: Path) -> None:
    report = cut(tmp_path, coco_set(root)).report
    assert report["splits"]["train"] == {
        "images": 4,
        "empty": 2,
        "boxes": 5,
        "crowd": 1,
        "per_class": {"ship": 2, "tank": 2, "car": 1},
        "no_area": 1,
        "outside": 2,
        "clipped": 2,
        "other_class": {},
    }
    assert report["splits"]["test"]["images"] == report["splits"]["test"]["empty"] == 1
    assert report["left_out"] == {
        "no_area": ["train/grey.png box 4"],
        "outside": ["train/grey.png box 5", "train/grey.png box 6"],
    }
    assert report["unseen_classes"] == []
    assert report["duplicates_within"] == {"groups": 0, "images": 0, "names": []}
    assert describe(report).splitlines() == [
        "train: 4 images (2 without boxes), 5 boxes, 1 of them regions to ignore",
        "  by class: 2 ship, 2 tank, 1 car",
        "  boxes: 1 without area, left out; 2 outside the image, left out; 2 clipped to the image",
        "val: 1 images (0 without boxes), 1 boxes",
        "  by class: 1 ship",
        "test: 1 images (1 without boxes), 0 boxes",
        "  by class: none",
        "boxes without area: train/grey.png box 4",
        "boxes outside: train/grey.png box 5, train/grey.png box 6",
    ]


def test_classes_are_chosen_in_table_order(root: Path, tmp_path: Path) -> None:
    images = cut(tmp_path, coco_set(root, classes=("tank", "ship")))
    assert images.classes == ("tank", "ship")
    assert images.labels(0).tolist() == [1, 0, 1]
    assert images.report["splits"]["train"]["other_class"] == {"car": 1}
    assert "1 of car, left out" in describe(images.report)


def test_classes_map_by_name_whatever_the_ids(root: Path, tmp_path: Path) -> None:
    path = root / "Annotations" / "val.json"
    coco = json.loads(path.read_text())
    ids = {"tank": 9, "car": 5, "ship": 7}
    coco["categories"] = [{"id": number, "name": name} for name, number in ids.items()]
    coco["annotations"][0]["category_id"] = 9
    path.write_text(json.dumps(coco))
    images = cut(tmp_path, coco_set(root))
    assert images.classes == ("ship", "tank", "car")
    assert images.labels(4).tolist() == [1]


def test_repeats_and_shared_sources_are_named(root: Path, tmp_path: Path) -> None:
    lay_out(
        root,
        "test",
        # The same bytes in another shape are another picture.
        {"t.png": GREY, "turned.png": GREY.reshape(33, 21), "again.png": GREY},
        [box(0, 0, [1, 1, 2, 2], source_id=77), box(1, 0, [1, 1, 2, 2], source_id="only here")],
    )
    lay_out(
        root,
        "val",
        {"v.png": noise(5, 8, 8), "w.png": noise(5, 8, 8)},
        [box(0, 0, [1, 1, 2, 2], source_id=77)],
    )
    report = cut(tmp_path, coco_set(root)).report
    assert report["duplicates_across"] == {
        "groups": 1,
        "images": 3,
        "names": [["train/grey.png", "test/t.png", "test/again.png"]],
    }
    assert report["duplicates_within"] == {
        "groups": 1,
        "images": 2,
        "names": [["val/v.png", "val/w.png"]],
    }
    assert report["sources_in_two_splits"] == {"number": 1, "names": ["77"]}
    text = describe(report)
    assert "equal images ACROSS SPLITS: 3 in 1 groups, such as\n  train/grey.png = test/" in text
    assert "sources in two splits: 1, such as 77" in text


def test_pictures_that_are_not_as_stated_are_all_told(root: Path, tmp_path: Path) -> None:
    Image.fromarray(GREY[:-1]).save(root / "JPEGImages" / "grey.png")
    (root / "JPEGImages" / "deep.png").write_bytes(b"no picture")
    whole = (root / "JPEGImages" / "t.png").read_bytes()
    (root / "JPEGImages" / "t.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="3 pictures are not as their annotations say") as caught:
        cut(tmp_path, coco_set(root))
    said = str(caught.value)
    assert "grey.png: is 33 x 20 px, the annotations say 33 x 21 px" in said
    assert "deep.png" in said and "truncated" in said and "t.png" in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy", "raw"]


def test_annotations_must_not_change_in_between(root: Path, tmp_path: Path) -> None:
    sources_path = tmp_path / "sources.json"
    acquire_detection("small", coco_set(root), sources_path)
    path = root / "Annotations" / "val.json"
    path.write_text(path.read_text() + " ")
    with pytest.raises(DataError, match=r"val\.json: has changed since it was acquired"):
        cut_detection("small", coco_set(root), CUTOUTS, sources_path, tmp_path / "s.h5")
    path.unlink()
    with pytest.raises(DataError, match=r"val\.json: cannot be read"):
        cut_detection("small", coco_set(root), CUTOUTS, sources_path, tmp_path / "s.h5")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot be read as JSON"),
        ("[]", "its kind is None; expected coco or truth"),
        ('{"kind": "odd"}', "its kind is 'odd'"),
        ('{"kind": "truth"}', "does not say what it must .*'products'"),
        ('{"kind": "coco", "root": 3}', "does not say what it must"),
        (json.dumps(NO_PRODUCTS), "its sources are of kind truth, its settings of source coco"),
        (json.dumps(NO_SPLITS), "has no category 'ship'; its categories are a"),
    ],
)
def test_sources_that_are_none(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "sources.json").write_text(text)
    block = coco_set(tmp_path, classes=("ship",))
    with pytest.raises(DataError, match=message):
        cut_detection("s", block, CUTOUTS, tmp_path / "sources.json", tmp_path / "s.h5")


def test_truth_needs_sources_of_its_kind(tmp_path: Path) -> None:
    write_sources(tmp_path / "sources.json", NO_SPLITS)
    block = TruthSet(source="truth", table="radio", survey="sdc1")
    with pytest.raises(DataError, match="kind coco, its settings of source truth"):
        cut_detection("s", block, CUTOUTS, tmp_path / "sources.json", tmp_path / "s.h5")


def test_truth_scenes_are_left_to_their_own_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, root: Path
) -> None:
    truth = pytest.importorskip("stradavit.cutouts.truth_tiles")
    scenes = cut(tmp_path, coco_set(root))
    block = TruthSet(source="truth", table="radio", survey="sdc1")

    def fake(given: Any, cutouts: Any, sources: Any) -> Any:
        from stradavit.cutouts.detection_images import Scene

        assert (given, cutouts, sources) == (block, CUTOUTS, NO_PRODUCTS)
        one = Scene(
            name="a",
            split="test",
            levels=scenes.levels(1),
            boxes=scenes.boxes(1),
            labels=np.zeros(1, np.int64),
            is_crowd=scenes.is_crowd(1),
            sources=("7",),
        )
        return ("source",), iter([one]), {"faint": 3}

    monkeypatch.setattr(truth, "truth_scenes", fake)
    write_sources(tmp_path / "sources.json", NO_PRODUCTS)
    cut_detection("s", block, CUTOUTS, tmp_path / "sources.json", tmp_path / "t.h5")
    images = DetectionImages(tmp_path / "t.h5")
    assert images.classes == ("source",) and images.names == ["a"]
    assert images.report["counts"] == {"faint": 3}
    assert "counts: {'faint': 3}" in describe(images.report)
    assert images.attribute("settings")["survey"] == "sdc1"
    assert "table" not in images.attribute("settings")


def test_drawn_scenes(tmp_path: Path) -> None:
    counts = SplitCounts(train=8, val=2, test=4)
    block = SimulatedScenes(source="simulated", table="sar", images=counts, side_px=64)
    images = cut(tmp_path, block)
    assert [len(images.of_split(split)) for split in ("train", "val", "test")] == [8, 2, 4]
    assert images.classes == ("ship", "tank", "bridge")
    report = images.report
    assert report["splits"]["train"]["empty"] >= 1
    for split in report["splits"].values():
        assert split["no_area"] == split["outside"] == split["clipped"] == 0
    assert report["duplicates_across"]["groups"] == 0
    checked = check_detection("s", block, CUTOUTS, read_sources(tmp_path / "raw" / "sources.json"))
    assert checked == report


def test_real_pictures_have_known_repeats(shared_data: Path, tmp_path: Path) -> None:
    if not (shared_data / "sar" / "ssdd").is_dir():
        pytest.skip("no SSDD")
    images = cut(tmp_path, coco_set(shared_data / "sar" / "ssdd"))
    report = images.report
    sizes = {split: (n["images"], n["boxes"]) for split, n in report["splits"].items()}
    assert sizes == {"train": (116, 265), "val": (58, 113), "test": (116, 260)}
    assert report["unseen_classes"] == ["aircraft", "car", "tank", "bridge", "harbor"]
    groups = report["duplicates_within"]["names"] + report["duplicates_across"]["names"]
    found = {frozenset(name.split("/")[1] for name in group) for group in groups}
    assert frozenset({"000001.jpg", "000093.jpg"}) in found
    assert frozenset({"000033.jpg", "000389.jpg", "000637.jpg"}) in found
    assert "classes without any box: aircraft, car, tank, bridge, harbor" in describe(report)
    for split in report["splits"].values():
        assert split["no_area"] == split["outside"] == 0
