"""Scoring a detector: what is written, that it can be recomputed, and what goes wrong."""

import json
import sys
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
import torch

import stradavit.detection.detect as stage
from stradavit.cutouts.detection_images import DetectionImages
from stradavit.detection.coco import Truth, coco_scores
from stradavit.detection.detect import detect, find
from stradavit.detection.detector import build_detector, load_detector, save_detector
from stradavit.errors import DataError
from stradavit.files import read_json, sha256_of
from tests.unit.detection.sets import (
    CLASSES,
    SCENES,
    loader,
    run_settings,
    scene,
    write_encoder,
    write_set,
)

NAMES = ("tiny", "drawn")
RUN = run_settings(detector={"max_detections": 20}, micro_batch_size=2)


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def set_path(tmp_path_factory):
    return write_set(tmp_path_factory.mktemp("sets") / "drawn.h5")


@pytest.fixture(scope="module")
def detector_dir(tmp_path_factory):
    """A detector that was never trained, and finds something everywhere."""
    encoder_dir = write_encoder(tmp_path_factory.mktemp("encoders") / "tiny")
    model = build_detector(encoder_dir, CLASSES, RUN.detector, RUN.seed)
    with torch.no_grad():
        model.roi_heads.box_predictor.cls_score.weight.mul_(50)
    folder = tmp_path_factory.mktemp("detectors") / "s7"
    meta = {"settings": RUN.model_dump(mode="json"), "encoder_sha256": "ab", "code": "cd"}
    save_detector(folder, model, meta)
    return folder


@pytest.fixture(scope="module")
def written(set_path, detector_dir, tmp_path_factory):
    out_path = tmp_path_factory.mktemp("metrics") / "s7.json"
    detect(detector_dir, set_path, "test", NAMES, out_path, loader())
    return out_path


def test_metrics_say_what_was_scored(written, set_path, detector_dir):
    metrics = read_json(written)
    assert metrics["protocol"] == "detection"
    assert (metrics["encoder"], metrics["set"], metrics["seed"]) == ("tiny", "drawn", 7)
    assert (metrics["split"], metrics["classes"]) == ("test", ["ship", "tank"])
    assert metrics["settings"] == RUN.model_dump(mode="json")
    assert metrics["provenance"] == {
        "encoder_sha256": "ab",
        "detector_sha256": sha256_of(detector_dir / "model.safetensors"),
        "detector_code": "cd",
        "set_sha256": sha256_of(set_path),
        "device": "cpu",
    }
    assert metrics["n_images"] == 3
    assert metrics["n_boxes"] == {"all": 3, "small": 3, "medium": 0, "large": 0}
    assert metrics["size_limits_px"] == [32, 96]
    assert metrics["sdc1"] is None
    assert set(metrics["scores"]) == {
        "map", "ap50", "ap75", "map_small", "map_medium", "map_large",
    }  # fmt: skip
    assert metrics["scores"]["map_medium"] is None
    assert metrics["scores"]["map"] == metrics["scores"]["map_small"] is not None
    assert len(metrics["code"]) == 64


def test_scores_follow_from_the_written_detections(written, set_path):
    found = read_json(written.with_suffix(".detections.json"))
    images = DetectionImages(set_path)
    assert found
    for one in found:
        assert set(one) == {"image_id", "category_id", "bbox", "score"}
        ny, nx = images.shapes[one["image_id"]]
        x, y, w, h = one["bbox"]
        assert 0 <= x < x + w <= nx + 1e-3 and 0 <= y < y + h <= ny + 1e-3
        assert one["category_id"] in (0, 1)
    numbers = images.of_split("test").tolist()
    assert numbers == [7, 8, 9] and {one["image_id"] for one in found} <= set(numbers)
    truth = [Truth(n, images.boxes(n), images.labels(n), images.is_crowd(n)) for n in numbers]
    again = coco_scores(truth, found, CLASSES)
    metrics = read_json(written)
    assert again.scores == metrics["scores"] and again.per_class == metrics["per_class"]


