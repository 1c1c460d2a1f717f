"""Every stage as a command line over one small world of files."""

import json
import multiprocessing
import os
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

from tests.unit.detection.sets import TINY_ENCODER

SURVEY = {"source": "simulated", "like": "askap", "products": 1, "side_px": 256, "parts": 1}
BENCHMARK = {"source": "simulated", "like": "mirabest", "images_per_class": 6}
DETECTION = {
    "source": "simulated",
    "images": {"train": 4, "val": 1, "test": 2},
    "side_px": 64,
}
ENCODER = {"source": "scratch", "architecture": TINY_ENCODER | {"image_px": 32}}
EVALUATION = {
    "probe": {"epochs": 2},
    "finetune": {"epochs": 1, "precision": "fp32"},
    "label_budget": {"per_class": [2], "draws": 1},
    "published_split": {"trainings": 1},
}
DETECTOR = {
    "seed": 7,
    "detector": {
        "image_px": 64,
        "window": 4,
        "global_blocks": 1,
        "pyramid_width": 16,
        "head_width": 32,
        "anchor_scale": 4.0,
    },
    "training": {"epochs": 1, "batch_size": 2, "micro_batch_size": 1, "precision": "fp32"},
}
CUTOUTS = {"size_px": 64}
LOADER = {"device": "cpu", "threads": 1, "workers": 0}


@dataclass(frozen=True)
class Stage:
    """A subcommand: its input in the world, its output in a folder, and the rest of the line.

    Attributes
    ----------
    input : file it cannot do without, below the world; "" if there is none
    output : file it writes, below its folder
    line : options without the output, of the folder of the world
    """

    input: str
    output: str
    line: Callable[[Path], list[str]]


def _options(**values: object) -> list[str]:
    line: list[str] = []
    for name, value in values.items():
        texts = [json.dumps(value)] if isinstance(value, dict) else [str(value)]
        line += [f"--{name.replace('_', '-')}", *texts]
    return line


def _names(world: Path, **files: str) -> list[str]:
    names = {"encoder_name": "start", "benchmark_name": "drawn", "evaluation": EVALUATION}
    return _options(**names, **{option: world / file for option, file in files.items()})


WEIGHTS = "encoders/start/model.safetensors"
DETECTOR_WEIGHTS = "detectors/start/model.safetensors"
FEATURES = {"features": "features/drawn.h5"}

