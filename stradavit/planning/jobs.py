"""How long cutting and scoring are going to take: by jobs that ran before, else by arithmetic."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Literal

from stradavit.planning.cutouts import SurveyPlan
from stradavit.planning.known import Basis, least_sure
from stradavit.planning.networks import network_of
from stradavit.planning.records import Device, JobRecord, cutting_seconds, job_records
from stradavit.planning.runs import Run
from stradavit.planning.samples import SamplePlan
from stradavit.planning.speed import Speed, start_s
from stradavit.planning.work import DEVICE_STAGES, Sample, cutting_s, scoring_work
from stradavit.settings import Settings
from stradavit.settings.evaluation import Protocol

BY_PAGE = "one thread, as in docs/performance.md"

# Records whose times are averaged; more would tell no more.
_AVERAGED = 8


@dataclass(frozen=True)
class JobWork:
    """Jobs of one stage that are left.

    Parameters
    ----------
    stage : name of the protocol, or of the rule
    device : what the hours are of
    basis, source : of their speed
    """

    stage: str
    device: Device
    jobs: int
    hours: float
    basis: Basis
    source: str


def cutting_jobs(
    surveys: Sequence[SurveyPlan],
    size_px: int,
    results_dir: Path,
    stage: Literal["cut_part", "cut_chips"] = "cut_part",
) -> list[JobWork]:
    """Parts that have no shard yet."""
    seconds, jobs, bases, sources = 0.0, 0, set[Basis](), set[str]()
    for survey in surveys:
        parts = survey.parts - survey.parts_cut
        left = max(0.0, survey.cutouts.value - survey.cutouts_here)
        if not parts:
            continue
        jobs += parts
        before_s = cutting_seconds(results_dir, stage, survey.name)
        if before_s and survey.cutouts_here:
            seconds += before_s / survey.cutouts_here * left
            bases.add("measured")
            sources.add(f"its parts that are cut, {survey.name}")
        else:
            seconds += parts * start_s(stage) + cutting_s(left, size_px)
            bases.add("assumed")
            sources.add(BY_PAGE)
    if not jobs:
        return []
    said = "; ".join(sorted(sources))
    return [JobWork(stage, "cpu", jobs, seconds / 3600, least_sure([*bases]), said)]


def scoring_jobs(
    settings: Settings,
    runs: Sequence[Run],
    cells: Sequence[tuple[Protocol, str, str]],
    samples: dict[str, SamplePlan],
    results_dir: Path,
    speed: Speed,
) -> list[JobWork]:
    """Features and cells that are left, by stage."""
    records = job_records(settings, results_dir)
    done = {run.node.name for run in runs if run.is_done}
    stages: dict[str, list[tuple[str, str]]] = {"features": []}
    for protocol, encoder, benchmark in cells:
        stages.setdefault(protocol, []).append((encoder, benchmark))
        is_there = (results_dir / "features" / encoder / f"{benchmark}.h5").is_file()
        if protocol != "finetune" and not (is_there and encoder in done):
            stages["features"].append((encoder, benchmark))
    return [
        _row(stage, list(dict.fromkeys(jobs)), settings, samples, records, results_dir, speed)
        for stage, jobs in stages.items()
        if jobs
    ]


def _row(
    stage: str,
    jobs: list[tuple[str, str]],
    settings: Settings,
    samples: dict[str, SamplePlan],
    records: list[JobRecord],
    results_dir: Path,
    speed: Speed,
) -> JobWork:
    is_on_device = stage in DEVICE_STAGES
    device: Device = speed.device if is_on_device else "cpu"
    nodes = settings.nodes()
    seconds, n_assumed, used = 0.0, 0, list[JobRecord]()
    for encoder, benchmark in jobs:
        network = network_of(settings, nodes[encoder], results_dir)
        classes = len(settings.benchmarks[benchmark].classes or ()) or 2
        sample = Sample(samples[benchmark].images.value, classes)
        work = scoring_work(stage, settings.evaluation, sample, network)
        fitting = [
            record
            for record in records
            if (record.stage, record.device) == (stage, device)
            and (not is_on_device or record.network.is_like(network))
        ]
        seconds += start_s(stage)
        if fitting:
            chosen = _nearest(fitting, benchmark)
            rates = [_seconds_of_work(record) for record in chosen]
            seconds += fmean(rates) * work
            used += chosen
        else:
            seconds += work / (speed.flops if is_on_device else 1.0)
            n_assumed += 1
    said = []
    if used:
        files = {record.source for record in used}
        last = max(used, key=lambda record: (record.date, record.source))
        more = f" and {len(files) - 1} more" if len(files) > 1 else ""
        said.append(f"{last.date}, {last.source}{more}")
    if n_assumed:
        lead = f"{n_assumed} of them " if used else ""
        said.append(f"{lead}{speed}; operations counted" if is_on_device else lead + BY_PAGE)
    basis: Basis = "assumed" if n_assumed else "measured"
    return JobWork(stage, device, len(jobs), seconds / 3600, basis, "; ".join(said))


def _nearest(records: list[JobRecord], benchmark: str) -> list[JobRecord]:
    """Jobs on the same benchmark; else the largest, which says most of the work itself."""
    same = [record for record in records if record.benchmark == benchmark]
    if same:
        return sorted(same, key=lambda record: record.date, reverse=True)[:_AVERAGED]
    return [max(records, key=lambda record: record.work)]


def _seconds_of_work(record: JobRecord) -> float:
    """Seconds for a unit of work, without what the job took to start."""
    working = max(record.seconds - start_s(record.stage), 0.1 * record.seconds)
    return working / record.work
