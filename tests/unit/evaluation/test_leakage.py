"""The report on images of the same sky, against pairs counted one by one."""

import json
import math
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from stradavit.acquire.labels import LabelledImage
from stradavit.cli import main
from stradavit.cutouts.benchmark import BenchmarkWriter, LabelledCutouts
from stradavit.cutouts.hdf5 import new_file
from stradavit.evaluation.folds import make_folds
from stradavit.evaluation.leakage import CLUES, leakage
from stradavit.settings.duplicates import LeakageSettings
from stradavit.settings.evaluation import FoldSettings

FOLDS = FoldSettings(count=3, seed=1)
USUAL = LeakageSettings()
CLASSES = ("FR I", "FR II")


def field(draw, side_px=90):
    noise = gaussian_filter(draw.standard_normal((side_px, side_px)), 1.2)
    return np.clip(0.5 + noise / noise.std() * 0.15, 0, 1).astype(np.float32)


def write(path: Path, rows) -> Path:
    """Rows of pixels, source, position and side of the published division."""
    with new_file(path) as file:
        writer = BenchmarkWriter(file)
        for number, (pixels, source, (ra, dec), split) in enumerate(rows):
            label = CLASSES[number % 2]
            name = Path("none.fits")
            image = f"image {number}"
            writer.append(
                pixels, LabelledImage(image, name, None, label, source, ra, dec, split=split)
            )
        attributes = {"excluded": json.dumps({}), "settings": "{}", "labels_sha256": ""}
        writer.finish(list(CLASSES), attributes)
    return path


def report_of(path: Path, settings: LeakageSettings = USUAL) -> dict:
    out = path.with_suffix(".json")
    leakage(path, FOLDS, settings, "bench", out)
    return json.loads(out.read_text())


