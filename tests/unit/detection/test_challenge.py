"""The SDC1 challenge's own score: of the truth itself, of nothing, of chance, and of boxes."""

import json
import logging

import numpy as np
import pandas as pd
import pytest

from stradavit.acquire.manifest import Acquired, write_ledger
from stradavit.acquire.simulated.surveys import draw_product
from stradavit.acquire.truth_catalogue import TRUTH_FIELDS, read_truth
from stradavit.acquire.truth_sources import truth_sources
from stradavit.cutouts.detection_images import DetectionImages, write_detection_images
from stradavit.cutouts.fits import open_product
from stradavit.cutouts.truth_boxes import ProductSky
from stradavit.cutouts.truth_tiles import truth_scenes
from stradavit.detection import sdc1_scorer
from stradavit.detection.challenge import _catalogue, _Field, challenge_score
from stradavit.detection.sdc1_scorer import ChallengeCount, score_field
from stradavit.errors import DataError
from stradavit.files import sha256_of, write_json
from stradavit.settings import CutoutSettings
from stradavit.settings.detection import TruthSet


def catalogue(n=200, ra_deg=-1.0, seed=0):
    """Sources spread over half a degree."""
    rng = np.random.default_rng(seed)
    ra, dec = ra_deg + rng.uniform(0, 0.5, n), -29.5 - rng.uniform(0, 0.4, n)
    columns = [np.arange(n), ra, dec, ra, dec, rng.uniform(1e-6, 1e-4, n), np.zeros(n)]
    columns += [rng.uniform(2, 6, n), rng.uniform(1, 2, n), rng.uniform(-40, 40, n)]
    columns += [np.full(n, 2), rng.integers(1, 4, n)]
    return pd.DataFrame(dict(zip(TRUTH_FIELDS, columns, strict=True)))


# -- the scorer -----------------------------------------------------------------------------------


# Off the training area, astride its edge, and within.
@pytest.mark.parametrize("ra_deg", [-1.3, -0.9, -0.5, 359.1])
@pytest.mark.parametrize("band_mhz", [560, 1400, 9200])
def test_the_truth_earns_all_there_is(ra_deg, band_mhz):
    truth = catalogue(ra_deg=ra_deg)
    found = score_field(truth.copy(), truth.copy(), band_mhz)
    assert (found.n_detections, found.n_matched, found.n_false) == (200, 200, 0)
    assert found.score == pytest.approx(200.0)


def test_nothing_and_chance_earn_nothing():
    truth = catalogue()
    assert score_field(truth.iloc[:0], truth, 560) == ChallengeCount(0.0, 0, 0)
    assert score_field(truth, truth.iloc[:0], 560) == ChallengeCount(0.0, 200, 0)
    chance = catalogue(seed=1)
    chance.iloc[:5] = truth.iloc[:5]
    found = score_field(chance, truth, 560)
    assert 5 <= found.n_matched < 20 and found.score < -150
    # As the scorer has it, false detections cost nothing where nothing matches at all.
    far = score_field(catalogue(ra_deg=10.0), truth, 560)
    assert (far.score, far.n_false) == (0.0, 200)


def test_a_false_detection_costs_one_point():
    truth = catalogue(50)
    more = pd.concat([truth, catalogue(7, ra_deg=20.0).assign(id=range(1000, 1007))])
    found = score_field(more.reset_index(drop=True), truth, 560)
    assert found.score == pytest.approx(50.0 - 7.0) and found.n_false == 7


def test_sums_of_fields_follow_the_scorer_s_rule():
    one, other = ChallengeCount(3.5, 10, 4), ChallengeCount(0.0, 5, 0)
    assert (one.score, other.score) == (3.5 - 6, 0.0)
    assert (one + other) == ChallengeCount(3.5, 15, 4) and (one + other).score == 3.5 - 11


def test_the_root_logger_is_left_as_it_was(caplog):
    root = logging.getLogger()
    before = (list(root.handlers), root.level, root.manager.disable)
    with caplog.at_level(logging.INFO):
        score_field(catalogue(20), catalogue(20), 560)
        assert not caplog.records
    assert (list(root.handlers), root.level, root.manager.disable) == before


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr(sdc1_scorer, "find_spec", lambda name: None)
    with pytest.raises(DataError, match="the package ska-sdc is not installed"):
        score_field(catalogue(5), catalogue(5), 560)


