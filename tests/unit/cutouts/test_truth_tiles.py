"""Boxes from truth: their place, shape and brightness, borders, and splits that share no source."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from stradavit.acquire.manifest import Acquired, write_ledger
from stradavit.acquire.simulated.surveys import draw_product
from stradavit.acquire.truth_catalogue import read_truth
from stradavit.acquire.truth_sources import truth_sources
from stradavit.cutouts.fits import open_product
from stradavit.cutouts.quantise import restore
from stradavit.cutouts.shards import Shard
from stradavit.cutouts.stages import cut_part
from stradavit.cutouts.truth_boxes import ProductSky, truth_boxes
from stradavit.cutouts.truth_tiles import KINDS, truth_scenes
from stradavit.errors import DataError
from stradavit.files import sha256_of
from stradavit.settings import CutoutSettings
from stradavit.settings.detection import TruthSet
from stradavit.settings.sources import LocalSurvey
from tests.unit.cutouts.fake_fits import write

SIZE = 32
SCALE, BEAM = 1.0, 2.5


def block(**changes):
    return TruthSet(**{"source": "truth", "table": "radio", "survey": "sky", **changes})


def header(shape, scale=SCALE, centre=(0.05, -30.0)):
    """North up, in the field of the challenge, across the wrap of right ascension."""
    cards = {"BMAJ": BEAM / 3600, "BMIN": BEAM / 3600, "BUNIT": "JY/BEAM"}
    for axis, kind, value, side, sign in ((1, "RA--", 0, 1, -1), (2, "DEC-", 1, 0, 1)):
        cards |= {f"CTYPE{axis}": f"{kind}-SIN", f"CRVAL{axis}": centre[value]}
        cards |= {f"CRPIX{axis}": (shape[side] + 1) / 2, f"CDELT{axis}": sign * scale / 3600}
    return fits.Header(cards)


# x, y in pixels, flux, b_maj, b_min, pa, size, class
POINT = (0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 2, 3)


def source(x, y, **changes):
    names = ("x", "y", "flux", "b_maj", "b_min", "pa", "size", "class")
    row = dict(zip(names, POINT, strict=True)) | {"x": x, "y": y} | changes
    return [row[name] for name in names]


def scene_set(folder, sources, shape=(4 * SIZE, 3 * SIZE), name="p", draw=True, cards=None):
    """A product with noise of 0.01 Jy/beam and the sources of a catalogue, and what it consists of.

    Every catalogue has a faint source in each corner, so that its area is all of the product.
    """
    ny, nx = shape
    edge = [(x, y) for x in (0, nx - 1) for y in (0, ny - 1)]
    sources = [*sources, *(source(x, y, flux=1e-6) for x, y in edge)]
    data = np.random.default_rng(5).normal(0, 0.01, shape)
    y, x = np.indices(shape)
    for x0, y0, flux, *_ in sources if draw else ():
        data += flux * np.exp(-4 * np.log(2) * ((x - x0) ** 2 + (y - y0) ** 2) / BEAM**2)
    path = write(folder / f"{name}.fits", data.astype(np.float32), cards or header(shape))
    with open_product(path) as product:
        sky = ProductSky(product, name)
    lines = []
    for number, (x0, y0, *rest) in enumerate(sources):
        ra, dec = (float(v[0]) for v in sky.to_sky(np.array([x0]), np.array([y0])))
        flux, b_maj, b_min, pa, size, kind = rest
        lines.append(
            f"{number} {ra:.9f} {dec:.9f} {ra:.9f} {dec:.9f} {flux} 0 {b_maj} {b_min} {pa} {size} "
            f"{kind}"
        )
    (folder / f"{name}.txt").write_text("\n".join(lines) + "\n")
    row = Acquired(name, path, sha256_of(path), path.stat().st_size)
    return row, folder / f"{name}.txt"


def cut_set(folder, *products, **changes):
    write_ledger(folder / "0.csv", [row for row, _ in products])
    chosen = block(truth={row.product: str(truth) for row, truth in products}, **changes)
    found = truth_sources("x", chosen, folder / "sources.json", [folder / "0.csv"])
    classes, scenes, counts = truth_scenes(chosen, CutoutSettings(size_px=SIZE), found)
    return classes, {scene.name: scene for scene in scenes}, counts


# -- boxes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "sides"),
    [
        ({}, (4, 4)),  # a point has the beam's width, but no box is below min_box_px
        ({"b_maj": 12, "b_min": 5}, (np.hypot(12, BEAM), np.hypot(5, BEAM))),
        ({"b_maj": 12, "b_min": 5, "pa": 90}, (np.hypot(5, BEAM), np.hypot(12, BEAM))),
        ({"b_maj": 12, "b_min": 0, "pa": 45}, (np.sqrt(72 + BEAM**2),) * 2),
        ({"b_maj": 12, "b_min": 5, "size": 1}, (np.hypot(12, BEAM), np.hypot(5, BEAM))),
        ({"b_maj": 6, "b_min": 4, "size": 3}, (np.sqrt(72 + BEAM**2), np.sqrt(32 + BEAM**2))),
    ],
)
def test_a_box_is_that_of_the_convolved_ellipse(tmp_path, changes, sides):
    row, truth = scene_set(tmp_path, [source(40.0, 50.0, **changes)])
    with open_product(row.path) as product:
        sky = ProductSky(product, "p")
    (box,) = truth_boxes(read_truth(truth)[:1], sky, 4.0)
    wide, high = sides
    expected = [40.5 - wide / 2, 50.5 - high / 2, 40.5 + wide / 2, 50.5 + high / 2]
    np.testing.assert_allclose(box, expected, atol=2e-3)


def test_an_ellipse_turns_clockwise_also_in_a_turned_image(tmp_path):
    # By 30 deg from the longitude, and the image itself by 30 deg the other way.
    shape = (4 * SIZE, 3 * SIZE)
    turned = header(shape)
    cos, sin = np.cos(np.radians(30)), np.sin(np.radians(30))
    turned.update({"PC1_1": cos, "PC1_2": -sin, "PC2_1": sin, "PC2_2": cos})
    row, truth = scene_set(
        tmp_path, [source(40, 50, b_maj=30, b_min=0, pa=30)], shape, cards=turned
    )
    with open_product(row.path) as product:
        sky = ProductSky(product, "p")
    (box,) = truth_boxes(read_truth(truth)[:1], sky, 4.0)
    # The end of the major axis, 15 arcsec away: on the sky by the clockwise rule, then by the WCS.
    ra, dec = (float(v[0]) for v in sky.to_sky(np.array([40.0]), np.array([50.0])))
    east, north = 15 * np.cos(np.radians(30)) / 3600, 15 * np.sin(np.radians(30)) / 3600
    x, y = sky.to_pixels(np.array([ra + east / np.cos(np.radians(dec))]), np.array([dec + north]))
    ends = np.abs([x[0] - 40, y[0] - 50])
    np.testing.assert_allclose((box[2:] - box[:2]) / 2, np.hypot(ends, BEAM / 2), atol=0.02)


def test_pixels_and_places_are_those_of_the_survey(tmp_path):
    row, truth = scene_set(tmp_path, [source(40, 50)])
    _, scenes, counts = cut_set(tmp_path, (row, truth))
    survey = LocalSurvey(source="local", files=("*",))
    cut_part("sky", survey, CutoutSettings(size_px=SIZE), tmp_path / "0.csv", tmp_path / "0.h5")
    shard = Shard(tmp_path / "0.h5")
    rows = shard.rows()
    pixels = restore(shard.read(np.arange(len(shard)), rows["checksum"]))
    assert counts["images"] == {"test": 3, "val": 3, "train": 6} and len(rows) == len(scenes) == 12
    for scene, line, image in zip(scenes.values(), rows, pixels, strict=True):
        assert scene.name == f"p/y{line['y0']}x{line['x0']}" and scene.product == "p"
        assert np.array_equal(restore(scene.levels), image)
        assert (scene.y0, scene.x0) == (line["y0"], line["x0"])
        assert (scene.low, scene.high) == (line["low"], line["high"])
        assert scene.sky == (line["ra_deg"], line["dec_deg"], line["radius_arcsec"])


def test_rows_are_divided_in_bands_test_first(tmp_path):
    row, truth = scene_set(tmp_path, [source(40, 50)], (8 * SIZE, 2 * SIZE))
    _, scenes, _ = cut_set(tmp_path, (row, truth), test_fraction=0.25, val_fraction=0.125)
    by_row = {scene.y0 // SIZE: scene.split for scene in scenes.values()}
    assert [by_row[n] for n in range(8)] == ["test"] * 2 + ["val"] + ["train"] * 5
    _, scenes, _ = cut_set(tmp_path, (row, truth), test_fraction=0.6, val_fraction=0)
    assert Counter(scene.split for scene in scenes.values()) == {"test": 10, "train": 6}


# -- which sources --------------------------------------------------------------------------------


def test_faint_sources_get_no_box(tmp_path):
    # Noise is 0.01: a peak of 0.03 is below five times that, one of 0.08 above.
    sources = [source(10, 50, flux=0.03), source(50, 50, flux=0.08)]
    _, scenes, counts = cut_set(tmp_path, scene_set(tmp_path, sources))
    assert [one for scene in scenes.values() for one in scene.sources] == ["p/1"]
    assert counts["sources"]["boxes"] == 1 and counts["sources"]["faint"] == 1 + 4


def test_a_wide_source_is_fainter_than_its_flux(tmp_path):
    # 0.2 Jy over (10² + 2.5²) / 2.5² = 17 beams; of a largest angular size all may be in a spot.
    wide = {"flux": 0.2, "b_maj": 10, "b_min": 10}
    sources = [source(16, 48, **wide), source(48, 48, **wide, size=1)]
    _, scenes, _ = cut_set(tmp_path, scene_set(tmp_path, sources))
    assert [one for scene in scenes.values() for one in scene.sources] == ["p/1"]


def test_what_the_image_does_not_show_gets_no_box(tmp_path):
    # As behind a primary beam: the catalogue's flux is far above the noise, the pixels are not.
    _, _, counts = cut_set(tmp_path, scene_set(tmp_path, [source(48, 48)], draw=False))
    assert counts["sources"].get("boxes", 0) == 0 and counts["sources"]["faint"] == 5


def test_classes_are_one_or_the_challenge_s_three(tmp_path):
    sources = [source(16 + 32 * n, 80, **{"class": n + 1}) for n in range(3)]
    products = scene_set(tmp_path, sources)

    def labels(**changes):
        classes, scenes, counts = cut_set(tmp_path, products, **changes)
        found = {s: int(label) for scene in scenes.values()
                 for s, label in zip(scene.sources, scene.labels, strict=True)}  # fmt: skip
        return classes, found, counts["sources"].get("other_class", 0)

    assert labels() == (("source",), {"p/0": 0, "p/1": 0, "p/2": 0}, 0)
    assert labels(labels="class") == (KINDS, {"p/0": 0, "p/1": 1, "p/2": 2}, 0)
    chosen = (KINDS[2], KINDS[0])
    assert labels(labels="class", classes=chosen) == (chosen, {"p/0": 1, "p/2": 0}, 1)
    with pytest.raises(
        DataError, match=r"has no class 'galaxy'; with labels: source .* are source"
    ):
        labels(classes=("galaxy",))


# -- borders --------------------------------------------------------------------------------------


def test_a_box_is_clipped_where_its_centre_lies_and_ignored_beyond(tmp_path):
    # Rows 2 and 3 are both for training; the centre lies left of x = 32 and above y = 96.
    _, scenes, counts = cut_set(tmp_path, scene_set(tmp_path, [source(31, 96)]))
    box = (31.5 - 2, 96.5 - 2, 31.5 + 2, 96.5 + 2)
    found = {name: scene for name, scene in scenes.items() if len(scene.boxes)}
    assert {name: scene.is_crowd.tolist() for name, scene in found.items()} == {
        "p/y64x0": [True], "p/y64x32": [True], "p/y96x0": [False], "p/y96x32": [True],
    }  # fmt: skip
    for scene in found.values():
        moved = np.array(box) - [scene.x0, scene.y0, scene.x0, scene.y0]
        np.testing.assert_allclose(scene.boxes[0], np.clip(moved, 0, SIZE), atol=1e-3)
        assert scene.sources == ("p/0",)
    assert counts["sources"]["clipped"] == 1 and counts["sources"]["ignored"] == 3


def test_a_source_between_two_splits_is_ignored_everywhere(tmp_path):
    # Row 0 is for testing, row 1 for validation.
    _, scenes, counts = cut_set(tmp_path, scene_set(tmp_path, [source(48, 31)]))
    found = {name: scene.is_crowd.tolist() for name, scene in scenes.items() if len(scene.boxes)}
    assert found == {"p/y0x32": [True], "p/y32x32": [True]}
    fates = {"outside": 0, "on_dropped": 0, "faint": 4, "shared_by_splits": 1}
    assert counts["sources"] == fates | {"clipped": 0, "ignored": 2}


def test_a_source_on_no_kept_cutout_is_only_ignored(tmp_path):
    row, truth = scene_set(tmp_path, [source(31, 110), source(97, 112)], (4 * SIZE, 100))
    data = fits.getdata(row.path).copy()
    data[100, 5] = np.nan
    (tmp_path / "p.fits").unlink()
    write(tmp_path / "p.fits", data, header((4 * SIZE, 100)))
    row = Acquired("p", row.path, sha256_of(row.path), row.path.stat().st_size)
    _, scenes, counts = cut_set(tmp_path, (row, truth))
    assert "p/y96x0" not in scenes and counts["dropped"] == {"non_finite": 1}
    found = {name: (scene.sources, scene.is_crowd.tolist())
             for name, scene in scenes.items() if len(scene.boxes)}  # fmt: skip
    assert found == {"p/y96x32": (("p/0",), [True]), "p/y96x64": (("p/1",), [True])}
    # In corners, beyond the last whole cutout, are two of the faint ones.
    assert counts["sources"]["on_dropped"] == 2 and counts["sources"]["outside"] == 3


def test_cutouts_off_the_area_of_a_catalogue_are_dropped(tmp_path):
    # A training catalogue is of a part of the field: elsewhere are sources without a box.
    row, truth = scene_set(tmp_path, [], (6 * SIZE, 6 * SIZE))
    places = np.random.default_rng(0).uniform(0, 3 * SIZE, (200, 2))
    with open_product(row.path) as product:
        ra, dec = ProductSky(product, "p").to_sky(*places.T)
    lines = [f"{n} {a} {d} {a} {d} 1 0 0 0 0 2 3" for n, (a, d) in enumerate(zip(ra, dec))]  # noqa: B905
    truth.write_text("\n".join(lines))
    _, scenes, counts = cut_set(tmp_path, (row, truth))
    assert {(scene.y0, scene.x0) for scene in scenes.values()} == {
        (y, x) for y in range(0, 96, SIZE) for x in range(0, 96, SIZE)
    }
    assert counts["dropped"] == {"no_truth": 27}
    assert counts["images"] == {"test": 3, "val": 3, "train": 3}


def test_no_source_is_learned_and_scored(tmp_path):
    for seed in range(4):
        folder = tmp_path / str(seed)
        path = draw_product("sdc1", seed, 256, seed, folder)
        row = Acquired(path.stem, path, sha256_of(path), path.stat().st_size)
        _, scenes, counts = cut_set(folder, (row, path.with_suffix(".truth.csv")))
        assert counts["sources"]["shared_by_splits"] > 0
        check_splits(scenes.values(), counts)
        n_sources = len(read_truth(path.with_suffix(".truth.csv")))
        fates = ("outside", "on_dropped", "faint", "other_class", "shared_by_splits", "boxes")
        assert sum(counts["sources"].get(fate, 0) for fate in fates) == n_sources


def check_splits(scenes, counts):
    """A labelled source has one cutout, and no part of its box in another split."""
    labelled, seen = Counter(), {}
    for scene in scenes:
        for one, crowd in zip(scene.sources, scene.is_crowd, strict=True):
            seen.setdefault(one, set()).add(scene.split)
            labelled[one] += not crowd
    assert set(labelled.values()) <= {0, 1}
    assert labelled.total() == counts["sources"]["boxes"]
    assert all(len(seen[one]) == 1 for one, n in labelled.items() if n)


def test_real_pixels_have_their_published_sources(tmp_path, shared_data):
    path = shared_data / "mosaics" / "ska-sdc1" / "test_B1_1000h.fits"
    truth = shared_data / "catalogues" / "sdc1" / "TrainingSet_B1_v2_ML.txt"
    row = Acquired("crop", path, sha256_of(path), path.stat().st_size)
    with open_product(path) as product:
        sky, shape = ProductSky(product, "crop"), product.shape
        pixels = product.read(0, 0, shape[0])
    rows = read_truth(truth)
    rows = rows[sky.is_near(rows)]
    x, y = sky.to_pixels(rows["ra_cent"], rows["dec_cent"])
    on = (x > -0.5) & (x < shape[1] - 0.5) & (y > -0.5) & (y < shape[0] - 0.5)
    assert on.sum() == 49
    assert np.unravel_index(pixels.argmax(), shape) == (17, 107)
    _, scenes, counts = cut_set(tmp_path, (row, truth))
    scene = scenes["crop/y0x96"]
    box = scene.boxes[scene.sources.index("crop/30377710")]
    assert box[0] < 107.5 - 96 < box[2] and box[1] < 17.5 < box[3]
    check_splits(scenes.values(), counts)
    # Most of what was put in is seen at five times the noise.
    assert counts["sources"]["boxes"] + counts["sources"].get("shared_by_splits", 0) > 35


# -- refused --------------------------------------------------------------------------------------


def test_products_on_one_sky_are_refused(tmp_path):
    one = scene_set(tmp_path, [source(40, 50)], name="one")
    # Half a product away, as another band of the same field would be.
    shape = (4 * SIZE, 3 * SIZE)
    other = scene_set(tmp_path, [], shape, "other", cards=header(shape, centre=(0.06, -30.0)))
    with pytest.raises(DataError, match="one and other: show the same sky"):
        cut_set(tmp_path, one, other)
    apart = scene_set(tmp_path, [], shape, "apart", cards=header(shape, centre=(0.1, -30.0)))
    _, scenes, counts = cut_set(tmp_path, one, apart)
    assert counts["products"] == 2 and len(scenes) == 24


def test_what_cannot_be_divided_or_placed_is_refused(tmp_path):
    low = scene_set(tmp_path, [], (2 * SIZE, 3 * SIZE), "low")
    with pytest.raises(DataError, match=r"low: has 2 rows of cutouts .* expected at least 3"):
        cut_set(tmp_path, low)
    assert cut_set(tmp_path, low, val_fraction=0)[2]["images"] == {"test": 3, "train": 3}
    row, truth = scene_set(tmp_path, [], name="far")
    truth.write_text("1 180 30 180 30 1 0 1 1 0 2 3\n")
    with pytest.raises(DataError, match=r"far.txt: none of its 1 sources lies on the product"):
        cut_set(tmp_path, (row, truth))
    for name, missing, message in (
        ("dark", ["CTYPE1", "CTYPE2"], "dark: its header has no right ascension"),
        ("sharp", ["BMAJ"], "sharp: its header has no beam"),
    ):
        row, truth = scene_set(tmp_path, [], name=name)
        data, cards = fits.getdata(row.path, header=True)
        for key in missing:
            del cards[key]
        row.path.unlink()
        write(row.path, data, cards)
        row = Acquired(name, row.path, sha256_of(row.path), row.path.stat().st_size)
        with pytest.raises(DataError, match=message):
            cut_set(tmp_path, (row, truth))


def test_files_that_changed_are_noticed(tmp_path):
    row, truth = scene_set(tmp_path, [source(40, 50)])
    write_ledger(tmp_path / "0.csv", [row])
    chosen = block(truth={"p": str(truth)})
    found = truth_sources("x", chosen, tmp_path / "s.json", [tmp_path / "0.csv"])
    cutouts = CutoutSettings(size_px=SIZE)
    truth.write_text(truth.read_text() + "\n")
    with pytest.raises(DataError, match=r"p.txt: is not the truth catalogue it was"):
        truth_scenes(chosen, cutouts, found)
    Path(row.path).unlink()
    with pytest.raises(DataError, match=r"p.fits: is not the file of \d+ bytes it was"):
        truth_scenes(chosen, cutouts, found)


def test_unreadable_products_are_skipped_and_counted(tmp_path):
    good = scene_set(tmp_path, [source(40, 50)])
    page = tmp_path / "page.fits"
    page.write_text("<html>")
    bad = (Acquired("page", page, sha256_of(page), page.stat().st_size), good[1])
    _, scenes, counts = cut_set(tmp_path, good, bad)
    assert counts["skipped"] == {"unknown_format": 1} and counts["products"] == 1
    assert len(scenes) == 12
