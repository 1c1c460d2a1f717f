"""The training loop, top to bottom: data, model, optimiser, resume, loop, save.

Launched by ``torchrun`` when there is more than one device, otherwise directly. Killed at any
step and started again, it ends with the same weights: order, views, masks and replacements are
functions of (seed, epoch, cutout), and a checkpoint holds all the rest.
"""

import logging
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stradavit.cutouts.corpus import Corpus
from stradavit.errors import TrainingError
from stradavit.files import sha256_of
from stradavit.progress import progress
from stradavit.provenance import code_hash
from stradavit.settings.training import LoaderSettings, PretrainSettings
from stradavit.training.checkpoint import Checkpoints
from stradavit.training.collapse import spread
from stradavit.training.distributed import Team, team
from stradavit.training.loader import read_ahead
from stradavit.training.optimiser import adamw
from stradavit.training.record import Clock, Record, Sums
from stradavit.training.resampling import draw_views
from stradavit.training.sampler import Numbers, Plan
from stradavit.training.schedule import learning_rate, warmup_epochs
from stradavit.training.tasks import task_of

logger = logging.getLogger(__name__)

EXIT_TERMINATED = 128 + signal.SIGTERM
_NAMED_CUTOUTS = 8


def pretrain(
    settings: PretrainSettings,
    corpus_path: Path,
    start_dir: Path,
    out_dir: Path,
    loader: LoaderSettings,
) -> None:
    """Train one encoder and write its folder; continue from its last checkpoint if there is one.

    Beside the encoder: ``metrics.jsonl``, ``tensorboard/`` and, until the run is done,
    ``checkpoints/``. On SIGTERM the run writes a checkpoint after the current update and exits
    with 143.

    Parameters
    ----------
    settings : all that decides the weights
    corpus_path : index of the cutouts to train on
    start_dir : encoder folder to start from
    out_dir : encoder folder to write
    loader : what decides only speed; its `threads` may change the last bits of float sums

    Raises
    ------
    TrainingError
        On a non-finite loss or gradient, a corpus too small for one micro-batch, or a missing
        device.
    """
    torch.set_num_threads(loader.threads)
    with team(loader.device) as here, _sigterm() as stop:
        _train(settings, Path(corpus_path), Path(start_dir), Path(out_dir), loader, here, stop)


def _train(
    settings: PretrainSettings,
    corpus_path: Path,
    start_dir: Path,
    out_dir: Path,
    loader: LoaderSettings,
    here: Team,
    stop: list[int],
) -> None:
    phase = settings.phase

    # Data.
    corpus = Corpus(corpus_path)
    plan = Plan(
        n_cutouts=len(corpus),
        batch_size=phase.batch_size,
        effective_batch=phase.effective_batch,
        drop_last=phase.drop_last,
        seed=settings.seed,
        rank=here.rank,
        world=here.world,
    )
    n_updates = phase.epochs * plan.updates_per_epoch
    n_warmup = warmup_epochs(phase.epochs, phase.warmup_fraction) * plan.updates_per_epoch

    # Model and optimiser.
    task = task_of(settings, start_dir, here)
    optimiser, parameters = adamw(task.modules, phase.optimiser)

    # Resume: our own last checkpoint, else the weights of the start, which are loaded already.
    code = code_hash(__name__)
    checkpoints = Checkpoints(out_dir, identity_of(settings, corpus_path, start_dir, here.world))
    state = checkpoints.load()
    since_log, since_epoch, update, outcome = Sums(), Sums(), 0, dict[str, Any]()
    if state is not None:
        if state["code"] != code:
            logger.warning("The checkpoint was written by other code; the run will be a mixture.")
        for name, module in task.modules.items():
            module.load_state_dict(state["modules"][name])
        optimiser.load_state_dict(state["optimiser"])
        since_log, since_epoch = Sums(state["since_log"]), Sums(state["since_epoch"])
        update, outcome = state["updates"], state["outcome"]
    here.barrier()
    record = Record(out_dir, update) if here.is_writer else None
    logger.info(
        "Pretraining on %s (%d device(s), %s): %d cutouts, %d per update (%d × %d × %d), "
        "learning rate %g, %d epochs, %d of %d updates done",
        here.device,
        here.world,
        phase.precision,
        len(corpus),
        plan.accumulation * plan.micro_batch,
        plan.batch_size,
        here.world,
        plan.accumulation,
        phase.optimiser.learning_rate,
        phase.epochs,
        update,
        n_updates,
    )

    # Loop.
    batches = read_ahead(
        corpus_path,
        plan.micro_batches(phase.epochs, update),
        loader,
        pin_memory=here.device.type == "cuda",
    )
    bar = progress(
        total=phase.epochs * plan.cutouts_per_epoch,
        initial=plan.cutouts_before(update),
        desc=out_dir.name,
        unit="cutouts",
    )
    clock, saved_at = Clock(), time.monotonic()
    passed: list[tuple[Numbers, Tensor]] = []
    for batch, stored in clock.timed(batches):
        temperature = task.temperature(update, n_warmup)
        views, numbers, n_resampled = draw_views(task, corpus, batch, stored, settings, here.device)
        with torch.autocast(here.device.type, torch.bfloat16, enabled=phase.precision == "bf16"):
            loss, embeddings = task.loss(views, batch, numbers, temperature)
        (loss * batch.weight).backward()
        passed.append((numbers, loss.detach()))
    raise NotImplementedError
