"""The reader against files written by Astropy, one for each oddity, and against hostile ones."""

import errno
import gzip
import time
import tracemalloc

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stradavit.cutouts.fits import SKIP_REASONS, open_product
from stradavit.cutouts.product import named_failures
from stradavit.errors import DataError, MalformedProductError
from tests.unit.cutouts.fake_fits import BLOCK, noise, packed, raw_header, sky_header, write


def read_all(path, memory_mb=1024):
    """(planes, ny, nx) read in bands of 7 rows."""
    with open_product(path, memory_mb) as product:
        ny = product.shape[0]
        return np.stack(
            [
                np.concatenate([product.read(p, y, min(y + 7, ny)) for y in range(0, ny, 7)])
                for p in range(product.n_planes)
            ]
        )


def reason_of(path, memory_mb=1024):
    with pytest.raises(MalformedProductError) as caught:
        read_all(path, memory_mb)
    assert caught.value.reason in SKIP_REASONS
    assert str(path) in caught.value.detail
    return caught.value.reason


@pytest.mark.parametrize("shape", [(40, 60), (1, 40, 60), (3, 40, 60), (2, 3, 40, 60)])
@pytest.mark.parametrize("dtype", ["f4", "f8", "i2", "i4", "i8", "u1"])
def test_all_planes_in_c_order_as_native_float32(tmp_path, shape, dtype):
    data = (100 * noise(*shape)).clip(0, 200).astype(dtype)
    path = write(tmp_path / "a.fits", data, sky_header())
    found = read_all(path)
    assert found.dtype == np.float32 and found.dtype.isnative
    np.testing.assert_array_equal(found, data.reshape(-1, 40, 60).astype(np.float32))


def test_header_becomes_wcs_beam_scale_and_unit(tmp_path):
    path = write(tmp_path / "a.fits", noise(1, 1, 40, 60), sky_header())
    with open_product(path) as product:
        assert (product.shape, product.n_planes, product.unit) == ((40, 60), 1, "JY/BEAM")
        assert product.beam_arcsec == pytest.approx((10, 6))
        assert product.pixel_scale_arcsec == pytest.approx(2)
        centre = product.wcs.pixel_to_world(29.5, 19.5)
        assert (centre.ra.deg, centre.dec.deg) == pytest.approx((150, 2))


def test_header_with_more_axes_than_the_data(tmp_path):
    header = sky_header()
    header["WCSAXES"], header["CTYPE3"], header["CTYPE4"] = 4, "FREQ", "STOKES"
    path = write(tmp_path / "a.fits", noise(40, 60), header)
    with open_product(path) as product:
        assert product.wcs.naxis == 2 and product.shape == (40, 60)


@pytest.mark.parametrize("name", ["a.imfits", "a.fts", "a.fits.gz", "a", "a.jpg", "a.Z"])
def test_the_suffix_does_not_matter(tmp_path, name):
    data = noise(40, 60)
    path = write(tmp_path / "plain.fits", data)
    path = path.rename(tmp_path / name)
    np.testing.assert_array_equal(read_all(path)[0], data)
    np.testing.assert_array_equal(read_all(packed(tmp_path / "packed.fits", path))[0], data)


@pytest.mark.parametrize("blank", [-32768, 0, 7])
def test_scaled_integers_with_blank(tmp_path, blank):
    stored = np.arange(-100, 100, dtype=np.int16).reshape(10, 20)
    stored[2, 3] = stored[9, 19] = blank
    hdu = fits.PrimaryHDU(stored)
    hdu.header["BSCALE"], hdu.header["BZERO"], hdu.header["BLANK"] = 0.5, 3.0, blank
    path = tmp_path / "a.fits"
    path.write_bytes(raw_bytes(hdu, stored))
    expected = np.where(stored == blank, np.nan, 0.5 * stored + 3.0).astype(np.float32)
    np.testing.assert_array_equal(read_all(path)[0], expected)


