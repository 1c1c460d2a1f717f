"""Stage `train_detector`: data, detector, optimiser, resume, loop, save.

Killed at any update and started again, it ends with the same weights: order, mirroring, dropped
paths and sampled boxes are functions of (seed, epoch, image or micro-batch), and a checkpoint
holds all the rest.
"""

import logging
import math
import threading
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from stradavit.cutouts.detection_images import DetectionImages
from stradavit.detection.detector import build_detector, save_detector
from stradavit.detection.inputs import (
    Lessons,
    MicroBatch,
    as_input,
    lessons_of,
    micro_batches,
    read_ahead,
    updates_per_epoch,
)
from stradavit.detection.schedule import learning_rate
from stradavit.errors import DataError, TrainingError
from stradavit.files import sha256_of
from stradavit.machine import maker
from stradavit.models.weights import weight_file
from stradavit.progress import progress
from stradavit.provenance import code_hash
from stradavit.settings.detection import DetectorRun, DetectorTraining
from stradavit.settings.training import LoaderSettings
from stradavit.training.checkpoint import Checkpoints, RunState, identity_of
from stradavit.training.distributed import choose_device
from stradavit.training.memory import keep_freed_memory
from stradavit.training.optimiser import adamw
from stradavit.training.record import Record
from stradavit.training.signals import EXIT_TERMINATED, terminated

logger = logging.getLogger(__name__)

_IMAGES_NAMED = 8
_RATE = "images_per_s"


def train_detector(
    encoder_dir: Path,
    set_path: Path,
    run: DetectorRun,
    names: tuple[str, str],
    out_dir: Path,
    loader: LoaderSettings,
) -> None:
    """Train one detector and write its folder; continue from its last checkpoint if there is one.

    Beside the detector it leaves ``metrics.jsonl`` and ``tensorboard/`` and, until it is done,
    ``checkpoints/``. On SIGTERM or SIGUSR1 it writes a checkpoint after the current update and
    exits with 143. One device trains; a batch that does not fit there is accumulated from
    micro-batches.

    Parameters
    ----------
    encoder_dir : encoder folder the backbone starts from
    set_path : detection set; its split `train` is learned
    run : all that decides the weights
    names : of the encoder and of the set, for the detector's config
    out_dir : folder of the detector to write
    loader : what decides only speed; `threads` can change the last bits of sums all the same

    Raises
    ------
    TrainingError
        If a loss or gradient is not finite, or there is no such device.
    DataError
        If encoder or set cannot be read, or the set has no box to learn.
    """
    torch.set_num_threads(loader.threads)
    keep_freed_memory()
    device = choose_device(loader.device)
    with terminated() as stop:
        _train(Path(encoder_dir), Path(set_path), run, names, Path(out_dir), loader, device, stop)