STAGES: dict[str, Stage] = {
    "acquire-manifest": Stage("", "sky.csv", lambda world: _options(name="sky", survey=SURVEY)),
    "acquire-part": Stage(
        "manifests/sky.csv",
        "0.csv",
        lambda world: _options(
            name="sky", survey=SURVEY, manifest=world / "manifests/sky.csv", part=0
        ),
    ),
    "acquire-benchmark": Stage(
        "", "labels.csv", lambda world: _options(name="drawn", benchmark=BENCHMARK)
    ),
    "acquire-detection": Stage(
        "", "sources.json", lambda world: _options(name="sar", set=DETECTION)
    ),
    "acquire-encoder": Stage(
        "",
        "model.safetensors",
        lambda world: _options(name="start", encoder=ENCODER, seed=3),
    ),
    "cut-part": Stage(
        "raw/sky/0.csv",
        "0.h5",
        lambda world: _options(
            name="sky", survey=SURVEY, cutouts=CUTOUTS, ledger=world / "raw/sky/0.csv"
        ),
    ),
    "cut-benchmark": Stage(
        "raw/drawn/labels.csv",
        "drawn.h5",
        lambda world: _options(
            name="drawn", benchmark=BENCHMARK, labels=world / "raw/drawn/labels.csv"
        ),
    ),
    "cut-detection": Stage(
        "raw/sar/sources.json",
        "sar.h5",
        lambda world: _options(
            name="sar", set=DETECTION, cutouts=CUTOUTS, sources=world / "raw/sar/sources.json"
        ),
    ),
    "cut-chips": Stage(
        "detection/sar.h5",
        "chips.h5",
        lambda world: _options(
            name="chips",
            detection=world / "detection/sar.h5",
            splits="train",
            part=0,
            parts=1,
            size_px=64,
        ),
    ),
    "cut-corpus": Stage(
        "shards/sky/0.h5",
        "sky.h5",
        lambda world: _options(
            name="sky",
            guard_arcmin={"drawn": 0.01},
            guards=world / "benchmarks/drawn.h5",
            shards=world / "shards/sky/0.h5",
        ),
    ),
    "features": Stage(
        "benchmarks/drawn.h5",
        "drawn.h5",
        lambda world: _options(
            encoder=world / WEIGHTS, benchmark=world / "benchmarks/drawn.h5", loader=LOADER
        ),
    ),
    "probe": Stage("features/drawn.h5", "drawn.json", lambda world: _names(world, **FEATURES)),
    "knn": Stage("features/drawn.h5", "drawn.json", lambda world: _names(world, **FEATURES)),
    "label-budget": Stage(
        "features/drawn.h5", "drawn.json", lambda world: _names(world, **FEATURES)
    ),
    "published-split": Stage(
        "features/drawn.h5", "drawn.json", lambda world: _names(world, **FEATURES)
    ),
    "finetune": Stage(
        WEIGHTS,
        "drawn.json",
        lambda world: [
            *_names(world, encoder=WEIGHTS, benchmark="benchmarks/drawn.h5"),
            *_options(loader=LOADER),
        ],
    ),
    "leakage": Stage(
        "benchmarks/drawn.h5",
        "drawn.json",
        lambda world: _options(
            benchmark_name="drawn", evaluation=EVALUATION, benchmark=world / "benchmarks/drawn.h5"
        ),
    ),
    "train-detector": Stage(
        "detection/sar.h5",
        "model.safetensors",
        lambda world: _options(
            encoder_name="start",
            set_name="sar",
            encoder=world / WEIGHTS,
            images=world / "detection/sar.h5",
            run=DETECTOR,
            loader=LOADER,
        ),
    ),
    "detect": Stage(
        DETECTOR_WEIGHTS,
        "s7.json",
        lambda world: _options(
            encoder_name="start",
            set_name="sar",
            detector=world / DETECTOR_WEIGHTS,
            images=world / "detection/sar.h5",
            split="test",
            loader=LOADER,
        ),
    ),
}

# Where the output of each stage lies in the world, in the order of the work.
WORLD = {
    "acquire-manifest": "manifests",
    "acquire-part": "raw/sky",
    "acquire-benchmark": "raw/drawn",
    "acquire-detection": "raw/sar",
    "acquire-encoder": "encoders/start",
    "cut-part": "shards/sky",
    "cut-benchmark": "benchmarks",
    "cut-detection": "detection",
    "cut-corpus": "corpora",
    "features": "features",
    "probe": "metrics",
    "train-detector": "detectors/start",
    "detect": "metrics/detection",
}


def line_of(stage: str, world: Path, folder: Path) -> list[str]:
    """What is typed after `stradavit`."""
    about = STAGES[stage]
    return [stage, *about.line(world), "--out", str(folder / about.output)]


def run(stage: str, world: Path, folder: Path) -> int:
    """The command line in this process; its status."""
    from stradavit.cli import main

    return main(line_of(stage, world, folder))


def start(stage: str, world: Path, folder: Path) -> BaseProcess:
    """The command line in a process of its own, which has the libraries already."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        [
            "stradavit.acquire.stages",
            "stradavit.cutouts.stages",
            "stradavit.detection.training",
            "stradavit.evaluation.finetune",
            "stradavit.evaluation.leakage",
            "sklearn.neighbors",
        ]
    )
    process = context.Process(target=_child, args=(stage, world, folder))
    process.start()
    return process


def _child(stage: str, world: Path, folder: Path) -> None:
    quiet = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(quiet, stream)
    raise SystemExit(run(stage, world, folder))


def contents(folder: Path) -> dict[str, bytes]:
    """The files of a folder by name; without what tells times of its making."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "tensorboard" not in path.parts and path.suffix != ".jsonl"
    }
