"""What a detector is shown is a function of (seed, epoch, image), and all of it."""

import dataclasses

import h5py
import numpy as np
import pytest
import torch

from stradavit.cutouts.detection_images import DetectionImages
from stradavit.detection.inputs import (
    as_input,
    lessons_of,
    micro_batches,
    mirror,
    read_ahead,
    read_lesson,
    updates_per_epoch,
)
from stradavit.errors import DataError
from stradavit.settings.detection import DetectorTraining
from tests.unit.detection.sets import SCENES, loader, write_set


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return DetectionImages(write_set(tmp_path_factory.mktemp("sets") / "drawn.h5"))


def training(**values):
    return DetectorTraining(**({"batch_size": 4, "micro_batch_size": 3, "epochs": 3} | values))


def test_crowds_and_small_boxes_are_not_learned(images):
    lessons = lessons_of(images, training(min_side_px=4.0))
    # Images 2 (empty) and 4 (a crowd alone) have nothing to learn.
    assert lessons.numbers.tolist() == [0, 1, 3, 5, 6]
    assert (lessons.n_empty, lessons.n_crowd, lessons.n_small, lessons.n_boxes) == (2, 1, 1, 6)
    assert lessons.boxes[5].tolist() == [[8, 8, 28, 26]]
    assert lessons.labels[1].tolist() == [1, 0]


def test_an_image_whose_boxes_are_all_too_small_is_empty(images):
    lessons = lessons_of(images, training(min_side_px=18.0, skip_empty=False))
    assert lessons.numbers.tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert {n: len(boxes) for n, boxes in lessons.boxes.items()} == {
        0: 0, 1: 1, 2: 0, 3: 0, 4: 0, 5: 1, 6: 0,
    }  # fmt: skip
    assert (lessons.n_empty, lessons.n_small) == (5, 5)
    assert lessons_of(images, training(min_side_px=18.0)).numbers.tolist() == [1, 5]


def test_a_side_of_exactly_the_limit_is_learned(images):
    assert lessons_of(images, training(min_side_px=3.0)).n_small == 0


def test_pictures_that_a_held_out_split_has_too_are_not_learned(tmp_path):
    kept, copied, held_out = SCENES[0], SCENES[1], SCENES[7]
    copies = dataclasses.replace(copied, split="test", name="test/another name")
    images = DetectionImages(write_set(tmp_path / "set.h5", [kept, copied, copies, held_out]))
    lessons = lessons_of(images, training())
    assert (lessons.numbers.tolist(), lessons.n_held_out) == ([0], 1)
    all_of_them = lessons_of(images, training(skip_held_out=False))
    assert (all_of_them.numbers.tolist(), all_of_them.n_held_out) == ([0, 1], 0)


def test_every_epoch_shows_every_image_once_in_another_order():
    numbers = np.array([1, 4, 5, 8, 9, 11, 30, 31, 32])
    batches = list(micro_batches(numbers, training(), seed=5, updates_done=0))
    orders = [
        np.concatenate([b.numbers for b in batches if b.epoch == epoch]).tolist()
        for epoch in range(3)
    ]
    assert all(sorted(order) == numbers.tolist() for order in orders)
    assert len({tuple(order) for order in orders}) == 3
    # Nine images: updates of 4, 4 and 1, of 3 at once.
    assert updates_per_epoch(9, training()) == 3
    first = batches[:5]
    assert [len(b.numbers) for b in first] == [3, 1, 3, 1, 1]
    assert [b.weight for b in first] == [0.75, 0.25, 0.75, 0.25, 1.0]
    assert [b.update for b in first] == [0, 0, 1, 1, 2]
    assert [b.ends_update for b in first] == [False, True, False, True, True]
    assert [b.ends_epoch for b in first] == [False, False, False, False, True]
    assert len({b.torch_seed for b in batches}) == len(batches) == 15


def test_a_run_that_goes_on_sees_what_it_would_have_seen():
    numbers = np.arange(9)
    whole = list(micro_batches(numbers, training(), seed=5, updates_done=0))
    for done in range(9):
        rest = list(micro_batches(numbers, training(), seed=5, updates_done=done))
        expected = [b for b in whole if b.update >= done]
        assert [str(b) for b in rest] == [str(b) for b in expected]
    assert list(micro_batches(numbers, training(), seed=5, updates_done=9)) == []