def _train(
    encoder_dir: Path,
    set_path: Path,
    run: DetectorRun,
    names: tuple[str, str],
    out_dir: Path,
    loader: LoaderSettings,
    device: torch.device,
    stop: threading.Event,
) -> None:
    settings = run.training

    # Data.
    images = DetectionImages(set_path)
    lessons = lessons_of(images, settings)
    if not lessons.n_boxes:
        raise DataError(
            f"{set_path}: no box is left to learn in the {len(images.of_split('train'))} images of "
            f"the split train ({lessons.n_small} are smaller than min_side_px, {lessons.n_crowd} "
            "are crowds); expected some. Lower detection.training.min_side_px, or look at the set."
        )
    per_epoch = updates_per_epoch(len(lessons.numbers), settings)
    n_updates = settings.epochs * per_epoch

    # Detector and optimiser.
    model = build_detector(encoder_dir, images.classes, run.detector, run.seed).to(device).train()
    channels = len(model.config.mean)
    modules: dict[str, nn.Module] = {"detector": model}
    optimiser, parameters = adamw(modules, settings.optimiser)

    # Resume from our own last checkpoint, else start from the encoder, loaded already.
    identity = identity_of(run, set_path, encoder_dir)
    checkpoints = Checkpoints(out_dir, identity)
    state = RunState(modules, optimiser, code_hash(__name__), outcome={"sums": {}, "epoch": {}})
    state.restore(checkpoints.load())
    state.add_maker(maker(device.type))
    record = Record(out_dir, state.updates, is_writer=True)

    # Loop.
    bar = _announce(names, settings, images, lessons, parameters, device, state.updates)
    saved_at = started = time.monotonic()
    n_seen = 0
    passed: list[tuple[MicroBatch, dict[str, Tensor]]] = []
    planned = micro_batches(lessons.numbers, settings, run.seed, state.updates)
    for batch, pairs in read_ahead(images, lessons, planned, loader):
        inputs = [as_input(pixels, channels, device) for pixels, _ in pairs]
        targets = [{name: t.to(device) for name, t in target.items()} for _, target in pairs]
        # The heads sample anchors and boxes, and blocks drop paths, from torch's own generators.
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(batch.torch_seed)
            with torch.autocast(device.type, torch.bfloat16, settings.precision == "bf16"):
                losses: dict[str, Tensor] = model(inputs, targets)
            # A micro-batch's losses are means over the anchors and boxes sampled in it, so many
            # in every image: weighted by images they add up to the mean over the update's.
            loss = torch.stack(list(losses.values())).sum() * batch.weight
            loss.backward()  # type: ignore[no-untyped-call]
        passed.append((batch, {name: loss.detach() for name, loss in losses.items()}))
        if not batch.ends_update:
            continue

        # One update.
        grad_norm = float(nn.utils.clip_grad_norm_(parameters, settings.clip_norm))
        values = _mean_losses(passed) | {"grad_norm": grad_norm}
        if not all(map(math.isfinite, values.values())):
            raise _not_finite(values, passed, images)
        rate = learning_rate(state.updates, per_epoch, settings)
        for group in optimiser.param_groups:
            group["lr"] = rate
        optimiser.step()
        optimiser.zero_grad()
        state.updates += 1
        n_images = sum(len(part.numbers) for part, _ in passed)
        n_seen += n_images
        passed = []
        bar.update(n_images)
        bar.set_postfix_str(f"loss {values['loss']:.4g}", refresh=False)

        # Record: an update by itself, an epoch as the mean over its updates.
        speed = {_RATE: n_seen / max(time.monotonic() - started, 1e-9)}
        sums = state.outcome["sums"]
        for name, value in values.items():
            sums[name] = sums.get(name, 0.0) + value
        if state.updates % loader.log_every_steps == 0:
            line = values | {"learning_rate": rate} | speed
            record.write("step", state.updates, batch.epoch + 1, line)
        if batch.ends_epoch:
            means = {name: total / per_epoch for name, total in sums.items()}
            state.outcome = {"sums": {}, "epoch": means | {"learning_rate": rate}}
            record.write("epoch", state.updates, batch.epoch + 1, state.outcome["epoch"] | speed)
            logger.info("Epoch %d: loss %.4g", batch.epoch + 1, means["loss"])

        # Save.
        is_asked = stop.is_set() or time.monotonic() - saved_at > loader.checkpoint_every_s
        epochs_done = batch.epoch + 1 if batch.ends_epoch else 0
        is_due = epochs_done and epochs_done % loader.checkpoint_every_epochs == 0
        if is_asked or is_due or state.updates == n_updates:
            checkpoints.save(state)
            saved_at = time.monotonic()
        if stop.is_set():
            logger.warning("Terminated after update %d; start again to go on", state.updates)
            raise SystemExit(EXIT_TERMINATED)
    bar.close()

    # The detector itself; with it, the checkpoints have served.
    record.write("end", state.updates, settings.epochs, state.outcome["epoch"])
    meta = {
        "encoder": names[0],
        "set": names[1],
        "encoder_sha256": sha256_of(weight_file(encoder_dir)),
        "set_sha256": identity["corpus"],
        "settings": run.model_dump(mode="json"),
        "code": state.code,
        "made_by": state.makers,
        "updates": state.updates,
        "result": state.outcome["epoch"],
    }
    save_detector(out_dir, model, meta)
    checkpoints.remove()
    record.close()