@pytest.fixture(scope="module")
def rows():
    """40 images: of every clue and none, of one source and of two."""
    draw = np.random.default_rng(12)
    rows = []
    for number in range(40):
        position = (10.0 * number / math.cos(math.radians(5.0)), 5.0)
        rows.append([field(draw), f"source {number}", position, ("train", "test")[number % 3 // 2]])
    arcsec = 1 / 3600
    for copy, original in ((20, 0), (22, 1), (24, 2), (26, 3)):  # both
        rows[copy][0] = rows[original][0][::-1].copy()
        ra, dec = rows[original][2]
        rows[copy][2] = (ra, dec + 4 * arcsec)
    for copy, original in ((21, 4), (23, 5), (25, 6)):  # content only: positions lie, or are absent
        rows[copy][0] = rows[original][0] * 0.7
    rows[25][2] = (math.nan, math.nan)
    for other, one in ((27, 7), (29, 8), (31, 9), (33, 10), (35, 11)):  # position only
        ra, dec = rows[one][2]
        rows[other][2] = (ra, dec + 9.5 * arcsec)
    rows[39][2] = (rows[38][2][0], rows[38][2][1] + 11 * arcsec)  # too far
    rows[20][1], rows[27][1] = rows[0][1], rows[7][1]
    return rows


PLANTED = {
    "both": {(0, 20), (1, 22), (2, 24), (3, 26)},
    "content_only": {(4, 21), (5, 23), (6, 25)},
    "position_only": {(7, 27), (8, 29), (9, 31), (10, 33), (11, 35)},
}


def test_every_pair_is_counted_where_it_belongs(rows, tmp_path):
    path = write(tmp_path / "b.h5", rows)
    report = report_of(path)
    folds = make_folds(LabelledCutouts(path), FOLDS)
    assert (report["n_images"], report["n_sources"]) == (40, 38)
    assert (report["n_without_position"], report["n_indistinct"]) == (1, 0)
    assert report["settings"]["folds"] == {"count": 3, "seed": 1}
    for clue in CLUES:
        counts = {"one_source": 0, "one_fold": 0, "across_folds": 0}
        sides = {"one_side": 0, "across": 0}
        for i, j in PLANTED[clue]:
            if rows[i][1] == rows[j][1]:
                counts["one_source"] += 1
            elif folds[i] == folds[j]:
                counts["one_fold"] += 1
            else:
                counts["across_folds"] += 1
            sides["one_side" if rows[i][3] == rows[j][3] else "across"] += 1
        assert report["pairs"][clue] == counts
        assert report["published_split"][clue] == sides
    examples = report["examples"]
    named = {tuple(example["images"]): example for example in examples}
    # Of the two pairs of one source that folds cannot part, one is parted by the division.
    assert rows[0][3] != rows[20][3] and rows[7][3] == rows[27][3]
    assert len(named) == len(examples) == 11
    apart = [e["folds"][0] != e["folds"][1] for e in examples]
    assert 0 < sum(apart) < 11 and apart == sorted(apart, reverse=True)
    both, content = named["image 0", "image 20"], named["image 6", "image 25"]
    assert both["found_by"] == "both" and both["similarity"] == 1
    assert both["separation_arcsec"] == pytest.approx(4, rel=1e-6)
    assert both["sources"] == ["source 0", "source 0"] and both["folds"][0] == both["folds"][1]
    assert content["separation_arcsec"] is None and 0.99 < content["similarity"] <= 1
    assert content["classes"] == ["FR I", "FR II"] and content["overlap"] == 1
    position = named["image 11", "image 35"]
    assert position["separation_arcsec"] == pytest.approx(9.5, rel=1e-6)
    assert position["similarity"] is position["elements"] is position["overlap"] is None


def test_examples_are_bounded_and_without_a_division_there_is_none(rows, tmp_path):
    undivided = [[*row[:3], ""] for row in rows]
    path = write(tmp_path / "b.h5", undivided)
    report = report_of(path, LeakageSettings(examples=4, same_source_arcsec=60.0))
    assert report["published_split"] is None
    assert len(report["examples"]) == 4
    assert all(e["folds"][0] != e["folds"][1] for e in report["examples"])
    # 11 arcsec are now close, too.
    assert sum(report["pairs"]["position_only"].values()) == 6


def test_one_place_for_all_images_is_no_proof(tmp_path):
    # As the headers of two overlapping mosaics would have it.
    draw = np.random.default_rng(3)
    wide = field(draw, 300)
    rows = [[field(draw), f"s{n}", (100.0, -30.0), ""] for n in range(30)]
    rows[4][0], rows[9][0] = wide[:90, :90], wide[40:130, 30:120]
    report = report_of(write(tmp_path / "b.h5", rows))
    counts = {clue: sum(by_place.values()) for clue, by_place in report["pairs"].items()}
    assert counts == {"both": 1, "content_only": 0, "position_only": 30 * 29 // 2 - 1}


def test_lone_sources_are_indistinct_and_only_copies_found(tmp_path):
    draw = np.random.default_rng(4)
    y, x = np.mgrid[:60, :60]
    rows = []
    for n in range(24):
        y0, x0 = 30 + draw.uniform(-1, 1, 2)
        image = np.exp(-((y - y0) ** 2 + (x - x0) ** 2) / 4)
        rows.append([np.where(image > 0.02, image, 0).astype(np.float32), f"s{n}", (n, 0.0), ""])
    rows[7][0] = rows[2][0].T
    report = report_of(write(tmp_path / "b.h5", rows))
    assert report["n_indistinct"] == 24
    assert sum(map(sum, (by.values() for by in report["pairs"].values()))) == 1
    assert report["examples"][0]["images"] == ["image 2", "image 7"]


def test_the_command_writes_the_same_report(rows, tmp_path, capsys):
    path = write(tmp_path / "b.h5", rows)
    expected = report_of(path)
    out = tmp_path / "leakage" / "b.json"
    out.parent.mkdir()
    evaluation = json.dumps({"folds": {"count": 3, "seed": 1}})
    arguments = {"benchmark-name": "bench", "evaluation": evaluation, "benchmark": path, "out": out}
    words = [word for key, value in arguments.items() for word in (f"--{key}", str(value))]
    assert main(["leakage", *words]) == 0
    assert str(out) in capsys.readouterr().out
    assert json.loads(out.read_text()) == expected


def test_planted_pairs_are_disjoint():
    pairs = [pair for some in PLANTED.values() for pair in some]
    assert all(not set(a) & set(b) for a, b in combinations(pairs, 2))
