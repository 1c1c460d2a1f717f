"""Each operator of Table 3: closed forms, ranges, frequencies."""

import math

import pytest
import torch
from scipy import stats

from stradavit.settings.views import MILD, MILD_WITHOUT_BANDS, STRONG, OperatorSettings
from stradavit.views.augment import (
    add_bands,
    add_noise,
    affine_jitter,
    asinh_stretch,
    augment,
    dim_background,
    draw_orientation,
)
from stradavit.views.random import cutout_keys
from stradavit.views.resample import crop_and_resize

COUNT = 4000
KEYS = cutout_keys(0, 0, torch.arange(COUNT))
NOTHING = OperatorSettings(
    asinh_probability=0.0,
    translation=0.0,
    scale=0.0,
    noise_sigma=0.0,
    bands_max=0,
    background_probability=0.0,
)


def share(hits: torch.Tensor) -> float:
    return hits.double().mean().item()


def test_all_eight_orientations_are_equally_likely():
    # An image without symmetry, all eight of its orientations, and which of them each draw gives.
    image = torch.arange(9.0).view(3, 3)
    quarters = [torch.rot90(image, k) for k in range(4)]
    group = torch.stack(quarters + [quarter.flip(1) for quarter in quarters])
    boxes = torch.tensor([[0, 0, 3, 3]]).expand(COUNT, 4)
    turned = crop_and_resize(image.expand(COUNT, 3, 3), boxes, 3, 3, draw_orientation(KEYS, MILD))
    matches = (turned[:, None] - group).abs().amax(dim=(2, 3)) < 1e-5
    assert (matches.sum(dim=1) == 1).all()
    assert stats.chisquare(matches.sum(dim=0).numpy()).pvalue > 1e-3


def test_no_flips_when_their_probability_is_zero():
    settings = OperatorSettings(flip_probability=0.0)
    turned, rows, columns = draw_orientation(KEYS, settings)
    # A proper rotation has an even number of swaps among transposition and flips.
    assert not (turned ^ rows ^ columns).any()


@pytest.mark.parametrize("settings", [MILD, STRONG])
def test_asinh_has_its_closed_form_range_and_frequency(settings):
    x = torch.linspace(0, 1, 16).view(4, 4)
    stretched = asinh_stretch(x.expand(COUNT, 4, 4), KEYS, settings)
    applied = (stretched != x).any(dim=2).any(dim=1)
    assert abs(share(applied) - settings.asinh_probability) < 0.04
    low, high = (
        torch.asinh(a * x.double()) / math.asinh(a) for a in settings.asinh_a
    )  # Rises with a.
    inside = stretched[applied]
    assert (inside >= low - 1e-6).all() and (inside <= high + 1e-6).all()
    assert inside[:, 1, 1].min() < low[1, 1] + 0.02 < high[1, 1] - 0.02 < inside[:, 1, 1].max()
    assert (stretched[:, 0, 0] == 0).all()
    torch.testing.assert_close(stretched[:, 3, 3], torch.ones(COUNT), atol=1e-6, rtol=0)


def test_translations_are_whole_pixels_in_their_range():
    size = 100
    image = torch.zeros(size, size)
    image[50, 50] = 1.0
    moved = affine_jitter(
        image.expand(1000, size, size), KEYS[:1000], OperatorSettings(translation=0.03, scale=0.0)
    )
    assert ((moved == 0) | (moved == 1)).all()
    place = moved.flatten(1).argmax(dim=1)
    dx, dy = place % size - 50, place // size - 50
    for shift in (dx, dy):
        assert set(shift.tolist()) == {-3, -2, -1, 0, 1, 2, 3}
    assert abs(torch.corrcoef(torch.stack((dx, dy)).double())[0, 1]) < 0.12


def test_zoom_keeps_the_centre_and_scales_the_area():
    size = 65
    y, x = torch.meshgrid(*[torch.arange(size) - 32.0] * 2, indexing="ij")
    blob = torch.exp(-(x**2 + y**2) / 72)
    zoomed = affine_jitter(
        blob.expand(500, size, size), KEYS[:500], OperatorSettings(translation=0.0, scale=0.08)
    )
    scale = (zoomed.sum(dim=(1, 2)) / blob.sum()).sqrt()
    assert scale.min() > 0.915 and scale.max() < 1.085
    assert scale.min() < 0.93 and scale.max() > 1.07
    assert (zoomed.flatten(1).argmax(dim=1) == 32 * size + 32).all()


