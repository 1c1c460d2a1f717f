"""Detection sets in one file: exact, checked to the last byte, safe to read from processes."""

import multiprocessing
import pickle
from dataclasses import replace

import h5py
import numpy as np
import pytest

from stradavit.cutouts.detection_images import DetectionImages, Scene, write_detection_images
from stradavit.errors import DataError

CLASSES = ("ship", "tank")


def scene(name, split="train", shape=(20, 31), n_boxes=2, **changes):
    rng = np.random.default_rng(sum(map(ord, name)))
    ny, nx = shape
    first = rng.uniform(0, 10, (n_boxes, 2))
    given = Scene(
        name=name,
        split=split,
        levels=rng.integers(0, 65536, (ny, nx)).astype(np.uint16),
        boxes=np.hstack([first, first + rng.uniform(0.5, 8, (n_boxes, 2))]).astype(np.float32),
        labels=rng.integers(0, 2, n_boxes),
        is_crowd=rng.random(n_boxes) < 0.5,
        sources=tuple(f"{name}-ü{k}" for k in range(n_boxes)),
    )
    return replace(given, **changes)


SCENES = [
    scene("train/a.png"),
    scene("train/b.png", n_boxes=0, shape=(7, 5)),
    scene("val/a.png", "val", n_boxes=1, shape=(33, 17)),
    scene(
        "test/a.png", "test", n_boxes=5, sky=(359.9, -89.0, 30.5), product="sdc1", y0=128, x0=64,
        low=-1e-6, high=3e-5,
    ),
]  # fmt: skip


def write(path, scenes=SCENES, attributes=None):
    write_detection_images(path, CLASSES, scenes, attributes or {"sources_sha256": "ab"})
    return DetectionImages(path)


def test_what_is_written_is_read(tmp_path):
    report = {"train": {"images": 2}}
    images = write(tmp_path / "s.h5", attributes={"settings": "{}", "report": report})
    assert len(images) == 4
    assert images.classes == CLASSES
    assert images.names == [s.name for s in SCENES]
    assert images.splits.tolist() == ["train", "train", "val", "test"]
    assert images.shapes.tolist() == [[20, 31], [7, 5], [33, 17], [20, 31]]
    assert images.of_split("train").tolist() == [0, 1]
    assert images.of_split("test").tolist() == [3]
    assert images.report == report
    assert images.attribute("settings") == {}
    for number, wrote in enumerate(SCENES):
        np.testing.assert_array_equal(images.levels(number), wrote.levels)
        expected = wrote.levels.astype(np.float32) / np.float32(65535)
        np.testing.assert_array_equal(images.image(number), expected)
        assert images.image(number).dtype == np.float32
        for read, written in (
            (images.boxes(number), wrote.boxes),
            (images.labels(number), wrote.labels),
            (images.is_crowd(number), wrote.is_crowd),
        ):
            np.testing.assert_array_equal(read, written)
            assert read.dtype == written.dtype and read.shape == written.shape
        assert images.sources(number) == list(wrote.sources)
        expected_place = (wrote.product, wrote.y0, wrote.x0, wrote.low, wrote.high)
        assert images.place(number) == expected_place
    np.testing.assert_array_equal(images.sky[3], [359.9, -89.0, 30.5])
    assert np.isnan(images.sky[:3]).all()


def test_a_set_without_any_box_is_read(tmp_path):
    images = write(tmp_path / "s.h5", [scene("a", n_boxes=0), scene("b", n_boxes=0)])
    assert images.boxes(1).shape == (0, 4) and images.labels(1).shape == (0,)
    assert images.sources(0) == []


def test_boxes_are_copies(tmp_path):
    images = write(tmp_path / "s.h5")
    images.boxes(0)[:] = -1
    np.testing.assert_array_equal(images.boxes(0), SCENES[0].boxes)


def test_equal_pixels_have_equal_checksums(tmp_path):
    twin = replace(SCENES[0], name="val/twin", split="val")
    images = write(tmp_path / "s.h5", [*SCENES, twin])
    assert images.checksums[0] == images.checksums[4]
    assert len(set(images.checksums.tolist())) == 4


def test_attributes_may_be_filled_while_scenes_are_made(tmp_path):
    counts = {"images": 0}

    def made():
        for one in SCENES:
            counts["images"] += 1
            yield one

    images = write(tmp_path / "s.h5", made(), {"report": counts})
    assert images.report == {"images": 4}