# -- from boxes -----------------------------------------------------------------------------------


def make_set(folder, numbers=(3,), side_px=256, labels="source"):
    rows = []
    for number in numbers:
        path = draw_product("sdc1", number, side_px, 1, folder)
        rows.append(Acquired(path.stem, path, sha256_of(path), path.stat().st_size))
    write_ledger(folder / "0.csv", rows)
    block = TruthSet(source="truth", table="radio", survey="s", labels=labels, val_fraction=0.0)
    sources = truth_sources("x", block, folder / "sources.json", [folder / "0.csv"])
    write_json(folder / "sources.json", sources)
    classes, scenes, _ = truth_scenes(block, CutoutSettings(size_px=64), sources)
    about = {"sources_sha256": sha256_of(folder / "sources.json"), "settings": block.to_json()}
    write_detection_images(folder / "set.h5", classes, scenes, about)
    return DetectionImages(folder / "set.h5"), folder / "sources.json"


def boxes_of(images, split, score=0.9):
    """The labelled boxes as a perfect detector would find them."""
    found = []
    for number in images.of_split(split).tolist():
        columns = (images.boxes(number), images.labels(number), images.is_crowd(number))
        for (x0, y0, x1, y1), label, crowd in zip(*columns, strict=True):
            if not crowd:
                bbox = [float(x0), float(y0), float(x1 - x0), float(y1 - y0)]
                found.append(
                    {"image_id": number, "bbox": bbox, "category_id": int(label), "score": score}
                )
    return found


def test_a_perfect_detector_of_a_drawn_field_earns_much(tmp_path, caplog):
    images, sources = make_set(tmp_path)
    found = boxes_of(images, "test")
    with caplog.at_level(logging.INFO):
        told = challenge_score(images, sources, "test", found)
    assert told is not None
    assert "sdc1-0003: 560 MHz, scored as SDC1's band of 560 MHz" in caplog.text
    assert told["band_mhz"] == 560 and told["n_detections"] == len(found)
    assert told["n_matched"] + told["n_false"] == len(found)
    assert told["n_matched"] > 0.6 * len(found)
    assert 10.0 < told["percent"] <= 100.0
    json.dumps(told, allow_nan=False)

    doubtful = [one | {"score": 0.49} for one in found]
    empty = challenge_score(images, sources, "test", doubtful)
    assert empty == {"score": 0.0, "percent": 0.0, "n_detections": 0, "n_matched": 0,
                     "n_false": 0, "band_mhz": 560}  # fmt: skip
    rng = np.random.default_rng(0)
    chance = [one | {"bbox": [*rng.uniform(0, 56, 2).tolist(), 5.0, 5.0]} for one in found]
    by_chance = challenge_score(images, sources, "test", chance)
    assert by_chance is not None and by_chance["score"] < 0.2 * told["score"]


def test_classes_that_were_found_go_before_the_commonest(tmp_path):
    one, sources = make_set(tmp_path / "one")
    three, sources_three = make_set(tmp_path / "three", labels="class")
    known = challenge_score(three, sources_three, "test", boxes_of(three, "test"))
    guessed = challenge_score(one, sources, "test", boxes_of(one, "test"))
    assert known["score"] > guessed["score"] and known["n_matched"] >= guessed["n_matched"]


def test_two_fields_are_scored_one_by_one(tmp_path):
    # Their catalogues use the same ids.
    images, sources = make_set(tmp_path, (3, 4))
    told = challenge_score(images, sources, "test", boxes_of(images, "test"))
    found = {}
    for name in ("sdc1-0003", "sdc1-0004"):
        own = [d for d in boxes_of(images, "test") if images.place(d["image_id"])[0] == name]
        found[name] = challenge_score(images, sources, "test", own)
    for key in ("n_detections", "n_matched", "score"):
        assert told[key] == pytest.approx(sum(part[key] for part in found.values()))


