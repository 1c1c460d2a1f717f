"""The training loop, top to bottom: data, model, optimiser, resume, loop, save.

One process for each device, which `stradavit.training.launch` starts. Killed at any step and
started again, it ends with the same weights: order, views, masks and replacements are
functions of (seed, epoch, cutout), and a checkpoint holds all the rest.
"""

import logging
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from stradavit.cutouts.corpus import Corpus
from stradavit.machine import maker
from stradavit.models.compiled import compile_blocks
from stradavit.progress import progress
from stradavit.provenance import code_hash
from stradavit.settings.training import LoaderSettings, PretrainSettings
from stradavit.training.alarms import watch_spread
from stradavit.training.checkpoint import Checkpoints, RunState, identity_of
from stradavit.training.distributed import Team, team
from stradavit.training.loader import read_ahead
from stradavit.training.memory import keep_freed_memory
from stradavit.training.optimiser import adamw
from stradavit.training.record import Passed, Record
from stradavit.training.resampling import draw_ahead, draw_views
from stradavit.training.sampler import Plan
from stradavit.training.schedule import learning_rate, warmup_epochs
from stradavit.training.signals import EXIT_TERMINATED, terminated
from stradavit.training.tasks import task_of
from stradavit.training.throughput import Gauge, device_peak
from stradavit.training.updates import Updates, tally_of

logger = logging.getLogger(__name__)

# Of one process on one machine, so neither final numbers nor in the model card.
_RATES = ("cutouts_per_s", "stall_fraction", "tflop_per_s", "peak_fraction")


def pretrain(
    settings: PretrainSettings,
    corpus_path: Path,
    start_dir: Path,
    out_dir: Path,
    loader: LoaderSettings,
) -> None:
    """Train one encoder and write its folder; continue from its last checkpoint if there is one.

    Beside the encoder it leaves ``metrics.jsonl`` and ``tensorboard/`` and, until it is done,
    ``checkpoints/``. On SIGTERM or SIGUSR1 it writes a checkpoint after the current update and
    exits with 143.

    Parameters
    ----------
    settings : all that decides the weights
    corpus_path : index of the cutouts to train on
    start_dir : encoder folder to start from
    out_dir : encoder folder to write
    loader : what decides only speed; `threads` can change the last bits of sums all the same

    Raises
    ------
    TrainingError
        If a loss or gradient is not finite, the corpus is smaller than a micro-batch, there is no
        such device, or not the number of processes that `settings.devices` asks for.
    DataError
        If corpus or start cannot be read.
    """
    torch.set_num_threads(loader.threads)
    keep_freed_memory()
    with team(loader.device, settings.devices) as here, terminated() as stop:
        _train(settings, Path(corpus_path), Path(start_dir), Path(out_dir), loader, here, stop)


