"""F1 scores, confusion matrices, and the two files every protocol ends in (section 9.1)."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stradavit.evaluation.folds import Labelled
from stradavit.files import atomic_path, sha256_of, write_json
from stradavit.machine import maker


@dataclass(frozen=True)
class FoldOutcome:
    """What the model of one fold says about its held-out images.

    Parameters
    ----------
    fold : number of the fold
    n_train : images trained on
    test : (m,) numbers of the held-out images
    probabilities : (m, n_classes), rows sum to 1
    curves : one value per epoch each, for looking at; nothing is selected by them
    repeat : how often all folds had been drawn before; where folds are not drawn, the number of
        the training
    """

    fold: int
    n_train: int
    test: NDArray[np.int64]
    probabilities: NDArray[np.floating[Any]]
    curves: Mapping[str, Sequence[float]] = field(default_factory=dict)
    repeat: int = 0

    @property
    def predicted(self) -> NDArray[np.int64]:
        """(m,) most probable class; the first of equals."""
        predicted: NDArray[np.int64] = self.probabilities.argmax(axis=1).astype(np.int64)
        return predicted


def confusion_matrix(
    labels: NDArray[np.int64], predicted: NDArray[np.int64], n_classes: int
) -> NDArray[np.int64]:
    """(n_classes, n_classes) counts, rows true and columns predicted."""
    pairs = np.bincount(labels * n_classes + predicted, minlength=n_classes**2)
    return pairs.reshape(n_classes, n_classes).astype(np.int64)


def f1_per_class(confusion: NDArray[np.number[Any]]) -> NDArray[np.float64]:
    """2 TP / (2 TP + FP + FN) of each class; 0 for a class neither present nor predicted.

    (..., n_classes, n_classes) counts to (..., n_classes): one matrix, or a stack of them.
    """
    hits = 2.0 * np.diagonal(confusion, axis1=-2, axis2=-1)
    total = confusion.sum(axis=-2) + confusion.sum(axis=-1)
    # Where the denominator is 0 so is the numerator.
    f1: NDArray[np.float64] = hits / np.maximum(total, 1)
    return f1


def macro_f1(confusion: NDArray[np.int64]) -> float:
    """Mean of the per-class F1 over all classes of the benchmark.

    A class that a fold neither holds nor predicts counts as 0, so that folds average over the same
    classes (scikit-learn's ``zero_division=0`` with all labels given). Stratified folds hold every
    class; only folds grouped by source can lack one.
    """
    return float(f1_per_class(confusion).mean())


def weighted_f1(confusion: NDArray[np.int64]) -> float:
    """Mean of the per-class F1 weighted by the number of true images of the class."""
    return float(np.average(f1_per_class(confusion), weights=confusion.sum(axis=1)))


def mean_and_std(values: Sequence[float]) -> dict[str, float]:
    """Mean and population standard deviation (ddof 0, as the paper's ±) over the folds."""
    return {"mean": float(np.mean(values)), "std": float(np.std(values))}


def predictions_path(metrics_path: Path) -> Path:
    """The CSV beside a metrics file."""
    return metrics_path.with_name(metrics_path.name.removesuffix(".json") + ".predictions.csv")


def write_outcomes(
    out_path: Path,
    benchmark: Labelled,
    outcomes: Sequence[FoldOutcome],
    *,
    names: tuple[str, str],
    protocol: str,
    settings: Mapping[str, Any],
    code: str,
    provenance: Mapping[str, Any],
    device: str = "cpu",
    extra: Mapping[str, Any] | None = None,
) -> None:
    """Write the metrics (JSON) at `out_path` and one row per held-out image beside it (CSV).

    Parameters
    ----------
    benchmark : labels, sources and names of the images
    outcomes : one per fold and repeat; a repeat holds an image out once at most
    names : of the encoder and of the benchmark
    settings : all that decided the numbers, as JSON values
    code : hash of the modules that made them
    provenance : hashes of the inputs, device, precision
    device : type of the device that computed them, if not what made the features
    extra : further entries of the metrics file
    """
    outcomes = sorted(outcomes, key=lambda outcome: (outcome.repeat, outcome.fold))
    folds = fold_records(benchmark, outcomes)
    # The table of predictions first: where there are metrics, there are predictions.
    _write_predictions(predictions_path(out_path), benchmark, outcomes)
    write_json(
        out_path,
        {
            **cell_record(benchmark, names, protocol, settings, code, provenance, device),
            "folds": folds,
            **mean_scores(folds),
            # Nothing reads them to make tables; who does can see that they are whole.
            "predictions_sha256": sha256_of(predictions_path(out_path)),
            "confusion": np.sum([fold["confusion"] for fold in folds], axis=0).tolist(),
            **(extra or {}),
        },
        sealed=True,
    )


def cell_record(
    benchmark: Labelled,
    names: tuple[str, str],
    protocol: str,
    settings: Mapping[str, Any],
    code: str,
    provenance: Mapping[str, Any],
    device: str = "cpu",
) -> dict[str, Any]:
    """What every metrics file begins with, whatever was scored (parameters: `write_outcomes`)."""
    return {
        "encoder": names[0],
        "benchmark": names[1],
        "protocol": protocol,
        "classes": list(benchmark.classes),
        "n_images": len(benchmark.labels),
        "n_sources": len(set(benchmark.sources)),
        "settings": dict(settings),
        "code": code,
        "provenance": dict(provenance),
        # Apart from the rest: equal numbers of two machines are told from others without it.
        "made_by": maker(device),
    }


def fold_records(benchmark: Labelled, outcomes: Sequence[FoldOutcome]) -> list[dict[str, Any]]:
    """The entry of each outcome in the list `folds` of a metrics file."""
    labels, n_classes = np.asarray(benchmark.labels), len(benchmark.classes)
    records = []
    for outcome in outcomes:
        confusion = confusion_matrix(labels[outcome.test], outcome.predicted, n_classes)
        records.append(
            {
                "repeat": outcome.repeat,
                "fold": outcome.fold,
                "n_train": outcome.n_train,
                "n_test": len(outcome.test),
                "macro_f1": macro_f1(confusion),
                "weighted_f1": weighted_f1(confusion),
                "confusion": confusion.tolist(),
                "curves": {name: list(values) for name, values in outcome.curves.items()},
            }
        )
    return records


def mean_scores(folds: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Mean and spread of both scores over entries of `fold_records`."""
    return {
        score: mean_and_std([fold[score] for fold in folds])
        for score in ("macro_f1", "weighted_f1")
    }


def _write_predictions(path: Path, benchmark: Labelled, outcomes: Sequence[FoldOutcome]) -> None:
    """Columns image, source, repeat, fold, label, predicted, p_<class>…; a repeat after the other,
    images in the benchmark's order.
    """
    classes = benchmark.classes
    rows: dict[tuple[int, int], list[object]] = {}
    for outcome in outcomes:
        for image, predicted, p in zip(
            outcome.test.tolist(), outcome.predicted, outcome.probabilities, strict=True
        ):
            place = outcome.repeat, image
            assert place not in rows, "a repeat holds an image out once"
            rows[place] = [
                benchmark.images[image],
                benchmark.sources[image],
                outcome.repeat,
                outcome.fold,
                classes[int(benchmark.labels[image])],
                classes[predicted],
                *(f"{value:.7g}" for value in p),
            ]
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        probabilities = [f"p_{name}" for name in classes]
        writer.writerow(["image", "source", "repeat", "fold", "label", "predicted", *probabilities])
        writer.writerows(rows[place] for place in sorted(rows))
