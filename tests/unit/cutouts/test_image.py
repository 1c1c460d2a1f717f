"""Pictures as products."""

import zlib

import numpy as np
import pytest
from PIL import Image

from stradavit.cutouts.fits import open_product
from stradavit.errors import MalformedProductError
from tests.unit.cutouts.test_fits import reason_of

RGB = np.random.default_rng(0).integers(0, 256, (12, 10, 3)).astype(np.uint8)


def test_grey(tmp_path):
    Image.fromarray(RGB[..., 0]).save(tmp_path / "a.png")
    with open_product(tmp_path / "a.png") as product:
        assert (product.shape, product.n_planes, product.wcs) == ((12, 10), 1, None)
        np.testing.assert_array_equal(product.read(0, 3, 7), RGB[3:7, :, 0].astype(np.float32))


def test_16_bit_keeps_all_bits(tmp_path):
    data = np.arange(120, dtype=np.uint16).reshape(12, 10) * 500
    Image.fromarray(data).save(tmp_path / "a.png")
    with open_product(tmp_path / "a.png") as product:
        np.testing.assert_array_equal(product.read(0, 0, 12), data)


@pytest.mark.parametrize("has_alpha", [False, True])
def test_colours_become_luminance(tmp_path, has_alpha):
    pixels = np.dstack([RGB, RGB[..., :1]]) if has_alpha else RGB
    Image.fromarray(pixels).save(tmp_path / "a.png")
    red, green, blue = np.moveaxis(RGB.astype(float), -1, 0)
    with open_product(tmp_path / "a.png") as product:
        expected = 0.299 * red + 0.587 * green + 0.114 * blue
        np.testing.assert_allclose(product.read(0, 0, 12), expected, rtol=1e-5)


def test_palette_and_jpeg(tmp_path):
    Image.fromarray(RGB[..., 0]).convert("P").save(tmp_path / "a.png")
    Image.fromarray(RGB[..., 0]).save(tmp_path / "a.jpg", quality=95)
    for name in ("a.png", "a.jpg"):
        with open_product(tmp_path / name) as product:
            assert np.abs(product.read(0, 0, 12) - RGB[..., 0]).mean() < 12


def test_pixel_bomb_is_refused_before_it_is_decoded(tmp_path):
    Image.new("L", (4000, 4000)).save(tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size < 20_000
    assert reason_of(tmp_path / "a.png", memory_mb=10) == "too_large"


def test_beyond_pillows_own_limit(tmp_path):
    # A header alone: 100000 x 100000 px.
    Image.new("L", (10, 10)).save(tmp_path / "a.png")
    content = bytearray((tmp_path / "a.png").read_bytes())
    content[16:24] = (100_000).to_bytes(4, "big") * 2
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    (tmp_path / "a.png").write_bytes(content)
    assert reason_of(tmp_path / "a.png") == "too_large"


def test_damaged(tmp_path):
    Image.fromarray(np.tile(RGB, (20, 20, 1))).save(tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    for length in (9, 100, len(content) // 2):
        (tmp_path / "a.png").write_bytes(content[:length])
        assert reason_of(tmp_path / "a.png") in ("truncated", "unreadable")
    (tmp_path / "a.png").write_bytes(content[:60] + bytes(100) + content[160:])
    with pytest.raises(MalformedProductError), open_product(tmp_path / "a.png"):
        pass
