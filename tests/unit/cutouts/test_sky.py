"""Footprints and the overlap guard against brute force, at the poles and where RA wraps, too."""

import time

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.wcs import WCS

from stradavit.cutouts import sky as sky_module
from stradavit.cutouts.sky import (
    Footprints,
    angle,
    circles,
    close_pairs,
    distance,
    footprints,
    near,
    unit_vectors,
)
from tests.reference.sky_guard import nearest_arcmin
from tests.unit.cutouts.fake_fits import sky_header

PLACES = [(150, 2), (0.02, -30), (359.99, 45), (77, 89.9), (10, -90), (200, 90), (-101.15, 60)]


def wcs_at(ra_deg, dec_deg, projection="TAN", rotation_deg=0.0):
    header = sky_header(ra_deg, dec_deg, shape=(128, 128), projection=projection)
    cos, sin = np.cos(np.radians(rotation_deg)), np.sin(np.radians(rotation_deg))
    header["PC1_1"], header["PC1_2"], header["PC2_1"], header["PC2_2"] = cos, -sin, sin, cos
    return WCS(header)


def random_positions(rng, ra_deg, dec_deg, n):
    """Positions within 6 arcmin or so of a place."""
    place = SkyCoord(ra_deg, dec_deg, unit="deg")
    found = place.directional_offset_by(
        rng.uniform(0, 360, n) * place.ra.unit, rng.uniform(0, 0.1, n) * place.ra.unit
    )
    return np.stack([found.ra.deg, found.dec.deg], axis=-1)


@pytest.mark.parametrize("projection", ["TAN", "SIN"])
@pytest.mark.parametrize(("ra_deg", "dec_deg"), PLACES)
def test_guard_against_brute_force(ra_deg, dec_deg, projection):
    rng = np.random.default_rng(int(abs(dec_deg)))
    wcs = wcs_at(ra_deg, dec_deg, projection, rotation_deg=rng.uniform(0, 360))
    corners = [(y0, x0) for y0 in (0, 32, 96) for x0 in (0, 64, 96)]
    sky = footprints(wcs, corners, 32)
    for position in random_positions(rng, ra_deg, dec_deg, 5):
        expected = np.array([nearest_arcmin(wcs, y0, x0, 32, position) for y0, x0 in corners])
        for guard_arcmin in (0.05, 0.5, 2.0):
            found = near(sky, position[None], guard_arcmin)
            # The grid of the reference has a spacing of 0.013 arcmin.
            clear = np.abs(expected - guard_arcmin) > 0.02
            np.testing.assert_array_equal(found[clear], (expected < guard_arcmin)[clear])


def test_footprint_is_that_of_the_pixels():
    wcs = wcs_at(359.999, 20)
    sky = footprints(wcs, [(0, 0), (64, 64)], 64)
    assert sky.is_known.all()
    expected = wcs.pixel_to_world(31.5, 31.5)
    np.testing.assert_allclose(sky.centres[0], [expected.ra.deg, expected.dec.deg])
    for corner, (x, y) in zip(
        sky.corners[1], [(63.5, 63.5), (127.5, 63.5), (127.5, 127.5), (63.5, 127.5)], strict=True
    ):
        expected = wcs.pixel_to_world(x, y)
        np.testing.assert_allclose(corner, [expected.ra.deg, expected.dec.deg])
    assert sky.radius_arcsec[0] == pytest.approx(64 * 2 / np.sqrt(2), rel=1e-3)


def test_other_frames_become_icrs():
    centre = SkyCoord(l=33.0, b=-5.0, unit="deg", frame="galactic")
    header = sky_header(33.0, -5.0, shape=(64, 64))
    header["CTYPE1"], header["CTYPE2"] = "GLON-SIN", "GLAT-SIN"
    found = footprints(WCS(header), [(0, 0)], 64).centres[0]
    np.testing.assert_allclose(found, [centre.icrs.ra.deg, centre.icrs.dec.deg])
    header = sky_header(150.0, 2.0, shape=(64, 64))
    header["EQUINOX"] = 1950.0
    found = SkyCoord(*footprints(WCS(header), [(0, 0)], 64).centres[0], unit="deg")
    assert found.separation(SkyCoord(150.0, 2.0, unit="deg")).deg > 0.5


def test_unknown_sky():
    assert not footprints(None, [(0, 0), (0, 9)], 9).is_known.any()
    header = sky_header(scale_arcsec=3600.0, shape=(200, 200))  # the sphere ends inside the image
    known = footprints(WCS(header), [(0, 0), (75, 75)], 50).is_known
    assert known.tolist() == [False, True]
    header = sky_header()
    header["CTYPE1"], header["CTYPE2"] = "HPLN-TAN", "HPLT-TAN"  # the Sun
    assert not footprints(WCS(header), [(0, 0)], 9).is_known.any()
    sky = footprints(None, [(0, 0)], 9)
    assert not near(sky, np.array([[0.0, 0.0]]), 1e4).any()


