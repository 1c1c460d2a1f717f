"""A finished fold on disk, until all folds of a fine-tuning are finished."""

from pathlib import Path

import numpy as np

from stradavit.evaluation.metrics import FoldOutcome
from stradavit.files import read_json, write_json


def write_outcome(path: Path, outcome: FoldOutcome) -> None:
    """Keep what the model of one fold said."""
    write_json(
        path,
        {
            "repeat": outcome.repeat,
            "fold": outcome.fold,
            "n_train": outcome.n_train,
            "test": outcome.test.tolist(),
            "probabilities": outcome.probabilities.tolist(),
            "curves": {name: list(values) for name, values in outcome.curves.items()},
        },
    )


def read_outcome(path: Path) -> FoldOutcome:
    """A kept fold; probabilities come back bit for bit."""
    kept = read_json(path)
    return FoldOutcome(
        repeat=kept["repeat"],
        fold=kept["fold"],
        n_train=kept["n_train"],
        test=np.array(kept["test"], dtype=np.int64),
        probabilities=np.array(kept["probabilities"], dtype=np.float32),
        curves=kept["curves"],
    )
