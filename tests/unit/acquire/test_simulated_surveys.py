"""Drawn mosaics are the FITS files their survey promises."""

import csv
from pathlib import Path

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.wcs import WCS
from astropy.wcs.utils import proj_plane_pixel_scales

from stradavit.acquire.manifest import read_ledger, read_manifest
from stradavit.acquire.simulated.instrument import INSTRUMENTS
from stradavit.acquire.simulated.sky import (
    N_OVERLAP_FIELDS,
    N_OVERLAPPING,
    benchmark_positions,
    field_centre,
)
from stradavit.acquire.simulated.surveys import draw_product
from stradavit.acquire.stages import acquire_part, make_manifest
from stradavit.errors import DataError
from stradavit.files import sha256_of
from stradavit.settings.sources import BENCHMARK_KINDS, SURVEY_KINDS, SimulatedSurvey

SIDE = 256

# axes in numpy order, dtype on disk, pixel and beam in arcsec, projection
PROMISES = {
    "mgcls": ((1, 2, SIDE, SIDE), ">f4", 1.25, 7.8, "SIN"),
    "askap": ((1, 1, SIDE, SIDE), ">f4", 2.0, 12.0, "SIN"),
    "lotss": ((SIDE, SIDE), ">f8", 1.5, 6.0, "SIN"),
    "sdc1": ((1, 1, SIDE, SIDE), ">f4", 0.6, 1.5, "SIN"),
}


@pytest.mark.parametrize("like", SURVEY_KINDS)
def test_headers_and_axes_are_what_the_survey_has(tmp_path: Path, like: str) -> None:
    shape, dtype, scale, beam, projection = PROMISES[like]
    path = draw_product(like, 0, SIDE, 1, tmp_path)
    with fits.open(path) as hdus:
        hdus.verify("exception")
        header, data = hdus[0].header, hdus[0].data
        assert data.shape == shape and data.dtype.str == dtype
        assert header["BUNIT"] == "JY/BEAM"
        assert header["BMAJ"] * 3600 == pytest.approx(beam) == header["BMIN"] * 3600
        wcs = WCS(header).celestial
        assert list(wcs.wcs.ctype) == [f"RA---{projection}", f"DEC--{projection}"]
        np.testing.assert_allclose(proj_plane_pixel_scales(wcs) * 3600, scale)
        centre = wcs.pixel_to_world((SIDE - 1) / 2, (SIDE - 1) / 2)
        expected = SkyCoord(*field_centre(like, 0), unit="deg")
        assert centre.icrs.separation(expected).arcsec < 0.1
        if len(shape) == 4:
            assert (header["CTYPE3"], header["CTYPE4"]) == ("FREQ", "STOKES")


def test_newer_askap_mosaics_are_gnomonic(tmp_path: Path) -> None:
    header = fits.getheader(draw_product("askap", 1, SIDE, 1, tmp_path))
    assert header["CTYPE1"] == "RA---TAN"


@pytest.mark.parametrize("like", SURVEY_KINDS)
def test_noise_is_near_the_nominal_one(tmp_path: Path, like: str) -> None:
    data = np.squeeze(fits.getdata(draw_product(like, 2, SIDE, 3, tmp_path)))
    plane = data[0] if data.ndim == 3 else data
    middle = plane[64:192, 64:192]
    mad = 1.4826 * np.median(np.abs(middle - np.median(middle)))
    # Sources, sidelobes and the slow variation of the noise widen this.
    assert 0.7 < mad / INSTRUMENTS[like].rms_jy_beam < 2.5


def test_noise_rises_outwards_only_where_the_beam_was_divided_out(tmp_path: Path) -> None:
    def edge_over_centre(like: str) -> float:
        ratios = []
        for number in range(4):
            path = draw_product(like, number, SIDE, 1, tmp_path)
            plane = np.asarray(fits.getdata(path), float).reshape(-1, SIDE, SIDE)[0]
            # Differences of neighbours see the noise; sources are smooth or few.
            noise = np.abs(np.diff(plane, axis=0))[:, 60:-60]
            edges = np.concatenate([noise[:16], noise[-16:]])
            ratios.append(np.median(edges) / np.median(noise[112:144]))
        return float(np.median(ratios))

    assert edge_over_centre("askap") > 1.25
    assert edge_over_centre("mgcls") < 1.1