def _train(
    settings: PretrainSettings,
    corpus_path: Path,
    start_dir: Path,
    out_dir: Path,
    loader: LoaderSettings,
    here: Team,
    stop: threading.Event,
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
        equal_shares=settings.objective == "contrastive",
        rank=here.rank,
        world=here.world,
        shuffle_block=phase.shuffle_block,
    )
    per_epoch = plan.updates_per_epoch
    n_updates = phase.epochs * per_epoch
    n_warmup = warmup_epochs(phase.epochs, phase.warmup_fraction) * per_epoch

    # Model and optimiser.
    task = task_of(settings, start_dir, here)
    compile_blocks(task.modules, loader.compile, here.device)
    optimiser, parameters = adamw(task.modules, phase.optimiser)

    # Resume from our own last checkpoint, else go on with the start's weights, loaded already.
    checkpoints = Checkpoints(out_dir, identity_of(settings, corpus_path, start_dir))
    run = RunState(task.modules, optimiser, code_hash(__name__))
    run.restore(checkpoints.load())
    run.add_maker(maker(here.device.type))
    here.barrier()  # nobody may write a checkpoint while another still reads
    record = Record(out_dir, run.updates, here.is_writer)

    # Loop.
    gauge = Gauge(task.flops, here.world, device_peak(here.device, phase.precision))
    bar = _announce(out_dir.name, settings, plan, here, run.updates, n_updates)
    saved_at, waited_s = time.monotonic(), 0.0
    passed: list[Passed] = []
    embeddings: Tensor | None = None
    is_cuda = here.device.type == "cuda"
    updates = Updates(is_late=is_cuda)
    planned = plan.micro_batches(phase.epochs, run.updates)
    draw = partial(
        draw_views,
        task.recipe,
        corpus,
        seed=settings.seed,
        resamplings=settings.views.empty.resamplings,
        device=here.device,
    )
    batches = read_ahead(corpus_path, planned, loader, pin_memory=is_cuda)
    for batch, views, seconds in draw_ahead(batches, draw, here.device):
        waited_s += seconds
        position = run.updates / per_epoch
        if views is not None:
            # TF32 stays off: what autocast leaves in float32 are similarities and losses.
            with torch.autocast(here.device.type, torch.bfloat16, phase.precision == "bf16"):
                loss, embeddings = task.loss(views, batch.epoch, position)
            (loss * batch.weight).backward()  # type: ignore[no-untyped-call]
            passed.append(
                Passed(views.numbers, loss.detach(), views.n_resampled, views.n_still_empty)
            )
        if not batch.ends_update:
            continue

        # One update: the mean over all its cutouts on all devices, then one step.
        asks_to_save = here.is_writer and time.monotonic() - saved_at > loader.checkpoint_every_s
        tally = tally_of(passed, stop.is_set(), asks_to_save, here.device)
        here.sum_gradients(parameters, tally)
        grad_norm = nn.utils.clip_grad_norm_(parameters, phase.clip_norm)
        rate = learning_rate(run.updates, n_updates, n_warmup, phase.optimiser.learning_rate)
        for group in optimiser.param_groups:
            group["lr"] = rate
        optimiser.step()
        optimiser.zero_grad()
        run.updates += 1
        updates.add(batch, passed, waited_s, tally, grad_norm)
        passed, waited_s = [], 0.0

        # Look at its sums. A GPU's are looked at one update late, but before anything is written,
        # so an update that is not finite ends the run before it can be saved.
        is_logged = run.updates % loader.log_every_steps == 0
        is_all = is_logged or batch.ends_epoch
        asked_to_stop = asked_to_save = 0.0
        while seen := updates.take(is_all):
            for update in seen:
                sums = update.sums(corpus)
                for window in (run.since_step, run.since_epoch):
                    window.add(
                        update.batch.n_update,
                        update.waited_s,
                        loss=sums.loss,
                        grad_norm=sums.grad_norm,
                        resampled=sums.resampled,
                        still_empty=sums.still_empty,
                    )
                if bar is not None:
                    bar.update(update.batch.n_update)
                asked_to_stop += sums.stop
                asked_to_save += sums.save
            is_all = is_all or asked_to_stop + asked_to_save > 0
        if bar is not None:
            bar.set_postfix_str(gauge.read(run.since_epoch.rates()), refresh=False)

        # Record.
        if is_logged or batch.ends_epoch:
            present = {"learning_rate": rate, **task.at(position)}
            if embeddings is not None and here.is_writer:
                spread = watch_spread(embeddings, run.updates, run.is_collapsed)
                run.is_collapsed = bool(spread["collapsed"])
                present |= spread
            if is_logged:
                line = run.since_step.close()
                line |= gauge.rates(line["cutouts_per_s"]) | present
                record.write("step", run.updates, batch.epoch + 1, line)
            if batch.ends_epoch:
                line = run.since_epoch.close()
                if here.is_writer:
                    logger.info("Epoch %d: %s", batch.epoch + 1, gauge.read(line))
                run.outcome = line | gauge.rates(line["cutouts_per_s"]) | present
                record.write("epoch", run.updates, batch.epoch + 1, run.outcome)

        # Save.
        epochs_done = batch.epoch + 1 if batch.ends_epoch else 0
        is_due = (
            asked_to_stop + asked_to_save > 0
            or run.updates == n_updates
            or (epochs_done and epochs_done % loader.checkpoint_every_epochs == 0)
        )
        if is_due and here.is_writer:
            checkpoints.save(run)
            saved_at = time.monotonic()
        if asked_to_stop:
            here.barrier()  # torchrun kills all once one has left: the checkpoint comes first
            if here.is_writer:
                logger.warning("Terminated after update %d; start again to go on", run.updates)
            raise SystemExit(EXIT_TERMINATED)
    if bar is not None:
        bar.close()

    # The encoder itself; with it, the run's checkpoints have served.
    if here.is_writer:
        numbers = {name: run.outcome[name] for name in run.outcome if name not in _RATES}
        record.write("end", run.updates, phase.epochs, numbers)
        card = {
            "title": out_dir.name,
            "start": start_dir.name,
            "identity": checkpoints.identity,
            "corpus": {
                "name": corpus_path.stem,
                "cutouts": len(corpus),
                "counts": corpus.counts(),
            },
            "code": run.code,
            "made_by": run.makers,
            "updates": run.updates,
            "result": numbers,
        }
        task.save(out_dir, card)
        checkpoints.remove()
    record.close()
    here.barrier()


def _announce(
    name: str, settings: PretrainSettings, plan: Plan, here: Team, done: int, n_updates: int
) -> "tqdm[Any] | None":
    """Log what starts, and show a bar over all cutouts of the run."""
    if not here.is_writer:
        return None
    phase = settings.phase
    logger.info(
        "%s: %s, %d x %s in %s, %d cutouts; %d a device x %d devices x %d accumulated = %d an "
        "update (%d asked for); learning rate %g; %d epochs of %d updates, %d of %d done",
        name,
        settings.loss,
        here.world,
        here.device.type,
        phase.precision,
        plan.n_cutouts,
        plan.batch_size,
        plan.world,
        plan.accumulation,
        plan.accumulation * plan.micro_batch,
        phase.effective_batch,
        phase.optimiser.learning_rate,
        phase.epochs,
        plan.updates_per_epoch,
        done,
        n_updates,
    )
    return progress(
        total=phase.epochs * plan.cutouts_per_epoch,
        initial=plan.cutouts_before(done),
        desc=name,
        unit="cutouts",
    )
