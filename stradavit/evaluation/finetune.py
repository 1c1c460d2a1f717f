"""Stage `finetune`: train the whole model on a benchmark's labels, all folds (section 9.3)."""

import json
import logging
import math
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from stradavit.cutouts.benchmark import LabelledCutouts
from stradavit.errors import TrainingError
from stradavit.evaluation.classifier import Classifier
from stradavit.evaluation.device import mixed_precision, prepare_device
from stradavit.evaluation.dihedral import orient_each
from stradavit.evaluation.folds import Split, repeated_folds
from stradavit.evaluation.images import resized_images
from stradavit.evaluation.kept_folds import read_outcome, write_outcome
from stradavit.evaluation.layer_rates import parameter_groups
from stradavit.evaluation.metrics import FoldOutcome, confusion_matrix, macro_f1, write_outcomes
from stradavit.evaluation.recipe import (
    DROPOUT,
    ClassWeights,
    balanced_weights,
    batches,
    cosine_with_warmup,
    head_weights,
    torch_seed,
    training_order,
    training_orientations,
)
from stradavit.files import sha256_of, sha256_of_text
from stradavit.models.hub import LoadedEncoder, load_encoder
from stradavit.models.preprocessing import Preprocessing
from stradavit.models.weights import weight_file
from stradavit.progress import progress
from stradavit.provenance import code_hash
from stradavit.settings.evaluation import FinetuneSettings, FoldSettings
from stradavit.settings.training import LoaderSettings
from stradavit.training.optimiser import AdamW

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Material:
    """What all folds of a benchmark share, whatever is held out.

    Parameters
    ----------
    pixels : (n, 1, side, side) float32, resized, on the processor
    labels : (n,) int64, on the processor
    preprocessing, channels : how pixels become the encoder's input
    device : where to train
    """

    pixels: Tensor
    labels: Tensor
    preprocessing: Preprocessing
    channels: int
    device: torch.device

    def inputs(
        self, numbers: NDArray[np.int64], orientations: NDArray[np.int64] | None = None
    ) -> Tensor:
        """(b, c, side, side) normalised images on the device, each in its orientation."""
        pixels = self.pixels[numbers].to(self.device)
        if orientations is not None:
            pixels = orient_each(pixels, torch.from_numpy(orientations).to(self.device))
        return self.preprocessing.normalise(pixels, self.channels)


def finetune(
    encoder_dir: Path,
    benchmark_path: Path,
    folds: FoldSettings,
    class_weights: ClassWeights,
    settings: FinetuneSettings,
    names: tuple[str, str],
    out_path: Path,
    loader: LoaderSettings,
) -> None:
    """Fine-tune one encoder on one benchmark; write metrics and, beside them, predictions.

    A finished fold is kept in a hidden folder beside `out_path` until all are, so a killed job goes
    on with the fold it was in; a hash of everything that decides the result is in its name. All
    images are held in memory at the encoder's size (10,000 at 224 px are 2 GB).

    Parameters
    ----------
    class_weights : where the balanced weights are counted
    names : of the encoder and of the benchmark, for the tables
    out_path : metrics (JSON); the predictions lie beside it as ``<name>.predictions.csv``

    Raises
    ------
    TrainingError
        If a loss or gradient is not finite.
    """
    device = prepare_device(loader)
    cutouts = LabelledCutouts(benchmark_path)
    planned = list(repeated_folds(cutouts, folds, settings.repeats))
    labels = np.asarray(cutouts.labels, dtype=np.int64)
    n_classes = len(cutouts.classes)
    recorded = {
        "folds": folds.model_dump(mode="json"),
        "class_weights": class_weights,
        "finetune": settings.model_dump(mode="json"),
    }
    provenance = {
        "encoder_sha256": sha256_of(weight_file(encoder_dir)),
        "benchmark_sha256": sha256_of(benchmark_path),
        "device": device.type,
    }
    code = code_hash(__name__)
    identity = sha256_of_text(json.dumps([recorded, provenance, code], sort_keys=True))
    finished_dir = out_path.parent / f".{out_path.stem}.folds-{identity[:16]}"

    log.info(
        "fine-tuning on %d images of %d classes, on %s in %s, batch %d",
        len(labels),
        n_classes,
        device,
        settings.precision,
        settings.batch_size,
    )
    material: Material | None = None
    outcomes = []
    steps = [settings.epochs * math.ceil(len(s.train) / settings.batch_size) for s in planned]
    bar: tqdm[None] = progress(total=sum(steps), desc=" on ".join(names), unit="update")
    with bar:
        for split, n_steps in zip(planned, steps, strict=True):
            kept_path = finished_dir / f"repeat_{split.repeat}_fold_{split.fold}.json"
            kept = read_outcome(kept_path)
            if kept is not None:
                bar.update(n_steps)
                outcomes.append(kept)
                continue
            loaded = load_encoder(encoder_dir)
            if material is None:
                material = _material(loaded, cutouts, labels, device)
            weights = balanced_weights(labels, split.train, n_classes, class_weights)
            outcome = train_fold(loaded, material, split, weights, settings, bar.update)
            write_outcome(kept_path, outcome)
            outcomes.append(outcome)
    write_outcomes(
        out_path,
        cutouts,
        outcomes,
        names=names,
        protocol="finetune",
        settings=recorded,
        code=code,
        provenance=provenance,
        device=device.type,
    )
    # Those of other settings too: this result replaces theirs.
    for folder in out_path.parent.glob(f".{out_path.stem}.folds-*"):
        shutil.rmtree(folder)


