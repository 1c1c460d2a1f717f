"""Pure helpers of the rules: from wildcards and settings to paths and parameters."""

import json
import re
import shutil
from pathlib import Path

from stradavit.acquire.local import survey_files as find_files
from stradavit.errors import DataError
from stradavit.provenance import imported_files
from stradavit.settings.detection import CocoSet, SardetSet, TruthSet
from stradavit.settings.sources import ArchiveBenchmark, ArchiveSurvey, ChipsSurvey

NODES = SETTINGS.nodes()
CELLS = SETTINGS.cells()
SETS = SETTINGS.detection.sets
CHIPS = [name for name, s in SETTINGS.surveys.items() if isinstance(s, ChipsSurvey)]
MOSAICS = [name for name in SETTINGS.surveys if name not in CHIPS]

YARDSTICKS = (
    "knn-pixels",
    "logistic-pixels",
    "forest-pixels",
    "logistic-flux-and-size",
)

# Handed to jobs as a resource and not as a parameter: it decides speed, never results, and
# Snakemake reruns a job when a parameter changes.
LOADER = SETTINGS.loader.to_json()
THREADS = SETTINGS.loader.threads
# A process for each device of a machine.
TRAINING_THREADS = THREADS * SETTINGS.training.devices // SETTINGS.loader.nodes
ARCHIVES = SETTINGS.archives.to_json()


def gpus(wildcards):
    """One GPU per job where there is any; a cluster profile may say otherwise."""
    device = SETTINGS.loader.device
    return int(
        device == "cuda"
        or (device == "auto" and shutil.which("nvidia-smi") is not None)
    )


def training_gpus(wildcards):
    """The devices of one pretraining, on all its machines, as Slurm counts them."""
    return gpus(wildcards) * SETTINGS.training.devices


def code(module):
    """The files of the package `module` runs through; an edit reruns a cheap rule."""
    return [str(path) for path in imported_files(module)]


def dump(block, *left_out):
    """Settings as sorted JSON, without what a rule does not depend on."""
    return json.dumps(
        block.model_dump(mode="json", exclude=set(left_out)), sort_keys=True
    )


def trackable(paths):
    """Files of the user's as Snakemake can follow them: it fills in what stands in braces."""
    for path in paths:
        if "{" in path:
            raise DataError(
                f"{path}: Snakemake would take the braces for a wildcard. Rename the file or "
                "folder, or narrow the setting that names it."
            )
    return paths


# -- acquire ------------------------------------------------------------------------------------


def survey_source(wildcards):
    """What decides which products a survey has; how they are cut is left out."""
    return dump(
        SETTINGS.surveys[wildcards.survey], "title", "planes", "grid", "stretch"
    )


def is_fetched(block):
    """Whether an archive has it; an edit of our code is no reason to ask there again."""
    return isinstance(block, (ArchiveSurvey, ArchiveBenchmark))


def survey_code(wildcards):
    """Files whose edit acquires a survey anew."""
    is_remote = is_fetched(SETTINGS.surveys[wildcards.survey])
    return [] if is_remote else code("stradavit.acquire.stages")


def benchmark_code(wildcards):
    """Files whose edit acquires a benchmark anew."""
    is_remote = is_fetched(SETTINGS.benchmarks[wildcards.benchmark])
    return [] if is_remote else code("stradavit.acquire.stages")


def survey_downloads(wildcards):
    """Jobs that speak to archives can be limited: `--resources downloads=1`."""
    return int(is_fetched(SETTINGS.surveys[wildcards.survey]))


def casda_jobs(wildcards):
    """CASDA is asked to stage one job at a time, as its users are."""
    return int(SETTINGS.surveys[wildcards.survey].source == "casda")


def benchmark_downloads(wildcards):
    """As for surveys."""
    return int(is_fetched(SETTINGS.benchmarks[wildcards.benchmark]))


def survey_files(wildcards):
    """A local survey's files and a frozen manifest, so that a change in them is noticed."""
    survey = SETTINGS.surveys[wildcards.survey]
    if is_fetched(survey):
        return trackable([survey.frozen_manifest] if survey.frozen_manifest else [])
    if survey.source != "local":
        return []
    positions = [survey.positions] if survey.positions else []
    found = [str(path) for path in find_files(wildcards.survey, survey)]
    return trackable(found + positions)


