"""Labels of benchmarks that are published as pickled batches.

File names repeat in FR-DEEP, so nothing is keyed on them: an image is its batch and its place in
it. They may hold positions, in degrees in MiraBest's batches (its catalogue, a separate file, gives
right ascension in hours), so that images of one place on the sky are known to be one source.

MiraBest and FR-DEEP are published divided: the images of `test_batch` are for testing, all others
for training.
"""

import logging
import math
import re
from collections import Counter
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from stradavit.acquire.batches import batch_images, iter_batches
from stradavit.acquire.labels import LabelledImage, Side
from stradavit.acquire.positions import name_sources, parse_position
from stradavit.errors import LabelError
from stradavit.settings.sources import BatchBenchmark

logger = logging.getLogger(__name__)


def batch_labels(benchmark_name: str, benchmark: BatchBenchmark) -> list[LabelledImage]:
    """Labelled images of all batches; those whose label has no name are left out and counted.

    Raises
    ------
    DataError
        As `iter_batch_images`.
    LabelError
        If labels, names and images of a batch differ in number, or no label has a name.
    """
    path = Path(benchmark.path)
    pattern = _compiled(benchmark_name, benchmark.filename_pattern)
    rows: list[tuple[str, int, str, tuple[float, float], Side]] = []
    left_out: Counter[int] = Counter()
    member = 0
    for name, batch in iter_batches(path):
        where = f"{path}: {name}"
        side = _side(benchmark, name)
        n_images = len(batch_images(where, batch, benchmark.side_px))
        labels = [_number(where, item) for item in _column(where, batch, "labels", n_images)]
        filenames = [_text(where, item) for item in _column(where, batch, "filenames", n_images)]
        for index, (label, filename) in enumerate(zip(labels, filenames, strict=True)):
            if label in benchmark.label_names:
                position = _position(pattern, filename, where)
                image = f"{name}-{index:05d}"
                row = (image, member + index, benchmark.label_names[label], position, side)
                rows.append(row)
            else:
                left_out[label] += 1
        member += n_images
    if left_out:
        counts = ", ".join(f"{n} of label {label}" for label, n in sorted(left_out.items()))
        logger.info("%s: images left out, having no name in label_names: %s", path, counts)
    if not rows:
        raise LabelError(
            f"{path}: none of its labels {sorted(left_out)} has a name in "
            f"benchmarks.{benchmark_name}.label_names {sorted(benchmark.label_names)}."
        )
    sources = name_sources([row[3] for row in rows], [row[0] for row in rows])
    return [
        LabelledImage(image, path, number, label, source, *position, side)
        for (image, number, label, position, side), source in zip(rows, sources, strict=True)
    ]


def _side(benchmark: BatchBenchmark, batch_name: str) -> Side:
    if benchmark.test_batch is None:
        return ""
    return "test" if PurePosixPath(batch_name).name == benchmark.test_batch else "train"


def _compiled(benchmark_name: str, pattern: str | None) -> re.Pattern[str] | None:
    if pattern is None:
        return None
    key = f"benchmarks.{benchmark_name}.filename_pattern"
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise LabelError(f"{key}: {pattern!r} is no regular expression ({error}).") from error
    if not {"ra_deg", "dec_deg"} <= set(compiled.groupindex):
        raise LabelError(f"{key}: {pattern!r} lacks the groups (?P<ra_deg>…) and (?P<dec_deg>…).")
    return compiled


def _position(pattern: re.Pattern[str] | None, filename: str, where: str) -> tuple[float, float]:
    """Position in a file name; NaN if it holds none."""
    found = pattern.search(filename) if pattern else None
    if found is None:
        return math.nan, math.nan
    return parse_position(found["ra_deg"], found["dec_deg"], f"{where}, {filename}")


def _column(where: str, batch: dict[str, Any], key: str, n_images: int) -> list[Any]:
    values = batch.get(key)
    if not isinstance(values, list | np.ndarray) or len(values) != n_images:
        found = len(values) if isinstance(values, list | np.ndarray) else "no"
        raise LabelError(f"{where}: found {found} {key} for {n_images} images; expected as many.")
    return list(values)


def _number(where: str, value: object) -> int:
    is_whole = isinstance(value, int | np.integer) or (
        isinstance(value, float | np.floating) and float(value).is_integer()
    )
    if not is_whole:
        raise LabelError(f"{where}: found the label {ascii(value)[:60]}; expected a whole number.")
    return int(value)  # type: ignore[call-overload, no-any-return]


def _text(where: str, value: object) -> str:
    if not isinstance(value, str | bytes):
        found = type(value).__name__
        raise LabelError(f"{where}: found a {found} as the name of a file; expected text.")
    return value.decode("latin1") if isinstance(value, bytes) else str(value)
