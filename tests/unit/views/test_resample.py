"""Resampling against torch's own, image by image."""

import pytest
import torch
import torch.nn.functional as F

from stradavit.views.resample import (
    Orientation,
    crop_and_resize,
    gather_rows,
    transposed,
    zoom_taps,
)


def boxes_inside(size: int, count: int, longest: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(size)
    side = torch.randint(16, longest + 1, (count,), generator=generator)
    corner = (torch.rand(count, 2, generator=generator) * (size - side + 1)[:, None]).long()
    return torch.cat((corner, corner + side[:, None]), dim=1)


def upright(count: int) -> Orientation:
    return Orientation(*torch.zeros(3, count, dtype=torch.bool))


@pytest.mark.parametrize(("size", "out"), [(96, 64), (128, 32), (150, 224), (100, 100)])
def test_crop_and_resize_is_torchs_antialiased_bilinear(size, out):
    count = 40
    images = torch.rand(count, size, size)
    boxes = boxes_inside(size, count, size)
    boxes[0] = torch.tensor([0, 0, size, size])
    ours = crop_and_resize(images, boxes, out, size, upright(count))
    for image, box, resized in zip(images, boxes.tolist(), ours, strict=True):
        x0, y0, x1, y1 = box
        crop = image[None, None, y0:y1, x0:x1]
        theirs = F.interpolate(crop.double(), (out, out), mode="bilinear", antialias=True)[0, 0]
        # Ours sums a few float32 products of numbers up to 1.
        torch.testing.assert_close(resized.double(), theirs, atol=1e-6, rtol=0)


def test_a_tight_bound_on_the_side_changes_nothing():
    images, boxes = torch.rand(30, 128, 128), boxes_inside(128, 30, 70)
    loose = crop_and_resize(images, boxes, 32, 128, upright(30))
    tight = crop_and_resize(images, boxes, 32, 70, upright(30))
    torch.testing.assert_close(loose, tight, atol=1e-6, rtol=0)


def test_orientation_is_transpose_then_flips():
    images = torch.rand(8, 40, 40)
    orientation = Orientation(*torch.tensor([[n >> k & 1 for n in range(8)] for k in range(3)]) > 0)
    boxes = torch.tensor([[3, 5, 35, 37]]).expand(8, 4)
    plain = crop_and_resize(images, boxes, 24, 40, upright(8))
    turned = crop_and_resize(images, boxes, 24, 40, orientation)
    for n in range(8):
        expected = plain[n].T if n & 1 else plain[n]
        expected = expected.flip(0) if n & 2 else expected
        expected = expected.flip(1) if n & 4 else expected
        torch.testing.assert_close(turned[n], expected, atol=1e-6, rtol=0)


def test_zoom_is_torchs_bilinear_grid_with_zeros_outside():
    count, n = 20, 31
    images = torch.rand(count, n, n)
    shift = torch.randint(-4, 5, (count, 2)).double()
    scale = 0.9 + 0.2 * torch.rand(count, dtype=torch.float64)
    rows = gather_rows(images, zoom_taps(shift[:, 1], scale, n))
    ours = transposed(gather_rows(transposed(rows), zoom_taps(shift[:, 0], scale, n)))
    theta = torch.zeros(count, 2, 3, dtype=torch.float64)
    theta[:, 0, 0] = theta[:, 1, 1] = 1 / scale
    theta[:, :, 2] = -2 * shift / n / scale[:, None]
    grid = F.affine_grid(theta, [count, 1, n, n], align_corners=False)
    theirs = F.grid_sample(
        images.double()[:, None], grid, padding_mode="zeros", align_corners=False
    )[:, 0]
    torch.testing.assert_close(ours.double(), theirs, atol=1e-6, rtol=0)


def test_zoom_by_one_and_no_shift_returns_the_image():
    images = torch.rand(2, 20, 20)
    taps = zoom_taps(torch.zeros(2), torch.ones(2, dtype=torch.float64), 20)
    assert torch.equal(gather_rows(images, taps), images)