def raw_bytes(hdu, stored):
    """A file whose data are `stored` exactly: Astropy would divide by BSCALE."""
    data = stored.astype(stored.dtype.newbyteorder(">")).tobytes()
    return hdu.header.tostring().encode() + data.ljust(-(-len(data) // BLOCK) * BLOCK, b"\0")


def test_blank_means_nothing_on_floats(tmp_path):
    header = raw_header(
        "SIMPLE  =                    T",
        "BITPIX  =                  -32",
        "NAXIS   =                    2",
        "NAXIS1  =                   20",
        "NAXIS2  =                   10",
        "BLANK   =                   -1",
    )
    data = np.full((10, 20), -1, dtype=">f4")
    (tmp_path / "a.fits").write_bytes(header + data.tobytes().ljust(BLOCK, b"\0"))
    np.testing.assert_array_equal(read_all(tmp_path / "a.fits")[0], data)


def test_unsigned_integers(tmp_path):
    data = np.arange(200, dtype=np.uint16).reshape(10, 20) + 65000
    np.testing.assert_array_equal(read_all(write(tmp_path / "a.fits", data))[0], data)


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [(kind, dtype) for kind in ("RICE_1", "GZIP_1", "GZIP_2") for dtype in ("i2", "u2", "f4")],
)
def test_tile_compressed_extension(tmp_path, kind, dtype):
    data = (100 * noise(40, 60)).astype("i2").astype(dtype)
    if dtype == "u2":
        data = (data.astype("i4") + 1000).astype("u2")
    hdu = fits.CompImageHDU(data, compression_type=kind, tile_shape=(20, 20), quantize_level=0)
    hdu.header.update(sky_header())
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(tmp_path / "a.fits.fz")
    np.testing.assert_array_equal(read_all(tmp_path / "a.fits.fz")[0], data.astype(np.float32))


@pytest.mark.parametrize("kind", ["HCOMPRESS_1", "PLIO_1"])
def test_tiles_are_refused_whose_decoder_can_crash(tmp_path, kind):
    hdu = fits.CompImageHDU(np.abs(noise(40, 60)).astype("i2"), compression_type=kind)
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(tmp_path / "a.fits")
    assert reason_of(tmp_path / "a.fits") == "compression"


def test_first_hdu_with_two_axes_is_taken(tmp_path):
    data = noise(40, 60)
    table = fits.BinTableHDU.from_columns([fits.Column("a", "E", array=np.ones(3))])
    spectrum = fits.ImageHDU(noise(50))
    fits.HDUList(
        [fits.PrimaryHDU(), table, spectrum, fits.ImageHDU(data), fits.ImageHDU(noise(5, 5))]
    ).writeto(tmp_path / "a.fits")
    np.testing.assert_array_equal(read_all(tmp_path / "a.fits")[0], data)


def permuted(order):
    """A (stokes 2, freq 3, dec 4, ra 5) cube with its axes in another order, and its header."""
    names = ["STOKES", "FREQ", "DEC--SIN", "RA---SIN"]
    data = np.arange(120, dtype=np.float32).reshape(2, 3, 4, 5)
    header = fits.Header()
    for place, axis in enumerate(order):
        number = 4 - place
        header[f"CTYPE{number}"] = names[axis]
        header[f"CRPIX{number}"] = 1.0
        header[f"CDELT{number}"] = [1.0, 1e6, 0.001, -0.001][axis]
        header[f"CRVAL{number}"] = [1.0, 1e9, 10.0, 20.0][axis]
    return data, np.transpose(data, order), header


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 0, 1, 2), (0, 2, 3, 1), (0, 1, 3, 2)])
def test_celestial_axes_are_moved_to_the_end(tmp_path, order):
    data, stored, header = permuted(order)
    path = write(tmp_path / "a.fits", np.ascontiguousarray(stored), header)
    with open_product(path) as product:
        assert (product.shape, product.n_planes) == ((4, 5), 6)
        # x is right ascension whatever the order.
        assert product.wcs.pixel_to_world(1, 0).ra.deg < 20
        planes = np.stack([product.read(p, 0, 4) for p in range(6)])
    leading = [axis for axis in order if axis < 2]
    expected = data if leading == [0, 1] else data.swapaxes(0, 1)
    np.testing.assert_array_equal(planes, expected.reshape(6, 4, 5))


def test_position_velocity_slice_is_no_sky(tmp_path):
    header = sky_header()
    header["CTYPE2"], header["CUNIT2"] = "VRAD", "m/s"
    assert reason_of(write(tmp_path / "a.fits", noise(40, 60), header)) == "not_sky"


def test_without_wcs(tmp_path):
    with open_product(write(tmp_path / "a.fits", noise(40, 60))) as product:
        assert product.wcs is None and product.pixel_scale_arcsec is None
        assert product.beam_arcsec is None and product.unit == ""