def benchmark_source(wildcards):
    """What decides which labelled images a benchmark has."""
    return dump(
        SETTINGS.benchmarks[wildcards.benchmark],
        "title",
        "stretch",
        "crop_px",
        "guard_arcmin",
    )


def benchmark_files(wildcards):
    """A folder benchmark's labels, or a batch benchmark's batches."""
    benchmark = SETTINGS.benchmarks[wildcards.benchmark]
    if benchmark.source == "folder":
        return trackable([benchmark.labels])
    if benchmark.source == "batches":
        return files_at(benchmark.path)
    return []


def files_at(path):
    """A file, or the files of a folder, so that a changed one is noticed; itself if absent."""
    files = [str(file) for file in sorted(Path(path).glob("*")) if file.is_file()]
    return trackable(files or [path])


def start_files(wildcards):
    """A local encoder's files; hub and scratch starts follow from their settings."""
    encoder = SETTINGS.encoders[NODES[wildcards.encoder].start]
    return files_at(encoder.path) if encoder.source == "local" else []


def start_of(wildcards):
    """Settings of a starting point."""
    node = NODES[wildcards.encoder]
    return dump(SETTINGS.encoders[node.start], "title")


def start_seed(wildcards):
    """Seed of a scratch start; published weights have none."""
    seed = NODES[wildcards.encoder].seed
    return 0 if seed is None else seed


# -- cutouts ------------------------------------------------------------------------------------


def survey_cutting(wildcards):
    """How a survey's products are cut."""
    return dump(
        SETTINGS.surveys[wildcards.survey], "title", "frozen_manifest", "allow_missing"
    )


def benchmark_cutting(wildcards):
    """How a benchmark's images are prepared."""
    return dump(
        SETTINGS.benchmarks[wildcards.benchmark],
        "title",
        "guard_arcmin",
        "allow_missing",
    )


def corpus_shards(wildcards):
    """Shards of all parts of a corpus's surveys."""
    return [
        f"results/shards/{survey}/{part}.h5"
        for survey in SETTINGS.corpus(wildcards.corpus).surveys
        for part in range(SETTINGS.surveys[survey].parts)
    ]


def corpus_guards(wildcards):
    """Labelled cutouts whose sky the corpus must leave out."""
    return [
        f"results/benchmarks/{name}.h5" for name in SETTINGS.guards(wildcards.corpus)
    ] + [
        f"results/detection/{name}.h5"
        for name in SETTINGS.detection_guards(wildcards.corpus)
    ]


def guard_radii(wildcards):
    """Guard radius of each guarded benchmark in arcmin; held-out tiles guard themselves."""
    names = SETTINGS.guards(wildcards.corpus)
    radii = {name: SETTINGS.benchmarks[name].guard_arcmin for name in names}
    return json.dumps(
        radii | dict.fromkeys(SETTINGS.detection_guards(wildcards.corpus), 0.0)
    )


# -- pretrain and evaluate ----------------------------------------------------------------------


def weights(name):
    """Weights of an encoder of the matrix."""
    return f"results/encoders/{name}/model.safetensors"


def run_start(wildcards):
    """Weights a run starts from."""
    return weights(SETTINGS.parent(NODES[wildcards.encoder]).name)


def run_corpus(wildcards):
    """Index of the cutouts a run is trained on."""
    return f"results/corpora/{NODES[wildcards.encoder].corpus}.h5"


def run_settings(wildcards):
    """All that decides a run's weights."""
    return SETTINGS.pretrain_settings(NODES[wildcards.encoder]).to_json()


def evaluation_of(*blocks, without=()):
    """The blocks of `evaluation` a protocol depends on, so that only they score it anew.

    A recipe that is borrowed from the probe is borrowed `without` its `repeats`.
    """
    kept = SETTINGS.evaluation.model_dump(mode="json", include=set(blocks))
    for block, key in without:
        del kept[block][key]
    return json.dumps(kept, sort_keys=True)


def encoders_of(*branches):
    """A wildcard constraint that admits the encoders of these branches of the matrix."""
    return names_of([name for name, node in NODES.items() if node.branch in branches])


