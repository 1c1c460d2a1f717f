"""Benchmarks that are a folder of images and a CSV of labels."""

import logging
import math
from collections import Counter
from pathlib import Path, PurePosixPath

from stradavit.acquire.labels import LabelledImage, Side
from stradavit.acquire.positions import name_sources, parse_position
from stradavit.acquire.table import Row, read_table
from stradavit.errors import LabelError
from stradavit.settings.sources import FolderBenchmark

logger = logging.getLogger(__name__)

SIDES: dict[str, Side] = {
    "train": "train",
    # No protocol chooses anything by validation images, so they are there to be trained on.
    "valid": "train",
    "val": "train",
    "test": "test",
}

IMAGE_SUFFIXES = (".fits", ".fit", ".fts", ".fits.gz", ".fits.fz", ".png", ".jpg", ".jpeg")


def folder_labels(benchmark_name: str, benchmark: FolderBenchmark) -> list[LabelledImage]:
    """Labelled images of a folder, in the order of the label file.

    Raises
    ------
    DataError
        If the label file is missing or damaged, or holds a position that is none.
    LabelError
        If it names images that are not there, names one twice, names a file outside the folder, or
        leaves a label or a source empty, or names a split there is none of.
    """
    folder, csv_path = Path(benchmark.images), Path(benchmark.labels)
    if not folder.is_dir():
        raise LabelError(
            f"benchmarks.{benchmark_name}.images: {folder} is no folder, looked for from "
            f"{Path.cwd()}. Give the folder that the file names in {csv_path} are relative to."
        )
    remedy = (
        f"Name the columns under benchmarks.{benchmark_name}; where no positions are known, set "
        "ra_column: null and dec_column: null."
    )
    rows = read_table(csv_path, _columns(benchmark), remedy)
    if not rows:
        raise LabelError(f"{csv_path}: has no rows; expected one for each labelled image.")
    paths = _image_paths(benchmark_name, benchmark, rows)
    positions = [_position(benchmark, row) for row in rows]
    images = [row[benchmark.filename_column] for row in rows]
    if benchmark.source_column is None:
        sources = name_sources(positions, images)
    else:
        sources = [_filled(benchmark, row, benchmark.source_column) for row in rows]
    _count_unlabelled(folder, paths)
    return [
        LabelledImage(
            image,
            path,
            None,
            _filled(benchmark, row, benchmark.label_column),
            source,
            *position,
            _side(benchmark, row),
        )
        for image, path, row, source, position in zip(
            images, paths, rows, sources, positions, strict=True
        )
    ]


def _columns(benchmark: FolderBenchmark) -> list[str]:
    optional = (
        benchmark.source_column,
        benchmark.ra_column,
        benchmark.dec_column,
        benchmark.split_column,
    )
    return [benchmark.filename_column, benchmark.label_column, *filter(None, optional)]


def _position(benchmark: FolderBenchmark, row: Row) -> tuple[float, float]:
    if benchmark.ra_column is None or benchmark.dec_column is None:
        return math.nan, math.nan
    where = f"{benchmark.labels}, line {row.line}"
    return parse_position(row[benchmark.ra_column], row[benchmark.dec_column], where)


def _side(benchmark: FolderBenchmark, row: Row) -> Side:
    if benchmark.split_column is None:
        return ""
    found = row[benchmark.split_column]
    if found.lower() not in SIDES:
        raise LabelError(
            f"{benchmark.labels}, line {row.line}: the column {benchmark.split_column!r} says "
            f"{found!r}; expected train or test (valid and val count as train). Correct it, or "
            "leave the row out."
        )
    return SIDES[found.lower()]


def _filled(benchmark: FolderBenchmark, row: Row, column: str) -> str:
    if not row[column]:
        raise LabelError(
            f"{benchmark.labels}, line {row.line}: the column {column!r} is empty. Fill it, or "
            "leave the row out."
        )
    return row[column]


def _image_paths(benchmark_name: str, benchmark: FolderBenchmark, rows: list[Row]) -> list[Path]:
    """The file of each row, all of them there, within the folder, and different."""
    folder = Path(benchmark.images)
    first_line: dict[str, int] = {}
    missing = []
    for row in rows:
        name = row[benchmark.filename_column]
        where = f"{benchmark.labels}, line {row.line}"
        parts = PurePosixPath(name)
        if not name or parts.is_absolute() or ".." in parts.parts or "\0" in name:
            raise LabelError(
                f"{where}: the file name {name!r} leads out of {folder}. Write names relative to "
                f"benchmarks.{benchmark_name}.images, without '..'."
            )
        earlier = first_line.setdefault(str(parts), row.line)
        if earlier != row.line:
            raise LabelError(
                f"{where}: {name} was labelled in line {earlier} already; an image seen twice "
                "could stand in a training and a test fold. Keep one of the rows."
            )
        if not (folder / parts).is_file():
            missing.append(f"line {row.line}: {name}")
    if missing:
        raise LabelError(
            f"{benchmark.labels}: {len(missing)} of {len(rows)} rows name images that are not in "
            f"{folder}: {'; '.join(missing[:3])}. Correct benchmarks.{benchmark_name}.images "
            "(names are relative to it), or remove the rows."
        )
    return [folder / row[benchmark.filename_column] for row in rows]


def _count_unlabelled(folder: Path, labelled: list[Path]) -> None:
    names = (path for path in folder.rglob("*") if path.name.lower().endswith(IMAGE_SUFFIXES))
    unlabelled = sorted(set(names) - set(labelled))
    if unlabelled:
        kinds = Counter(path.suffix for path in unlabelled)
        counts = ", ".join(f"{count} {suffix}" for suffix, count in sorted(kinds.items()))
        logger.warning(
            "%s: %d images have no label and are not used (%s), such as %s",
            folder,
            len(unlabelled),
            counts,
            unlabelled[0].relative_to(folder),
        )
