"""Files that once made the readers hang, allocate, or raise something foreign.

Each was found by `python -m tests.fuzz`; here is the least of it.
"""

import gzip
import time
import tracemalloc
import warnings
from collections import Counter

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS, WCSSUB_LATITUDE, WCSSUB_LONGITUDE

from stradavit.acquire.archives.cutout_files import check_image
from stradavit.acquire.stages import acquire_part, make_manifest
from stradavit.acquire.transfer.fits_length import FitsLength, MalformedError, data_bytes
from stradavit.cutouts import counted_file
from stradavit.cutouts import fits as fits_reader
from stradavit.cutouts.celestial import celestial
from stradavit.cutouts.fits import open_product
from stradavit.cutouts.shards import Shard
from stradavit.cutouts.stages import cut_part
from stradavit.errors import MalformedProductError
from stradavit.planning.headers import image_axes
from stradavit.settings import CutoutSettings
from stradavit.settings.sources import LocalSurvey
from tests.unit.cutouts.fake_fits import BLOCK, noise, raw_header, sky_header, write

TEN_TO_60 = 10**60


def number(key, value):
    return f"{key:8}= {value:>20}"


def image_header(**others):
    """Cards of a 40 x 60 image of floats, some of them replaced."""
    cards = {"SIMPLE": "T", "BITPIX": -32, "NAXIS": 2, "NAXIS1": 60, "NAXIS2": 40} | others
    return raw_header(*(number(key, value) for key, value in cards.items()))


def body(shape=(40, 60)):
    pixels = noise(*shape).astype(">f4").tobytes()
    return pixels + bytes(-len(pixels) % BLOCK)


def refusal(path, memory_mb=128):
    """The reason, found within seconds and 20 MB; planning cannot tell, or survives it."""
    image_axes(path)
    tracemalloc.start()
    start = time.process_time()
    with pytest.raises(MalformedProductError) as caught, open_product(path, memory_mb) as product:
        product.read(0, 0, 1)
    assert time.process_time() - start < 10
    assert tracemalloc.get_traced_memory()[1] < 20e6
    tracemalloc.stop()
    assert str(path) in caught.value.detail
    assert "MemoryError" not in caught.value.detail
    return caught.value.reason


@pytest.mark.parametrize("n_axes", [1000, 10**9, TEN_TO_60])
def test_a_billion_axes_are_not_counted(tmp_path, n_axes):
    (tmp_path / "a.fits").write_bytes(image_header(NAXIS=n_axes) + body())
    assert refusal(tmp_path / "a.fits") == "unreadable"
    assert image_axes(tmp_path / "a.fits") is None
    assert "damaged" in str(check_image(tmp_path / "a.fits", (150, 2), None))
    with pytest.raises(MalformedError, match="an impossible number of axes"):
        data_bytes(image_header(NAXIS=n_axes))


@pytest.mark.parametrize("key", ["NAXIS2", "PCOUNT", "GCOUNT", "BITPIX"])
def test_a_text_as_a_size_is_not_repeated_a_billion_times(tmp_path, key):
    header = image_header(NAXIS1=700_000_000, **{key: "'NaN'"})
    (tmp_path / "a.fits").write_bytes(header + body())
    assert refusal(tmp_path / "a.fits") == "unreadable"


def test_nine_hundred_and_ninety_nine_axes_are_many_but_allowed(tmp_path):
    cards = {f"NAXIS{n}": 1 for n in range(1, 998)} | {"NAXIS998": 60, "NAXIS999": 40}
    (tmp_path / "a.fits").write_bytes(image_header(NAXIS=999, **cards) + body())
    assert data_bytes(image_header(NAXIS=999, **cards)) == 9600
    # NumPy has no arrays of so many axes.
    assert refusal(tmp_path / "a.fits") == "unreadable"


def test_a_product_of_axes_that_no_file_has(tmp_path):
    header = image_header(NAXIS=999, **{f"NAXIS{n}": 10**18 for n in range(1, 1000)})
    with pytest.raises(MalformedError, match="promises more bytes than any file has"):
        data_bytes(header)
    length = FitsLength()
    with pytest.raises(MalformedError, match="promises more bytes"):
        length.update(header + body())
    (tmp_path / "a.fits").write_bytes(header + body())
    assert refusal(tmp_path / "a.fits") in ("truncated", "unreadable")
    assert image_axes(tmp_path / "a.fits") is None


