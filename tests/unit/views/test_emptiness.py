"""The non-empty criterion at its edges, and the test of a crop against the crop itself."""

import pytest
import torch

from stradavit.settings.views import EmptySettings
from stradavit.views.emptiness import crop_is_empty, is_empty
from tests.unit.views.skies import sparse_sky

DEFAULT = EmptySettings()


def with_pixels(count: int, value: float, peak: float) -> torch.Tensor:
    image = torch.zeros(1, 100)
    image[0, : count - 1] = value
    image[0, 50] = peak
    return image.view(1, 10, 10)


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (with_pixels(5, 0.5, 1.0), False),
        (with_pixels(4, 0.5, 1.0), True),  # One bright pixel too few.
        (with_pixels(50, 0.29, 1.0), True),  # Below 0.3 of the peak.
        (with_pixels(5, 0.31, 1.0), False),
        (torch.full((1, 10, 10), 0.02), True),  # The floor itself is not above the floor.
        (torch.full((1, 10, 10), 0.021), False),
        (torch.zeros(1, 10, 10), True),
    ],
)
def test_edges_of_the_criterion(image, expected):
    assert is_empty(image, 5, DEFAULT).item() is expected


@pytest.mark.parametrize("side_px_max", [40, 64, 90])
def test_a_crop_is_tested_by_its_own_pixels(side_px_max):
    count = 200
    images = sparse_sky(count, 90, 6, noise=0.001)[:, 0]
    generator = torch.Generator().manual_seed(1)
    side = torch.randint(16, 41, (count,), generator=generator)
    corner = (torch.rand(count, 2, generator=generator) * (91 - side)[:, None]).long()
    boxes = torch.cat((corner, corner + side[:, None]), dim=1)
    found = crop_is_empty(images, boxes, side_px_max, 12, DEFAULT)
    expected = [
        is_empty(image[None, y0:y1, x0:x1], 12, DEFAULT).item()
        for image, (x0, y0, x1, y1) in zip(images, boxes.tolist(), strict=True)
    ]
    assert found.tolist() == expected
    assert any(expected) and not all(expected)
