"""Yardsticks sit on the probe's folds and see what they are said to see."""

import csv
import json

import numpy as np

from stradavit.cutouts.benchmark import LabelledCutouts
from stradavit.evaluation.folds import make_folds
from stradavit.evaluation.yardsticks import YARDSTICKS, flux_and_size, yardsticks
from stradavit.settings.evaluation import FoldSettings


def test_flux_and_size_in_closed_form() -> None:
    assert flux_and_size(np.zeros((5, 5), np.float32)).tolist() == [0, 0, 0, 0]
    image = np.zeros((9, 9), np.float32)
    # Two equal points 6 px apart: each lies 3 px from the centroid.
    image[4, 1] = image[4, 7] = 0.5
    np.testing.assert_allclose(flux_and_size(image), [1.0, 2.0, 0.5, 9.0])
    # A faint point below half of the peak counts for the flux and not for the extent.
    image[4, 4] = 0.2
    np.testing.assert_allclose(flux_and_size(image), [1.2, 2.0, 0.5, 9.0 / 1.2])


def test_all_are_written_with_the_folds_of_the_probe(tmp_path, write_benchmark) -> None:
    # Discs of two sizes, anywhere: flux and size tell the classes apart.
    draw, labels, images = np.random.default_rng(0), np.arange(48) % 2, []
    y, x = np.indices((24, 24))
    for label in labels:
        cy, cx = draw.uniform(9, 15, 2)
        inside = (y - cy) ** 2 + (x - cx) ** 2 < (3 + 4 * label) ** 2
        images.append(np.clip(inside + 0.05 * draw.standard_normal((24, 24)), 0, 1))
    # Two images of each source, so that the folds must be the grouped ones.
    sources = [f"s{i // 2}" for i in range(48)]
    path = write_benchmark(tmp_path / "bench.h5", images, labels, sources)
    yardsticks(path, FoldSettings(seed=4), "bench", tmp_path / "out", side_px=12)

    folds = make_folds(LabelledCutouts(path), FoldSettings(seed=4))
    for name in YARDSTICKS:
        written = json.loads((tmp_path / "out" / name / "bench.json").read_text())
        assert (written["encoder"], written["protocol"]) == (name, "yardstick")
        with (tmp_path / "out" / name / "bench.predictions.csv").open() as file:
            rows = list(csv.DictReader(file))
        assert [int(row["fold"]) for row in rows] == folds.tolist()
        confusion = np.array(written["confusion"])
        assert confusion.sum() == 48
        assert np.trace(confusion) > 40, name
        if name == "logistic-flux-and-size":
            assert np.trace(confusion) == 48