@pytest.mark.parametrize("key", ["GCOUNT", "PCOUNT"])
def test_a_negative_count_does_not_lead_back_to_the_same_header(tmp_path, key):
    # Planning sought backwards and read the same header for ever.
    header = raw_header(
        number("SIMPLE", "T"), number("BITPIX", 8), number("NAXIS", 1), number("NAXIS1", 2880),
        number("PCOUNT", 0 if key == "GCOUNT" else -5760), number("GCOUNT", -2),
    )  # fmt: skip
    with pytest.raises(MalformedError, match="an axis of negative length"):
        data_bytes(header)
    (tmp_path / "a.fits").write_bytes(header + bytes(BLOCK))
    assert image_axes(tmp_path / "a.fits") is None


def test_planning_does_not_believe_what_the_file_cannot_hold(tmp_path):
    for lengths in ((10**9, 10**9), (10**30, 1)):
        header = image_header(NAXIS1=lengths[0], NAXIS2=lengths[1])
        (tmp_path / "a.fits").write_bytes(header + body())
        assert image_axes(tmp_path / "a.fits") is None
    (tmp_path / "a.fits").write_bytes(image_header() + body())
    assert image_axes(tmp_path / "a.fits") == (1, 40, 60)


def test_planning_does_not_believe_tiles_and_packed_files_either(tmp_path):
    assert image_axes(tiled(tmp_path / "a.fits")) == (1, 40, 60)
    assert image_axes(tiled(tmp_path / "a.fits", ZNAXIS1=10**9, ZNAXIS2=10**9)) is None
    packed = gzip.compress(image_header(NAXIS1=10**9, NAXIS2=10**9) + body())
    (tmp_path / "b.fits.gz").write_bytes(packed)
    assert image_axes(tmp_path / "b.fits.gz") is None


def test_planning_unpacks_little(tmp_path):
    table = raw_header(
        number("XTENSION", "'BINTABLE'"), number("BITPIX", 8), number("NAXIS", 2),
        number("NAXIS1", 1000), number("NAXIS2", 10**6), number("PCOUNT", 0), number("GCOUNT", 1),
        number("TFIELDS", 0),
    )  # fmt: skip
    empty = image_header(NAXIS=0)
    (tmp_path / "a.fits").write_bytes(gzip.compress(empty + table) + gzip.compress(bytes(10**7)))
    start = time.process_time()
    assert image_axes(tmp_path / "a.fits") is None
    assert time.process_time() - start < 10


def test_a_header_without_end_is_read_to_a_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(counted_file, "MOST_HEADER_BYTES", 300 * BLOCK)
    with (tmp_path / "a.fits").open("wb") as opened:
        opened.write(image_header()[:400])
        opened.write(b" " * (400 * BLOCK))
        opened.truncate(10**11)  # sparse: no disk is used
    assert refusal(tmp_path / "a.fits") == "unreadable"
    packed = gzip.compress(image_header()[:400] + b" " * (400 * BLOCK))
    (tmp_path / "b.fits").write_bytes(packed)
    assert refusal(tmp_path / "b.fits") == "unreadable"


def test_thousands_of_parts_before_the_image(tmp_path, monkeypatch):
    empty = raw_header(
        number("XTENSION", "'IMAGE   '"), number("BITPIX", 8), number("NAXIS", 0),
        number("PCOUNT", 0), number("GCOUNT", 1),
    )  # fmt: skip
    monkeypatch.setattr(counted_file, "MOST_HEADER_BYTES", 200 * BLOCK)
    (tmp_path / "a.fits").write_bytes(image_header(NAXIS=0) + empty * 300)
    assert refusal(tmp_path / "a.fits") == "unreadable"
    (tmp_path / "a.fits").write_bytes(image_header(NAXIS=0) + empty * 150)
    assert refusal(tmp_path / "a.fits") == "no_image"