def test_positions_without_value_are_left_out():
    sky = footprints(wcs_at(10, 10), [(0, 0)], 128)
    assert not near(sky, np.array([[np.nan, np.nan]]), 5.0).any()
    assert near(sky, np.array([[np.nan, 1.0], [10.0, 10.0]]), 5.0).all()


def test_circles():
    sky = circles(np.array([[0.0, 90.0], [180.0, 0.0], [np.nan, 0.0]]), np.array([60.0, 0, 0]))
    position = np.array([[123.0, 90 - 2.5 / 60], [-180.0, 1 / 60]])
    assert near(sky, position, 1.4).tolist() == [False, True, False]
    assert near(sky, position, 1.6).tolist() == [True, True, False]


def test_whole_sky_and_repeated_corners():
    wide = Footprints(
        np.array([[0.0, 0.0]]),
        np.array([[[90.0, 45], [270, 45], [270, -45], [90, -45.0]]]),
        np.array([95.0 * 3600]),
    )
    assert near(wide, np.array([[20.0, -60.0]]), 1.0).all()
    triangle = np.array([[[0.0, 90], [0, 90], [0, 89], [90, 89.0]]])
    sky = Footprints(np.array([[45.0, 89.5]]), triangle, np.array([2 * 3600.0]))
    assert near(sky, np.array([[40.0, 89.8]]), 0.1).all()
    assert not near(sky, np.array([[200.0, 89.9]]), 0.1).any()


def test_the_antipode_of_the_inside_is_far_away():
    corners = unit_vectors(np.array([[[-1.0, -1], [1, -1], [1, 1], [-1, 1]]]))
    centre = unit_vectors(np.array([[0.0, 0.0]]))
    assert distance(centre, centre, corners)[0] == 0
    assert np.degrees(distance(-centre, centre, corners)[0]) > 178


def test_angle_is_exact_for_tiny_and_for_huge_ones():
    a = unit_vectors(np.array([[10.0, 0.0], [10.0, 0.0], [10.0, 0.0]]))
    b = unit_vectors(np.array([[10.0, 1e-9], [190.0, 1e-9], [100.0, 0.0]]))
    np.testing.assert_allclose(np.degrees(angle(a, b)), [1e-9, 180 - 1e-9, 90], rtol=1e-6)


def test_scales_to_a_survey():
    rng = np.random.default_rng(0)
    n, m = 60_000, 10_000

    def anywhere(n):
        return np.stack(
            [rng.uniform(0, 360, n), np.degrees(np.arcsin(rng.uniform(-1, 1, n)))], axis=-1
        )

    centres = anywhere(n)
    half = 0.1 * np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
    stretch = np.stack([1 / np.cos(np.radians(centres[:, 1])), np.ones(n)], axis=-1)[:, None]
    sky = Footprints(centres, centres[:, None] + half * stretch, np.full(n, 0.15 * 3600))
    start = time.perf_counter()
    found = near(sky, anywhere(m), 2.0)
    assert time.perf_counter() - start < 10
    # A square of 0.2 deg with a rim of 2 arcmin.
    area = 0.2**2 + 4 * 0.2 / 30 + np.pi / 30**2
    assert found.mean() == pytest.approx(m * area / 41253, rel=0.1)


@pytest.mark.parametrize("at_once", [3, 200_000])
def test_close_pairs_are_those_astropy_separates_by_less(monkeypatch, at_once):
    monkeypatch.setattr(sky_module, "PAIRS_AT_ONCE", at_once)
    rng = np.random.default_rng(5)
    centres = np.array([[0.001, 20.0], [359.999, 20.0], [120.0, 89.99], [40.0, -90.0]])
    positions = np.repeat(centres, 15, axis=0) + rng.normal(0, 5e-3, (60, 2))
    positions[:, 1] = np.clip(positions[:, 1], -90, 90)
    positions[:, 0] %= 360
    positions[[4, 40]] = np.nan
    found = {}
    for first, second, separation in close_pairs(positions, 20.0):
        assert (first < second).all()
        pairs = zip(first.tolist(), second.tolist(), strict=True)
        found |= dict(zip(pairs, separation.tolist(), strict=True))
    expected = {}
    for i in range(60):
        for j in range(i + 1, 60):
            if np.isfinite(positions[[i, j]]).all():
                one, other = (SkyCoord(*positions[k], unit="deg") for k in (i, j))
                arcsec = one.separation(other).arcsec
                if arcsec < 20:
                    expected[i, j] = arcsec
    assert found.keys() == expected.keys() and len(found) > 100
    for pair, arcsec in expected.items():
        assert found[pair] == pytest.approx(arcsec, rel=1e-6, abs=1e-7)
    assert list(close_pairs(positions[:1], 20.0)) == []
