"""The command line: one subcommand per stage; each parses, calls one function, prints one line.

Stages are imported inside their subcommand, so `--help` costs nothing and a stage that needs no
torch never loads it.
"""

import argparse
import json
import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from stradavit import __version__
from stradavit.errors import StradavitError

Namespace = argparse.Namespace
Option = dict[str, Any]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand; a user's mistake ends in one message and status 1."""
    parsed = build_parser().parse_args(arguments)
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr
    )
    try:
        done = parsed.stage(parsed)
    except StradavitError as error:
        print(f"stradavit {parsed.command}: {error}", file=sys.stderr)
        return 1
    if isinstance(done, int):
        return done
    print(done)
    return 0


def build_parser() -> argparse.ArgumentParser:
    """All subcommands with their arguments."""
    parser = argparse.ArgumentParser(
        prog="stradavit",
        description="Radio-astronomy foundation models: from survey mosaics to the paper's tables. "
        "The workflow (`snakemake --cores all results/tables`) runs these stages for you; each can "
        "be run by hand as well. Settings are JSON, or @FILE to read them from a file.",
    )
    parser.add_argument("--version", action="version", version=f"stradavit {__version__}")
    stages = parser.add_subparsers(dest="command", required=True, metavar="STAGE")

    def stage(
        word: str, run: Callable[[Namespace], str | int], help_text: str, /, **options: Option
    ) -> None:
        sub = stages.add_parser(word, help=help_text, description=help_text)
        for option, details in options.items():
            sub.add_argument(
                "--" + option.replace("_", "-"), required="default" not in details, **details
            )
        sub.set_defaults(stage=run)

    path: Option = {"type": Path, "metavar": "FILE"}
    paths: Option = {"type": Path, "metavar": "FILE", "nargs": "*"}
    name: Option = {"metavar": "NAME"}
    block: Option = {"type": read_argument, "metavar": "JSON"}
    loader: Option = block | {
        "default": "{}",
        "help": "What decides speed: workers, threads, device.",
    }

    archives: Option = block | {
        "default": "{}",
        "help": "The block `archives` of the config: addresses, patience, manners.",
    }

    stage(
        "acquire-manifest",
        acquire_manifest,
        "List the products a survey should have.",
        name=name | {"help": "Name of the survey."},
        survey=block | {"help": "Its block under `surveys` in the config."},
        out=path | {"help": "Manifest to write (CSV)."},
        archives=archives,
    )
    stage(
        "acquire-part",
        acquire_part,
        "Bring one part of a survey to this disk.",
        name=name | {"help": "Name of the survey."},
        survey=block | {"help": "Its block under `surveys` in the config."},
        manifest=path | {"help": "Manifest of the survey."},
        part={"type": int, "metavar": "N", "help": "Part to acquire, from 0."},
        out=path | {"help": "Ledger to write (CSV); files lie beside it."},
        archives=archives,
    )
    stage(
        "acquire-benchmark",
        acquire_benchmark,
        "Bring a labelled benchmark to this disk.",
        name=name | {"help": "Name of the benchmark."},
        benchmark=block | {"help": "Its block under `benchmarks` in the config."},
        out=path | {"help": "Table of images and labels to write (CSV)."},
        archives=archives,
    )
    stage(
        "acquire-encoder",
        acquire_encoder,
        "Prepare a starting point: hub model, local folder, or scratch draw.",
        name=name | {"help": "Name of the encoder."},
        encoder=block | {"help": "Its block under `encoders` in the config."},
        seed={"type": int, "default": 0, "metavar": "N", "help": "Seed of a scratch draw."},
        out=path | {"help": "model.safetensors to write; the rest of the folder lies beside it."},
        archives=archives,
    )
    stage(
        "cut-part",
        cut_part,
        "Tile one part of a survey into a verified shard.",
        name=name | {"help": "Name of the survey."},
        survey=block | {"help": "Its block under `surveys` in the config."},
        cutouts=block | {"help": "The block `cutouts` of the config."},
        ledger=path | {"help": "Ledger of the part."},
        out=path | {"help": "Shard to write (HDF5)."},
    )
    stage(
        "cut-benchmark",
        cut_benchmark,
        "Stretch a benchmark's images into one file with their labels.",
        name=name | {"help": "Name of the benchmark."},
        benchmark=block | {"help": "Its block under `benchmarks` in the config."},
        labels=path | {"help": "Table of images and labels."},
        out=path | {"help": "Labelled cutouts to write (HDF5)."},
    )
    stage(
        "cut-corpus",
        cut_corpus,
        "Index the cutouts a run may see, without the sky of the guarded benchmarks.",
        name=name | {"help": "Name of the corpus."},
        guard_arcmin={
            "type": read_radii,
            "metavar": "JSON",
            "help": "Guard radius of each benchmark in arcmin.",
        },
        guards=paths | {"help": "Labelled cutouts of those benchmarks, in the same order."},
        shards=paths | {"help": "Shards to index."},
        out=path | {"help": "Index to write (HDF5)."},
    )
    stage(
        "pretrain",
        pretrain,
        "Train one encoder; continues from its last checkpoint if there is one. Launch it by "
        "torchrun to use several devices.",
        settings=block | {"help": "Objective, loss, registers, seed, phase, views."},
        corpus=path | {"help": "Index of the cutouts to train on."},
        # Not `--start`: torchrun would take it for the beginning of its own --start-method.
        start_from=path | {"help": "model.safetensors to start from."},
        out=path | {"help": "model.safetensors to write."},
        loader=loader,
    )
    stage(
        "features",
        features,
        "Embed the eight orientations of every image of a benchmark.",
        encoder=path | {"help": "model.safetensors of the encoder."},
        benchmark=path | {"help": "Labelled cutouts."},
        out=path | {"help": "Features to write (HDF5)."},
        loader=loader,
    )
    names: dict[str, Option] = {
        "encoder_name": name | {"help": "Name of the encoder in the tables."},
        "benchmark_name": name | {"help": "Name of the benchmark in the tables."},
        "evaluation": block | {"help": "The block `evaluation` of the config."},
    }
    stage(
        "probe",
        probe,
        "Strict linear probe on embedded images, all folds.",
        **names,
        features=path | {"help": "Features of the benchmark."},
        out=path | {"help": "Metrics to write (JSON)."},
    )
    for word, run, help_text in (
        ("knn", knn, "Nearest neighbours among embedded images, all folds."),
        ("label-budget", label_budget, "Linear probe on few labels of each class, all folds."),
        ("published-split", published_split, "Linear probe on the benchmark's own division."),
    ):
        stage(
            word,
            run,
            help_text,
            **names,
            features=path | {"help": "Features of the benchmark."},
            out=path | {"help": "Metrics to write (JSON)."},
        )
    stage(
        "finetune",
        finetune,
        "Full fine-tuning, all folds.",
        **names,
        encoder=path | {"help": "model.safetensors of the encoder."},
        benchmark=path | {"help": "Labelled cutouts."},
        out=path | {"help": "Metrics to write (JSON)."},
        loader=loader,
    )
    stage(
        "yardsticks",
        yardsticks,
        "k-nearest neighbours, logistic regression and random forest on pixels, and logistic "
        "regression on flux, size and peak, on the folds of the probe.",
        benchmark_name=names["benchmark_name"],
        evaluation=names["evaluation"],
        benchmark=path | {"help": "Labelled cutouts."},
        out=path | {"help": "Folder to write one metrics file per yardstick into."},
    )
    stage(
        "leakage",
        leakage,
        "Find images of a benchmark that show the same sky, by position and by content, and say "
        "whether folds part them.",
        benchmark_name=names["benchmark_name"],
        evaluation=names["evaluation"],
        benchmark=path | {"help": "Labelled cutouts."},
        out=path | {"help": "Report to write (JSON)."},
    )
    for what, run in (("tables", tables), ("figures", figures)):
        stage(
            what,
            run,
            f"Write the paper's {what} from the results.",
            settings=block | {"help": "The whole config."},
            results=path | {"help": "Folder of the results.", "metavar": "DIR"},
            out=path | {"help": f"Folder to write the {what} into.", "metavar": "DIR"},
        )
    stage(
        "settings",
        describe_settings,
        "Every key of the config with its default and meaning.",
        config=path | {"default": None, "help": "Also check this file."},
    )
    stage(
        "doctor",
        see_doctor,
        "Ask each archive of a config one small question, look at logins, disk space and packages, "
        "and say what to put right before anything large is fetched. Nothing is written. Ends with "
        "status 1 if something must be put right.",
        configfile=path
        | {
            "nargs": "+",
            "default": [Path("config.yaml")],
            "help": "The config and what is laid over it, in this order, such as config.yaml "
            "workflow/config/paper.yaml; config.yaml if absent.",
        },
        json={"action": "store_true", "default": False, "help": "Findings as JSON, for programs."},
    )
    stage(
        "plan",
        see_plan,
        "What a config is going to cost, of what is not there already: trainings and cells, hours, "
        "disk and downloads. Hours follow from earlier runs where there are any. Nothing is "
        "written, and no archive is asked.",
        configfile=path
        | {
            "nargs": "+",
            "default": [Path("config.yaml")],
            "help": "As for doctor.",
        },
        results=path
        | {"default": Path("results"), "metavar": "DIR", "help": "Folder of the results."},
        device={
            "choices": ("cuda", "cpu"),
            "default": None,
            "help": "Plan for a GPU or a processor; for what jobs would get here if absent.",
        },
        tflops={
            "type": float,
            "default": None,
            "metavar": "X",
            "help": "TFLOP/s the device sustains, where nothing was measured; 400 for a GPU and "
            "0.04 for each thread of a processor if absent, which is assumed and not measured.",
        },
        json={"action": "store_true", "default": False, "help": "The plan as JSON, for programs."},
    )
    return parser