def test_a_gzip_bomb_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(fits_reader, "GZIP_BYTES", 10**7)
    pixels = gzip.compress(bytes(10**6))
    header = image_header(NAXIS1=10**4, NAXIS2=10**4)
    (tmp_path / "a.fits.gz").write_bytes(gzip.compress(header) + pixels * 400)
    assert refusal(tmp_path / "a.fits.gz") == "compression"
    # Two hundred times its size, or 1 GB, is for everyone.
    header = image_header(NAXIS1=1000, NAXIS2=1000)
    (tmp_path / "b.fits.gz").write_bytes(gzip.compress(header) + pixels * 4)
    with open_product(tmp_path / "b.fits.gz") as product:
        assert not product.read(0, 0, 1000).any()


@pytest.mark.parametrize("orders", [("A_ORDER", "B_ORDER"), ("AP_ORDER", "BP_ORDER")])
@pytest.mark.parametrize("order", [-1, 10, 10**6, 1.5])
def test_a_distortion_of_a_millionth_order_is_no_wcs(tmp_path, orders, order):
    # Astropy allocates and loops over the square of the order.
    header = sky_header()
    header.update(dict.fromkeys(orders, order))
    start = time.process_time()
    with open_product(write(tmp_path / "a.fits", noise(40, 60), header)) as product:
        assert product.wcs is None
        assert product.read(0, 0, 40).shape == (40, 60)
    assert time.process_time() - start < 10


OLD_MATRIX = {f"PC0{i}_0{j}": float(i == j) for i in (1, 2) for j in (1, 2)}


@pytest.mark.parametrize(
    "cards",
    [
        {"WCSAXES": 10**9},
        {"WCSAXES": 99},
        {"LATPOLE": "-Inf", **OLD_MATRIX},
        {"LONPOLE": "nan"},
        {"LONPOLE": "'text'"},
        {"CRPIX1": "T"},
        {"CRVAL2": "(1.0, 2.0)"},
        {"CRVAL1": "1E9999"},
        {"CTYPE1": "'RA---TAB'", "CTYPE2": "'DEC--TAB'"},
    ],
)
def test_a_broken_sky_is_no_wcs_and_does_not_end_the_process(tmp_path, cards):
    # wcslib wrote beyond its memory: the whole process was gone, and every file of the part.
    sky = {"CTYPE1": "'RA---SIN'", "CTYPE2": "'DEC--SIN'", "CRVAL1": 150.0, "CRVAL2": 2.0}
    sky |= {"CDELT1": -0.001, "CDELT2": 0.001}
    path = tmp_path / "a.fits"
    path.write_bytes(image_header(**sky) + body())
    with open_product(path) as product:
        assert product.wcs is not None
    path.write_bytes(image_header(**sky | cards) + body())
    with open_product(path) as product:
        assert product.wcs is None and product.pixel_scale_arcsec is None
        assert product.read(0, 0, 40).shape == (40, 60)


def test_a_broken_card_beside_a_matrix_of_casa_does_not_end_the_process():
    # Complaints about its leading zeros filled the buffer of wcslib, which one more overran.
    header = sky_header(projection="SIN")
    header.update({f"PC{i:02}_{j:02}": float(i == j) for i in range(1, 5) for j in range(1, 5)})
    header["PC01_02"], header["PC02_01"] = 0.5, -0.5
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # no complaint at all
        assert np.array_equal(celestial(header).wcs.get_pc(), [[1, 0.5], [-0.5, 1]])
    header["LONPOLE"] = header["LATPOLE"] = header["SPECSYS"] = "text"
    assert [celestial(header) for _ in range(300)] == [None] * 300


def test_elements_of_a_matrix_in_all_spellings():
    for spelling in ("PC1_2", "PC01_02", "PC1_02", "PC001002"):
        header = sky_header(projection="SIN")
        header[spelling] = 0.25
        assert celestial(header).wcs.get_pc()[0, 1] == 0.25


@pytest.mark.parametrize("seed", range(20))
def test_numbers_reach_the_sky_to_the_last_bit(seed):
    rng = np.random.default_rng(seed)
    header = dict(sky_header(projection="SIN"))
    values = (rng.uniform(-80, 80, 2) * 10.0 ** rng.integers(-300, 1, 2)).tolist()
    header["CRVAL1"], header["CRVAL2"] = values
    assert celestial(header).wcs.crval.tolist() == values


