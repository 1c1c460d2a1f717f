"""Drawn SAR scenes: reproducible, of all kinds, with tight boxes on what is bright."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from stradavit.acquire.coco import read_coco
from stradavit.acquire.simulated import scenes
from stradavit.acquire.simulated.scenes import CLASSES, draw_scene, draw_scenes
from stradavit.settings.detection import SimulatedScenes, SplitCounts

SIDE = 96


@pytest.fixture(scope="module")
def drawn() -> list[scenes.DrawnScene]:
    return [draw_scene(3, "train", number, SIDE) for number in range(40)]


def grey(scene: scenes.DrawnScene) -> np.ndarray:
    return scene.pixels if scene.pixels.ndim == 2 else scene.pixels[:, :, 0]


def test_a_scene_is_a_function_of_seed_split_and_number() -> None:
    first, again = draw_scene(3, "val", 2, SIDE), draw_scene(3, "val", 2, SIDE)
    np.testing.assert_array_equal(first.pixels, again.pixels)
    np.testing.assert_array_equal(first.owner, again.owner)
    for other in (draw_scene(4, "val", 2, SIDE), draw_scene(3, "test", 2, SIDE)):
        assert other.pixels.shape != first.pixels.shape or (other.pixels != first.pixels).any()


def test_sets_hold_scenes_of_all_kinds(drawn: list[scenes.DrawnScene]) -> None:
    numbers = [len(scene.labels) for scene in drawn]
    assert all(numbers[n] == 0 for n in range(scenes.EMPTY, 40, scenes.EVERY))
    assert all(numbers[n] == 1 for n in range(scenes.LONE, 40, scenes.EVERY))
    assert max(numbers) > 3
    assert {label for scene in drawn for label in scene.labels} == set(CLASSES)
    shapes = [scene.owner.shape for scene in drawn]
    assert len(set(shapes)) > 30 and any(side % 2 for shape in shapes for side in shape)
    assert all(72 <= side <= 120 for shape in shapes for side in shape)
    assert {scene.pixels.ndim for scene in drawn} == {2, 3}
    for scene in drawn:
        if scene.pixels.ndim == 3:
            np.testing.assert_array_equal(scene.pixels[:, :, 1:], scene.pixels[:, :, :2])


def test_boxes_are_tight_and_apart(drawn: list[scenes.DrawnScene]) -> None:
    for scene in drawn:
        covered = np.zeros(scene.owner.shape, int)
        for target in range(len(scene.labels)):
            x0, y0, x1, y1 = scene.box(target)
            mine = scene.owner == target + 1
            inside = mine[y0:y1, x0:x1]
            assert inside.sum() == mine.sum()
            assert inside[0].any() and inside[-1].any()
            assert inside[:, 0].any() and inside[:, -1].any()
            covered[mine] += 1
        assert covered.max(initial=0) <= 1


def test_targets_are_brighter_than_what_is_around(drawn: list[scenes.DrawnScene]) -> None:
    for scene in drawn:
        pixels = grey(scene).astype(float)
        others = scene.owner > 0
        for target, label in enumerate(scene.labels):
            mine = scene.owner == target + 1
            around = ndimage.binary_dilation(mine, iterations=8) & ~others
            around &= ~ndimage.binary_dilation(mine, iterations=3)
            # Tanks are rings: their inside is dark.
            bright = np.percentile(pixels[mine], 75)
            assert bright > 1.5 * pixels[around].mean(), label


def test_ships_are_at_sea_and_tanks_on_land(drawn: list[scenes.DrawnScene]) -> None:
    """Land is nine times as bright as the sea in intensity, three times in amplitude."""
    level = {"ship": [], "tank": []}
    for scene in drawn:
        for target, label in enumerate(scene.labels):
            if label != "bridge":
                mine = scene.owner == target + 1
                ring = ndimage.binary_dilation(mine, iterations=4) & (scene.owner == 0)
                level[label].append(np.median(grey(scene)[ring]))
    assert np.mean(level["tank"]) > 1.7 * np.mean(level["ship"])


def test_speckle_has_the_contrast_of_few_looks() -> None:
    """Of L looks the intensity's standard deviation is its mean / sqrt(L), here 1 to 4."""
    empty = [draw_scene(9, "train", scenes.EMPTY + scenes.EVERY * k, 128) for k in range(6)]
    contrasts = []
    for scene in empty:
        intensity = grey(scene).astype(float) ** 2
        # The quietest part: pure sea or pure land.
        blocks = [intensity[y : y + 24, x : x + 24] for y in (0, 60) for x in (0, 60)]
        contrasts.append(min(block.std() / block.mean() for block in blocks))
    assert min(contrasts) > 0.4 and max(contrasts) < 1.4
    assert max(contrasts) > 1.3 * min(contrasts)


def test_files_are_as_the_reader_expects(tmp_path: Path) -> None:
    counts = SplitCounts(train=6, val=2, test=4)
    block = SimulatedScenes(source="simulated", table="sar", images=counts, side_px=64, seed=5)
    draw_scenes(block, tmp_path)
    for split, n_images in (("train", 6), ("val", 2), ("test", 4)):
        file = read_coco(tmp_path / "Annotations" / f"{split}.json")
        assert file.categories == {"ship": 1, "tank": 2, "bridge": 3}
        assert len(file.images) == n_images
        for number, image in enumerate(file.images):
            scene = draw_scene(5, split, number, 64)
            stored = np.asarray(Image.open(tmp_path / "JPEGImages" / split / image.name))
            np.testing.assert_array_equal(stored, scene.pixels)
            assert (image.ny, image.nx) == scene.owner.shape
            found = [
                (b.label, (int(b.x), int(b.y), int(b.x + b.width), int(b.y + b.height)))
                for b in image.boxes
            ]
            assert found == [(label, scene.box(n)) for n, label in enumerate(scene.labels)]
    raw = json.loads((tmp_path / "Annotations" / "train.json").read_text())
    assert all(box["area"] == box["bbox"][2] * box["bbox"][3] for box in raw["annotations"])
