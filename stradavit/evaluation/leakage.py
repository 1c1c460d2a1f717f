"""Stage `leakage`: images of a benchmark that show the same sky, and whether folds part them.

Two clues, never mixed up: by *position*, the coordinates of two images are closer than
`same_source_arcsec`; by *content*, their pixels agree (`stradavit.cutouts.duplicates`). Neither
alone is proof: positions can be wrong, and what has no structure looks alike. Content also finds
what positions cannot: images of neighbours on the sky whose edges overlap.

`results/leakage/{benchmark}.json` holds:

- `benchmark`, `n_images`, `n_sources`;
- `n_without_position`: images whose position is unknown, for which only content speaks;
- `n_indistinct`: images of too little structure (a lone point source) for another image of the
  same sky to be told from a look-alike; of these only exact copies are found;
- `pairs`: how many pairs of images each clue finds, `position_only`, `content_only`, `both`, each
  `{"one_source": n, "one_fold": n, "across_folds": n}`: images of one source, which folds keep
  together; of two sources that the same fold holds out; of two folds, so that one is trained on
  and the other tested on. The folds are those of repeat 0;
- `published_split`: the same for the published division, each clue `{"one_side": n, "across": n}`;
  null where none is published;
- `examples`: at most `leakage.examples` pairs, those across folds first, then those across the
  published division, then those of two sources in one fold; pairs that nothing can part are left
  out. Each has `images`, `sources`, `classes`, `folds` (two each), `found_by` (a key of `pairs`),
  `separation_arcsec` (null if a position is unknown), and `similarity`, `elements`, `overlap`
  (null if content does not agree);
- `settings`: `{"folds": ..., "leakage": ...}`; `code`; `provenance`.
"""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stradavit.cutouts.agreement import evidence
from stradavit.cutouts.benchmark import LabelledCutouts
from stradavit.cutouts.duplicates import Duplicates, find_duplicates
from stradavit.cutouts.sky import Floats, angle, close_pairs, unit_vectors
from stradavit.evaluation.folds import make_folds
from stradavit.files import sha256_of, write_json
from stradavit.machine import maker
from stradavit.provenance import code_hash
from stradavit.settings.duplicates import LeakageSettings
from stradavit.settings.evaluation import FoldSettings

Integers = NDArray[np.int64]

# In the order in which examples are listed.
CLUES = ("both", "content_only", "position_only")
RELATIONS = ("across_folds", "one_fold", "one_source")
SIDES = ("across", "one_side")
# What a pair must at least agree by for structure to be enough: real ones agree better as a rule.
USUAL_SIMILARITY = 0.99

PAIR = np.dtype(
    [
        ("first", "<i8"),
        ("second", "<i8"),
        ("clue", "<i8"),
        ("rank", "<i8"),  # among the examples
        ("separation", "<f8"),
        ("duplicate", "<i8"),  # index into the duplicates; -1 if content does not agree
    ]
)

log = logging.getLogger(__name__)


