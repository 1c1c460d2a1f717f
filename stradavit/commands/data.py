"""Acquiring and cutting: from archives to cutouts."""

from pathlib import Path
from typing import Any

from stradavit.commands.command import (
    ARCHIVES,
    BLOCK,
    NAME,
    PATH,
    PATHS,
    Namespace,
    archive_settings,
    command,
    read_radii,
    source_block,
)


def _survey(text: str) -> Any:
    from stradavit.settings.sources import MosaicSurvey

    return source_block(MosaicSurvey, text, "survey")


@command(
    "acquire-manifest",
    "List the products a survey should have.",
    name=NAME | {"help": "Name of the survey."},
    survey=BLOCK | {"help": "Its block under `surveys` in the config."},
    out=PATH | {"help": "Manifest to write (CSV)."},
    archives=ARCHIVES,
)
def acquire_manifest(a: Namespace) -> str:
    """List the products of a survey."""
    from stradavit.acquire.stages import make_manifest

    make_manifest(a.name, _survey(a.survey), a.out, archive_settings(a.archives))
    return f"manifest of {a.name}: {a.out}"


@command(
    "acquire-part",
    "Bring one part of a survey to this disk.",
    name=NAME | {"help": "Name of the survey."},
    survey=BLOCK | {"help": "Its block under `surveys` in the config."},
    manifest=PATH | {"help": "Manifest of the survey."},
    part={"type": int, "metavar": "N", "help": "Part to acquire, from 0."},
    out=PATH | {"help": "Ledger to write (CSV); files lie beside it."},
    archives=ARCHIVES,
)
def acquire_part(a: Namespace) -> str:
    """Acquire one part of a survey."""
    from stradavit.acquire.stages import acquire_part

    archives = archive_settings(a.archives)
    acquire_part(a.name, _survey(a.survey), a.manifest, a.part, a.out, archives)
    return f"part {a.part} of {a.name}: {a.out}"


@command(
    "acquire-benchmark",
    "Bring a labelled benchmark to this disk.",
    name=NAME | {"help": "Name of the benchmark."},
    benchmark=BLOCK | {"help": "Its block under `benchmarks` in the config."},
    out=PATH | {"help": "Table of images and labels to write (CSV)."},
    archives=ARCHIVES,
)
def acquire_benchmark(a: Namespace) -> str:
    """Acquire a benchmark."""
    from stradavit.acquire.stages import acquire_benchmark
    from stradavit.settings.sources import Benchmark

    benchmark = source_block(Benchmark, a.benchmark, "benchmark")
    acquire_benchmark(a.name, benchmark, a.out, archive_settings(a.archives))
    return f"benchmark {a.name}: {a.out}"


@command(
    "cut-part",
    "Tile one part of a survey into a verified shard.",
    name=NAME | {"help": "Name of the survey."},
    survey=BLOCK | {"help": "Its block under `surveys` in the config."},
    cutouts=BLOCK | {"help": "The block `cutouts` of the config."},
    ledger=PATH | {"help": "Ledger of the part."},
    out=PATH | {"help": "Shard to write (HDF5)."},
)
def cut_part(a: Namespace) -> str:
    """Cut one part of a survey."""
    from stradavit.cutouts.stages import cut_part
    from stradavit.settings import CutoutSettings

    cut_part(a.name, _survey(a.survey), CutoutSettings.parse(a.cutouts), a.ledger, a.out)
    return f"shard of {a.name}: {a.out}"


@command(
    "cut-benchmark",
    "Stretch a benchmark's images into one file with their labels.",
    name=NAME | {"help": "Name of the benchmark."},
    benchmark=BLOCK | {"help": "Its block under `benchmarks` in the config."},
    labels=PATH | {"help": "Table of images and labels."},
    out=PATH | {"help": "Labelled cutouts to write (HDF5)."},
)
def cut_benchmark(a: Namespace) -> str:
    """Cut a benchmark."""
    from stradavit.cutouts.stages import cut_benchmark
    from stradavit.settings.sources import Benchmark

    cut_benchmark(a.name, source_block(Benchmark, a.benchmark, "benchmark"), a.labels, a.out)
    return f"labelled cutouts of {a.name}: {a.out}"


@command(
    "cut-corpus",
    "Index the cutouts a run may see, without the sky of the guarded benchmarks.",
    name=NAME | {"help": "Name of the corpus."},
    guard_arcmin={
        "type": read_radii,
        "metavar": "JSON",
        "help": "Guard radius of each benchmark in arcmin.",
    },
    guards=PATHS | {"help": "Labelled cutouts of those benchmarks, in the same order."},
    shards=PATHS | {"help": "Shards to index."},
    out=PATH | {"help": "Index to write (HDF5)."},
)
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
