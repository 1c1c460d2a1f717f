"""How long detectors are going to take: by jobs that ran before, else by arithmetic."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path
from statistics import fmean

from stradavit.errors import SettingsError
from stradavit.files import read_json
from stradavit.planning.detection_sets import DetectionSetPlan
from stradavit.planning.detector_cost import DetectorShape, detector_flops, learning_flops
from stradavit.planning.detectors import Detector, detector_folder
from stradavit.planning.jobs import BY_PAGE, JobWork
from stradavit.planning.known import Basis
from stradavit.planning.networks import Network, network_of
from stradavit.planning.records import date_of, seconds_of_job, shown_path, told_in_log
from stradavit.planning.speed import Speed, start_s
from stradavit.planning.work import cutting_s
from stradavit.settings import Settings
from stradavit.settings.detection import DetectorRun

# The line in which a training tells what it does.
_TRAINING = re.compile(
    r": (?P<device>\w+) in \w+; (?P<images>\d+) of \d+ training images, .* "
    r"(?P<batch>\d+) an update .*; (?P<epochs>\d+) epochs of (?P<updates>\d+) updates, "
    r"(?P<done>\d+) of \d+ done"
)


@dataclass(frozen=True)
class _Job:
    """A detector to train or to score: images it is shown, and FLOPs of each."""

    shape: DetectorShape
    run: DetectorRun
    images: int
    flops: float


@dataclass(frozen=True)
class DetectorRecord:
    """How long one job took, and how much work that was.

    Parameters
    ----------
    network, run : of the detector
    work : FLOPs
    source, date : the file below the results that says so, and when it was written
    """

    network: Network
    run: DetectorRun
    device: str
    work: float
    seconds: float
    source: str
    date: str

    def fits(self, job: _Job, device: str) -> bool:
        """Whether another job does the same work on the same kind of device."""
        return (
            self.device == device
            and self.run.detector == job.run.detector
            and self.run.training.precision == job.run.training.precision
            and self.network.is_like(job.shape.network)
        )


def cutting_detection_jobs(sets: Sequence[DetectionSetPlan]) -> list[JobWork]:
    """Sets that have no file yet."""
    left = [plan for plan in sets if not plan.is_cut]
    if not left:
        return []
    seconds = sum(
        start_s("cut_detection") + cutting_s(plan.images, round(plan.pixels**0.5)) for plan in left
    )
    return [JobWork("cut_detection", "cpu", len(left), seconds / 3600, "assumed", BY_PAGE)]


def detector_jobs(
    settings: Settings,
    found: Sequence[Detector],
    sets: Mapping[str, DetectionSetPlan],
    results_dir: Path,
    speed: Speed,
) -> list[JobWork]:
    """Trainings that are left, and detectors that are to be scored."""
    shapes = {one.job: _shape(settings, one, sets, results_dir) for one in found}
    trainings, scorings = list[_Job](), list[_Job]()
    trained, scored = list[DetectorRecord](), list[DetectorRecord]()
    for one in found:
        plan, shape, run = sets[one.detection_set], shapes[one.job], settings.detector_run(one.seed)
        trained += _trained(one, shape, results_dir)
        scored += _scored(one, shape, results_dir)
        if not one.is_done:
            all_images = run.training.epochs * plan.learned
            shown = _images_in(one.updates_done, plan.learned, run.training.batch_size)
            images = max(0, all_images - shown)
            trainings.append(_Job(shape, run, images, learning_flops(shape)))
        if not one.is_scored:
            flops = detector_flops(shape, is_learning=False)
            scorings.append(_Job(shape, run, plan.scored, flops))
    rows = []
    if trainings:
        rows.append(_row("train_detector", trainings, trained, speed))
    if scorings:
        rows.append(_row("detect", scorings, scored, speed))
    return rows


def _row(
    stage: str, jobs: Sequence[_Job], records: Sequence[DetectorRecord], speed: Speed
) -> JobWork:
    seconds, used, n_assumed = 0.0, list[DetectorRecord](), 0
    for job in jobs:
        work = job.images * job.flops
        fitting = [record for record in records if record.fits(job, speed.device)]
        seconds += start_s(stage)
        if fitting:
            # The largest says most of the work itself.
            record = max(fitting, key=lambda record: record.work)
            starting = min(start_s(stage), 0.9 * record.seconds)
            seconds += (record.seconds - starting) / record.work * work
            used.append(record)
        else:
            seconds += work / speed.flops
            n_assumed += 1
    said = []
    if used:
        files = dict.fromkeys(record.source for record in used)
        more = f" and {len(files) - 1} more" if len(files) > 1 else ""
        said.append(f"{used[0].date}, {used[0].source}{more}")
    if n_assumed:
        lead = f"{n_assumed} of them " if used else ""
        mean = fmean(job.flops for job in jobs) / 1e9
        operations = f"{mean:,.0f} GFLOP" if mean >= 10 else f"{1e3 * mean:,.0f} MFLOP"
        said.append(f"{lead}{speed}; {operations} an image, counted")
    basis: Basis = "assumed" if n_assumed else "measured"
    return JobWork(stage, speed.device, len(jobs), seconds / 3600, basis, "; ".join(said))


def _shape(
    settings: Settings, one: Detector, sets: Mapping[str, DetectionSetPlan], results_dir: Path
) -> DetectorShape:
    network = network_of(settings, settings.nodes()[one.encoder], results_dir)
    return DetectorShape(network, settings.detection.detector, sets[one.detection_set].classes)


def _images_in(updates: int, per_epoch: int, batch: int) -> int:
    """Images that so many updates have shown; the last update of an epoch may have fewer."""
    epochs, more = divmod(updates, max(ceil(per_epoch / batch), 1))
    return epochs * per_epoch + more * batch


def _trained(one: Detector, now: DetectorShape, results_dir: Path) -> Iterator[DetectorRecord]:
    """The last job of a training that is done; it may have gone on from a checkpoint."""
    folder = detector_folder(results_dir, one.encoder, one.detection_set, one.seed)
    told = told_in_log(results_dir, "train_detector", one.job, _TRAINING)
    try:
        run = DetectorRun.parse(read_json(folder / "config.json")["meta"]["settings"])
    except (OSError, ValueError, KeyError, TypeError, SettingsError):
        return
    if told is not None:
        per_epoch, epochs = int(told["images"]), int(told["epochs"])
        images = epochs * per_epoch - _images_in(int(told["done"]), per_epoch, int(told["batch"]))
        work = images * learning_flops(replace(now, settings=run.detector))
        path = results_dir / "timings" / "train_detector" / f"{one.job}.tsv"
        yield from _record(path, now, run, told["device"], work, results_dir)


def _scored(one: Detector, now: DetectorShape, results_dir: Path) -> Iterator[DetectorRecord]:
    """The job that scored a detector."""
    folder = results_dir / "metrics" / "detection" / one.encoder / one.detection_set
    try:
        content = read_json(folder / f"s{one.seed}.json")
        run = DetectorRun.parse(content["settings"])
        images, device = int(content["n_images"]), str(content["provenance"]["device"])
    except (OSError, ValueError, KeyError, TypeError, SettingsError):
        return
    work = images * detector_flops(replace(now, settings=run.detector), is_learning=False)
    path = results_dir / "timings" / "detect" / f"{one.job}.tsv"
    yield from _record(path, now, run, device, work, results_dir)


def _record(
    path: Path, now: DetectorShape, run: DetectorRun, device: str, work: float, results_dir: Path
) -> Iterator[DetectorRecord]:
    seconds = seconds_of_job(path)
    if seconds is not None and work > 0:
        source, date = shown_path(path, results_dir), date_of(path)
        yield DetectorRecord(now.network, run, device, work, seconds, source, date)