def test_what_moves_in_from_outside_is_zero():
    ones = torch.ones(200, 50, 50)
    moved = affine_jitter(ones, KEYS[:200], OperatorSettings(translation=0.1, scale=0.0))
    assert set(moved.unique().tolist()) == {0.0, 1.0}


def test_noise_has_its_sigma_and_no_memory():
    noise = add_noise(torch.full((64, 64, 64), 0.5), KEYS[:64], STRONG) - 0.5
    assert abs(noise.mean()) < 5 * 0.04 / math.sqrt(noise.numel())
    assert abs(noise.std() / 0.04 - 1) < 0.01
    for one, other in (
        (noise[:-1], noise[1:]),
        (noise[:, :-1], noise[:, 1:]),
        (noise[..., :-1], noise[..., 1:]),
    ):
        pair = torch.stack((one.flatten(), other.flatten()))
        assert abs(torch.corrcoef(pair)[0, 1]) < 0.01


@pytest.mark.parametrize(("size", "width"), [(224, 3), (64, 1), (48, 1)])
def test_one_band_is_a_stripe_of_its_width_and_offset(size, width):
    settings = OperatorSettings(bands_max=1)
    bands = add_bands(torch.zeros(300, size, size), KEYS[:300], settings)
    is_touched = bands != 0
    assert (is_touched.sum(dim=(1, 2)) == width * size).all()
    horizontal = is_touched.all(dim=2).any(dim=1)
    vertical = is_touched.all(dim=1).any(dim=1)
    assert (horizontal ^ vertical).all()
    assert abs(share(horizontal) - 0.5) < 0.12
    offset = torch.where(bands.amax(dim=(1, 2)) > 0, bands.amax(dim=(1, 2)), bands.amin(dim=(1, 2)))
    assert offset.abs().max() <= 0.3 and offset.min() < -0.25 and offset.max() > 0.25


def test_the_number_of_bands_is_uniform():
    rows = add_bands(torch.zeros(900, 160, 160), KEYS[:900], STRONG)
    # Count stripes by the steps along the first row and the first column.
    steps = (rows[:, 0].diff(dim=1) != 0).sum(dim=1) + (rows[:, :, 0].diff(dim=1) != 0).sum(dim=1)
    counts = torch.bincount((steps / 2).round().int().clamp(1, 3), minlength=4)[1:]
    # Stripes at an edge or beside each other blur this by a few per cent.
    assert (counts / 900 - 1 / 3).abs().max() < 0.06


def test_faint_pixels_are_dimmed_by_one_factor():
    views = torch.rand(COUNT, 16, 16, generator=torch.Generator().manual_seed(1))
    dimmed = dim_background(views, KEYS, STRONG)
    threshold = views.mean(dim=(1, 2)) + 0.3 * views.std(dim=(1, 2), correction=0)
    ratio = dimmed / views.clamp(min=1e-9)
    faint = views < threshold[:, None, None]
    assert torch.equal(dimmed[~faint], views[~faint])
    factor = ratio.amin(dim=(1, 2))
    is_applied = factor < 0.999
    assert abs(share(is_applied) - 0.5) < 0.04
    spread = torch.where(faint, ratio, factor[:, None, None]).amax(dim=(1, 2)) - factor
    assert spread.max() < 1e-5
    assert factor[is_applied].min() >= 0.4999 and factor[is_applied].max() <= 0.9001
    assert factor[is_applied].min() < 0.51 and factor[is_applied].max() > 0.89


def test_all_operators_off_is_the_identity():
    views = torch.rand(5, 32, 32)
    assert torch.equal(augment(views, KEYS[:5], NOTHING), views)


@pytest.mark.parametrize("settings", [MILD, MILD_WITHOUT_BANDS, STRONG])
def test_augmented_views_stay_in_range(settings):
    views = augment(torch.rand(50, 32, 32), KEYS[:50], settings)
    assert views.min() >= 0 and views.max() <= 1


def test_operators_do_not_share_draws():
    """Whether the asinh and the dimming are applied are independent coins."""
    x = torch.rand(COUNT, 6, 6, generator=torch.Generator().manual_seed(2))
    stretched = (asinh_stretch(x, KEYS, STRONG) != x).flatten(1).any(dim=1)
    dimmed = (dim_background(x, KEYS, STRONG) != x).flatten(1).any(dim=1)
    pair = torch.stack((stretched, dimmed)).double()
    assert abs(torch.corrcoef(pair)[0, 1]) < 0.06