def train_fold(
    loaded: LoadedEncoder,
    material: Material,
    split: Split,
    class_weights: NDArray[np.float64],
    settings: FinetuneSettings,
    advance: Callable[[int], object] = lambda _: None,
) -> FoldOutcome:
    """Fine-tune a freshly loaded encoder on the training images of one fold.

    The gradient of an update is that of the weighted cross-entropy over the whole batch, however
    it is cut into micro-batches. The held-out images are looked at once, after the last epoch; the
    paper also does so after each epoch, without using it, which would cost a sixth of the time.

    Parameters
    ----------
    class_weights : (n_classes,)
    advance : called with 1 after each update

    Raises
    ------
    TrainingError
        If a loss or gradient is not finite, naming repeat, fold, epoch and update.
    """
    train, test, draw = split.train, split.test, split.draw
    device, labels = material.device, material.labels
    weights = torch.from_numpy(class_weights).float()
    initial = head_weights(loaded.encoder.width, len(class_weights), settings.seed, draw)
    model = Classifier(loaded.encoder, torch.from_numpy(initial), settings.head_dropout).to(device)
    groups = parameter_groups(model.encoder, model.head, settings)
    optimiser = AdamW(groups, settings.betas)
    parameters = [parameter for group in groups for parameter in group["params"]]
    n_steps = settings.epochs * math.ceil(len(train) / settings.batch_size)
    step = 0
    curve = []
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        for epoch in range(settings.epochs):
            model.train()
            torch.manual_seed(torch_seed(settings.seed, draw, epoch, DROPOUT))
            order = training_order(settings.seed, draw, epoch, train)
            turns = training_orientations(settings.seed, draw, epoch, len(labels))
            losses = []
            for batch in batches(order, settings.batch_size):
                factor = cosine_with_warmup(step, n_steps, settings.warmup_fraction)
                for group in optimiser.param_groups:
                    group["lr"] = group["peak"] * factor
                optimiser.zero_grad()
                total_weight = weights[labels[batch]].sum().item()
                loss = 0.0
                for part in batches(batch, settings.micro_batch_size):
                    with mixed_precision(device, settings.precision):
                        logits = model(material.inputs(part, turns[part]))
                    part_loss = F.cross_entropy(
                        logits, labels[part].to(device), weights.to(device), reduction="sum"
                    )
                    part_loss = part_loss / total_weight
                    part_loss.backward()  # type: ignore[no-untyped-call]
                    loss += part_loss.item()
                norm = float(torch.nn.utils.clip_grad_norm_(parameters, settings.clip_norm))
                if not math.isfinite(loss) or not math.isfinite(norm):
                    raise TrainingError(
                        f"fine-tuning, {_name(split)}, epoch {epoch}, update {step}: the loss is "
                        f"{loss}, the gradient norm {norm}. Lower "
                        "evaluation.finetune.learning_rate or clip_norm, or set "
                        "evaluation.finetune.precision to fp32."
                    )
                optimiser.step()
                losses.append(loss)
                step += 1
                advance(1)
            curve.append(float(np.mean(losses)))
    probabilities = _predict(model, material, test, settings)
    predicted = probabilities.argmax(axis=1)
    score = macro_f1(confusion_matrix(labels[test].numpy(), predicted, len(weights)))
    log.info("%s: last loss %.4f, macro-F1 %.4f", _name(split), curve[-1], score)
    return FoldOutcome(split.fold, len(train), test, probabilities, {"loss": curve}, split.repeat)


def _name(split: Split) -> str:
    return f"repeat {split.repeat}, fold {split.fold}"


@torch.inference_mode()
def _predict(
    model: Classifier, material: Material, numbers: NDArray[np.int64], settings: FinetuneSettings
) -> NDArray[np.float32]:
    """(m, n_classes) probabilities of images as they are."""
    model.eval()
    parts = []
    for part in batches(numbers, settings.micro_batch_size):
        with mixed_precision(material.device, settings.precision):
            logits = model(material.inputs(part))
        parts.append(logits.softmax(dim=1).cpu().numpy())
    return np.concatenate(parts)


def _material(
    loaded: LoadedEncoder,
    cutouts: LabelledCutouts,
    labels: NDArray[np.int64],
    device: torch.device,
) -> Material:
    preprocessing = loaded.preprocessing
    return Material(
        pixels=resized_images(cutouts, range(len(cutouts)), preprocessing.image_px),
        labels=torch.from_numpy(labels),
        preprocessing=preprocessing,
        channels=loaded.encoder.channels,
        device=device,
    )
