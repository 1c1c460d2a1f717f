"""Probe: eight cached orientations of each image beside the backbone run anew in every epoch."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks.harness import Comparison, Target, in_turn
from benchmarks.machine import REPOSITORY, n_cores
from stradavit.acquire.stages import acquire_benchmark
from stradavit.cutouts.benchmark import LabelledCutouts
from stradavit.cutouts.stages import cut_benchmark
from stradavit.evaluation.device import mixed_precision
from stradavit.evaluation.dihedral import orient_each
from stradavit.evaluation.features import extract_features
from stradavit.evaluation.folds import make_folds
from stradavit.evaluation.images import resized_images
from stradavit.evaluation.metrics import confusion_matrix, macro_f1
from stradavit.evaluation.probe import probe
from stradavit.evaluation.recipe import (
    balanced_weights,
    batches,
    head_weights,
    training_order,
    training_orientations,
)
from stradavit.files import read_json
from stradavit.models.hub import LoadedEncoder, load_encoder
from stradavit.models.stages import acquire_encoder
from stradavit.settings import Settings
from stradavit.settings.evaluation import EvaluationSettings, ProbeSettings
from stradavit.settings.training import LoaderSettings

BENCHMARK, ENCODER = "rgz_dr1", "vit-tiny"


@dataclass(frozen=True)
class _Inputs:
    encoder_dir: Path
    benchmark_path: Path
    evaluation: EvaluationSettings
    device: torch.device


def compare(work_dir: Path, device: torch.device, rounds: int) -> Comparison:
    """The probe of the default run on its largest benchmark, all folds and epochs."""
    inputs = _make_inputs(work_dir, device)
    scores: dict[str, float] = {}
    n_images = len(LabelledCutouts(inputs.benchmark_path))
    settings, folds = inputs.evaluation.probe, inputs.evaluation.folds
    # Every image trains in all folds but one.
    trained_on = float(n_images * (folds.count - 1) * settings.epochs)

    def cached() -> float:
        scores["stradavit"] = _cached(inputs, work_dir)
        return trained_on

    def recomputed() -> float:
        scores["recomputed"] = _recomputed(inputs)
        return trained_on

    sides, ratios = in_turn(
        {
            "stradavit": (
                "stages features and probe: eight orientations embedded once, all folds and "
                "epochs on those",
                cached,
            ),
            "recomputed": (
                "a plain torch loop: images resized once and kept in memory, the frozen backbone "
                "on each batch of every epoch, held-out images scored after every epoch",
                recomputed,
            ),
        },
        rounds,
    )
    difference = abs(scores["stradavit"] - scores["recomputed"])
    return Comparison(
        name="linear probe",
        question=f"What does a linear probe with {folds.count} folds of {settings.epochs} epochs "
        f"cost on {n_images} images ({BENCHMARK} of the default run, {ENCODER}), embedding "
        "included?",
        unit="training images/s",
        sides=sides,
        ratios=ratios,
        targets=[
            Target("times cheaper than recomputing", 7.0, ratios["recomputed"].median),
            Target("difference in Macro-F1", 1e-3, difference, at_least=False),
        ],
        figures={"Macro-F1": scores},
        notes=[
            "Both sides make the same draws (folds, order of images, orientations, initial "
            "weights), and both report Macro-F1 after each epoch. The loop passes "
            f"{folds.count * settings.epochs * n_images:,} images through the backbone, the "
            f"cached features need {8 * n_images:,}. The encoder is untrained, so the score is "
            "that of chance; that both sides agree does not depend on it."
        ],
    )


def _make_inputs(work_dir: Path, device: torch.device) -> _Inputs:
    """Benchmark and encoder as the default config draws them."""
    settings = Settings.read(REPOSITORY / "config.yaml")
    source = settings.benchmarks[BENCHMARK]
    labels_path, benchmark_path = work_dir / "raw" / "labels.csv", work_dir / "benchmark.h5"
    acquire_benchmark(BENCHMARK, source, labels_path)
    cut_benchmark(BENCHMARK, source, labels_path, benchmark_path)
    acquire_encoder(ENCODER, settings.encoders[ENCODER], 42, work_dir / "encoder")
    return _Inputs(work_dir / "encoder", benchmark_path, settings.evaluation, device)


def _cached(inputs: _Inputs, work_dir: Path) -> float:
    """Mean Macro-F1 by the two stages, files included."""
    loader = LoaderSettings(threads=n_cores(), device=inputs.device.type)
    features_path, metrics_path = work_dir / "features.h5", work_dir / "metrics.json"
    extract_features(inputs.encoder_dir, inputs.benchmark_path, features_path, loader)
    e = inputs.evaluation
    probe(features_path, e.folds, e.class_weights, e.probe, (ENCODER, BENCHMARK), metrics_path)
    return float(read_json(metrics_path)["macro_f1"]["mean"])


def _recomputed(inputs: _Inputs) -> float:
    """Mean Macro-F1 by the plain loop."""
    torch.set_num_threads(n_cores())
    loaded = load_encoder(inputs.encoder_dir)
    loaded.encoder.to(inputs.device).eval()
    cutouts = LabelledCutouts(inputs.benchmark_path)
    side_px = loaded.preprocessing.image_px
    images = resized_images(cutouts, range(len(cutouts)), side_px).to(inputs.device)
    labels = np.asarray(cutouts.labels, dtype=np.int64)
    e = inputs.evaluation
    fold_of = make_folds(cutouts, e.folds)
    scores = []
    for fold in range(e.folds.count):
        train = np.flatnonzero(fold_of != fold)
        weights = balanced_weights(labels, train, len(cutouts.classes), e.class_weights)
        scores.append(_train_fold(loaded, images, labels, fold_of, fold, weights, e.probe))
    return float(np.mean(scores))


def _train_fold(
    loaded: LoadedEncoder,
    images: Tensor,
    labels: NDArray[np.int64],
    fold_of: NDArray[np.int64],
    fold: int,
    class_weights: NDArray[np.float64],
    settings: ProbeSettings,
) -> float:
    """Macro-F1 of one fold after the last epoch."""
    train, test = np.flatnonzero(fold_of != fold), np.flatnonzero(fold_of == fold)
    n_classes, device = len(class_weights), images.device
    truth = torch.from_numpy(labels).to(device)
    weights = torch.from_numpy(class_weights).float().to(device)
    head = nn.Linear(loaded.encoder.width, n_classes).to(device)
    with torch.no_grad():
        initial = head_weights(loaded.encoder.width, n_classes, settings.seed, fold)
        head.weight.copy_(torch.from_numpy(initial))
        head.bias.zero_()
    groups = [
        {"params": [head.weight], "weight_decay": settings.weight_decay},
        {"params": [head.bias], "weight_decay": 0.0},
    ]
    optimiser = torch.optim.AdamW(groups, lr=settings.learning_rate, betas=settings.betas)
    n_steps = settings.epochs * math.ceil(len(train) / settings.batch_size)
    n_warmup = math.ceil(settings.warmup_fraction * n_steps)

    def factor(step: int) -> float:
        if step < n_warmup:
            return step / n_warmup
        return 0.5 * (1 + math.cos(math.pi * (step - n_warmup) / max(1, n_steps - n_warmup)))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, factor)
    score = 0.0
    for epoch in range(settings.epochs):
        order = training_order(settings.seed, fold, epoch, train)
        turns = torch.from_numpy(training_orientations(settings.seed, fold, epoch, len(images)))
        for batch in batches(order, settings.batch_size):
            readout = _embed(loaded, orient_each(images[batch], turns[batch].to(device)))
            loss = F.cross_entropy(head(readout), truth[batch], weights)
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(head.parameters(), settings.clip_norm)
            optimiser.step()
            schedule.step()
        with torch.no_grad():
            held_out = [_embed(loaded, images[batch]) for batch in batches(test, 64)]
            predicted = head(torch.cat(held_out)).argmax(dim=1).cpu().numpy()
        score = macro_f1(confusion_matrix(labels[test], predicted, n_classes))
    return score


@torch.no_grad()
def _embed(loaded: LoadedEncoder, pixels: Tensor) -> Tensor:
    precision = "bf16" if pixels.device.type == "cuda" else "fp32"
    with mixed_precision(pixels.device, precision):
        return loaded.embed(pixels).float()