def test_detections_are_the_model_s_in_pixels_of_the_stored_image(written, set_path, detector_dir):
    found = read_json(written.with_suffix(".detections.json"))
    images, (model, _) = DetectionImages(set_path), load_detector(detector_dir)
    for number in images.of_split("test").tolist():
        with torch.inference_mode():
            (output,) = model([torch.from_numpy(images.image(number))[None]])
        of_image = [one for one in found if one["image_id"] == number]
        assert len(of_image) == len(output["boxes"]) <= 20
        boxes = np.array([one["bbox"] for one in of_image])
        boxes[:, 2:] += boxes[:, :2]
        # Images passed two at once; a thousandth of a pixel is rounded away.
        np.testing.assert_allclose(boxes, output["boxes"].numpy(), atol=5e-3)
        assert [one["category_id"] + 1 for one in of_image] == output["labels"].tolist()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_grey_and_rgb_encoders_score_images_of_any_size(channels, precision, set_path, tmp_path):
    encoder_dir = write_encoder(tmp_path / "encoder", channels=channels)
    run = run_settings(precision=precision)
    model = build_detector(encoder_dir, CLASSES, run.detector, run.seed)
    meta = {"settings": run.model_dump(mode="json"), "encoder_sha256": "ab", "code": "cd"}
    save_detector(tmp_path / "detector", model, meta)
    detect(tmp_path / "detector", set_path, "train", NAMES, tmp_path / "m.json", loader())
    metrics = read_json(tmp_path / "m.json")
    # The crowd is not among them.
    assert metrics["n_boxes"]["all"] == 7 and metrics["n_images"] == 7


class _Oracle:
    """Knows the answers."""

    def __init__(self, model, images):
        self.config, self._images, self._next = model.config, images, 0

    def __call__(self, inputs):
        outputs = []
        for pixels in inputs:
            number = self._next
            assert pixels.shape == (1, *self._images.shapes[number])
            boxes = torch.from_numpy(self._images.boxes(number))
            labels = torch.from_numpy(self._images.labels(number)) + 1
            outputs.append({"boxes": boxes, "labels": labels, "scores": torch.ones(len(boxes))})
            self._next += 1
        return outputs


def test_right_answers_score_one(set_path, detector_dir):
    images, (model, _) = DetectionImages(set_path), load_detector(detector_dir)
    numbers = images.of_split("train").tolist()
    found = find(_Oracle(model, images), images, numbers, RUN, torch.device("cpu"))
    truth = [Truth(n, images.boxes(n), images.labels(n), images.is_crowd(n)) for n in numbers]
    scores = coco_scores(truth, found, CLASSES)
    assert scores.scores["map"] == pytest.approx(1.0)


def test_nothing_found_is_an_empty_list_and_zero(set_path, detector_dir, tmp_path, monkeypatch):
    monkeypatch.setattr(stage, "find", lambda *_: [])
    detect(detector_dir, set_path, "test", NAMES, tmp_path / "m.json", loader())
    assert json.loads((tmp_path / "m.detections.json").read_text()) == []
    assert read_json(tmp_path / "m.json")["scores"]["map"] == 0.0


def test_sets_of_truth_catalogues_get_the_challenge_s_score(detector_dir, tmp_path, monkeypatch):
    given = {}

    def challenge_score(images, sources_path, split, found):
        given.update(path=images.path, sources_path=sources_path, split=split, found=found)
        return {"score": 1.5, "percent": 50.0}

    name = "stradavit.detection.challenge"
    monkeypatch.setitem(sys.modules, name, SimpleNamespace(challenge_score=challenge_score))
    sources_path, out_path = tmp_path / "sources.json", tmp_path / "m.json"

    def sdc1(source, sources):
        path = write_set(tmp_path / f"{source}.h5", SCENES, source=source)
        detect(detector_dir, path, "test", NAMES, out_path, loader(), sources)
        return read_json(out_path)["sdc1"]

    assert sdc1("truth", sources_path) == {"score": 1.5, "percent": 50.0}
    assert given["sources_path"] == sources_path and given["split"] == "test"
    assert given["found"] == read_json(tmp_path / "m.detections.json")
    given.clear()
    assert sdc1("truth", None) is None
    assert sdc1("coco", sources_path) is None
    assert not given


def test_other_classes_and_empty_splits_are_refused(set_path, detector_dir, tmp_path):
    with pytest.raises(DataError, match="has no images in the split val; expected some"):
        detect(detector_dir, set_path, "val", NAMES, tmp_path / "m.json", loader())
    model, meta = load_detector(detector_dir)
    other = type(model.config)(**(vars(model.config) | {"classes": ("ship", "car")}))
    model.config = other
    save_detector(tmp_path / "other", model, meta)
    with pytest.raises(DataError, match=r"knows the classes ship, car; expected those of .*tank"):
        detect(tmp_path / "other", set_path, "test", NAMES, tmp_path / "m.json", loader())
    assert not (tmp_path / "m.json").exists()


def test_a_damaged_image_leaves_no_metrics(detector_dir, tmp_path):
    path = write_set(tmp_path / "s.h5", [scene("a", "test", boxes=[(1, 1, 20, 20)])])
    with h5py.File(path, "r+") as file:
        file["pixels"][10] ^= 1
    with pytest.raises(DataError, match="does not have its checksum"):
        detect(detector_dir, path, "test", NAMES, tmp_path / "m.json", loader())
    assert [p.name for p in tmp_path.iterdir()] == ["s.h5"]