def test_mirrors_do_not_depend_on_order_or_batch():
    numbers = np.arange(40)

    def mirrored(settings, shown=numbers):
        return {
            (b.epoch, number): bool(is_mirrored)
            for b in micro_batches(shown, settings, seed=1, updates_done=0)
            for number, is_mirrored in zip(b.numbers.tolist(), b.mirrored, strict=True)
        }

    usual = mirrored(training())
    assert mirrored(training(batch_size=7, micro_batch_size=2)) == usual
    assert 0.35 < np.mean(list(usual.values())) < 0.65
    assert any(usual[0, n] != usual[1, n] for n in range(40))
    assert not any(mirrored(training(flip_probability=0.0)).values())
    assert all(mirrored(training(flip_probability=1.0)).values())


def test_a_box_is_mirrored_with_its_pixels():
    pixels = np.zeros((5, 9), np.float32)
    pixels[1:3, 2:6] = 1.0
    flipped, boxes = mirror(pixels, np.array([[2, 1, 6, 3]], np.float32))
    assert boxes.tolist() == [[3, 1, 7, 3]] and boxes.dtype == np.float32
    expected = np.zeros((5, 9), np.float32)
    expected[1:3, 3:7] = 1.0
    np.testing.assert_array_equal(flipped, expected)
    again, back = mirror(flipped, boxes)
    np.testing.assert_array_equal(again, pixels)
    assert back.tolist() == [[2, 1, 6, 3]]
    assert mirror(pixels, np.zeros((0, 4), np.float32))[1].shape == (0, 4)


def test_a_lesson_has_labels_from_one_and_empty_ones_their_shapes(images):
    lessons = lessons_of(images, training(skip_empty=False))
    pixels, target = read_lesson(images, lessons, 1, is_mirrored=False)
    assert pixels.shape == (1, 61, 83) and pixels.dtype == torch.float32
    assert target["labels"].tolist() == [2, 1]
    assert target["boxes"].tolist() == [[5, 5, 21, 25], [40, 30, 60, 50]]
    mirrored, turned = read_lesson(images, lessons, 1, is_mirrored=True)
    assert turned["boxes"].tolist() == [[62, 5, 78, 25], [23, 30, 43, 50]]
    assert mirrored.equal(pixels.flip(-1))
    _, empty = read_lesson(images, lessons, 2, is_mirrored=True)
    assert empty["boxes"].shape == (0, 4) and empty["boxes"].dtype == torch.float32
    assert empty["labels"].shape == (0,) and empty["labels"].dtype == torch.int64


@pytest.mark.parametrize("workers", [1, 3])
def test_threads_change_nothing(images, workers):
    settings = training(skip_empty=False)
    lessons = lessons_of(images, settings)

    def read(n):
        planned = micro_batches(lessons.numbers, settings, seed=2, updates_done=0)
        return list(read_ahead(images, lessons, planned, loader(workers=n)))

    for (batch, pairs), (other, others) in zip(read(0), read(workers), strict=True):
        assert str(batch) == str(other)
        for (pixels, target), (same, its) in zip(pairs, others, strict=True):
            assert pixels.equal(same)
            assert all(target[name].equal(its[name]) for name in target)


def test_a_changed_image_is_told_by_reader_threads(images, tmp_path):
    path = write_set(tmp_path / "s.h5", SCENES)
    with h5py.File(path, "r+") as file:
        file["pixels"][10] ^= 1
    damaged = DetectionImages(path)
    lessons = lessons_of(damaged, training())
    planned = micro_batches(lessons.numbers, training(), seed=2, updates_done=0)
    with pytest.raises(DataError, match="train/a"):
        list(read_ahead(damaged, lessons, planned, loader(workers=2)))


def test_channels_are_copies():
    pixels = torch.rand(1, 3, 4)
    assert as_input(pixels, 3, torch.device("cpu")).equal(pixels.repeat(3, 1, 1))
