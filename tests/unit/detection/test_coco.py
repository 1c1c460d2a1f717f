"""COCO's scores: ours, a naive reading of the definition, and pycocotools on files agree."""

import contextlib
import io
import json

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from stradavit.detection.coco import Truth, coco_scores
from tests.reference.coco_ap import THRESHOLDS, mean_average_precision

CLASSES = ("ship", "tank", "never")


def draw(seed, n_images=7):
    """Boxes of all sizes, some crowds, and detections near them, elsewhere and twice."""
    rng = np.random.default_rng(seed)
    truth, found = [], []
    for image_id in range(n_images):
        k = int(rng.integers(0, 6))
        first = rng.uniform(0, 200, (k, 2))
        sides = np.exp(rng.uniform(np.log(8), np.log(200), (k, 2)))
        boxes = np.hstack([first, first + sides]).astype(np.float32)
        labels = rng.integers(0, 2, k)
        truth.append(Truth(image_id, boxes, labels, rng.random(k) < 0.2))
        near = [
            (box + rng.normal(0, 0.1, 4) * np.tile(box[2:] - box[:2], 2), label)
            for box, label in zip(boxes, labels, strict=True)
            for _ in range(rng.integers(0, 4))
        ]
        corners = np.sort(rng.uniform(0, 300, (int(rng.integers(0, 5)), 2, 2)), axis=1)
        elsewhere = [(box.reshape(4), rng.integers(0, 3)) for box in corners]
        for box, label in near + elsewhere:
            if (box[2:] - box[:2] > 1).all():
                x0, y0, x1, y1 = map(float, box)
                found.append(
                    {
                        "image_id": image_id,
                        "category_id": int(label),
                        "bbox": [x0, y0, x1 - x0, y1 - y0],
                        "score": float(rng.random()),
                    }
                )
    return truth, found


def as_reference(truth, found):
    images = []
    for image in truth:
        boxes = [
            (tuple(map(float, box)), int(label), bool(crowd))
            for box, label, crowd in zip(image.boxes, image.labels, image.is_crowd, strict=True)
        ]
        detections = [
            ((x, y, x + w, y + h), one["category_id"], one["score"])
            for one in found
            if one["image_id"] == image.image_id
            for x, y, w, h in [one["bbox"]]
        ]
        images.append((boxes, detections))
    return images


def close(found, expected):
    return found is None if expected is None else found == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("seed", range(12))
def test_scores_are_those_of_the_definition(seed):
    truth, found = draw(seed)
    images, labels = as_reference(truth, found), range(len(CLASSES))
    ours = coco_scores(truth, found, CLASSES)
    assert close(ours.scores["map"], mean_average_precision(images, labels))
    assert close(ours.scores["ap50"], mean_average_precision(images, labels, THRESHOLDS[:1]))
    assert close(ours.scores["ap75"], mean_average_precision(images, labels, THRESHOLDS[5:6]))
    for size in ("small", "medium", "large"):
        expected = mean_average_precision(images, labels, size=size)
        assert close(ours.scores[f"map_{size}"], expected), size
    for label, name in enumerate(CLASSES):
        expected = mean_average_precision(images, [label])
        if expected is None:
            assert ours.per_class[name] is None
            continue
        at_half = mean_average_precision(images, [label], THRESHOLDS[:1])
        assert close(ours.per_class[name]["map"], expected)
        assert close(ours.per_class[name]["ap50"], at_half)
    assert ours.per_class["never"] is None


