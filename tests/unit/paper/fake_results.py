"""A small matrix and the metrics files it asks for, with numbers known from their coordinates."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stradavit.paper.cells import Results
from stradavit.paper.scores import Score
from stradavit.provenance import code_hash
from stradavit.settings import Settings

from .fake_data import write_corpora

FOLDS = 3
MODULES = {
    "linear_probe": "stradavit.evaluation.probe",
    "finetune": "stradavit.evaluation.finetune",
    "knn": "stradavit.evaluation.knn",
    "label_budget": "stradavit.evaluation.label_budget",
    "published_split": "stradavit.evaluation.published_split",
}
BLOCKS = {
    "linear_probe": ("probe",),
    "finetune": ("finetune",),
    "knn": ("knn",),
    "label_budget": ("label_budget", "probe"),
    "published_split": ("published_split", "probe"),
}
METRICS = ("macro_f1", "weighted_f1")
MANY = 10**6
CONFUSIONS = tuple(
    [[MANY * n for n in row] for row in matrix]
    for matrix in ([[14, 3], [2, 15]], [[13, 3], [2, 15]], [[13, 4], [1, 15]])
)
"""Of the folds; no score follows from them. So many images that they set no least variance."""


def small_config() -> dict[str, Any]:
    """Two benchmarks, two seeds, two of three losses, R = 0 only; no DINOv2 runs."""
    return {
        "surveys": {
            "mgcls": {"source": "simulated", "like": "mgcls", "title": "MGCLS (MeerKAT), DR1"},
            "lotss": {"source": "simulated", "like": "lotss"},
        },
        "benchmarks": {
            "mirabest": {"source": "simulated", "like": "mirabest", "title": "MiraBest"},
            "rgz": {"source": "simulated", "like": "rgz_dr1", "title": "RGZ DR1"},
        },
        "corpora": {"all": {"surveys": ["mgcls", "lotss"]}},
        "encoders": {
            "mae": {"source": "hub", "repo": "a/b", "title": "ViT-MAE-Base"},
            "dino": {"source": "hub", "repo": "a/c", "title": "DINOv2-Base"},
            "dino-r": {"source": "hub", "repo": "a/d", "title": "DINOv2-Base(R)"},
            "tiny_net": {"source": "scratch"},
        },
        "matrix": {
            "baselines": ["mae", "dino-r", "dino", "tiny_net"],
            "reference": "mae",
            "dinov2_references": ["dino-r", "dino"],
            "reconstruction": {"starts": ["mae"], "losses": ["l2", "l2_bl1"], "registers": [0]},
            "contrastive": {"starts": ["mae"], "losses": ["hcl"], "registers": [0, 8]},
            "two_stage": {
                "starts": ["mae"],
                "reconstruction_losses": ["l2"],
                "contrastive_losses": ["soft_hcl"],
            },
            "selected": {
                "branch": "two_stage",
                "reconstruction_loss": "l2",
                "contrastive_loss": "soft_hcl",
                "registers": 0,
            },
        },
        "training": {"seeds": [1, 2]},
    }


def full_config() -> dict[str, Any]:
    """The matrix of the paper."""
    config = small_config()
    config["encoders"]["dino-s"] = {"source": "hub", "repo": "a/e", "title": "DINOv2-Small"}
    recon, contrast, registers = ["l2", "l2_l1", "l2_bl1"], ["info_nce", "soft_hcl", "hcl"], [0, 4]
    config["matrix"] = {
        "baselines": ["dino", "dino-s", "dino-r", "mae"],
        "reference": "mae",
        "dinov2_references": ["dino", "dino-s", "dino-r"],
        "reconstruction": {"starts": ["mae"], "losses": recon, "registers": registers},
        "contrastive": {"starts": ["mae"], "losses": contrast, "registers": registers},
        "dinov2": {"starts": ["dino", "dino-r"], "losses": ["hcl"]},
        "two_stage": {
            "starts": ["mae"],
            "reconstruction_losses": recon,
            "contrastive_losses": contrast,
            "registers": registers,
        },
        "selected": {},
    }
    config["training"] = {"seeds": [42]}
    return config


@cache
def code_now(protocol: str) -> str:
    """Hash of the code that scores a protocol; a matrix has hundreds of files of each."""
    return code_hash(MODULES[protocol])


def fold_scores(
    protocol: str, encoder: str, benchmark: str, metric: str, n: int = FOLDS
) -> list[float]:
    """Scores that differ in every coordinate, so that a swapped cell cannot go unnoticed."""
    key = list(f"{protocol} {encoder} {benchmark} {metric}".encode())
    return [float(x) for x in np.random.default_rng(key).uniform(0.3, 0.9, n)]


def fold_entries(scores: dict[str, list[float]], n_folds: int = FOLDS) -> list[dict[str, Any]]:
    """The list `folds` of a metrics file, repeat after repeat."""
    return [
        {
            "repeat": i // n_folds,
            "fold": i % n_folds,
            "n_train": 66 * MANY,
            "n_test": 34 * MANY,
            "confusion": CONFUSIONS[i % n_folds],
            **{metric: values[i] for metric, values in scores.items()},
        }
        for i in range(len(scores["macro_f1"]))
    ]


def write_metrics(
    settings: Settings,
    results_dir: Path,
    protocol: str,
    encoder: str,
    benchmark: str,
    scores: dict[str, list[float]] | None = None,
) -> Path:
    """The JSON a stage of evaluation writes, as far as tables and figures read it."""
    evaluation = settings.evaluation
    blocks = BLOCKS[protocol]
    dumped = evaluation.model_dump(mode="json")
    content: dict[str, Any] = {
        "encoder": encoder,
        "benchmark": benchmark,
        "protocol": protocol,
        "classes": ["FR I", "FR II"],
        "settings": {key: dumped[key] for key in ("folds", "class_weights", *blocks)},
        "code": code_now(protocol),
        "provenance": {},
    }

    def drawn(n: int, about: str = protocol) -> dict[str, list[float]]:
        return {m: fold_scores(about, encoder, benchmark, m, n) for m in METRICS}

    if protocol == "label_budget":
        n = FOLDS * evaluation.label_budget.draws
        content["budgets"] = [
            {"per_class": k, "folds": fold_entries(drawn(n, f"label_budget {k}"))}
            for k in evaluation.label_budget.per_class
        ]
    elif protocol == "published_split":
        n = evaluation.published_split.trainings
        content["folds"] = fold_entries(drawn(n), n_folds=1)
        content["interval_95"] = {
            m: sorted(fold_scores("interval", encoder, benchmark, m, 2)) for m in METRICS
        }
    else:
        scores = scores or drawn(FOLDS * getattr(evaluation, blocks[0]).repeats)
        content["folds"] = fold_entries(scores)
    path = results_dir / "metrics" / protocol / encoder / f"{benchmark}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def fake_score(
    macro_f1: NDArray[np.float64], confusions: NDArray[np.int64] | None = None, name: str = "run"
) -> Score:
    """A score with given values, (seeds, repeats * 3), and confusions of the same shape."""
    n_seeds, n = macro_f1.shape
    of_folds = [CONFUSIONS[i % FOLDS] for i in range(n)]
    return Score(
        encoders=tuple(f"{name}_s{seed}" for seed in range(n_seeds)),
        files=tuple(f"finetune/{name}_s{seed}/rgz.json" for seed in range(n_seeds)),
        macro_f1=macro_f1,
        weighted_f1=macro_f1,
        places=tuple((i // FOLDS, i % FOLDS) for i in range(n)),
        classes=("FR I", "FR II"),
        confusions=np.array([of_folds] * n_seeds) if confusions is None else confusions,
        remarks=(),
    )


def write_all_metrics(settings: Settings, results_dir: Path) -> None:
    """Every metrics file the matrix asks for."""
    for cell in settings.cells():
        write_metrics(settings, results_dir, *cell)


def results_of(config: dict[str, Any], folder: Path) -> Results:
    """The lookup over a folder with all metrics and corpora that `config` asks for."""
    settings = Settings.parse(config)
    write_all_metrics(settings, folder)
    write_corpora(settings, folder)
    return Results(settings, folder)
