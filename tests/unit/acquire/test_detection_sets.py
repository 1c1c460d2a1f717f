"""What a detection set consists of."""

from pathlib import Path

import pytest

from stradavit.acquire.archives import sardet
from stradavit.acquire.detection_sets import acquire_detection
from stradavit.acquire.detection_sources import read_sources, write_sources
from stradavit.acquire.simulated import scenes
from stradavit.errors import DataError
from stradavit.files import sha256_of
from stradavit.settings.detection import CocoSet, SimulatedScenes, SplitCounts

SCENES = SimulatedScenes(
    source="simulated", table="sar", images=SplitCounts(train=3, val=1, test=2), side_px=64
)


def acquired(tmp_path: Path, block: SimulatedScenes | CocoSet = SCENES) -> dict:
    out_path = tmp_path / "sources.json"
    acquire_detection("drawn", block, out_path)
    return read_sources(out_path)


def test_drawn_scenes_lie_beside_the_sources(tmp_path: Path) -> None:
    sources = acquired(tmp_path)
    root = tmp_path / "files"
    assert sources == {
        "pixels_sha256": sources["pixels_sha256"],
        "kind": "coco",
        "root": str(root),
        "annotations": {
            split: {
                "path": str(root / "Annotations" / f"{split}.json"),
                "sha256": sha256_of(root / "Annotations" / f"{split}.json"),
            }
            for split in ("train", "val", "test")
        },
        "folders": {s: str(root / "JPEGImages" / s) for s in ("train", "val", "test")},
        "classes": ["ship", "tank", "bridge"],
        "warnings": [],
    }
    assert len(list(root.glob("JPEGImages/train/*.png"))) == 3
    assert acquired(tmp_path) == sources


def test_drawing_other_pixels_is_another_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = acquired(tmp_path)
    monkeypatch.setattr(scenes, "WHITE", 2 * scenes.WHITE)
    after = acquired(tmp_path)
    # All boxes are where they were: without it, `cut_detection` would keep the old pixels.
    assert after["annotations"] == before["annotations"]
    assert after["pixels_sha256"] != before["pixels_sha256"]


def test_where_results_lie_is_not_in_the_file(tmp_path: Path) -> None:
    for results in ("here", "there"):
        raw = tmp_path / results / "raw"
        acquired(raw / "sar")
        mosaic = str(raw / "sdc1" / "files" / "m.fits")
        item = {"product": "m", "path": mosaic, "truth": "/data/t.csv"}
        write_sources(raw / "radio" / "sources.json", {"kind": "truth", "products": [item]})
        assert read_sources(raw / "radio" / "sources.json")["products"] == [item]
    for name in ("sar", "radio"):
        here, there = (
            (tmp_path / results / "raw" / name / "sources.json").read_bytes()
            for results in ("here", "there")
        )
        assert here == there
    assert b'"../sdc1/files/m.fits"' in here and b'"/data/t.csv"' in here


def test_a_copy_stays_where_it_is(tmp_path: Path) -> None:
    acquired(tmp_path / "a")
    block = CocoSet(source="coco", table="sar", path=str(tmp_path / "a"), splits=("val", "test"))
    sources = acquired(tmp_path / "b", block)
    assert sources["root"] == str(tmp_path / "a" / "files")
    assert set(sources["annotations"]) == set(sources["folders"]) == {"val", "test"}
    left = sorted(path.name for path in (tmp_path / "b").iterdir())
    assert left == ["sources.json", "sources.json.made.json"]


def test_a_class_that_is_not_there(tmp_path: Path) -> None:
    block = SCENES.model_copy(update={"classes": ("ship", "tonk")})
    message = "has no category 'tonk'; its categories are ship, tank, bridge.*drawn.classes"
    with pytest.raises(DataError, match=message):
        acquired(tmp_path, block)
    assert not (tmp_path / "sources.json").exists()


def test_a_missing_picture(tmp_path: Path) -> None:
    acquired(tmp_path)
    next((tmp_path / "files" / "JPEGImages" / "val").iterdir()).unlink()
    block = CocoSet(source="coco", table="sar", path=str(tmp_path))
    with pytest.raises(DataError, match=r"lacks 1 of the 1 images of val\.json"):
        acquired(tmp_path / "b", block)


def test_pictures_in_linked_folders_are_found(tmp_path: Path) -> None:
    acquired(tmp_path)
    pictures = tmp_path / "files" / "JPEGImages"
    (pictures / "val").rename(tmp_path / "elsewhere")
    (pictures / "val").symlink_to(tmp_path / "elsewhere")
    block = CocoSet(source="coco", table="sar", path=str(tmp_path / "files"))
    assert acquired(tmp_path / "b", block)["folders"]["val"] == str(pictures / "val")


def test_only_what_means_to_be_sardet_is_compared_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    acquired(tmp_path)
    block = CocoSet(source="coco", table="sar", path=str(tmp_path / "files"))
    monkeypatch.setattr(sardet, "CLASSES", ("tank", "ship", "bridge"))
    assert acquired(tmp_path / "b", block)["warnings"] == []
    monkeypatch.setattr(sardet, "IMAGES", {"train": 3, "val": 2, "test": 3})
    warnings = acquired(tmp_path / "b", block)["warnings"]
    assert "val: has 1 images; published are 2" in warnings
    assert "drawn: val: has 1 images; published are 2" in caplog.text


def test_real_pictures(shared_data: Path, tmp_path: Path) -> None:
    block = CocoSet(source="coco", table="sar", path=str(shared_data / "sar"))
    if not (shared_data / "sar" / "ssdd").is_dir():
        pytest.skip("no SSDD")
    sources = acquired(tmp_path, block)
    assert sources["classes"] == ["ship", "aircraft", "car", "tank", "bridge", "harbor"]
    assert sources["warnings"] == []
    assert set(sources["folders"].values()) == {str(shared_data / "sar" / "ssdd" / "JPEGImages")}


def test_truth_is_left_to_its_own_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    truth = pytest.importorskip("stradavit.acquire.truth_sources")
    from stradavit.settings.detection import TruthSet

    block = TruthSet(source="truth", table="radio", survey="sdc1")
    seen, found = [], {"kind": "truth", "products": []}
    monkeypatch.setattr(truth, "truth_sources", lambda *a: seen.append(a) or found)
    acquire_detection("radio", block, tmp_path / "s.json", [tmp_path / "0.csv"], None)
    assert seen == [("radio", block, tmp_path / "s.json", [tmp_path / "0.csv"], None)]
    assert read_sources(tmp_path / "s.json") == found