def test_a_file_without_report_has_an_empty_one(tmp_path):
    assert write(tmp_path / "s.h5").report == {}


def _read(images):
    return images.levels(0).sum(), images.boxes(3).sum()


def test_it_may_be_pickled_and_forked(tmp_path):
    images = write(tmp_path / "s.h5")
    expected = _read(images)
    assert _read(pickle.loads(pickle.dumps(images))) == expected
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(_read, (images,)) == expected


def test_changed_pixels_are_noticed(tmp_path):
    path = tmp_path / "s.h5"
    write(path).close()
    with h5py.File(path, "r+") as file:
        file["pixels"][20 * 31 + 1] += 1
    images = DetectionImages(path)
    images.levels(0)
    message = r"s.h5: image 1 \(train/b.png\) does not have its checksum.*cut-detection"
    with pytest.raises(DataError, match=message):
        images.image(1)


@pytest.mark.parametrize("column", ["boxes/box", "boxes/label", "images/low"])
def test_changed_tables_are_noticed(tmp_path, column):
    path = tmp_path / "s.h5"
    write(path).close()
    with h5py.File(path, "r+") as file:
        file[column][0] += 1
    with pytest.raises(DataError, match=r"tables of images and boxes do not have their checksum"):
        DetectionImages(path)


def test_missing_pixels_are_noticed(tmp_path):
    path = tmp_path / "s.h5"
    write(path).close()
    with h5py.File(path, "r+") as file:
        file["pixels"].resize(5, axis=0)
    with pytest.raises(DataError, match="do not fit together"):
        DetectionImages(path)


def test_a_column_of_another_length_is_noticed(tmp_path):
    path = tmp_path / "s.h5"
    write(path).close()
    with h5py.File(path, "r+") as file:
        del file["images/low"]
        file["images/low"] = np.zeros(3)
    with pytest.raises(DataError, match="columns differ in length"):
        DetectionImages(path)


def test_a_column_of_another_shape_is_noticed(tmp_path):
    path = tmp_path / "s.h5"
    write(path).close()
    with h5py.File(path, "r+") as file:
        del file["images/sky"]
        file["images/sky"] = np.zeros((4, 2))
    with pytest.raises(DataError, match=r"sky has the shape \(4, 2\)"):
        DetectionImages(path)


def test_another_file_is_refused(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.attrs.update({"format": "stradavit-shard", "version": 2})
    with pytest.raises(DataError, match=r"expected stradavit-detection 1, found .*cut-detection"):
        DetectionImages(tmp_path / "x.h5")
    with pytest.raises(DataError, match=r"absent\.h5"):
        DetectionImages(tmp_path / "absent.h5")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"split": "valid"}, "its split is 'valid', expected one of train, val, test"),
        ({"levels": np.zeros((20, 31), np.float32)}, r"its levels are float32 \(20, 31\)"),
        ({"labels": np.zeros(1, np.int64)}, r"boxes \(2, 4\) and their columns \[1, 2\]"),
        ({"labels": np.array([0, 2])}, "a label is not within 0 to 1"),
        ({"labels": np.array([0, -1])}, "a label is not within 0 to 1"),
        ({"boxes": np.array([[0, 0, 5, 5], [3, 3, 3, 9]], np.float32)}, "no area or leaves"),
        ({"boxes": np.array([[0, 0, 5, 5], [3, 3, 32, 9]], np.float32)}, "image of 31 x 20 px"),
        ({"boxes": np.array([[0, 0, 5, 5], [3, np.nan, 4, 9]], np.float32)}, "no area or leaves"),
    ],
)
def test_a_wrong_scene_is_refused(tmp_path, changes, message):
    with pytest.raises(DataError, match=r"train/a\.png: .*" + message):
        write(tmp_path / "s.h5", [replace(SCENES[0], **changes)])
    assert not list(tmp_path.iterdir())


def test_names_must_differ(tmp_path):
    with pytest.raises(DataError, match=r"two images are called train/a\.png"):
        write(tmp_path / "s.h5", [SCENES[0], SCENES[0]])


def test_no_scene_is_no_set(tmp_path):
    with pytest.raises(DataError, match="no image is left to write"):
        write(tmp_path / "s.h5", [])