def _mean_losses(passed: list[tuple[MicroBatch, dict[str, Tensor]]]) -> dict[str, float]:
    """The losses of an update by name, and `loss`, their sum."""
    means: dict[str, float] = {}
    for batch, losses in passed:
        for name, loss in losses.items():
            means[name] = means.get(name, 0.0) + float(loss) * batch.weight
    return {"loss": sum(means.values()), **means}


def _not_finite(
    values: dict[str, float],
    passed: list[tuple[MicroBatch, dict[str, Tensor]]],
    images: DetectionImages,
) -> TrainingError:
    """The error for an update that must not be made: names the micro-batches at fault, or all."""
    last = passed[-1][0]
    faulty = [
        batch
        for batch, losses in passed
        if not all(bool(loss.isfinite()) for loss in losses.values())
    ]
    numbers = [n for batch in faulty or [b for b, _ in passed] for n in batch.numbers.tolist()]
    named = ", ".join(images.names[number] for number in numbers[:_IMAGES_NAMED])
    more = f" and {len(numbers) - _IMAGES_NAMED} more" if len(numbers) > _IMAGES_NAMED else ""
    told = ", ".join(f"{name} {value:g}" for name, value in values.items())
    return TrainingError(
        f"epoch {last.epoch + 1}, update {last.update + 1}: {told} on the images {named}{more}; "
        "expected finite numbers. Nothing was saved since the last checkpoint. Look at these "
        "images, lower detection.training.optimiser.learning_rate, or set "
        "detection.training.precision to fp32."
    )


def _announce(
    names: tuple[str, str],
    settings: DetectorTraining,
    images: DetectionImages,
    lessons: Lessons,
    parameters: list[nn.Parameter],
    device: torch.device,
    done: int,
) -> "tqdm[Any]":
    """Log what starts, and show a bar over all images of the run."""
    n_images = len(lessons.numbers)
    per_epoch = updates_per_epoch(n_images, settings)
    n_updates = settings.epochs * per_epoch
    logger.info(
        "%s on %s: %s in %s; %d of %d training images, %d empty ones %s, %d left out that "
        "other splits have too; %d boxes of %d classes, "
        "left out %d under %g px and %d crowds; %d an update (%d at once), learning rate %g, "
        "%.1f million parameters; %d epochs of %d updates, %d of %d done",
        *names,
        device.type,
        settings.precision,
        n_images,
        len(lessons.boxes),
        lessons.n_empty,
        "left out" if settings.skip_empty else "among them",
        lessons.n_held_out,
        lessons.n_boxes,
        len(images.classes),
        lessons.n_small,
        settings.min_side_px,
        lessons.n_crowd,
        settings.batch_size,
        settings.micro_batch_size,
        settings.optimiser.learning_rate,
        sum(parameter.numel() for parameter in parameters) / 1e6,
        settings.epochs,
        per_epoch,
        done,
        n_updates,
    )
    if n_updates <= settings.warmup_updates:
        logger.warning(
            "All %d updates lie within the warm-up of %d: the learning rate never reaches %g. "
            "Lower detection.training.warmup_updates.",
            n_updates,
            settings.warmup_updates,
            settings.optimiser.learning_rate,
        )
    epochs_done, updates_done = divmod(done, per_epoch)
    return progress(
        total=settings.epochs * n_images,
        initial=epochs_done * n_images + updates_done * settings.batch_size,
        desc=" on ".join(names),
        unit="images",
    )