@pytest.mark.filterwarnings("ignore")  # Astropy mends dates and finds fault with BLANK
def test_the_sky_is_that_of_the_whole_header_to_the_last_bit(shared_data):
    n_compared = 0
    for path in sorted((shared_data / "mosaics").rglob("*.fits")):
        header = fits.getheader(path)
        whole = WCS(header).sub([WCSSUB_LONGITUDE, WCSSUB_LATITUDE])
        ours = celestial(header)
        for x, y in ((0, 0), (100, 37)):
            assert np.array_equal(whole.wcs_pix2world(x, y, 0), ours.wcs_pix2world(x, y, 0))
        assert whole.wcs.radesys == ours.wcs.radesys
        assert whole.wcs.equinox == ours.wcs.equinox or np.isnan(ours.wcs.equinox)
        n_compared += 1
    assert n_compared > 15


def test_a_distortion_of_the_second_order_stays(tmp_path):
    header = sky_header(projection="TAN")
    header["CTYPE1"], header["CTYPE2"] = "RA---TAN-SIP", "DEC--TAN-SIP"
    header.update({"A_ORDER": 2, "B_ORDER": 2, "A_2_0": 1e-6, "B_0_2": 1e-6})
    with open_product(write(tmp_path / "a.fits", noise(40, 60), header)) as product:
        assert product.wcs is not None and product.wcs.sip is not None


@pytest.mark.parametrize("value", ["nan", "'never closed", "1.0.0", "\x7f"])
def test_a_broken_remark_does_not_cost_the_image(tmp_path, value):
    broken = ("BMAJ", "BUNIT", "RESTFRQ", "CTYPE3")
    cards = dict.fromkeys(broken, value) | {"BMIN": 0.001, "FREQ": 1.4e9}
    (tmp_path / "a.fits").write_bytes(image_header(**cards) + body())
    with open_product(tmp_path / "a.fits") as product:
        assert (product.beam_arcsec, product.frequency_hz) == (None, 1.4e9)
        assert product.read(0, 0, 40).shape == (40, 60)


@pytest.mark.parametrize("key", ["BSCALE", "BZERO", "BLANK", "CTYPE1"])
def test_a_broken_card_that_decides_pixels_does(tmp_path, key):
    (tmp_path / "a.fits").write_bytes(image_header(BITPIX=16, **{key: "nan"}) + body())
    assert refusal(tmp_path / "a.fits") == "unreadable"


def tiled(path, **cards):
    """A tile-compressed image, some cards of its table replaced as they stand."""
    hdu = fits.CompImageHDU(
        np.abs(100 * noise(40, 60)).astype("i2"), compression_type="RICE_1", tile_shape=(20, 20)
    )
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(path, overwrite=True)
    content = path.read_bytes()
    for key, value in cards.items():
        at = content.index(f"{key:8}= ".encode(), BLOCK)
        content = content[:at] + number(key, value).ljust(80).encode() + content[at + 80 :]
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("cards", "detail"),
    [
        ({"TFORM1": "'999999999B'"}, "columns of 999999999 bytes in rows of 8"),
        ({"TFORM1": "'1QB(9)'"}, "columns of 16 bytes in rows of 8"),
        ({"ZNAXIS1": 10**9, "ZNAXIS2": 10**9}, "6 tiles where its image has 2500000000000000"),
        ({"ZTILE1": 1, "ZTILE2": 1}, "6 tiles where its image has 2400"),
        ({"TFORM1": "'*'"}, "TFORM1"),
    ],
)
def test_tiles_that_do_not_fit_their_table(tmp_path, cards, detail):
    assert refusal(tiled(tmp_path / "a.fits", **cards)) == "unreadable"
    with pytest.raises(MalformedProductError, match=detail), open_product(tmp_path / "a.fits"):
        pass


@pytest.mark.parametrize("pair", [(2**31 - 1, 0), (-1, 0), (10, -4), (10, 2**31 - 1)])
def test_a_tile_that_does_not_lie_in_the_file(tmp_path, pair):
    # Astropy allocated 2 GB for it.
    path = tiled(tmp_path / "a.fits")
    content = path.read_bytes()
    with fits.open(path, disable_image_compression=True) as hdus:
        at = hdus[1].fileinfo()["datLoc"] + 8  # the descriptor of the second tile
    path.write_bytes(content[:at] + np.array(pair, ">i4").tobytes() + content[at + 8 :])
    assert refusal(path) == "unreadable"
    with pytest.raises(MalformedProductError, match="tile 1 does not lie in"), open_product(path):
        pass