def test_wcs_that_cannot_be_parsed_is_none(tmp_path):
    header = sky_header()
    header["CTYPE1"], header["CTYPE2"] = "RA---XYZ", "DEC--XYZ"
    path = write(tmp_path / "a.fits", noise(40, 60), header)
    with open_product(path) as product:
        assert product.wcs is None and product.read(0, 0, 40).shape == (40, 60)


def test_files_without_image(tmp_path):
    table = fits.BinTableHDU.from_columns([fits.Column("a", "E", array=np.ones(3))])
    fits.HDUList([fits.PrimaryHDU(), table]).writeto(tmp_path / "table.fits")
    fits.PrimaryHDU().writeto(tmp_path / "header.fits")
    groups = fits.GroupData(noise(5, 1, 1, 4, 3), bitpix=-32, parnames=["U"], pardata=[np.ones(5)])
    fits.GroupsHDU(groups).writeto(tmp_path / "groups.fits")
    write(tmp_path / "line.fits", noise(30))
    for name in ("table", "header", "groups", "line"):
        assert reason_of(tmp_path / f"{name}.fits") == "no_image"


def claim(*lengths, bitpix=-32):
    cards = ["SIMPLE  =                    T", f"BITPIX  = {bitpix:20d}"]
    cards.append(f"NAXIS   = {len(lengths):20d}")
    cards += [f"{f'NAXIS{n}':8}= {length:20d}" for n, length in enumerate(lengths, start=1)]
    return raw_header(*cards)


def test_zero_width(tmp_path):
    (tmp_path / "a.fits").write_bytes(claim(0, 777777701, bitpix=8))
    assert reason_of(tmp_path / "a.fits") == "empty_image"


def test_a_petabyte_is_refused_at_once(tmp_path):
    (tmp_path / "a.fits").write_bytes(claim(16_000_000, 16_000_000) + bytes(10 * BLOCK))
    (tmp_path / "b.fits").write_bytes(gzip.compress((tmp_path / "a.fits").read_bytes()))
    tracemalloc.start()
    start = time.perf_counter()
    assert reason_of(tmp_path / "a.fits") == "truncated"
    assert reason_of(tmp_path / "b.fits") == "truncated"
    assert time.perf_counter() - start < 20  # milliseconds, if nothing else is to be done
    assert tracemalloc.get_traced_memory()[1] < 5e6
    tracemalloc.stop()


def test_memory_holds_a_band_and_not_the_product(tmp_path):
    path = tmp_path / "a.fits"
    with path.open("wb") as opened:
        opened.write(claim(1000, 100_000))
        opened.truncate(opened.tell() + 400_000_000)  # sparse: no disk is used
    tracemalloc.start()
    with open_product(path, memory_mb=20) as product:
        for y0 in range(0, 5000, 500):
            product.read(0, y0, y0 + 500)
        with pytest.raises(MalformedProductError, match="a band of 5000 rows needs 40 MB"):
            product.read(0, 0, 5000)
    assert tracemalloc.get_traced_memory()[1] < 20e6
    tracemalloc.stop()


def test_too_large_when_read_whole(tmp_path):
    _, stored, header = permuted((3, 0, 1, 2))
    big = np.tile(stored, (1, 1, 100, 1000))
    assert reason_of(write(tmp_path / "a.fits", big, header), memory_mb=1) == "too_large"
    hdu = fits.CompImageHDU(noise(600, 600), tile_shape=(600, 600))
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(tmp_path / "b.fits")
    assert reason_of(tmp_path / "b.fits", memory_mb=1) == "too_large"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "unknown_format"),
        (b"<!DOCTYPE html><html><body>503 Service Unavailable</body></html>", "unknown_format"),
        (b"\x1f\x8b", "truncated"),
        (b"\x1f\x9d\x90abc", "compression"),
        (b"BZh91AY&SY", "compression"),
        (b"PK\x03\x04", "compression"),
        (gzip.compress(b"<html>"), "unknown_format"),
        (b"SIMPLE  =                    T", "unreadable"),
        (raw_header("SIMPLE  =                    T"), "no_image"),
        (claim(3, 4)[:2000], "unreadable"),
        (claim(3, 4), "truncated"),
        (claim(-3, 4), None),
        (claim(*[2] * 40), "truncated"),
        (claim(3, 4, bitpix=17) + bytes(BLOCK), None),
    ],
)
def test_every_fault_has_a_name(tmp_path, content, reason):
    (tmp_path / "a.fits").write_bytes(content)
    assert reason_of(tmp_path / "a.fits") in ([reason] if reason else SKIP_REASONS)