def test_the_catalogue_says_what_the_box_tells(tmp_path):
    images, sources = make_set(tmp_path)
    item = json.loads(sources.read_text())["products"][0]
    truth = read_truth(item["truth"])
    field = _Field(item, 560, truth, 0)
    number = int(images.of_split("test")[1])
    _, y0, x0, _, _ = images.place(number)
    boxes = [[10.0, 20.0, 12.0, 6.0], [30.0, 30.0, 2.0, 3.0], [5.0, 5.0, 6.0, 8.0]]
    found = [{"image_id": number, "bbox": box, "category_id": 0, "score": 0.9} for box in boxes]
    with open_product(item["path"]) as product:
        sky = ProductSky(product, "p")
        pixels = product.read(0, 0, product.shape[0])
    sums = [pixels[y0 + y : y0 + y + h, x0 + x : x0 + x + w].sum(dtype=float)
            for x, y, w, h in np.array(boxes, int)]  # fmt: skip
    table = _catalogue(images, field, found, {"size": 2, "class": 3})
    beam_area_px = np.pi / (4 * np.log(2)) * (1.5 / 0.6) ** 2
    assert sky.beam_area_px == pytest.approx(beam_area_px)
    kept = [n for n, total in enumerate(sums) if total > 0]
    assert table["id"].tolist() == kept and kept
    np.testing.assert_allclose(table["flux"], np.array(sums)[kept] / beam_area_px, rtol=1e-6)
    wide = np.array([[7.2, 3.6], [1.2, 1.8], [3.6, 4.8]])
    sizes = np.sqrt(np.maximum(wide**2 - 1.5**2, 0.15**2))[kept]
    np.testing.assert_allclose(table["b_maj"], sizes.max(axis=1))
    np.testing.assert_allclose(table["b_min"], sizes.min(axis=1))
    assert table["pa"].tolist() == [[0.0, 90.0, 90.0][n] for n in kept]
    assert set(table["class"]) == {3} and set(table["size"]) == {2}
    middle = np.array([[x + w / 2 - 0.5, y + h / 2 - 0.5] for x, y, w, h in boxes])[kept]
    x, y = sky.to_pixels(table["ra_core"].to_numpy(), table["dec_core"].to_numpy())
    np.testing.assert_allclose(np.stack([x - x0, y - y0], axis=-1), middle, atol=1e-6)
    assert (table["ra_core"] == table["ra_cent"]).all() and (table["core_frac"] == 0).all()
    exponential = _catalogue(images, field, found, {"size": 3, "class": 3})
    np.testing.assert_allclose(exponential["b_maj"], table["b_maj"] / np.sqrt(2))


def test_other_sources_than_those_of_the_images_are_refused(tmp_path):
    images, sources = make_set(tmp_path)
    sources.write_text(sources.read_text() + "\n")
    with pytest.raises(DataError, match=r"sources.json: is not what .*set.h5 was cut from"):
        challenge_score(images, sources, "test", [])


def test_without_a_frequency_there_is_no_score(tmp_path, monkeypatch, caplog):
    images, sources = make_set(tmp_path)
    monkeypatch.setattr("stradavit.cutouts.fits._frequency_hz", lambda header: None)
    assert challenge_score(images, sources, "test", []) is None
    assert "sdc1-0003: no SDC1 score" in caplog.text


def test_the_true_boxes_of_real_pixels_are_matched(tmp_path, shared_data):
    path = shared_data / "mosaics" / "ska-sdc1" / "test_B1_1000h.fits"
    truth = shared_data / "catalogues" / "sdc1" / "TrainingSet_B1_v2_ML.txt"
    write_ledger(tmp_path / "0.csv", [Acquired("crop", path, sha256_of(path), path.stat().st_size)])
    block = TruthSet(source="truth", table="radio", survey="s", truth={"crop": str(truth)})
    sources = truth_sources("x", block, tmp_path / "sources.json", [tmp_path / "0.csv"])
    write_json(tmp_path / "sources.json", sources)
    classes, scenes, _ = truth_scenes(block, CutoutSettings(size_px=48), sources)
    about = {"sources_sha256": sha256_of(tmp_path / "sources.json")}
    write_detection_images(tmp_path / "set.h5", classes, scenes, about)
    images = DetectionImages(tmp_path / "set.h5")
    found = [one for split in ("train", "test") for one in boxes_of(images, split)]
    told = challenge_score(images, tmp_path / "sources.json", "train", found)
    # Those of other splits are not submitted: nobody looked there.
    assert told["band_mhz"] == 560
    assert told["n_detections"] == len(boxes_of(images, "train"))
    assert told["n_matched"] > 0.8 * told["n_detections"] and told["percent"] > 30.0
