"""Anchors and RoIAlign for any patch size."""

import pytest
import torch
from torchvision.models.detection.image_list import ImageList

from stradavit.detection.heads import Anchors, BoxPredictor, RegionHead, roi_align


def anchors_of(patch_px: int, sides: list[int], dtype: torch.dtype = torch.float32) -> torch.Tensor:
    images = ImageList(torch.zeros(2, 1, 56, 56), [(56, 56), (56, 56)])
    maps = [torch.zeros(2, 3, side, side + 1, dtype=dtype) for side in sides]
    first, second = Anchors(patch_px, 8.0, (0.5, 1.0, 2.0))(images, maps)
    assert torch.equal(first, second)
    return first


@pytest.mark.parametrize("patch_px", [16, 14])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_anchors_have_eight_strides_and_lie_on_the_grid(patch_px: int, dtype: torch.dtype) -> None:
    sides = [16, 8, 4, 2, 1]
    found = anchors_of(patch_px, sides, dtype)
    assert found.dtype == torch.float32
    expected = []
    for side, factor in zip(sides, (0.25, 0.5, 1.0, 2.0, 4.0), strict=True):
        stride = patch_px * factor
        for row in range(side):
            for column in range(side + 1):
                for ratio in (0.5, 1.0, 2.0):
                    height, width = 8 * stride * ratio**0.5, 8 * stride / ratio**0.5
                    x, y = column * stride, row * stride
                    expected.append([x - width / 2, y - height / 2, x + width / 2, y + height / 2])
    torch.testing.assert_close(found, torch.tensor(expected))


def test_sides_are_those_of_the_sar_paper() -> None:
    anchors = Anchors(16, 8.0, (1.0,))
    assert anchors.sizes == ((32.0,), (64.0,), (128.0,), (256.0,), (512.0,))
    assert anchors.num_anchors_per_location() == [1] * 5


@pytest.mark.parametrize("patch_px", [16, 14, 8])
def test_a_box_is_pooled_from_its_level_and_place(patch_px: int) -> None:
    # Maps hold the x of their places in pixels, and their level as a second channel.
    maps = {}
    for level, factor in enumerate((0.25, 0.5, 1.0, 2.0)):
        stride, side = patch_px * factor, int(40 / factor)
        x = torch.arange(side) * stride
        values = torch.stack([x.expand(side, -1), torch.full((side, side), float(level))])
        maps[str(level)] = values.unsqueeze(0)
    size = 40 * patch_px
    pool = roi_align(patch_px)
    # Lin et al. 2017: sides below 7 patches belong to the finest level, then a level per doubling.
    for sides, level in ((3.0, 0), (6.9, 0), (7.1, 1), (13.9, 1), (14.1, 2), (27.9, 2), (28.1, 3)):
        x0 = 4.0 * patch_px
        box = torch.tensor([[x0, x0, x0 + sides * patch_px, x0 + sides * patch_px]])
        found = pool(maps, [box], [(size, size)])
        assert found.shape == (1, 2, 7, 7)
        assert (found[:, 1] == level).all()
        # Linear in x, so a bin holds the x of its centre.
        centres = x0 + (torch.arange(7) + 0.5) * sides * patch_px / 7
        torch.testing.assert_close(found[0, 0], centres.expand(7, 7), rtol=1e-5, atol=1e-3)


def test_heads_give_float32_under_autocast() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        objectness, changes = RegionHead(6, 3)([torch.randn(1, 6, 4, 4)])
        scores, boxes = BoxPredictor(6, 3)(torch.randn(5, 6))
    assert {t.dtype for t in (*objectness, *changes, scores, boxes)} == {torch.float32}
    assert (objectness[0].shape, changes[0].shape) == ((1, 3, 4, 4), (1, 12, 4, 4))
    assert (scores.shape, boxes.shape) == ((5, 3), (5, 12))
