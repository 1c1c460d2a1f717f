"""The search on real images whose truth is known: overlaps, copies, and look-alikes."""

import csv
import re
from functools import cache
from itertools import combinations, product
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from PIL import Image

from stradavit.cutouts.duplicates import find_duplicates
from stradavit.cutouts.landmarks import orient
from stradavit.cutouts.sky import close_pairs
from stradavit.cutouts.zscale import limits, scale
from stradavit.settings.duplicates import DuplicateSettings

from .test_duplicates import ImageList

USUAL = DuplicateSettings()
MIRABEST_NAME = re.compile(r"(\d{3})_([\d.]+)_([+-][\d.]+)\.png")


@cache
def picture(path: Path) -> np.ndarray:
    with Image.open(path) as opened:
        return np.asarray(opened.convert("L"), np.float32) / 255


def search(images, settings=USUAL):
    return find_duplicates(ImageList(images), settings)


def tiles(mosaic, size_px, y0, x0):
    """Stretched tiles of a grid that begins at (y0, x0), by their first pixel."""
    starts = product(range(y0, 1001 - size_px, size_px), range(x0, 1001 - size_px, size_px))
    found = {}
    for y, x in starts:
        tile = mosaic[y : y + size_px, x : x + size_px].astype(np.float32)
        found[y, x] = scale(tile, *limits(tile, "zscale"))
    return found


@pytest.mark.parametrize("size_px", [100, 150, 250])
@pytest.mark.parametrize("grid", [(0, 0), (37, 81), (11, 59)])
def test_content_finds_the_true_overlap_of_two_mosaics(shared_data, size_px, grid):
    # Their headers claim the same sky. In truth Extended[0:199, 299:1000] is S17[801:1000, 0:701].
    folder = shared_data / "mosaics" / "atca"
    extended = tiles(fits.getdata(folder / "ScorpioExtendedSourceField.fits"), size_px, 0, 0)
    other = tiles(fits.getdata(folder / "ScorpioS17Field.fits"), size_px, *grid)
    common, claimed = {}, set()
    for (i, (y, x)), (j, (v, u)) in product(enumerate(extended), enumerate(other, len(extended))):
        height = min(y, v - 801) + size_px - max(y, v - 801, 0)
        width = min(x, u + 299) + size_px - max(x, u + 299, 299)
        common[i, j] = max(0, height) * max(0, width) / size_px**2
        if abs(y - v) < size_px / 2 and abs(x - u) < size_px / 2:
            claimed.add((i, j))
    found = search([*extended.values(), *other.values()]).pairs
    pairs = {(d.first, d.second): d.overlap for d in found}
    assert all(common[pair] == pytest.approx(overlap) for pair, overlap in pairs.items())
    assert {pair for pair, share in common.items() if share > 0.3} <= set(pairs)
    # What the headers claim to be one place is not.
    assert claimed and not claimed & set(pairs)


def test_copies_in_ssdd_are_found_under_their_names(shared_data):
    paths = sorted((shared_data / "sar" / "ssdd" / "JPEGImages").rglob("*.jpg"))
    images = [picture(path) for path in paths if path.stem < "000240" or path.stem > "000600"]
    names = [path.stem for path in paths if path.stem < "000240" or path.stem > "000600"]
    images.append(picture(next(path for path in paths if path.stem == "000389")))
    names.append("000389")
    found = search(images).pairs
    exact = {tuple(sorted((names[d.first], names[d.second]))) for d in found if d.similarity == 1}
    assert exact == {
        ("000001", "000093"),
        ("000033", "000389"),
        ("000033", "000637"),
        ("000389", "000637"),
    }
    # Chips of one scene overlap; they have neighbouring numbers, the official test set among them.
    near = [d for d in found if d.similarity < 1]
    assert len(near) > 10 and min(d.elements for d in near) > 100


def test_mirabest_has_copies_of_nothing_but_zeros(shared_data):
    paths = sorted((shared_data / "benchmarks" / "mirabest" / "png").rglob("*.png"))
    images = [picture(path) for path in paths]
    assert len(images) == 792
    empty = [k for k, image in enumerate(images) if image.max() == 0]
    # Copies planted among these look-alikes, dimmed, turned and rounded anew.
    draw = np.random.default_rng(0)
    chosen = draw.choice(np.setdiff1d(range(792), empty), 150, replace=False)
    turns = draw.integers(0, 8, len(chosen)).tolist()
    copies = [
        np.rint(orient(images[k], turn) * 0.6 * 255) / 255
        for k, turn in zip(chosen, turns, strict=True)
    ]
    result = search([*images, *copies])
    found = {(d.first, d.second) for d in result.pairs}
    planted = {(int(k), 792 + n) for n, k in enumerate(chosen)}
    assert found - planted == set(combinations(empty, 2)) and len(empty) == 6
    assert {pair for pair in planted if result.elements[pair[0]] > 5} <= found


def first_images(shared_data):
    folder = shared_data / "benchmarks" / "first-radio-galaxies"
    with (folder / "labels.csv").open(newline="") as opened:
        rows = list(csv.DictReader(opened))
    positions = np.array([(float(row["ra_deg"]), float(row["dec_deg"])) for row in rows])
    return [folder / row["filename"] for row in rows], positions


def separations(positions, arcsec):
    return {
        (int(i), int(j)): float(separation)
        for block in close_pairs(positions, arcsec)
        for i, j, separation in zip(*block, strict=True)
    }


@pytest.mark.slow
def test_what_looks_alike_in_first_is_near_on_the_sky(shared_data):
    paths, positions = first_images(shared_data)
    # Each image shows 540 arcsec. No two are of one source; 27 pairs show one as a neighbour.
    assert separations(positions, 10.0) == {}
    near = separations(positions, 540.0)
    found = {(d.first, d.second): d for d in search([picture(path) for path in paths]).pairs}
    assert set(found) <= set(near)
    overlapping = {pair for pair, arcsec in near.items() if arcsec < 270}
    assert len(overlapping) == 27 and len(overlapping & set(found)) >= 20
    for pair, duplicate in found.items():
        # Sides of the fields are along the meridian, so a shift of d leaves (1 - dx)(1 - dy).
        ra, dec = np.abs(positions[pair[0]] - positions[pair[1]]) * 3600 / 540
        expected = (1 - ra * np.cos(np.radians(positions[pair[0], 1]))) * (1 - dec)
        assert duplicate.overlap == pytest.approx(expected, abs=0.02)


@pytest.mark.slow
def test_the_same_sources_in_two_sets_are_told_from_others(shared_data):
    # MiraBest's sources are in the FIRST set too, but clipped otherwise: of many nothing but the
    # brightest pixels agrees. None of the others may be taken for them.
    paths, positions = first_images(shared_data)
    chosen = [k for k, path in enumerate(paths) if path.stem.endswith("MiraBest")][::3]
    images = [picture(paths[k])[75:225, 75:225] for k in chosen]
    places = [positions[k] for k in chosen]
    for path in sorted((shared_data / "benchmarks" / "mirabest" / "png").rglob("*.png")):
        name = MIRABEST_NAME.fullmatch(path.name)
        if picture(path).max() > 0:
            images.append(picture(path))
            places.append(np.array([float(name[2]), float(name[3])]))
    near = separations(np.array(places), 540.0)
    found = {(d.first, d.second) for d in search(images).pairs}
    assert found <= set(near)
    same = {pair for pair, arcsec in near.items() if arcsec < 10}
    assert len(same) > 200 and len(found & same) > len(same) / 8
