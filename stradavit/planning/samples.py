"""How many labelled images each benchmark has, or is expected to have."""

import csv
import os
import struct
from dataclasses import dataclass
from pathlib import Path

from stradavit.errors import DataError
from stradavit.planning.known import Known
from stradavit.planning.published import usual_sample
from stradavit.settings.sources import (
    ArchiveBenchmark,
    BatchBenchmark,
    Benchmark,
    FolderBenchmark,
    MiraBestBenchmark,
    SimulatedBenchmark,
)

# Of the simulated benchmarks: classes, pixels of an image on average, and bytes of one.
# `stradavit.acquire.simulated` says why; importing that costs a second.
SIMULATED_CLASSES = {"mirabest": 2, "lotss_dr2": 5, "rgz_dr1": 6}
SIMULATED_PIXELS = {"mirabest": 22_500, "lotss_dr2": 18_300, "rgz_dr1": 6_500}
SIMULATED_VALUE_BYTES = {"mirabest": 4, "lotss_dr2": 8, "rgz_dr1": 4}
# Where nothing is known of an image.
_USUAL_PIXELS = 150**2


@dataclass(frozen=True)
class SamplePlan:
    """Images of a benchmark.

    Parameters
    ----------
    name : key in the config
    images : in its labelled cutouts, when they are there
    pixels : of an image, on average
    is_acquired : whether its table of labels is there
    is_cut : whether its labelled cutouts are there
    """

    name: str
    images: Known
    pixels: float
    is_acquired: bool
    is_cut: bool


def sample_plan(name: str, benchmark: Benchmark, results_dir: Path) -> SamplePlan:
    """Counted where there is something to count, and expected elsewhere."""
    path = results_dir / "benchmarks" / f"{name}.h5"
    labels_path = results_dir / "raw" / name / "labels.csv"
    pixels = _pixels(benchmark)
    n_cut = _in_labelled_cutouts(path)
    if n_cut is not None:
        known = Known(n_cut, "counted", "its labelled cutouts")
        return SamplePlan(name, known, pixels, True, True)
    if labels_path.is_file():
        n_rows = labels_path.read_bytes().count(b"\n") - 1
        known = Known(n_rows, "counted", "its table of labels")
        return SamplePlan(name, known, pixels, True, False)
    return SamplePlan(name, _expected(benchmark), pixels, False, False)


def _expected(benchmark: Benchmark) -> Known:
    match benchmark:
        case SimulatedBenchmark():
            n = benchmark.images_per_class * SIMULATED_CLASSES[benchmark.like]
            return Known(n, "counted", "images_per_class of each class")
        case FolderBenchmark():
            return _in_table(benchmark)
        case BatchBenchmark():
            return _in_batches(benchmark)
        case ArchiveBenchmark():
            usual = usual_sample(benchmark)
            return Known(usual.images, "published", usual.source)


def _pixels(benchmark: Benchmark) -> float:
    if benchmark.crop_px is not None:
        return benchmark.crop_px**2
    match benchmark:
        case SimulatedBenchmark():
            return SIMULATED_PIXELS[benchmark.like]
        case BatchBenchmark() | MiraBestBenchmark():
            return benchmark.side_px**2
        case ArchiveBenchmark():
            usual = usual_sample(benchmark)
            return usual.bytes / usual.images / 4  # float32
    return _USUAL_PIXELS


def _in_table(benchmark: FolderBenchmark) -> Known:
    path = Path(benchmark.labels).expanduser()
    try:
        with path.open(encoding="utf-8-sig", newline="") as opened:
            labels = [row.get(benchmark.label_column) for row in csv.DictReader(opened)]
    except (OSError, UnicodeDecodeError, csv.Error):
        return Known(0, "assumed", f"{path} cannot be read yet")
    wanted = benchmark.classes
    n = sum(wanted is None or label in wanted for label in labels)
    return Known(n, "counted", f"rows of {path.name}")


def _in_batches(benchmark: BatchBenchmark) -> Known:
    """By the bytes of the batches; of a packed one those its last four bytes tell (RFC 1952)."""
    path = Path(benchmark.path).expanduser()
    try:
        if path.is_dir():
            n_bytes = sum(file.stat().st_size for file in path.iterdir() if file.is_file())
        else:
            with path.open("rb") as opened:
                opened.seek(-4, os.SEEK_END)
                (n_bytes,) = struct.unpack("<I", opened.read(4))
    except (OSError, struct.error):
        return Known(0, "assumed", f"{path} cannot be read yet")
    return Known(n_bytes // benchmark.side_px**2, "counted", "at most, by the size of its batches")


def _in_labelled_cutouts(path: Path) -> int | None:
    if not path.is_file():
        return None
    from stradavit.cutouts.benchmark import FORMAT, REMEDY, VERSION
    from stradavit.cutouts.hdf5 import LazyFile

    lazy = LazyFile(path, FORMAT, VERSION, REMEDY)
    try:
        with lazy.opened() as file:
            return int(file["label"].shape[0])
    except DataError:
        return None
    finally:
        lazy.close()
