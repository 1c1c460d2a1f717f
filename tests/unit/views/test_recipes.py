"""The engine against the per-image reference, and what must hold for any batch."""

import numpy as np
import pytest
import torch

from stradavit.settings.views import (
    CHIP_VIEWS,
    AnchorSettings,
    CropSettings,
    EmptySettings,
    ViewSettings,
)
from stradavit.views import loops
from stradavit.views.recipes import contrastive_views, reconstruction_views
from stradavit.views.tensors import TensorPixels
from tests.reference import views as reference
from tests.unit.views.skies import sparse_sky

DEFAULT = ViewSettings()
RECIPES = [reconstruction_views, contrastive_views]


@pytest.fixture(params=["loops", "tensors"], autouse=True)
def engine(request, monkeypatch):
    """Every test on both engines: a processor would take the loops, other devices the tensors."""
    if request.param == "tensors":
        monkeypatch.setattr(loops, "LoopPixels", TensorPixels)
    return request.param


def compare(views, n, expected):
    for ours, box, view in zip(views.pixels[:, n, 0], views.boxes[:, n], expected, strict=True):
        assert box.tolist() == list(view.box)
        difference = np.abs(ours.double().numpy() - view.pixels)
        # float32 sums of a few products, stretched by the asinh's slope of up to 6 at zero.
        assert difference[~view.near_threshold].max() < 2e-5
        assert view.near_threshold.mean() < 0.01
    assert views.is_empty[n].item() == any(view.is_empty for view in expected)


@pytest.mark.parametrize(("size", "out"), [(96, 32), (128, 64), (150, 48)])
def test_views_equal_the_reference(size, out):
    seed = size  # Fresh numbers for each size.
    cutouts = sparse_sky(10, size, seed)
    numbers = torch.arange(10) * 7919 + size
    attempt = torch.arange(10) % 3
    single = reconstruction_views(cutouts, numbers, 4, seed, DEFAULT, out, attempt)
    pair = contrastive_views(cutouts, numbers, 4, seed, DEFAULT, out, attempt)
    for n in range(10):
        draws = reference.Draws(seed, 4, int(numbers[n]), int(attempt[n]))
        image = cutouts[n, 0].numpy()
        anchor, _ = reference.find_anchor(image, draws, DEFAULT)
        assert pair.anchors[n].tolist() == list(anchor) == single.anchors[n].tolist()
        compare(single, n, [reference.reconstruction_view(image, draws, DEFAULT, out)])
        compare(pair, n, reference.contrastive_pair(image, draws, DEFAULT, out))


def test_boxes_equal_the_reference_where_tries_fail():
    """Sparse cutouts, wild jitter and a high bar: retries and missed overlaps are common."""
    settings = ViewSettings(
        crops=CropSettings(jitter_wide=0.5, jitter_additional=0.5, ioa_min=0.9, ioa_tries=3),
        empty=EmptySettings(bright_pixels_wide=40, bright_pixels_additional=25),
    )
    cutouts = sparse_sky(40, 100, 5, noise=0.002)
    numbers = torch.arange(40)
    pair = contrastive_views(cutouts, numbers, 0, 1, settings, 16)
    single = reconstruction_views(cutouts, numbers, 0, 1, settings, 16)
    for n in range(40):
        draws, image = reference.Draws(1, 0, n, 0), cutouts[n, 0].numpy()
        expected = reference.contrastive_pair(image, draws, settings, 16)
        assert pair.boxes[:, n].tolist() == [list(view.box) for view in expected]
        expected = [reference.reconstruction_view(image, draws, settings, 16)]
        assert single.boxes[:, n].tolist() == [list(view.box) for view in expected]
        assert single.is_empty[n].item() == expected[0].is_empty
    with_one_try = settings.model_copy(
        update={"empty": settings.empty.model_copy(update={"crop_tries": 1})}
    )
    retried = contrastive_views(cutouts, numbers, 0, 1, with_one_try, 16).boxes != pair.boxes
    assert retried[0].any() and retried[1].any()


