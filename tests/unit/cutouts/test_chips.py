"""Chips: resized pictures in an ordinary shard, without what other splits hold."""

import hashlib
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stradavit.cutouts.chips import cut_chips, resized
from stradavit.cutouts.corpus import Corpus
from stradavit.cutouts.detection_images import Scene, write_detection_images
from stradavit.cutouts.quantise import quantise, restore
from stradavit.cutouts.shards import Shard
from stradavit.cutouts.stages import cut_corpus
from stradavit.errors import DataError, SettingsError

SIZE = 16


def scene(name: str, levels: Any, sky: tuple[float, float, float] | None = None) -> Scene:
    none = np.zeros(0)
    return Scene(
        name=name,
        split=name.split("/")[0],  # type: ignore[arg-type]
        levels=np.asarray(levels, np.uint16),
        boxes=np.zeros((0, 4), np.float32),
        labels=none.astype(np.int64),
        is_crowd=none.astype(np.bool_),
        sources=(),
        sky=sky or (np.nan, np.nan, np.nan),
        high=255.0,
    )


def noise(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 65536, shape).astype(np.uint16)


A, B, C = noise(1, 21, 33), noise(2, 16, 16), noise(3, 40, 9)


@pytest.fixture
def detection(tmp_path: Path) -> Path:
    scenes = [
        scene("train/a", A),
        scene("train/b", B),
        scene("train/held", C),
        scene("train/flat", np.full((9, 8), 500)),
        scene("train/again", A),
        scene("train/turned", C.reshape(9, 40)),
        scene("val/v", noise(4, 12, 12), sky=(10.0, -45.0, 60.0)),
        scene("test/c", C),
    ]
    write_detection_images(tmp_path / "s.h5", ("ship",), scenes, {})
    return tmp_path / "s.h5"


def chips(detection: Path, part: int = 0, parts: int = 1, splits: tuple[str, ...] = ("train",)):
    out_path = detection.parent / "chips" / f"{part}.h5"
    cut_chips("chips", splits, detection, part, parts, SIZE, out_path)
    return Shard(out_path)


def read_all(shard: Shard) -> np.ndarray:
    return shard.read(np.arange(len(shard)), shard.column("checksum"))


def test_chips_are_resized_pictures_that_no_other_split_has(
    detection: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        shard = chips(detection)
    # A picture of other proportions is another picture, though its pixels follow each other.
    expected = [quantise(resized(restore(one), SIZE)) for one in (A, B, A, C.reshape(9, 40))]
    np.testing.assert_array_equal(read_all(shard), expected)
    assert shard.attribute("dropped") == {"held_out": 1, "constant": 1}
    assert shard.attribute("skipped") == {}
    assert shard.attribute("settings") == {"parts": 1, "size_px": SIZE, "splits": ["train"]}
    names = [name for name, _ in shard.products()]
    assert names == [f"train/{name}" for name in ("a", "b", "held", "flat", "again", "turned")]
    assert shard.products()[0][1] == hashlib.sha256(A.tobytes()).hexdigest()
    assert shard.column("product").tolist() == [0, 1, 4, 5]
    assert np.isnan(shard.column("ra_deg")).all() and np.isnan(shard.column("radius_arcsec")).all()
    assert shard.column("high").tolist() == [255.0] * 4
    assert 'part 0: 4 chips of 6 images; dropped {"constant": 1, "held_out": 1}' in caplog.text


def test_parts_take_every_nth_image(detection: Path) -> None:
    names = [[name for name, _ in chips(detection, part, 3).products()] for part in range(3)]
    assert names == [
        ["train/a", "train/flat"],
        ["train/b", "train/again"],
        ["train/held", "train/turned"],
    ]


def test_a_part_may_be_empty(detection: Path) -> None:
    shard = chips(detection, 3, 50)
    assert len(shard) == 0 and shard.attribute("dropped") == {"constant": 1}


def test_of_all_splits_nothing_is_held_out(detection: Path) -> None:
    shard = chips(detection, splits=("train", "val", "test"))
    assert shard.attribute("dropped") == {"constant": 1}
    assert len(shard) == 7
    # Where the picture lies is kept, so that a corpus with guards can use it.
    assert shard.column("ra_deg")[5] == 10.0 and shard.column("radius_arcsec")[5] == 60.0


def test_a_corpus_of_chips_needs_no_sky_and_keeps_one_of_each(detection: Path) -> None:
    shard = chips(detection)
    out_path = detection.parent / "corpus.h5"
    cut_corpus("chips", {"chips": [shard.path]}, {}, out_path)
    corpus = Corpus(out_path)
    assert len(corpus) == 3
    counts = corpus.counts()["chips"]
    assert (counts["no_sky"], counts["duplicate"], counts["kept"]) == (0, 1, 3)
    assert counts["dropped"] == {"held_out": 1, "constant": 1}
    assert counts["products"] == 6


def test_resizing_to_the_same_size_changes_nothing() -> None:
    image = restore(B)
    np.testing.assert_allclose(resized(image, 16), image, atol=1e-6)


def test_constant_pictures_stay_constant_and_ramps_straight() -> None:
    np.testing.assert_allclose(resized(np.full((50, 31), 0.25, np.float32), SIZE), 0.25, atol=1e-6)
    ramp = np.tile(np.linspace(0, 1, 64, dtype=np.float32), (48, 1))
    centres = (np.arange(SIZE) + 0.5) * 4 - 0.5
    inner = slice(2, -2)  # the kernel reaches over the edge further out
    np.testing.assert_allclose(
        resized(ramp, SIZE)[:, inner], np.tile(centres / 63, (SIZE, 1))[:, inner], atol=1e-5
    )


def test_resizing_averages_over_what_becomes_a_pixel() -> None:
    """A checkerboard finer than the chip's pixels becomes grey instead of a beat."""
    fine = (np.indices((128, 128)).sum(0) % 2).astype(np.float32)
    np.testing.assert_allclose(resized(fine, SIZE)[2:-2, 2:-2], 0.5, atol=0.01)


def test_overshoot_is_cut_off() -> None:
    step = np.zeros((8, 8), np.float32)
    step[:, 4:] = 1.0
    chip = resized(step, 32)
    assert chip.min() == 0.0 and chip.max() == 1.0
    assert chip.dtype == np.float32 and chip.shape == (32, 32)


def test_resizing_is_what_torch_calls_antialiased_bicubic() -> None:
    torch = pytest.importorskip("torch")
    image = restore(noise(8, 53, 90))
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(image)[None, None], (SIZE, SIZE), mode="bicubic", antialias=True
    )[0, 0].clamp(0, 1)
    np.testing.assert_allclose(resized(image, SIZE), expected.numpy(), atol=1e-5)


@pytest.mark.parametrize("part", [-1, 2])
def test_a_part_that_is_not_there(detection: Path, part: int) -> None:
    with pytest.raises(SettingsError, match=f"chips: has no part {part}; its 2 parts count from 0"):
        chips(detection, part, 2)


def test_splits_that_are_not_there(tmp_path: Path) -> None:
    write_detection_images(tmp_path / "s.h5", ("ship",), [scene("train/a", A)], {})
    message = "has no image of the splits val, test; its splits are train. Correct surveys.chips"
    with pytest.raises(DataError, match=message):
        chips(tmp_path / "s.h5", splits=("val", "test"))
