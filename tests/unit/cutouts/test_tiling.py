"""Every pixel of a mosaic lands in the tiles it should, and in no other."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stradavit.cutouts.fits import open_product
from stradavit.cutouts.product import SKIP_REASONS
from stradavit.cutouts.tiling import cut, drop_reason, tile_corners
from stradavit.errors import MalformedProductError
from tests.unit.cutouts.fake_fits import write

lengths = st.integers(1, 50)


@settings(max_examples=200)
@given(ny=lengths, nx=lengths, size_px=st.integers(1, 20))
def test_each_pixel_is_in_exactly_one_tile_or_in_the_dropped_edge(ny, nx, size_px):
    covered = np.zeros((ny, nx), int)
    for y0, x0 in tile_corners((ny, nx), size_px, "tiles"):
        tile = covered[y0 : y0 + size_px, x0 : x0 + size_px]
        assert tile.shape == (size_px, size_px)
        tile += 1
    expected = np.zeros_like(covered)
    expected[: ny - ny % size_px, : nx - nx % size_px] = 1
    np.testing.assert_array_equal(covered, expected)


@given(ny=lengths, nx=lengths, size_px=st.integers(1, 20))
def test_centre(ny, nx, size_px):
    corners = tile_corners((ny, nx), size_px, "centre")
    assert len(corners) == (min(ny, nx) >= size_px)
    for (y0, x0), length in zip(corners, (ny, nx), strict=False):
        assert y0 >= 0 and x0 >= 0
        assert abs((y0 + size_px / 2) - ny / 2) <= 0.5 and abs((x0 + size_px / 2) - nx / 2) <= 0.5
        assert length


def test_sdc1_gives_table_1():
    # Three maps of 32768 px; Table 1 of the paper says 12288 cutouts.
    assert 3 * len(tile_corners((32768, 32768), 512, "tiles")) == 12288


@settings(max_examples=30, deadline=None)
@given(planes=st.integers(1, 3), ny=st.integers(8, 40), nx=st.integers(8, 40))
def test_cutouts_are_the_pixels_of_the_file(tmp_path_factory, planes, ny, nx):
    data = np.arange(planes * ny * nx, dtype=np.float32).reshape(planes, ny, nx)
    path = tmp_path_factory.getbasetemp() / "cut.fits"
    path.unlink(missing_ok=True)
    with open_product(write(path, data)) as product:
        found = list(cut(product, 8))
    assert len(found) == planes * (ny // 8) * (nx // 8)
    for cutout in found:
        expected = data[cutout.plane, cutout.y0 : cutout.y0 + 8, cutout.x0 : cutout.x0 + 8]
        np.testing.assert_array_equal(cutout.pixels, expected)
    pixels = np.concatenate([cutout.pixels.ravel() for cutout in found])
    assert len(np.unique(pixels)) == len(pixels)


def test_chosen_planes(tmp_path):
    with open_product(write(tmp_path / "a.fits", np.ones((2, 3, 8, 8), "f4"))) as product:
        assert [cutout.plane for cutout in cut(product, 8, planes=(4, 0))] == [4, 0]
        with pytest.raises(MalformedProductError, match=r"no_such_plane: planes .6. asked for"):
            next(cut(product, 8, planes=(0, 6)))


def test_smaller_than_a_tile(tmp_path):
    with (
        open_product(write(tmp_path / "a.fits", np.ones((8, 7), "f4"))) as product,
        pytest.raises(MalformedProductError, match="too_small: 8 x 7 px") as caught,
    ):
        next(cut(product, 8))
    assert caught.value.reason in SKIP_REASONS


def test_drop_reasons():
    good = np.random.default_rng(0).normal(size=(8, 8)).astype(np.float32)
    assert drop_reason(good, 1e-12) is None
    assert drop_reason(1e-8 * good, 1e-12) is None
    assert drop_reason(np.zeros((8, 8), np.float32), 1e-12) == "all_zero"
    assert drop_reason(np.full((8, 8), 0.1, np.float32), 1e-12) == "constant"
    assert drop_reason(1e-14 * good, 1e-12) == "constant"
    for blank in (np.nan, np.inf, -np.inf):
        damaged = good.copy()
        damaged[7, 7] = blank
        assert drop_reason(damaged, 1e-12) == "non_finite"