def test_around_a_fallback_anchor_the_additional_view_is_as_large_as_the_wide_one():
    settings = ViewSettings(anchors=AnchorSettings(peak_z_min=1e12, mean_grid=2))
    cutouts = torch.zeros(20, 1, 128, 128)
    cutouts[:, :, 60:68, 60:68] = 1.0  # Far from the centres of the four tiles.
    pair = contrastive_views(cutouts, torch.arange(20), 0, 0, settings, 32)
    for n in range(20):
        draws, image = reference.Draws(0, 0, n, 0), cutouts[n, 0].numpy()
        assert reference.find_anchor(image, draws, settings) == ((60, 60), True)
        compare(pair, n, reference.contrastive_pair(image, draws, settings, 32))
    sides = pair.boxes[:, :, 2] - pair.boxes[:, :, 0]
    assert (sides[1] >= 0.5 * 0.55 * 128 - 1).all()


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize(("size", "out"), [(128, 64), (97, 37), (260, 224)])
def test_a_view_is_the_same_in_any_company(recipe, size, out):
    cutouts, numbers = sparse_sky(7, size, 11), torch.tensor([5, 900001, 3, 77, 8, 1, 2**40])
    attempt = torch.tensor([0, 1, 0, 2, 0, 0, 5])

    def views_of(chosen):
        return recipe(cutouts[chosen], numbers[chosen], 3, 9, DEFAULT, out, attempt[chosen])

    whole = views_of(torch.arange(7))
    threads = torch.get_num_threads()
    try:
        for count, batches in (
            (1, [[n] for n in range(7)]),
            (2, [[3], [6, 2, 0, 4, 1]]),
            (3, [[5], [0, 1, 2, 3, 4, 5, 6]]),
        ):
            torch.set_num_threads(count)
            for batch in batches:
                part = views_of(torch.tensor(batch))
                assert torch.equal(part.pixels, whole.pixels[:, batch])
                assert torch.equal(part.boxes, whole.boxes[:, batch])
                assert torch.equal(part.anchors, whole.anchors[batch])
                assert torch.equal(part.is_empty, whole.is_empty[batch])
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_engine_never_waits_for_a_value(recipe):
    """Tensors without values: reading one, or a shape that depends on one, would raise."""
    cutouts = torch.empty(5, 1, 100, 100, dtype=torch.uint16, device="meta")
    numbers = torch.empty(5, dtype=torch.int64, device="meta")
    views = recipe(cutouts, numbers, 0, 0, DEFAULT, 32)
    assert views.pixels.shape[1:] == (5, 1, 32, 32)


@pytest.mark.parametrize("recipe", RECIPES)
def test_seed_epoch_number_and_attempt_each_make_other_views(recipe):
    cutouts, numbers = sparse_sky(4, 64, 2), torch.arange(4)
    first = recipe(cutouts, numbers, 0, 0, DEFAULT, 32)
    for other in (
        recipe(cutouts, numbers, 1, 0, DEFAULT, 32),
        recipe(cutouts, numbers, 0, 1, DEFAULT, 32),
        recipe(cutouts, numbers + 4, 0, 0, DEFAULT, 32),
        recipe(cutouts, numbers, 0, 0, DEFAULT, 32, torch.ones(4, dtype=torch.int64)),
    ):
        assert (first.pixels != other.pixels).any(dim=-1).any(dim=-1).all()


@pytest.mark.parametrize("recipe", RECIPES)
def test_shapes_types_and_range(recipe):
    views = recipe(sparse_sky(3, 80, 1), torch.arange(3), 0, 0, DEFAULT, 48)
    n_views = 1 if recipe is reconstruction_views else 2
    assert views.pixels.shape == (n_views, 3, 1, 48, 48)
    assert views.pixels.dtype == views.boxes.dtype == views.anchors.dtype == torch.float32
    assert views.is_empty.dtype == torch.bool and views.is_empty.shape == (3,)
    assert views.boxes.shape == (n_views, 3, 4) and views.anchors.shape == (3, 2)
    assert views.pixels.min() >= 0 and views.pixels.max() <= 1
    assert not views.pixels.requires_grad


@pytest.mark.parametrize("recipe", RECIPES)
def test_quantised_cutouts_give_the_views_of_their_values(recipe):
    stored = (sparse_sky(5, 90, 8) * 65535).round().to(torch.uint16)
    exact = stored.to(torch.float32) / 65535
    ours = recipe(stored, torch.arange(5), 0, 0, DEFAULT, 32)
    theirs = recipe(exact, torch.arange(5), 0, 0, DEFAULT, 32)
    assert torch.equal(ours.boxes, theirs.boxes) and torch.equal(ours.is_empty, theirs.is_empty)
    # The loops bring integers to [0, 1] in the weights of the resize, an ulp from dividing first.
    difference = (ours.pixels - theirs.pixels).abs()
    assert (difference > 1e-5).double().mean() < 1e-3