def test_planes_of_a_cube_show_one_sky_with_different_noise(tmp_path: Path) -> None:
    cube = fits.getdata(draw_product("mgcls", 0, SIDE, 1, tmp_path))[0]
    assert not np.array_equal(cube[0], cube[1])
    assert np.corrcoef(cube[0].ravel(), cube[1].ravel())[0, 1] > 0.6


def test_lotss_has_a_border_of_nan_and_whole_tiles_within(tmp_path: Path) -> None:
    data = fits.getdata(draw_product("lotss", 0, 640, 1, tmp_path))
    is_blank = np.isnan(data)
    assert 0.02 < is_blank.mean() < 0.2
    assert is_blank[0, 0] and is_blank[-1, -1] and not is_blank[320, 320]
    tiles = is_blank.reshape(5, 128, 5, 128).any(axis=(1, 3))
    assert 13 <= np.count_nonzero(~tiles) <= 21


@pytest.mark.parametrize("like", SURVEY_KINDS)
def test_every_tile_of_128_px_holds_emission(tmp_path: Path, like: str) -> None:
    data = np.asarray(fits.getdata(draw_product(like, 0, 512, 1, tmp_path)), float)
    plane = data.reshape(-1, 512, 512)[0]
    tiles = plane.reshape(4, 128, 4, 128).transpose(0, 2, 1, 3).reshape(16, -1)
    tiles = tiles[np.isfinite(tiles).all(axis=1)]
    noise = 1.4826 * np.median(np.abs(tiles - np.median(tiles, axis=1)[:, None]), axis=1)
    bright = np.count_nonzero(tiles > 5 * noise[:, None], axis=1)
    assert np.mean(bright > 60) > 0.9


def test_truth_of_sdc1_points_at_the_sources(tmp_path: Path) -> None:
    path = draw_product("sdc1", 0, SIDE, 1, tmp_path)
    with path.with_suffix(".truth.csv").open() as opened:
        truth = list(csv.DictReader(opened))
    header, data = fits.getheader(path), np.squeeze(fits.getdata(path))
    wcs = WCS(header).celestial
    assert len(truth) > 20
    for row in truth:
        x, y = wcs.world_to_pixel_values(float(row["RA (centroid)"]), float(row["DEC (centroid)"]))
        assert (float(x), float(y)) == pytest.approx((float(row["x"]), float(row["y"])), abs=0.01)
        assert row["SIZE"] in "123" and row["CLASS"] in "123"
    brightest = max(truth, key=lambda row: float(row["FLUX"]) * (row["CLASS"] == "2"))
    x, y = round(float(brightest["x"])), round(float(brightest["y"]))
    around = data[max(0, y - 2) : y + 3, max(0, x - 2) : x + 3]
    assert around.max() > 10 * np.median(np.abs(data))


def test_same_seed_same_bytes_and_products_differ(tmp_path: Path) -> None:
    first = draw_product("lotss", 0, SIDE, 1, tmp_path / "a")
    assert sha256_of(first) == sha256_of(draw_product("lotss", 0, SIDE, 1, tmp_path / "b"))
    other_product = fits.getdata(draw_product("lotss", 1, SIDE, 1, tmp_path))
    other_seed = fits.getdata(draw_product("lotss", 0, SIDE, 2, tmp_path / "c"))
    for other in (other_product, other_seed):
        assert not np.array_equal(fits.getdata(first), other, equal_nan=True)


def test_stages_draw_each_product_in_its_part(tmp_path: Path) -> None:
    survey = SimulatedSurvey(source="simulated", like="sdc1", products=5, side_px=64, parts=2)
    make_manifest("sky", survey, tmp_path / "m.csv")
    manifest = read_manifest(tmp_path / "m.csv")
    assert [row.product for row in manifest] == [f"sdc1-{n:04d}" for n in range(5)]
    for part in range(2):
        acquire_part("sky", survey, tmp_path / "m.csv", part, tmp_path / "raw" / f"{part}.csv")
        ledger = read_ledger(tmp_path / "raw" / f"{part}.csv")
        assert [row.product for row in ledger] == [r.product for r in manifest if r.part == part]
        assert all(row.sha256 == sha256_of(row.path) for row in ledger)
        assert all(row.path.parent == tmp_path / "raw" / "files" for row in ledger)