def leakage(
    benchmark_path: Path,
    folds: FoldSettings,
    settings: LeakageSettings,
    benchmark_name: str,
    out_path: Path,
) -> None:
    """Search a benchmark for images of the same sky; write the report.

    Parameters
    ----------
    benchmark_path : labelled cutouts
    folds : those of the evaluation
    settings : what counts as the same sky
    benchmark_name : for the tables
    out_path : report to write (JSON)

    Raises
    ------
    LabelError
        As `make_folds` does.
    """
    cutouts = LabelledCutouts(benchmark_path)
    fold_of = make_folds(cutouts, folds)
    found = find_duplicates(cutouts, settings.content)
    cutouts.close()
    _, source_of = np.unique(np.asarray(cutouts.sources, dtype=np.str_), return_inverse=True)
    splits = np.array(cutouts.splits)
    side_of = np.select([splits == "train", splits == "test"], [0, 1], -1)

    counts = np.zeros((len(CLUES), len(RELATIONS)), dtype=np.int64)
    sides = np.zeros((len(CLUES), len(SIDES)), dtype=np.int64)
    examples = np.zeros(0, dtype=PAIR)
    for pairs in _all_pairs(cutouts.positions, found, settings.same_source_arcsec):
        first, second = pairs["first"], pairs["second"]
        is_one_source = source_of[first] == source_of[second]
        relation = np.select([is_one_source, fold_of[first] == fold_of[second]], [2, 1], 0)
        np.add.at(counts, (pairs["clue"], relation), 1)
        is_divided = (side_of[first] >= 0) & (side_of[second] >= 0)
        is_across = is_divided & (side_of[first] != side_of[second])
        np.add.at(sides, (pairs["clue"][is_divided], 1 - is_across[is_divided]), 1)
        pairs["rank"] = np.select([relation == 0, is_across, relation == 1], [0, 1, 2], -1)
        examples = np.concatenate([examples, pairs[pairs["rank"] >= 0]])
        order = np.lexsort([examples[name] for name in ("second", "first", "clue", "rank")])
        examples = examples[order[: settings.examples]]

    usual = np.array([evidence(USUAL_SIMILARITY, n) for n in found.elements])
    report = {
        "benchmark": benchmark_name,
        "n_images": len(cutouts),
        "n_sources": len(set(cutouts.sources)),
        "n_without_position": int((~np.isfinite(cutouts.positions).all(axis=1)).sum()),
        "n_indistinct": int((usual < settings.content.least_evidence).sum()),
        "pairs": _named(counts, RELATIONS),
        "published_split": _named(sides, SIDES) if (side_of >= 0).any() else None,
        "examples": [_example(pair, cutouts, fold_of, found) for pair in examples],
        "settings": {
            "folds": folds.model_dump(mode="json"),
            "leakage": settings.model_dump(mode="json"),
        },
        "code": code_hash(__name__),
        "provenance": {"benchmark_sha256": sha256_of(benchmark_path)},
        "made_by": maker(),
    }
    write_json(out_path, report, sealed=True)
    n_parted = int(counts[:, RELATIONS.index("across_folds")].sum())
    if n_parted:
        log.warning(
            "%s: %d pairs of images may show the same sky in different folds; see `examples` in "
            "%s. If they do, give them one source name in the labels.",
            benchmark_name,
            n_parted,
            out_path,
        )


def _all_pairs(positions: Floats, found: Duplicates, arcsec: float) -> Iterator[NDArray[np.void]]:
    """Pairs that any clue finds, each once, as records of `PAIR` with their clue.

    Those by position come in blocks: where all images show one place there are n² / 2 of them.
    """
    n = len(positions)
    by_content = np.zeros(len(found.pairs), dtype=PAIR)
    by_content["first"] = [pair.first for pair in found.pairs]
    by_content["second"] = [pair.second for pair in found.pairs]
    by_content["duplicate"] = np.arange(len(by_content))
    keys = by_content["first"] * n + by_content["second"]
    places = [unit_vectors(positions[by_content[name]]) for name in ("first", "second")]
    by_content["separation"] = np.degrees(angle(*places)) * 3600
    is_close = by_content["separation"] < arcsec
    by_content["clue"] = np.where(is_close, CLUES.index("both"), CLUES.index("content_only"))
    yield by_content
    for first, second, separation in close_pairs(positions, arcsec):
        is_new = ~np.isin(first * n + second, keys)
        by_position = np.zeros(int(is_new.sum()), dtype=PAIR)
        by_position["first"], by_position["second"] = first[is_new], second[is_new]
        by_position["separation"] = separation[is_new]
        by_position["clue"] = CLUES.index("position_only")
        by_position["duplicate"] = -1
        yield by_position


def _named(counts: Integers, columns: tuple[str, ...]) -> dict[str, dict[str, int]]:
    return {
        clue: dict(zip(columns, row, strict=True))
        for clue, row in zip(CLUES, counts.tolist(), strict=True)
    }


def _example(
    pair: np.void, cutouts: LabelledCutouts, fold_of: Integers, found: Duplicates
) -> dict[str, Any]:
    both = (int(pair["first"]), int(pair["second"]))
    content = found.pairs[pair["duplicate"]] if pair["duplicate"] >= 0 else None
    separation = float(pair["separation"])
    return {
        "images": [cutouts.images[i] for i in both],
        "sources": [cutouts.sources[i] for i in both],
        "classes": [cutouts.classes[cutouts.labels[i]] for i in both],
        "folds": [int(fold_of[i]) for i in both],
        "found_by": CLUES[pair["clue"]],
        "separation_arcsec": separation if np.isfinite(separation) else None,
        "similarity": None if content is None else content.similarity,
        "elements": None if content is None else content.elements,
        "overlap": None if content is None else content.overlap,
    }
