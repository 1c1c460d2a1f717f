"""A finished fold on disk, until all folds of a fine-tuning are finished."""

import logging
from pathlib import Path

import numpy as np

from stradavit.errors import DataError
from stradavit.evaluation.metrics import FoldOutcome
from stradavit.files import read_json, write_json

log = logging.getLogger(__name__)


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
        sealed=True,
    )


def read_outcome(path: Path) -> FoldOutcome | None:
    """A kept fold, its probabilities bit for bit; None if there is none, or it is damaged."""
    if not path.is_file():
        return None
    try:
        kept = read_json(path)
        outcome = FoldOutcome(
            repeat=kept["repeat"],
            fold=kept["fold"],
            n_train=kept["n_train"],
            test=np.array(kept["test"], dtype=np.int64),
            probabilities=np.array(kept["probabilities"], dtype=np.float32),
            curves=kept["curves"],
        )
    except (DataError, ValueError, TypeError, KeyError, RecursionError) as error:
        log.warning("%s is damaged (%s): training this fold again", path, error)
        return None
    log.info("repeat %d, fold %d was finished before: %s", outcome.repeat, outcome.fold, path)
    return outcome
