"""Scoring encoders, and what scores are worth."""

from stradavit.commands.command import (
    BLOCK,
    LOADER,
    NAME,
    PATH,
    Namespace,
    Option,
    command,
    lease_gpu,
    loader_settings,
    one_thread,
)

NAMES: dict[str, Option] = {
    "encoder_name": NAME | {"help": "Name of the encoder in the tables."},
    "benchmark_name": NAME | {"help": "Name of the benchmark in the tables."},
    "evaluation": BLOCK | {"help": "The block `evaluation` of the config."},
}


@command(
    "features",
    "Embed the eight orientations of every image of a benchmark.",
    encoder=PATH | {"help": "model.safetensors of the encoder."},
    benchmark=PATH | {"help": "Labelled cutouts."},
    out=PATH | {"help": "Features to write (HDF5)."},
    loader=LOADER,
)
def features(a: Namespace) -> str:
    """Embed a benchmark."""
    loader = loader_settings(a.loader)
    lease_gpu(a, loader)
    from stradavit.evaluation.features import extract_features

    extract_features(a.encoder.parent, a.benchmark, a.out, loader)
    return f"features: {a.out}"


@command(
    "probe",
    "Strict linear probe on embedded images, all folds.",
    **NAMES,
    features=PATH | {"help": "Features of the benchmark."},
    out=PATH | {"help": "Metrics to write (JSON)."},
)
def probe(a: Namespace) -> str:
    """Probe an encoder."""
    one_thread()
    from stradavit.evaluation.probe import probe
    from stradavit.settings.evaluation import EvaluationSettings

    e = EvaluationSettings.parse(a.evaluation)
    names = (a.encoder_name, a.benchmark_name)
    probe(a.features, e.folds, e.class_weights, e.probe, names, a.out)
    return f"metrics: {a.out}"


@command(
    "knn",
    "Nearest neighbours among embedded images, all folds.",
    **NAMES,
    features=PATH | {"help": "Features of the benchmark."},
    out=PATH | {"help": "Metrics to write (JSON)."},
)
def knn(a: Namespace) -> str:
    """Let nearest neighbours vote."""
    from stradavit.evaluation.knn import knn
    from stradavit.settings.evaluation import EvaluationSettings

    e = EvaluationSettings.parse(a.evaluation)
    knn(a.features, e.folds, e.knn, (a.encoder_name, a.benchmark_name), a.out)
    return f"metrics: {a.out}"


@command(
    "label-budget",
    "Linear probe on few labels of each class, all folds.",
    **NAMES,
    features=PATH | {"help": "Features of the benchmark."},
    out=PATH | {"help": "Metrics to write (JSON)."},
)
def label_budget(a: Namespace) -> str:
    """Probe an encoder with few labels."""
    one_thread()
    from stradavit.evaluation.label_budget import label_budget
    from stradavit.settings.evaluation import EvaluationSettings

    e = EvaluationSettings.parse(a.evaluation)
    names = (a.encoder_name, a.benchmark_name)
    label_budget(a.features, e.folds, e.probe, e.label_budget, names, a.out)
    return f"metrics: {a.out}"


@command(
    "published-split",
    "Linear probe on the benchmark's own division.",
    **NAMES,
    features=PATH | {"help": "Features of the benchmark."},
    out=PATH | {"help": "Metrics to write (JSON)."},
)
def published_split(a: Namespace) -> str:
    """Probe an encoder on the division a benchmark was published with."""
    one_thread()
    from stradavit.evaluation.published_split import published_split
    from stradavit.settings.evaluation import EvaluationSettings

    e = EvaluationSettings.parse(a.evaluation)
    names = (a.encoder_name, a.benchmark_name)
    published_split(a.features, e.class_weights, e.probe, e.published_split, names, a.out)
    return f"metrics: {a.out}"


@command(
    "finetune",
    "Full fine-tuning, all folds.",
    **NAMES,
    encoder=PATH | {"help": "model.safetensors of the encoder."},
    benchmark=PATH | {"help": "Labelled cutouts."},
    out=PATH | {"help": "Metrics to write (JSON)."},
    loader=LOADER,
)
def finetune(a: Namespace) -> str:
    """Fine-tune an encoder."""
    loader = loader_settings(a.loader)
    lease_gpu(a, loader)
    from stradavit.evaluation.finetune import finetune
    from stradavit.settings.evaluation import EvaluationSettings

    e = EvaluationSettings.parse(a.evaluation)
    names = (a.encoder_name, a.benchmark_name)
    encoder_dir = a.encoder.parent
    finetune(encoder_dir, a.benchmark, e.folds, e.class_weights, e.finetune, names, a.out, loader)
    return f"metrics: {a.out}"


@command(
    "yardsticks",
    "k-nearest neighbours, logistic regression and random forest on pixels, and logistic "
    "regression on flux, size and peak, on the folds of the probe.",
    benchmark_name=NAMES["benchmark_name"],
    evaluation=NAMES["evaluation"],
    benchmark=PATH | {"help": "Labelled cutouts."},
    out=PATH | {"help": "Folder to write one metrics file per yardstick into."},
)
def yardsticks(a: Namespace) -> str:
    """Score classical methods on pixels."""
    from stradavit.evaluation.yardsticks import yardsticks
    from stradavit.settings.evaluation import EvaluationSettings

    folds = EvaluationSettings.parse(a.evaluation).folds
    yardsticks(a.benchmark, folds, a.benchmark_name, a.out)
    return f"yardsticks: {a.out}"


@command(
    "leakage",
    "Find images of a benchmark that show the same sky, by position and by content, and say "
    "whether folds part them.",
    benchmark_name=NAMES["benchmark_name"],
    evaluation=NAMES["evaluation"],
    benchmark=PATH | {"help": "Labelled cutouts."},
    out=PATH | {"help": "Report to write (JSON)."},
)
def leakage(a: Namespace) -> str:
    """Find images of the same sky."""
    one_thread()
    from stradavit.evaluation.leakage import leakage
    from stradavit.settings.evaluation import EvaluationSettings

    e = EvaluationSettings.parse(a.evaluation)
    leakage(a.benchmark, e.folds, e.leakage, a.benchmark_name, a.out)
    return f"leakage report: {a.out}"