def test_a_tile_that_is_a_gzip_bomb(tmp_path):
    hdu = fits.CompImageHDU(
        noise(40, 60), compression_type="GZIP_1", tile_shape=(40, 60), quantize_level=0
    )
    path = tmp_path / "a.fits"
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(path)
    bomb = gzip.compress(bytes(10**8))
    content = path.read_bytes()
    with fits.open(path, disable_image_compression=True) as hdus:
        assert len(hdus[1].data) == 1
        at = hdus[1].fileinfo()["datLoc"]
        n_row = hdus[1].header["NAXIS1"]
        form = content.index(b"PCOUNT  = ")
    descriptor = np.array([len(bomb), 0], ">i4").tobytes()
    rows = descriptor + content[at + 8 : at + n_row]
    pcount = number("PCOUNT", len(bomb)).ljust(80).encode()
    path.write_bytes(content[:form] + pcount + content[form + 80 : at] + rows + bomb + bytes(BLOCK))
    assert refusal(path, memory_mb=50) == "too_large"


def test_tiles_that_cannot_hold_so_many_pixels(tmp_path):
    side = 10**5
    path = tiled(tmp_path / "a.fits", ZNAXIS1=3 * side, ZNAXIS2=2 * side, ZTILE1=side, ZTILE2=side)
    assert refusal(path, memory_mb=10**6) == "truncated"


@pytest.mark.parametrize("key", ["LONPOLE", "CROTA2", "CRVAL1"])
@pytest.mark.parametrize("value", ["NaN", "'never closed", "1.0.0"])
def test_a_cutout_with_a_broken_card_has_no_position(tmp_path, key, value):
    cards = [
        number("SIMPLE", "T"), number("BITPIX", -32), number("NAXIS", 2), number("NAXIS1", 60),
        number("NAXIS2", 40), number("CTYPE1", "'RA---SIN'"), number("CTYPE2", "'DEC--SIN'"),
        number(key, value),
    ]  # fmt: skip
    (tmp_path / "a.fits").write_bytes(raw_header(*cards) + body())
    reason = check_image(tmp_path / "a.fits", (150, 2), None)
    assert reason is not None and reason.startswith(("no position: ", "damaged FITS: "))


def test_a_cutout_as_wide_as_true_is_no_image(tmp_path):
    (tmp_path / "a.fits").write_bytes(image_header(NAXIS1="T") + body())
    assert (
        check_image(tmp_path / "a.fits", (150, 2), None) == "not one image: its axes are [True, 40]"
    )


def test_a_cutout_full_of_broken_cards_is_refused_without_a_warning_for_each(tmp_path):
    junk = [f"\x7f{n}=" for n in range(30)]
    header = raw_header(number("SIMPLE", "T"), *junk, number("BITPIX", "what?"))
    (tmp_path / "a.fits").write_bytes(header + body())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert str(check_image(tmp_path / "a.fits", (150, 2), None)).startswith("damaged FITS")
    assert caught == []


def test_one_bad_file_among_good_ones_is_counted_and_the_rest_is_cut(tmp_path):
    folder = tmp_path / "files"
    folder.mkdir()
    for name in "xyz":
        write(folder / f"{name}.fits", noise(40, 60, seed=ord(name)), sky_header())
    (folder / "bad.fits").write_bytes(image_header(NAXIS1=10**9, NAXIS2=10**9) + body())
    (folder / "cut short.fits").write_bytes((folder / "x.fits").read_bytes()[:-BLOCK])
    survey = LocalSurvey(source="local", files=(f"{folder}/*",), parts=1)
    make_manifest("mine", survey, tmp_path / "m.csv")
    acquire_part("mine", survey, tmp_path / "m.csv", 0, tmp_path / "0.csv")
    settings = CutoutSettings(size_px=20, memory_mb=64)
    cut_part("mine", survey, settings, tmp_path / "0.csv", tmp_path / "0.h5")
    shard = Shard(tmp_path / "0.h5")
    assert shard.attribute("skipped") == {"truncated": 2}
    names = [name for name, _ in shard.products()]
    counts = Counter(names[product][0] for product in shard.column("product"))
    # A product that ends early gives nothing, also not what lies before its end.
    assert counts == {"x": 6, "y": 6, "z": 6}
    assert shard.attribute("dropped") == {}
