"""Boxes: their ranges, what they contain, and which of several is taken."""

import pytest
import torch

from stradavit.settings.views import CropSettings, EmptySettings, ViewSettings
from stradavit.views.crops import (
    crops_around,
    first_overlapping,
    intersection_over_area,
    largest_crop_px,
    region,
    wide_field,
)
from stradavit.views.loops import LoopPixels
from stradavit.views.random import cutout_keys
from stradavit.views.recipes import contrastive_views, reconstruction_views
from stradavit.views.tensors import TensorPixels
from tests.unit.views.skies import sparse_sky

DEFAULT = CropSettings()
COUNT = 4000


def keys(count: int = COUNT, seed: int = 0) -> torch.Tensor:
    return cutout_keys(seed, 0, torch.arange(count))


def anywhere(size: int) -> torch.Tensor:
    return torch.randint(0, size, (COUNT, 2), generator=torch.Generator().manual_seed(size))


def sides(boxes: torch.Tensor) -> torch.Tensor:
    assert torch.equal(boxes[..., 2] - boxes[..., 0], boxes[..., 3] - boxes[..., 1])
    return boxes[..., 2] - boxes[..., 0]


def contain(boxes: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    return ((boxes[..., :2] <= points) & (points < boxes[..., 2:])).all(dim=-1)


def inside(inner: torch.Tensor, outer: torch.Tensor) -> torch.Tensor:
    return ((inner[..., :2] >= outer[..., :2]) & (inner[..., 2:] <= outer[..., 2:])).all(dim=-1)


def assert_uniform(values: torch.Tensor, low: float, high: float, rounding: float) -> None:
    values = values.double()
    assert values.min() >= low - rounding and values.max() <= high + rounding
    # Mean and quartiles of 4000 uniform numbers are good to 1.5 % of the range.
    expected = torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64) * (high - low) + low
    found = values.quantile(torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64))
    assert (found - expected).abs().max() < 0.04 * (high - low) + rounding


@pytest.mark.parametrize("size", [128, 150, 512])
def test_wide_field_is_uniform_in_area_and_place(size):
    boxes = wide_field(keys(), size, DEFAULT)
    side = sides(boxes)
    assert_uniform((side / size) ** 2, 0.8, 1.0, rounding=1.1 / size)
    assert boxes.min() >= 0 and boxes.max() <= size
    slack = size - side
    free = slack > 0
    place = (boxes[:, 0] / slack.clamp(min=1))[free].double()
    assert abs(place.mean() - 0.5) < 0.03
    assert (boxes[:, 2] == size)[free].any() and (boxes[:, 0] == 0)[free].any()


@pytest.mark.parametrize("size", [128, 150, 512])
def test_regions_contain_the_anchor_and_lie_in_the_cutout(size):
    points = anywhere(size)
    boxes = region(keys(), points, size, DEFAULT)
    assert_uniform(sides(boxes) / size, 0.55, 0.80, rounding=0.51 / size)
    assert boxes.min() >= 0 and boxes.max() <= size
    assert contain(boxes, points).all()
    centre = region(keys(), torch.full((COUNT, 2), size // 2), size, DEFAULT)
    offset = (centre[:, :2] + centre[:, 2:]) / 2 - (size // 2 + 0.5)
    assert offset.abs().max() <= 0.5


@pytest.mark.parametrize("size", [100, 128, 512])
@pytest.mark.parametrize("share", [DEFAULT.wide_side, DEFAULT.additional_side])
def test_crops_contain_the_anchor_and_lie_in_the_region(size, share):
    points = anywhere(size)
    regions = region(keys(), points, size, DEFAULT)
    boxes = crops_around(keys(seed=1), 3, points, regions, share, 0.12, DEFAULT)
    assert contain(boxes, points[:, None]).all()
    assert inside(boxes, regions[:, None]).all()
    assert sides(boxes).min() >= min(DEFAULT.side_px_min, size)
    assert sides(boxes).max() <= largest_crop_px(size, share[1], DEFAULT)
    if size == 512:
        relative = sides(boxes)[:, 0] / sides(regions)
        assert_uniform(relative, *share, rounding=0.51 / (0.55 * size))


def test_jitter_reaches_both_ways_and_no_farther():
    points = torch.full((COUNT, 2), 256)
    regions = torch.tensor([[56, 56, 456, 456]]).expand(COUNT, 4)
    boxes = crops_around(keys(), 1, points, regions, (0.5, 0.5), 0.1, DEFAULT)[:, 0]
    offset = (boxes[:, :2] + boxes[:, 2:]) / 2 - 256.5
    assert_uniform(offset[:, 0], -20, 20, rounding=0.51)
    assert_uniform(offset[:, 1], -20, 20, rounding=0.51)
    assert abs(torch.corrcoef(offset.T)[0, 1]) < 0.06


def test_intersection_over_area():
    outer = torch.tensor([10, 10, 30, 30])
    inner = torch.tensor([[12, 12, 20, 20], [5, 10, 15, 20], [25, 25, 45, 45], [30, 10, 40, 20]])
    assert intersection_over_area(inner, outer).tolist() == [1.0, 0.5, 0.0625, 0.0]


def test_the_first_overlapping_box_is_taken_else_the_best():
    outer = torch.tensor([[0, 0, 10, 10], [0, 0, 10, 10]])
    half, most, whole = [5, 0, 15, 10], [2, 0, 12, 10], [1, 1, 5, 5]
    third = [7, 0, 17, 10]
    candidates = torch.tensor([[half, most, whole], [third, half, half]])[:, None]
    assert first_overlapping(candidates, outer, 0.7)[:, 0].tolist() == [most, half]


@pytest.mark.parametrize("pixels", [TensorPixels, LoopPixels])
def test_the_first_informative_box_is_taken_else_the_last(pixels):
    image = torch.zeros(2, 40, 40)
    image[:, 22:30, 22:30] = 1.0
    blank, also_blank = [0, 0, 16, 16], [2, 2, 18, 18]
    good, better = [16, 16, 34, 34], [20, 20, 38, 38]
    candidates = torch.tensor(
        [[blank, good, better, blank], [blank, blank, also_blank, also_blank]]
    )
    chosen = pixels(image).first_informative(candidates, 18, 12, EmptySettings())
    assert chosen.tolist() == [good, also_blank]


def test_pairs_overlap_and_sizes_follow_the_text():
    size, count = 256, 150
    cutouts = sparse_sky(count, size, 21)
    views = contrastive_views(cutouts, torch.arange(count), 0, 0, ViewSettings(), 16)
    wide, additional = views.boxes.long()
    overlap = intersection_over_area(additional, wide)
    assert (overlap >= 0.7).double().mean() > 0.99
    assert contain(wide, views.anchors).all() and contain(additional, views.anchors).all()
    assert 0.55 * 0.5 * size - 1 <= sides(wide).min() and sides(wide).max() <= 0.56 * size + 1
    assert 0.55 * 0.2 * size - 1 <= sides(additional).min()


def test_reconstruction_views_are_wide_as_often_as_asked():
    size, count = 64, 1000
    cutouts = sparse_sky(50, size, 3).repeat(count // 50, 1, 1, 1)
    views = reconstruction_views(cutouts, torch.arange(count), 0, 0, ViewSettings(), 16)
    is_wide = sides(views.boxes[0]) > 0.85 * size
    # 1000 draws at 0.2: standard deviation 0.013.
    assert abs(is_wide.double().mean() - 0.2) < 0.05