def read_argument(text: str) -> str:
    """JSON as given, or the text of the file behind @FILE."""
    if not text.startswith("@"):
        return text
    try:
        return Path(text[1:]).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise argparse.ArgumentTypeError(
            f"{text[1:]}: cannot be read as text ({error}); expected a file of settings in JSON"
        ) from error


def read_radii(text: str) -> dict[str, float]:
    """Guard radii in arcmin by benchmark, from JSON."""
    try:
        radii = json.loads(text)
        return {str(name): float(radius) for name, radius in radii.items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise argparse.ArgumentTypeError(
            f'{text!r} gives no radii; expected JSON such as {{"mirabest": 2.0}}'
        ) from error


def _survey(text: str) -> Any:
    from stradavit.settings.sources import Survey

    return _source(Survey, text, "survey")


def _source(kind: Any, text: str, what: str) -> Any:
    from pydantic import TypeAdapter, ValidationError

    from stradavit.errors import SettingsError
    from stradavit.settings.base import describe_faults

    try:
        return TypeAdapter(kind).validate_json(text)
    except ValidationError as error:
        raise SettingsError(f"--{what}: {describe_faults(error)}") from None


def _loader(text: str) -> Any:
    from stradavit.settings.training import LoaderSettings

    loader = LoaderSettings.parse(text)
    # Before torch is loaded: the thread pools of the libraries below it read these once.
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(variable, str(loader.threads))
    return loader


def _one_thread() -> None:
    """For stages of many small products, on which several threads only wait for each other."""
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(variable, "1")


def _archives(text: str) -> Any:
    from stradavit.settings.archives import ArchiveSettings

    return ArchiveSettings.parse(text)


def acquire_manifest(a: Namespace) -> str:
    """List the products of a survey."""
    from stradavit.acquire.stages import make_manifest

    make_manifest(a.name, _survey(a.survey), a.out, _archives(a.archives))
    return f"manifest of {a.name}: {a.out}"


def acquire_part(a: Namespace) -> str:
    """Acquire one part of a survey."""
    from stradavit.acquire.stages import acquire_part

    archives = _archives(a.archives)
    acquire_part(a.name, _survey(a.survey), a.manifest, a.part, a.out, archives)
    return f"part {a.part} of {a.name}: {a.out}"


def acquire_benchmark(a: Namespace) -> str:
    """Acquire a benchmark."""
    from stradavit.acquire.stages import acquire_benchmark
    from stradavit.settings.sources import Benchmark

    benchmark = _source(Benchmark, a.benchmark, "benchmark")
    acquire_benchmark(a.name, benchmark, a.out, _archives(a.archives))
    return f"benchmark {a.name}: {a.out}"


def acquire_encoder(a: Namespace) -> str:
    """Prepare a starting point."""
    from stradavit.models.stages import acquire_encoder
    from stradavit.settings.encoders import Encoder

    encoder = _source(Encoder, a.encoder, "encoder")
    acquire_encoder(a.name, encoder, a.seed, a.out.parent, _archives(a.archives))
    return f"encoder {a.name}: {a.out.parent}"


def cut_part(a: Namespace) -> str:
    """Cut one part of a survey."""
    from stradavit.cutouts.stages import cut_part
    from stradavit.settings import CutoutSettings

    cut_part(a.name, _survey(a.survey), CutoutSettings.parse(a.cutouts), a.ledger, a.out)
    return f"shard of {a.name}: {a.out}"


def cut_benchmark(a: Namespace) -> str:
    """Cut a benchmark."""
    from stradavit.cutouts.stages import cut_benchmark
    from stradavit.settings.sources import Benchmark

    cut_benchmark(a.name, _source(Benchmark, a.benchmark, "benchmark"), a.labels, a.out)
    return f"labelled cutouts of {a.name}: {a.out}"


def cut_corpus(a: Namespace) -> str:
    """Index a corpus."""
    from stradavit.cutouts.stages import cut_corpus
    from stradavit.errors import SettingsError

    if len(a.guards) != len(a.guard_arcmin):
        raise SettingsError(
            f"--guards has {len(a.guards)} files, --guard-arcmin the radii of "
            f"{', '.join(a.guard_arcmin) or 'no benchmark'}; expected one file for each, in order."
        )
    shards: dict[str, list[Path]] = {}
    for shard in a.shards:
        shards.setdefault(shard.parent.name, []).append(shard)
    radii = a.guard_arcmin.items()
    guards = {name: (path, radius) for (name, radius), path in zip(radii, a.guards, strict=True)}
    cut_corpus(a.name, shards, guards, a.out)
    return f"corpus {a.name}: {a.out}"


def pretrain(a: Namespace) -> str:
    """Train one encoder."""
    loader = _loader(a.loader)
    from stradavit.settings.training import PretrainSettings
    from stradavit.training.pretrain import pretrain

    pretrain(
        PretrainSettings.parse(a.settings), a.corpus, a.start_from.parent, a.out.parent, loader
    )
    return f"encoder: {a.out.parent}"


def features(a: Namespace) -> str:
    """Embed a benchmark."""
    loader = _loader(a.loader)
    from stradavit.evaluation.features import extract_features

    extract_features(a.encoder.parent, a.benchmark, a.out, loader)
    return f"features: {a.out}"


def probe(a: Namespace) -> str:
    """Probe an encoder."""
    _one_thread()
    from stradavit.evaluation.probe import probe
    from stradavit.settings.evaluation import EvaluationSettings

    e = EvaluationSettings.parse(a.evaluation)
    names = (a.encoder_name, a.benchmark_name)
    probe(a.features, e.folds, e.class_weights, e.probe, names, a.out)
    return f"metrics: {a.out}"


def knn(a: Namespace) -> str:
    """Let nearest neighbours vote."""
    from stradavit.evaluation.knn import knn
    from stradavit.settings.evaluation import EvaluationSettings

    e = EvaluationSettings.parse(a.evaluation)
    knn(a.features, e.folds, e.knn, (a.encoder_name, a.benchmark_name), a.out)
    return f"metrics: {a.out}"


def label_budget(a: Namespace) -> str:
    """Probe an encoder with few labels."""
    _one_thread()
    from stradavit.evaluation.label_budget import label_budget
    from stradavit.settings.evaluation import EvaluationSettings

    e = EvaluationSettings.parse(a.evaluation)
    names = (a.encoder_name, a.benchmark_name)
    label_budget(a.features, e.folds, e.probe, e.label_budget, names, a.out)
    return f"metrics: {a.out}"


def published_split(a: Namespace) -> str:
    """Probe an encoder on the division a benchmark was published with."""
    _one_thread()
    from stradavit.evaluation.published_split import published_split
    from stradavit.settings.evaluation import EvaluationSettings

    e = EvaluationSettings.parse(a.evaluation)
    names = (a.encoder_name, a.benchmark_name)
    published_split(a.features, e.class_weights, e.probe, e.published_split, names, a.out)
    return f"metrics: {a.out}"


def finetune(a: Namespace) -> str:
    """Fine-tune an encoder."""
    loader = _loader(a.loader)
    from stradavit.evaluation.finetune import finetune
    from stradavit.settings.evaluation import EvaluationSettings

    e = EvaluationSettings.parse(a.evaluation)
    names = (a.encoder_name, a.benchmark_name)
    encoder_dir = a.encoder.parent
    finetune(encoder_dir, a.benchmark, e.folds, e.class_weights, e.finetune, names, a.out, loader)
    return f"metrics: {a.out}"


def yardsticks(a: Namespace) -> str:
    """Score classical methods on pixels."""
    from stradavit.evaluation.yardsticks import yardsticks
    from stradavit.settings.evaluation import EvaluationSettings

    folds = EvaluationSettings.parse(a.evaluation).folds
    yardsticks(a.benchmark, folds, a.benchmark_name, a.out)
    return f"yardsticks: {a.out}"


def leakage(a: Namespace) -> str:
    """Find images of the same sky."""
    _one_thread()
    from stradavit.evaluation.leakage import leakage
    from stradavit.settings.evaluation import EvaluationSettings

    e = EvaluationSettings.parse(a.evaluation)
    leakage(a.benchmark, e.folds, e.leakage, a.benchmark_name, a.out)
    return f"leakage report: {a.out}"


def tables(a: Namespace) -> str:
    """Write the tables."""
    from stradavit.paper.tables import write_tables
    from stradavit.settings import Settings

    write_tables(Settings.parse(a.settings), a.results, a.out)
    return f"tables: {a.out}"


def figures(a: Namespace) -> str:
    """Draw the figures."""
    from stradavit.paper.figures import write_figures
    from stradavit.settings import Settings

    write_figures(Settings.parse(a.settings), a.results, a.out)
    return f"figures: {a.out}"


def describe_settings(a: Namespace) -> str:
    """Print every key; check a config if one is given."""
    from stradavit.settings import Settings
    from stradavit.settings.describe import describe

    if a.config is not None:
        settings = Settings.read(a.config)
        return f"{a.config}: valid; {len(settings.nodes())} encoders, {len(settings.cells())} cells"
    return describe(Settings)


def see_doctor(a: Namespace) -> int:
    """Ask the archives of a config whether they are ready; prints what it found."""
    from stradavit.acquire.archives.doctor import doctor
    from stradavit.settings import Settings

    return doctor(Settings.read(*a.configfile), a.json)


def see_plan(a: Namespace) -> str:
    """Say what a config is going to cost."""
    from stradavit.planning.plan import make_plan
    from stradavit.planning.report import as_text
    from stradavit.settings import Settings

    settings = Settings.read(*a.configfile)
    plan = make_plan(settings, a.configfile, a.results, a.device, a.tflops)
    return plan.to_json() if a.json else as_text(plan)


if __name__ == "__main__":
    raise SystemExit(main())
