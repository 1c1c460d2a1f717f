"""Metrics of detection are read as `detect` writes them, and refused otherwise."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stradavit.errors import DataError
from stradavit.paper.detection_files import read_detection_metrics, read_found
from stradavit.settings import Settings

from .fake_detection import detection_config, detection_content, write_content

CELL = ("start_tiny_net_s1", "radio", 7)
Change = Callable[[dict[str, Any]], Any]


@pytest.fixture
def content() -> dict[str, Any]:
    """What `detect` writes."""
    return detection_content(Settings.parse(detection_config()), *CELL)


def test_what_is_written_is_read(tmp_path: Path, content: dict[str, Any]) -> None:
    content["scores"]["ap75"] = 0
    content["classes"], content["per_class"] = (
        ["b", "a"],
        {"a": {"map": 0.25, "ap50": 1}, "b": None},
    )
    path = tmp_path / "s7.json"
    write_content(path, content)
    metrics = read_detection_metrics(path, *CELL)
    assert (metrics.encoder, metrics.detection_set, metrics.seed, metrics.split) == (*CELL, "test")
    assert metrics.scores["ap75"] == 0.0
    assert metrics.scores["map_large"] is None
    assert metrics.scores["map"] == content["scores"]["map"]
    assert list(metrics.per_class.items()) == [("b", None), ("a", 0.25)]
    assert metrics.n_boxes == {"all": 1500, "small": 1400, "medium": 100, "large": 0}
    assert metrics.size_limits_px == (32.0, 96.0)
    assert metrics.sdc1 is not None
    assert (metrics.sdc1.score, metrics.sdc1.percent, metrics.sdc1.band_mhz) == (17.0, 11.0, 560)
    assert (metrics.sdc1.n_detections, metrics.sdc1.n_matched, metrics.sdc1.n_false) == (
        100,
        40,
        60,
    )


def test_bands_may_differ_and_there_need_be_no_challenge(
    tmp_path: Path, content: dict[str, Any]
) -> None:
    content["sdc1"]["band_mhz"] = None
    content["sdc1"]["score"] = -3.5
    write_content(tmp_path / "s7.json", content)
    sdc1 = read_detection_metrics(tmp_path / "s7.json", *CELL).sdc1
    assert sdc1 is not None and sdc1.band_mhz is None and sdc1.score == -3.5
    content["sdc1"] = None
    write_content(tmp_path / "s7.json", content)
    assert read_detection_metrics(tmp_path / "s7.json", *CELL).sdc1 is None


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda c: c.update(protocol="finetune"), "protocol is 'finetune'"),
        (lambda c: c.update(split="all"), "split is 'all', expected one of train, val, test"),
        (lambda c: c["scores"].pop("ap50"), "scores are .*expected"),
        (lambda c: c["scores"].update(map=47.2), "a score is 47.2, expected a fraction"),
        (lambda c: c["scores"].update(map=float("nan")), "a score is nan"),
        (lambda c: c["scores"].update(map=-1.0), r"a score is -1\.0"),
        (lambda c: c["scores"].update(map=True), "a score is True"),
        (lambda c: c["per_class"].update(ufo=None), "per_class has .*ufo"),
        (lambda c: c.update(classes=[], per_class={}), "per_class has"),
        (lambda c: c["n_boxes"].pop("large"), "KeyError: 'large'"),
        (lambda c: c["n_boxes"].update(large=1.5), "n_boxes.large is 1.5"),
        (lambda c: c.update(n_images=-1), "n_images is -1, expected a whole number"),
        (lambda c: c.update(seed="7"), "seed is '7'"),
        (lambda c: c.update(size_limits_px=[96, 32]), "size_limits_px is"),
        (lambda c: c["sdc1"].update(score=float("inf")), "sdc1 has score inf"),
        (lambda c: c["sdc1"].update(band_mhz="L"), "sdc1.band_mhz is 'L'"),
        (lambda c: c.pop("sdc1"), "KeyError: 'sdc1'"),
        (lambda c: c.update(settings=3), "TypeError"),
    ],
)
def test_what_detect_does_not_write_is_refused(
    tmp_path: Path, content: dict[str, Any], change: Change, match: str
) -> None:
    change(content)
    path = tmp_path / "s7.json"
    write_content(path, content)
    with pytest.raises(DataError, match=rf"s7\.json: not a metrics file of detection.*{match}"):
        read_detection_metrics(path, *CELL)


def test_files_that_are_missing_or_no_json(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"FileNotFoundError.*Delete it and run `snakemake"):
        read_detection_metrics(tmp_path / "s7.json", *CELL)
    (tmp_path / "s7.json").write_text("[1, 2]")
    with pytest.raises(DataError, match="not a metrics file of detection"):
        read_detection_metrics(tmp_path / "s7.json", *CELL)


def test_metrics_of_another_detector(tmp_path: Path, content: dict[str, Any]) -> None:
    write_content(tmp_path / "s7.json", content)
    with pytest.raises(DataError, match="is about start_tiny_net_s1 radio 7, expected x radio 8"):
        read_detection_metrics(tmp_path / "s7.json", "x", "radio", 8)


def found_of(tmp_path: Path, content: dict[str, Any], entries: Any) -> Any:
    write_content(tmp_path / "s7.json", content)
    write_content(tmp_path / "s7.detections.json", entries)
    return read_found(read_detection_metrics(tmp_path / "s7.json", *CELL))


def test_detections_by_image(tmp_path: Path, content: dict[str, Any]) -> None:
    entry = {"image_id": 4, "category_id": 0, "bbox": [1, 2.5, 10, 20], "score": 0.75}
    found = found_of(tmp_path, content, [entry, entry | {"image_id": 2}, entry | {"score": 0.5}])
    assert list(found) == [4, 2]
    np.testing.assert_array_equal(found[4].boxes, [[1, 2.5, 11, 22.5]] * 2)
    assert found[4].labels.tolist() == [0, 0]
    assert found[4].scores.tolist() == [0.75, 0.5]
    assert found_of(tmp_path, content, []) == {}


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"bbox": [1, 2, -3, 4]}, "expected finite x, y, width, height"),
        ({"bbox": [1, 2, float("nan"), 4]}, "expected finite x, y, width, height"),
        ({"bbox": [1, 2, 3]}, "ValueError"),
        ({"category_id": 1}, "category_id 1; expected less than 1"),
        ({"category_id": -1}, "category_id is -1"),
        ({"image_id": 0.5}, "image_id is 0.5"),
        ({"score": 2}, "a score is 2"),
    ],
)
def test_detections_that_are_none(
    tmp_path: Path, content: dict[str, Any], change: dict[str, Any], match: str
) -> None:
    entry = {"image_id": 4, "category_id": 0, "bbox": [1, 2, 3, 4], "score": 0.5} | change
    with pytest.raises(
        DataError,
        match=rf"s7\.detections\.json: not a list of detections.*{match}.*forcerun .*s7\.json",
    ):
        found_of(tmp_path, content, [entry])


def test_detections_that_are_missing(tmp_path: Path, content: dict[str, Any]) -> None:
    write_content(tmp_path / "s7.json", content)
    metrics = read_detection_metrics(tmp_path / "s7.json", *CELL)
    with pytest.raises(DataError, match=r"s7\.detections\.json: not a list.*FileNotFoundError"):
        read_found(metrics)
    (tmp_path / "s7.detections.json").write_text(json.dumps({"a": 1}))
    with pytest.raises(DataError, match="not a list of detections"):
        read_found(metrics)
