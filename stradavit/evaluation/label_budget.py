"""Stage `label_budget`: the linear probe with few labels. Not in the paper.

Of each fold's training images, n of every class are drawn and the probe of section 9.2 is trained
on them alone; what is held out stays the same. So a curve over n shows what an encoder is worth to
somebody who has labelled little.

- Images are drawn, of a class that has fewer than n all of them. Of a source with several images
  the second comes only when every source of the class has given one: labelling n images of one
  galaxy is not what n labels mean.
- A draw is one random order of which a budget takes the beginning. So a larger budget holds the
  images of a smaller one, a curve shows what *more* labels add, and a further budget does not
  change the others.
- There are as many updates as the probe makes on all training images: few labels must not also
  mean little training.
- Class weights are counted over the drawn images, whatever `class_weights` says: what is drawn
  evenly needs no weights for the unevenness of the benchmark.
"""

import logging
import math
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stradavit.evaluation.feature_file import Features, read_features
from stradavit.evaluation.folds import Labelled, Split, repeated_folds
from stradavit.evaluation.metrics import FoldOutcome, cell_record, fold_records, mean_scores
from stradavit.evaluation.probe import train_probe
from stradavit.evaluation.recipe import BUDGET, balanced_weights
from stradavit.files import write_json
from stradavit.provenance import code_hash
from stradavit.settings.evaluation import FoldSettings, LabelBudgetSettings, ProbeSettings

log = logging.getLogger(__name__)


def label_budget(
    features_path: Path,
    folds: FoldSettings,
    probe: ProbeSettings,
    settings: LabelBudgetSettings,
    names: tuple[str, str],
    out_path: Path,
) -> None:
    """Probe one encoder on one benchmark with each budget of labels; write metrics.

    Parameters
    ----------
    features_path : what the stage `features` wrote
    names : of the encoder and of the benchmark, for the tables
    out_path : metrics (JSON): `budgets`, each with its `folds`, whose `repeat` is the draw
    """
    features = read_features(features_path)
    planned = list(repeated_folds(features, folds))
    budgets: list[dict[str, Any]] = []
    for per_class in sorted(set(settings.per_class)):
        outcomes = [
            probe_few(features, split, draw, per_class, folds.count, probe)
            for draw in range(settings.draws)
            for split in planned
        ]
        records = fold_records(features, outcomes)
        budgets.append({"per_class": per_class, "folds": records, **mean_scores(records)})
        score = budgets[-1]["macro_f1"]["mean"]
        log.info("%d images of each class: macro-F1 %.4f", per_class, score)
    write_json(
        out_path,
        {
            **cell_record(
                features,
                names,
                "label_budget",
                {
                    "folds": folds.model_dump(mode="json"),
                    "probe": probe.model_dump(mode="json", exclude={"repeats"}),
                    "label_budget": settings.model_dump(mode="json"),
                },
                code_hash(__name__),
                features.origin,
            ),
            "budgets": budgets,
        },
        sealed=True,
    )


def probe_few(
    features: Features,
    split: Split,
    draw: int,
    per_class: int,
    n_folds: int,
    settings: ProbeSettings,
) -> FoldOutcome:
    """Train on `per_class` images of each class of a fold's training images.

    Returns
    -------
    outcome on all held-out images, whose `repeat` is the draw
    """
    chosen = draw_images(features, split, draw, settings.seed, per_class)
    weights = balanced_weights(features.labels, chosen, len(features.classes), "training_fold")
    n_updates = settings.epochs * math.ceil(len(split.train) / settings.batch_size)
    epochs = math.ceil(n_updates / math.ceil(len(chosen) / settings.batch_size))
    outcome = train_probe(
        features.values,
        features.labels,
        chosen,
        split.test,
        draw * n_folds + split.fold,
        weights,
        settings,
        epochs,
    )
    return replace(outcome, fold=split.fold, repeat=draw)


def draw_images(
    benchmark: Labelled, split: Split, draw: int, seed: int, per_class: int
) -> NDArray[np.int64]:
    """Numbers of the first `per_class` training images of each class, in the order of a draw.

    The order follows from seed, fold and draw alone. Returned ascending.
    """
    labels, sources = np.asarray(benchmark.labels), benchmark.sources
    random = np.random.default_rng((seed, split.fold, draw, BUDGET))
    chosen: list[int] = []
    for label in range(len(benchmark.classes)):
        seen: Counter[str] = Counter()
        ranked = []
        for image in random.permutation(split.train[labels[split.train] == label]).tolist():
            ranked.append((seen[sources[image]], image))
            seen[sources[image]] += 1
        # Python sorts stably: first images of all sources in random order, then second ones.
        ranked.sort(key=lambda entry: entry[0])
        chosen += [image for _, image in ranked[:per_class]]
    return np.array(sorted(chosen), dtype=np.int64)
