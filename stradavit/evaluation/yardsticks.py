"""Stage `yardsticks`: classical methods on small pixels, on the folds of the probe.

They say what a score is worth: a benchmark on which total flux and size do as well as an encoder
does not measure morphology. Not in the paper. Everything is fitted on the training images of the
fold alone, standardisation too, without augmentation.
"""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from stradavit.cutouts.benchmark import LabelledCutouts
from stradavit.evaluation.folds import make_folds
from stradavit.evaluation.images import resized_images
from stradavit.evaluation.metrics import FoldOutcome, write_outcomes
from stradavit.files import sha256_of
from stradavit.provenance import code_hash
from stradavit.settings.evaluation import FoldSettings

SEED = 0
NEIGHBOURS = 5
TREES = 300

log = logging.getLogger(__name__)


def _logistic() -> Any:
    # Strong regularisation: there are more pixels than training images.
    model = LogisticRegression(C=0.01, class_weight="balanced", max_iter=5000)
    return make_pipeline(StandardScaler(), model)


def _logistic_of_few() -> Any:
    return make_pipeline(
        StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=5000)
    )


def _neighbours() -> Any:
    return make_pipeline(StandardScaler(), KNeighborsClassifier(NEIGHBOURS))


def _forest() -> Any:
    return RandomForestClassifier(TREES, class_weight="balanced", random_state=SEED)


# Name, input, and the model, made anew for each fold.
YARDSTICKS: dict[str, tuple[str, Callable[[], Any]]] = {
    "knn-pixels": ("pixels", _neighbours),
    "logistic-pixels": ("pixels", _logistic),
    "forest-pixels": ("pixels", _forest),
    "logistic-flux-and-size": ("moments", _logistic_of_few),
}


def yardsticks(
    benchmark_path: Path, folds: FoldSettings, benchmark: str, out_dir: Path, side_px: int = 32
) -> None:
    """Write the metrics of each yardstick at ``<out_dir>/<yardstick>/<benchmark>.json``.

    Parameters
    ----------
    benchmark_path : labelled cutouts
    benchmark : its name in the tables
    side_px : side the images are resized to for the methods that see pixels
    """
    cutouts = LabelledCutouts(benchmark_path)
    fold_of = make_folds(cutouts, folds)
    numbers = range(len(cutouts))
    inputs = {
        "pixels": resized_images(cutouts, numbers, side_px).flatten(1).numpy(),
        "moments": np.stack([flux_and_size(cutouts.read(number)) for number in numbers]),
    }
    labels = np.asarray(cutouts.labels, dtype=np.int64)
    for name, (seen, make) in YARDSTICKS.items():
        outcomes = [
            _score(make(), inputs[seen], labels, fold_of, fold, len(cutouts.classes))
            for fold in range(folds.count)
        ]
        write_outcomes(
            out_dir / name / f"{benchmark}.json",
            cutouts,
            outcomes,
            names=(name, benchmark),
            protocol="yardstick",
            settings={"folds": folds.model_dump(mode="json"), "side_px": side_px, "seed": SEED},
            code=code_hash(__name__),
            provenance={"benchmark_sha256": sha256_of(benchmark_path)},
        )
        log.info("%s on %s is done", name, benchmark)


def flux_and_size(image: NDArray[np.float32]) -> NDArray[np.float64]:
    """Four numbers that know nothing of morphology.

    Parameters
    ----------
    image : (ny, nx) in [0, 1], stretched; so "flux" is a sum of stretched values, not of Jy

    Returns
    -------
    (4,) total flux; extent (number of pixels above half the peak); peak; second moment (flux-
    weighted mean square distance from the centroid in pixels, 0 for an empty image)
    """
    flux = image.astype(np.float64)
    total, peak = flux.sum(), flux.max()
    if total == 0:
        return np.zeros(4)
    y, x = np.indices(flux.shape)
    centre_y, centre_x = (flux * y).sum() / total, (flux * x).sum() / total
    second = (flux * ((y - centre_y) ** 2 + (x - centre_x) ** 2)).sum() / total
    return np.array([total, (flux > peak / 2).sum(), peak, second])


def _score(
    model: Any,
    inputs: NDArray[Any],
    labels: NDArray[np.int64],
    fold_of: NDArray[np.int64],
    fold: int,
    n_classes: int,
) -> FoldOutcome:
    train, test = np.flatnonzero(fold_of != fold), np.flatnonzero(fold_of == fold)
    model.fit(inputs[train], labels[train])
    # Folds put every class into every training split, so columns and classes agree.
    probabilities = model.predict_proba(inputs[test])
    assert probabilities.shape == (len(test), n_classes)
    return FoldOutcome(fold, len(train), test, probabilities)