@pytest.mark.parametrize("recipe", RECIPES)
def test_blank_cutouts_are_flagged_and_sources_are_not(recipe):
    y, x = np.mgrid[:96, :96]
    source = np.exp(-((x - 40) ** 2 + (y - 55) ** 2) / 32).astype(np.float32)
    cutouts = torch.from_numpy(np.stack([np.zeros_like(source), source, source * 0.01]))
    views = recipe(cutouts[:, None], torch.arange(3), 0, 0, DEFAULT, 64)
    assert views.is_empty.tolist() == [True, False, True]
    assert views.pixels.isfinite().all()


@pytest.mark.parametrize("recipe", RECIPES)
def test_values_that_are_no_numbers_never_come_out(recipe):
    cutouts = sparse_sky(4, 64, 3)
    cutouts[0, 0, 10] = torch.nan
    cutouts[1, 0, :, 20] = torch.inf
    cutouts[2] = torch.nan
    cutouts[3] = 5.0
    views = recipe(cutouts, torch.arange(4), 0, 0, DEFAULT, 32)
    assert views.pixels.isfinite().all()
    assert views.pixels.min() >= 0 and views.pixels.max() <= 1
    assert views.is_empty[2]


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("size", [8, 16, 19])
def test_cutouts_smaller_than_grids_and_crops(recipe, size):
    views = recipe(sparse_sky(6, size, 1), torch.arange(6), 0, 0, DEFAULT, 16)
    assert views.pixels.isfinite().all()
    assert views.boxes.min() >= 0 and views.boxes.max() <= size


@pytest.mark.parametrize("recipe", RECIPES)
def test_cutouts_are_left_as_they_are(recipe):
    cutouts = sparse_sky(3, 64, 1)
    before = cutouts.clone()
    recipe(cutouts, torch.arange(3), 0, 0, DEFAULT, 32)
    assert torch.equal(cutouts, before)


@pytest.mark.parametrize(
    ("cutouts", "numbers", "message"),
    [
        (torch.zeros(2, 1, 8, 9), torch.arange(2), r"expected \(batch, 1, size, size\)"),
        (torch.zeros(2, 3, 8, 8), torch.arange(2), r"expected \(batch, 1, size, size\)"),
        (torch.zeros(2, 1, 8, 8).int(), torch.arange(2), "expected float32 in .* or uint16"),
        (torch.zeros(2, 1, 8, 8), torch.arange(3), "one int64 for each of the 2 cutouts"),
        (torch.zeros(2, 1, 8, 8), torch.zeros(2), "one int64 for each of the 2 cutouts"),
    ],
)
def test_what_is_no_batch_of_cutouts_is_refused(cutouts, numbers, message):
    with pytest.raises(ValueError, match=message):
        reconstruction_views(cutouts, numbers, 0, 0, DEFAULT, 32)


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize(("size", "out"), [(512, 224), (130, 51)])
def test_both_engines_make_the_same_views(recipe, size, out, monkeypatch):
    seed = int(np.random.default_rng().integers(2**31))  # Fresh in every run; told if it fails.
    cutouts = (sparse_sky(12, size, seed) * 65535).round().to(torch.uint16)
    ours = recipe(cutouts, torch.arange(12), 0, seed, DEFAULT, out)
    monkeypatch.setattr(loops, "LoopPixels", TensorPixels)
    theirs = recipe(cutouts, torch.arange(12), 0, seed, DEFAULT, out)
    assert torch.equal(ours.boxes, theirs.boxes), seed
    assert torch.equal(ours.is_empty, theirs.is_empty), seed
    difference = (ours.pixels - theirs.pixels).abs()
    # A pixel within rounding of the dimming's threshold may fall on either side of it.
    assert (difference > 1e-5).double().mean() < 1e-4, seed


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_views_of_chips_are_the_whole_chip_mirrored_or_not(value: float) -> None:
    chips = torch.rand(16, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    chips[3] = value  # nothing to see, and no reason to look elsewhere
    numbers = torch.arange(16)
    views = reconstruction_views(chips, numbers, 0, 7, CHIP_VIEWS, out_px=64)
    same = (views.pixels[0] - chips).abs().amax(dim=(1, 2, 3)) < 1e-6
    mirrored = (views.pixels[0] - chips.flip(-1)).abs().amax(dim=(1, 2, 3)) < 1e-6
    assert (same | mirrored).all()
    assert 2 <= same.sum() <= 14
    assert (views.boxes == torch.tensor([0.0, 0.0, 64.0, 64.0])).all()