@pytest.mark.parametrize("seed", [0, 1])
def test_scores_are_those_of_pycocotools_on_files(seed, tmp_path):
    truth, found = draw(seed, n_images=20)
    annotations = [
        {
            "id": 0,
            "image_id": image.image_id,
            "category_id": int(label),
            "bbox": [x0, y0, x1 - x0, y1 - y0],
            "area": (x1 - x0) * (y1 - y0),
            "iscrowd": int(crowd),
        }
        for image in truth
        for box, label, crowd in zip(image.boxes, image.labels, image.is_crowd, strict=True)
        for x0, y0, x1, y1 in [map(float, box)]
    ]
    for number, annotation in enumerate(annotations, start=1):
        annotation["id"] = number
    (tmp_path / "truth.json").write_text(
        json.dumps(
            {
                "images": [{"id": image.image_id} for image in truth],
                "categories": [{"id": k, "name": name} for k, name in enumerate(CLASSES)],
                "annotations": annotations,
            }
        )
    )
    (tmp_path / "found.json").write_text(json.dumps(found))
    with contextlib.redirect_stdout(io.StringIO()):
        truth_file = COCO(str(tmp_path / "truth.json"))
        evaluation = COCOeval(truth_file, truth_file.loadRes(str(tmp_path / "found.json")), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    ours = coco_scores(truth, found, CLASSES).scores
    names = ("map", "ap50", "ap75", "map_small", "map_medium", "map_large")
    assert [ours[name] for name in names] == pytest.approx(evaluation.stats[:6], abs=1e-12)


def test_it_prints_nothing(capsys):
    coco_scores(*draw(0), CLASSES)
    assert capsys.readouterr().out == ""


def one_ship(x1=40.0, is_crowd=False):
    return Truth(3, np.array([[0, 0, x1, 40]], np.float32), np.array([0]), np.array([is_crowd]))


def detection(score=0.9, width=40.0, category_id=0, image_id=3):
    box = [0.0, 0.0, width, 40.0]
    return {"image_id": image_id, "category_id": category_id, "bbox": box, "score": score}


def test_perfect_detections_score_one_and_absent_classes_nothing():
    ours = coco_scores([one_ship()], [detection()], ("ship", "tank"))
    assert (ours.scores["map_small"], ours.scores["map_large"]) == (None, None)
    for name in ("map", "ap50", "ap75", "map_medium"):
        assert ours.scores[name] == pytest.approx(1.0)
    assert ours.per_class == {"ship": pytest.approx({"map": 1.0, "ap50": 1.0}), "tank": None}
    assert ours.n_boxes == {"all": 1, "small": 0, "medium": 1, "large": 0}


def test_no_detections_score_zero():
    ours = coco_scores([one_ship()], [], ("ship",))
    assert ours.scores["map"] == 0.0 and ours.per_class["ship"] == {"map": 0.0, "ap50": 0.0}


def test_an_overlap_of_0_78_passes_six_of_ten_thresholds():
    # 0.50, 0.55, ..., 0.75 are at most 0.78.
    ours = coco_scores([one_ship()], [detection(width=0.78 * 40)], ("ship",)).scores
    assert (ours["map"], ours["ap75"]) == pytest.approx((0.6, 1.0))


def test_a_crowd_is_neither_missed_nor_found():
    assert coco_scores([one_ship(is_crowd=True)], [], ("ship",)).scores["map"] is None
    second = Truth(4, one_ship().boxes, np.array([0]), np.array([True]))
    # The best detection lies in a crowd, the second is right: the first costs nothing.
    found = [detection(score=0.99, image_id=4), detection(score=0.5)]
    ours = coco_scores([one_ship(), second], found, ("ship",))
    assert ours.scores["map"] == pytest.approx(1.0)
    assert ours.n_boxes["all"] == 1


def test_a_box_on_a_limit_counts_on_both_sides():
    square = Truth(3, np.array([[0, 0, 32, 32]], np.float32), np.array([0]), np.array([False]))
    ours = coco_scores([square], [], ("ship",))
    assert ours.n_boxes == {"all": 1, "small": 1, "medium": 1, "large": 0}
    assert (ours.scores["map_small"], ours.scores["map_medium"]) == (0.0, 0.0)


@pytest.mark.parametrize("wrong", [{"image_id": 9}, {"category_id": 2}, {"category_id": -1}])
def test_detections_of_unknown_images_or_classes_are_refused(wrong):
    with pytest.raises(ValueError, match="not scored, or classes beyond 0"):
        coco_scores([one_ship()], [detection(**wrong)], ("ship",))
