"""How long the trainings are going to take: by what was measured, else by arithmetic."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from stradavit.planning.cutouts import CorpusPlan
from stradavit.planning.known import Basis
from stradavit.planning.networks import network_of
from stradavit.planning.records import TrainingRecord, training_records
from stradavit.planning.runs import KINDS, Run
from stradavit.planning.speed import Speed, start_s
from stradavit.planning.work import training_flops
from stradavit.settings import Settings
from stradavit.training.epoch import Epoch


@dataclass(frozen=True)
class TrainingWork:
    """Trainings of one kind on one corpus that are left.

    Parameters
    ----------
    runs, resumed : how many, and how many of them go on from a checkpoint
    updates, cutouts : of one whole run
    cutouts_left : of all of them, less what checkpoints hold
    gflop : of one cutout, forward and backward, mean
    device_hours : of all of them
    basis, source : of their speed
    """

    kind: str
    title: str
    corpus: str
    runs: int
    resumed: int
    updates: int
    cutouts: int
    cutouts_left: int
    gflop: float
    device_hours: float
    basis: Basis
    source: str


def training_work(
    settings: Settings,
    runs: Sequence[Run],
    corpora: dict[str, CorpusPlan],
    results_dir: Path,
    speed: Speed,
) -> list[TrainingWork]:
    """Trainings that are left, by kind and corpus, in the order of the matrix."""
    records = training_records(settings, results_dir)
    rows = []
    for kind, title in KINDS.items():
        for corpus, plan in corpora.items():
            left = [
                run
                for run in runs
                if run.kind == kind and run.node.corpus == corpus and not run.is_done
            ]
            # A model without a survey has two phases, of unlike length.
            for branch in dict.fromkeys(run.node.branch for run in left):
                some = [run for run in left if run.node.branch == branch]
                said = title
                if kind == "leave_out":
                    said += f", {'reconstruction' if branch == 'reconstruction' else 'contrastive'}"
                rows.append(
                    _training_row(settings, (kind, said), some, plan, records, results_dir, speed)
                )
    return rows


def _training_row(
    settings: Settings,
    about: tuple[str, str],
    runs: list[Run],
    corpus: CorpusPlan,
    records: list[TrainingRecord],
    results_dir: Path,
    speed: Speed,
) -> TrainingWork:
    seconds, gflops, left, chosen = 0.0, [], 0, []
    updates = cutouts = 0
    for run in runs:
        wanted = settings.pretrain_settings(run.node)
        network = network_of(settings, run.node, results_dir)
        phase = wanted.phase
        epoch = Epoch(
            int(corpus.cutouts.value),
            phase.batch_size,
            phase.effective_batch,
            phase.drop_last,
            equal_shares=wanted.objective == "contrastive",
            world=wanted.devices,
        )
        updates = phase.epochs * epoch.updates_per_epoch
        cutouts = phase.epochs * epoch.cutouts_per_epoch
        to_do = max(0, cutouts - epoch.cutouts_before(run.updates_done))
        flops = training_flops(network, wanted)
        fitting = [r for r in records if r.fits(network, wanted, speed.device)]
        same = [r for r in fitting if r.network.shape.registers == network.shape.registers]
        record = next(iter([*same, *fitting]), None)
        per_cutout = record.seconds(network, wanted) if record else flops / speed.flops
        seconds += wanted.devices * start_s("pretrain") + to_do * per_cutout
        gflops.append(flops / 1e9)
        left += to_do
        chosen.append((record, network))
    basis, source = _said_of_training([record for record, _ in chosen], fmean(gflops), speed)
    networks = {network.source for _, network in chosen if network.basis == "assumed"}
    return TrainingWork(
        *about,
        corpus.name,
        len(runs),
        sum(run.updates_done > 0 for run in runs),
        updates,
        cutouts,
        left,
        fmean(gflops),
        seconds / 3600,
        "assumed" if networks else basis,
        "; ".join([source, *sorted(networks)]),
    )


def _said_of_training(
    records: Sequence[TrainingRecord | None], gflop: float, speed: Speed
) -> tuple[Basis, str]:
    known = list(dict.fromkeys(record for record in records if record is not None))
    said = []
    if known:
        first, more = known[0], f" and {len(known) - 1} more" if len(known) > 1 else ""
        said.append(
            f"{first.cutouts_s:.4g} cutouts/s, {_tflops(first):.3g} TFLOP/s, {first.date}, "
            f"{first.source}{more}"
        )
    n_unknown = sum(record is None for record in records)
    if n_unknown:
        lead = f"{n_unknown} of them " if known else ""
        operations = f"{gflop:,.0f} GFLOP" if gflop >= 10 else f"{1e3 * gflop:,.0f} MFLOP"
        said.append(f"{lead}{speed}; {operations} a cutout, counted")
    return ("assumed" if n_unknown else "measured"), "; ".join(said)


def _tflops(record: TrainingRecord) -> float:
    return training_flops(record.network, record.settings) / record.device_s / 1e12
