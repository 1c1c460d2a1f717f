"""A drawn corpus, benchmark files and records of runs, written by the package's own writers."""

import json
import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stradavit.acquire.labels import LabelledImage
from stradavit.cutouts.benchmark import BenchmarkWriter
from stradavit.cutouts.corpus import write_corpus
from stradavit.cutouts.hdf5 import new_file
from stradavit.cutouts.shards import ROW, Shard, new_shard
from stradavit.settings import Settings

SIZE_PX = 96
CUTOUTS_PER_SURVEY = 12
CLASSES = ["FR I", "FR II & more_$5"]
IMAGES_PER_CLASS = 4

# Figures and tables need none of these.
_ROW = dict.fromkeys(set(ROW.names or ()) - {"product", "checksum"}, 0)


def draw_sky(seed: int, size_px: int) -> NDArray[np.float32]:
    """Noise and a few double sources, (size_px, size_px) in [0, 1]."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size_px, :size_px]
    sky = rng.normal(0.12, 0.05, (size_px, size_px))
    for _ in range(3):
        centre, angle = rng.uniform(0.2, 0.8, 2) * size_px, rng.uniform(0, math.pi)
        for side in (-1, 1):
            y0, x0 = centre + side * 0.06 * size_px * np.array([math.sin(angle), math.cos(angle)])
            width = rng.uniform(0.015, 0.03) * size_px
            sky += rng.uniform(0.5, 1) * np.exp(-((y - y0) ** 2 + (x - x0) ** 2) / 2 / width**2)
    return sky.clip(0, 1).astype(np.float32)


def write_data(settings: Settings, results_dir: Path) -> None:
    """Corpora, benchmarks and records that a config's tables and figures read."""
    write_corpora(settings, results_dir)
    for number, benchmark in enumerate(settings.benchmarks):
        _write_benchmark(results_dir / "benchmarks" / f"{benchmark}.h5", seed=100 * number)
    for node in settings.nodes().values():
        folder = results_dir / "encoders" / node.name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps({"image_size": 64}))
        if node.branch != "start":
            _write_record(folder / "metrics.jsonl", with_rank=node.contrastive_loss is not None)


def write_corpora(settings: Settings, results_dir: Path) -> None:
    """The corpora of the matrix, those without a survey and those of chips."""
    matrix = settings.matrix
    for corpus in (*matrix.corpora, *matrix.reduced_corpora, *matrix.chips.corpora):
        _write_corpus(settings, corpus, results_dir)


def _write_corpus(settings: Settings, name: str, results_dir: Path) -> None:
    shards, counts = [], {}
    for s, survey in enumerate(settings.corpus(name).surveys):
        path = results_dir / "shards" / survey / f"{name}.h5"
        attributes = {"survey": survey, "part": 0, "settings": "{}", "ledger_sha256": "0" * 64}
        with new_shard(path, SIZE_PX, attributes) as writer, writer.product("field", "0" * 64):
            for i in range(CUTOUTS_PER_SURVEY):
                writer.append(draw_sky(1000 * s + i, SIZE_PX), **_ROW)
        shards.append(Shard(path))
        counts[survey] = {
            "products": 5 + s,
            "skipped": {"truncated": 2} if s else {},
            "dropped": {"not_finite": 7, "all_zero": 1 + s},
            "cut": CUTOUTS_PER_SURVEY + 3,
            "no_sky": 0,
            "guard": dict.fromkeys(
                (*settings.guards(name), *settings.detection_guards(name)), 3 * s
            ),
            "duplicate": 0,
            "kept": CUTOUTS_PER_SURVEY * (1 + s),
        }
    path = results_dir / "corpora" / f"{name}.h5"
    write_corpus(path, shards, [np.arange(len(shard)) for shard in shards], counts)


def _write_benchmark(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with new_file(path) as file:
        writer = BenchmarkWriter(file)
        for label, name in enumerate(CLASSES):
            for i in range(IMAGES_PER_CLASS + label):
                image = f"{label}-{i}"
                # Two images of the first source; images differ in size.
                source = f"{label}-{max(i, 1)}"
                row = LabelledImage(image, path, None, name, source, math.nan, math.nan)
                writer.append(draw_sky(seed + 10 * label + i, 40 + 4 * i), row)
        excluded = {"not_finite": 2, "other_class": 9}
        writer.finish(CLASSES, {"excluded": json.dumps(excluded), "settings": "{}"})


def _write_record(path: Path, with_rank: bool) -> None:
    lines = [{"kind": "step", "update": 1, "epoch": 1, "loss": 9.0}]
    for epoch in range(1, 8):
        line = {"kind": "epoch", "update": 10 * epoch, "epoch": epoch, "loss": 5 / epoch}
        line["learning_rate"] = 5e-4 * min(epoch / 2, (8 - epoch) / 6)
        if with_rank:
            line["effective_rank"] = 10.0 + 3 * epoch
        lines.append(line)
    lines.append({"kind": "end", "update": 70, "epoch": 7, "loss": 0.5})
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