@pytest.mark.parametrize("is_packed", [False, True])
def test_truncated_anywhere(tmp_path, is_packed):
    path = write(tmp_path / "a.fits", noise(2, 40, 60), sky_header())
    if is_packed:
        path = packed(tmp_path / "a.fits.gz", path)
    content = path.read_bytes()
    for length in (len(content) // 3, len(content) // 2, len(content) - BLOCK):
        path.write_bytes(content[:length])
        assert reason_of(path) == "truncated"


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_damaged_bytes_never_escape_as_anything_else(tmp_path_factory, data):
    folder = tmp_path_factory.getbasetemp() / "damaged"
    folder.mkdir(exist_ok=True)
    kind = data.draw(st.sampled_from(["plain", "gzip", "tiles"]))
    source = folder / kind
    if not source.exists():
        if kind == "tiles":
            hdu = fits.CompImageHDU(noise(40, 60), sky_header())
            fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(source)
        else:
            write(folder / "image", noise(40, 60), sky_header())
            (folder / "image").rename(source)
            if kind == "gzip":
                packed(source, source)
    content = bytearray(source.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(content) - 1))
        content[place] = data.draw(st.integers(0, 255))
    target = folder / "target"
    target.write_bytes(content)
    try:
        pixels = read_all(target, memory_mb=8)
    except MalformedProductError as error:
        assert error.reason in SKIP_REASONS
    else:
        assert pixels.dtype == np.float32 and pixels.ndim == 3


def test_missing_file_is_the_users_problem_not_a_skip(tmp_path):
    with pytest.raises(DataError, match=r"absent.fits: cannot be opened") as caught:
        read_all(tmp_path / "absent.fits")
    assert not isinstance(caught.value, MalformedProductError)


def test_a_failing_disk_is_no_property_of_the_product(tmp_path):
    with (
        pytest.raises(DataError, match=r"the disk failed.*Run the job again") as caught,
        named_failures(tmp_path),
    ):
        raise OSError(errno.EIO, "Input/output error")
    assert not isinstance(caught.value, MalformedProductError)


def test_errors_of_the_caller_pass_through(tmp_path):
    path = write(tmp_path / "a.fits", noise(4, 4))
    with pytest.raises(ZeroDivisionError), open_product(path):
        raise ZeroDivisionError


def test_a_packed_cube_is_unpacked_once_however_often_it_is_read(tmp_path, monkeypatch):
    cube = np.random.default_rng(5).normal(size=(4, 256, 300)).astype(np.float32)
    path = tmp_path / "cube.fits.gz"
    fits.PrimaryHDU(cube).writeto(path)
    unpacked = []
    inner = gzip.GzipFile.read
    monkeypatch.setattr(
        gzip.GzipFile, "read", lambda self, size=-1: unpacked.append(size) or inner(self, size)
    )
    rewound = []
    rewind = gzip.GzipFile.rewind
    monkeypatch.setattr(gzip.GzipFile, "rewind", lambda self: rewound.append(1) or rewind(self))
    with open_product(path) as product:
        for plane in range(4):
            for y0 in range(0, 256, 64):
                band = product.read(plane, y0, y0 + 64)
                assert np.array_equal(band, cube[plane, y0 : y0 + 64])
    assert unpacked and len(rewound) <= 2  # after the magic bytes and after the headers


@pytest.mark.parametrize(
    ("cards", "expected"),
    [
        ({"CTYPE3": "FREQ", "CRVAL3": 5.6e8, "RESTFRQ": 1.4e9}, 5.6e8),
        ({"CTYPE4": "FREQ-LSR", "CRVAL4": 9e8}, 9e8),
        ({"RESTFRQ": 1.4e9}, 1.4e9),
        ({"FREQ": "1.4 GHz", "RESTFREQ": 2e9}, 2e9),
        ({"CTYPE3": "FREQ", "CRVAL3": 0.0}, None),
        ({}, None),
    ],
)
def test_the_frequency_is_that_of_the_axis_or_of_the_image(tmp_path, cards, expected):
    header = sky_header()
    header.update(cards)
    with open_product(write(tmp_path / "f.fits", noise(40, 60), header)) as product:
        assert product.frequency_hz == expected
