"""A small matrix and the metrics files it asks for, with numbers known from their coordinates."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from stradavit.paper.cells import Results
from stradavit.provenance import code_hash
from stradavit.settings import Settings

FOLDS = 3
MODULES = {
    "linear_probe": "stradavit.evaluation.probe",
    "finetune": "stradavit.evaluation.finetune",
}
BLOCKS = {"linear_probe": "probe", "finetune": "finetune"}


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


def fold_scores(protocol: str, encoder: str, benchmark: str, metric: str) -> list[float]:
    """Scores that differ in every coordinate, so that a swapped cell cannot go unnoticed."""
    key = list(f"{protocol} {encoder} {benchmark} {metric}".encode())
    return [float(x) for x in np.random.default_rng(key).uniform(0.3, 0.9, FOLDS)]


def write_metrics(
    settings: Settings,
    results_dir: Path,
    protocol: str,
    encoder: str,
    benchmark: str,
    scores: dict[str, list[float]] | None = None,
) -> Path:
    """The JSON that `probe` and `finetune` write, as far as tables and figures read it."""
    scores = scores or {
        metric: fold_scores(protocol, encoder, benchmark, metric)
        for metric in ("macro_f1", "weighted_f1")
    }
    evaluation = settings.evaluation.model_dump(mode="json")
    kept = ("folds", "class_weights", BLOCKS[protocol])
    content = {
        "encoder": encoder,
        "benchmark": benchmark,
        "protocol": protocol,
        "classes": ["FR I", "FR II"],
        "settings": {key: evaluation[key] for key in kept},
        "code": code_hash(MODULES[protocol]),
        "folds": [
            {"fold": fold, **{metric: values[fold] for metric, values in scores.items()}}
            for fold in range(len(scores["macro_f1"]))
        ],
        "confusion": [[40, 10], [5, 45]],
    }
    path = results_dir / "metrics" / protocol / encoder / f"{benchmark}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def write_all_metrics(settings: Settings, results_dir: Path) -> None:
    """Every metrics file the matrix asks for."""
    for cell in settings.cells():
        write_metrics(settings, results_dir, *cell)


def results_of(config: dict[str, Any], folder: Path) -> Results:
    """The lookup over a folder with all metrics that `config` asks for."""
    settings = Settings.parse(config)
    write_all_metrics(settings, folder)
    return Results(settings, folder)