def names_of(names):
    """A wildcard constraint that admits these names alone."""
    return "|".join(map(re.escape, names)) if names else "(?!)"


# -- detect -------------------------------------------------------------------------------------


def detection_source(wildcards):
    """What decides which images a detection set has."""
    return dump(SETS[wildcards.detection], "title", "table", "scored", "classes")


def detection_cutting(wildcards):
    """How the images of a detection set are prepared."""
    return dump(SETS[wildcards.detection], "title", "table", "scored")


def detection_files(wildcards):
    """Annotations and catalogues on this disk, so that a change in them is noticed."""
    block = SETS[wildcards.detection]
    if isinstance(block, CocoSet):
        folder = Path(block.path).expanduser()
        return trackable(
            [str(path) for path in sorted(folder.glob("**/Annotations/*.json"))]
        )
    if isinstance(block, TruthSet) and block.truth:
        return trackable(list(block.truth.values()))
    return []


def detection_ledgers(wildcards):
    """Ledgers of the survey whose truth it is."""
    block = SETS[wildcards.detection]
    if not isinstance(block, TruthSet):
        return []
    parts = SETTINGS.surveys[block.survey].parts
    return [f"results/raw/{block.survey}/{part}.csv" for part in range(parts)]


def detection_code(wildcards):
    """Files whose edit acquires a detection set anew."""
    is_remote = isinstance(SETS[wildcards.detection], SardetSet)
    return [] if is_remote else code("stradavit.acquire.detection_sets")


def detection_downloads(wildcards):
    """Pictures have to be fetched, and a truth catalogue may have to be."""
    block = SETS[wildcards.detection]
    if not isinstance(block, TruthSet):
        return int(isinstance(block, SardetSet))
    return int(is_fetched(SETTINGS.surveys[block.survey]) and not block.truth)


def chips_images(wildcards):
    """The detection set whose pictures a survey of chips takes."""
    return f"results/detection/{SETTINGS.surveys[wildcards.survey].detection}.h5"


def chips_splits(wildcards):
    """The splits it takes them from."""
    return list(SETTINGS.surveys[wildcards.survey].splits)


def chips_parts(wildcards):
    """Shards it is divided into."""
    return SETTINGS.surveys[wildcards.survey].parts


def detector_run(wildcards):
    """All that decides a detector's weights, besides encoder and images."""
    return SETTINGS.detector_run(int(wildcards.seed)).to_json()


def scored_split(wildcards):
    """The split that tables show."""
    return SETS[wildcards.detection].scored


# -- paper --------------------------------------------------------------------------------------


def metrics(wildcards):
    """Every cell the config's matrix can fill."""
    return [
        f"results/metrics/{protocol}/{name}/{bench}.json"
        for protocol, name, bench in CELLS
    ]


def detection_metrics(wildcards):
    """Every training of a detector the config's matrix asks for."""
    return [
        f"results/metrics/detection/{encoder}/{name}/s{seed}.json"
        for encoder, name, seed in SETTINGS.detection_cells()
    ]


def detection_images(wildcards):
    """Images and boxes of the detection sets that are compared on, or give chips."""
    return [f"results/detection/{name}.h5" for name in SETTINGS.used_detection_sets()]


def chips_encoders(wildcards):
    """Encoders pretrained on chips."""
    corpora = SETTINGS.matrix.chips.corpora
    return [weights(name) for name, node in NODES.items() if node.corpus in corpora]


def paper_corpora(wildcards):
    """Corpora the matrix trains on, those without a survey too."""
    matrix = SETTINGS.matrix
    names = [*matrix.corpora, *matrix.reduced_corpora, *matrix.chips.corpora]
    return [f"results/corpora/{name}.h5" for name in names]


def paper_benchmarks(wildcards):
    """All labelled cutouts."""
    return [f"results/benchmarks/{name}.h5" for name in SETTINGS.benchmarks]


def paper_leakage(wildcards):
    """Reports on images of the same sky, of all benchmarks."""
    return [f"results/leakage/{name}.json" for name in SETTINGS.benchmarks]


def paper_settings(wildcards):
    """All settings but those that only change speed, in the config's order: the tables keep it."""
    return json.dumps(SETTINGS.model_dump(mode="json", exclude={"loader", "archives"}))