def test_manifest_of_another_survey_is_refused(tmp_path: Path) -> None:
    survey = SimulatedSurvey(source="simulated", like="sdc1", products=1, side_px=64)
    make_manifest("sky", survey, tmp_path / "m.csv")
    other = SimulatedSurvey(source="simulated", like="lotss", products=1, side_px=64)
    with pytest.raises(DataError, match="'sdc1-0000' at '0' is none of a simulated lotss survey"):
        acquire_part("sky", other, tmp_path / "m.csv", 0, tmp_path / "0.csv")


def test_benchmarks_meet_surveys_only_in_the_first_lotss_mosaics() -> None:
    fields = {
        (like, number): SkyCoord(*field_centre(like, number), unit="deg")
        for like in SURVEY_KINDS
        for number in range(60)
    }
    for like in BENCHMARK_KINDS:
        positions = SkyCoord(benchmark_positions(like, 400, seed=2), unit="deg")
        for (survey, number), centre in fields.items():
            is_near = positions.separation(centre).deg < 0.5
            shared = survey == "lotss" and number < N_OVERLAP_FIELDS
            assert np.count_nonzero(is_near) == (N_OVERLAPPING // N_OVERLAP_FIELDS if shared else 0)
        # Within the smallest mosaic a survey may have, 64 px of 1.5".
        overlapping = positions[:N_OVERLAPPING]
        for number, position in enumerate(overlapping):
            dx, dy = position.spherical_offsets_to(fields["lotss", number % N_OVERLAP_FIELDS])
            assert max(abs(dx.arcsec), abs(dy.arcsec)) < 32 * 1.5
        others = positions[N_OVERLAPPING:]
        nearest = others.match_to_catalog_sky(others, nthneighbor=2)[1]
        assert nearest.deg.min() > 0.05


def test_the_first_product_can_be_another_one(tmp_path: Path) -> None:
    survey = SimulatedSurvey(source="simulated", like="sdc1", products=2, side_px=64, first=7)
    make_manifest("sky", survey, tmp_path / "m.csv")
    manifest = read_manifest(tmp_path / "m.csv")
    assert [row.product for row in manifest] == ["sdc1-0007", "sdc1-0008"]
    acquire_part("sky", survey, tmp_path / "m.csv", 0, tmp_path / "raw" / "0.csv")
    first, second = read_ledger(tmp_path / "raw" / "0.csv")
    assert first.sha256 == sha256_of(draw_product("sdc1", 7, 64, survey.seed, tmp_path))
    assert WCS(fits.getheader(second.path)).celestial.wcs.crval == pytest.approx(
        field_centre("sdc1", 8)
    )
    # A manifest of other numbers is of other settings.
    with pytest.raises(DataError, match="'sdc1-0007' at '7' is none of a simulated sdc1 survey"):
        other = survey.model_copy(update={"first": 0})
        acquire_part("sky", other, tmp_path / "m.csv", 0, tmp_path / "raw" / "1.csv")


def test_position_angles_run_clockwise_from_the_longitude(tmp_path: Path) -> None:
    side = 2 * SIDE
    path = draw_product("sdc1", 3, side, 1, tmp_path)
    data = np.squeeze(fits.getdata(path))
    noise = 1.4826 * np.median(np.abs(data - np.median(data)))
    with path.with_suffix(".truth.csv").open() as opened:
        truth = [row for row in csv.DictReader(opened) if row["SIZE"] == "1"]
    turns = []
    for row in truth:
        x, y, half = float(row["x"]), float(row["y"]), float(row["BMAJ"]) / 0.6 / 2
        if not half < x < side - half or not half < y < side - half or half < 8:
            continue
        columns, rows = np.meshgrid(np.arange(side) - x, np.arange(side) - y)
        near = np.hypot(columns, rows) < half + 2
        weight = np.clip(data - 5 * noise, 0, None) * near
        xx, yy, xy = ((weight * m).sum() for m in (columns**2, rows**2, columns * rows))
        # What is round has no angle, and a bright neighbour another one.
        if np.hypot(xx - yy, 2 * xy) < 0.5 * (xx + yy):
            continue
        seen = np.degrees(0.5 * np.arctan2(2 * xy, xx - yy))
        turns.append((seen + float(row["PA"]) + 90.0) % 180.0 - 90.0)
    assert len(turns) >= 5 and np.median(np.abs(turns)) < 12.0
