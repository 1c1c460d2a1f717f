"""`stradavit plan`: what a config is going to cost, of what is not there already."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from stradavit.planning.cutouts import CorpusPlan, SurveyPlan, corpus_plans, survey_plan
from stradavit.planning.detection_raw import detection_raw
from stradavit.planning.detection_sets import (
    DetectionSetPlan,
    chips_in_use,
    chips_plan,
    fields_in_use,
    set_plan,
)
from stradavit.planning.detector_jobs import cutting_detection_jobs, detector_jobs
from stradavit.planning.detectors import DetectorCount, count_detectors, detectors
from stradavit.planning.disk import Space, free_bytes, spaces
from stradavit.planning.jobs import JobWork, cutting_jobs, scoring_jobs
from stradavit.planning.raw import Raw, raw_of
from stradavit.planning.records import Device
from stradavit.planning.runs import (
    CellCount,
    RunCount,
    cells_left,
    count_cells,
    count_runs,
    runs,
)
from stradavit.planning.samples import SamplePlan, sample_plan
from stradavit.planning.speed import Speed, speed_of
from stradavit.planning.trainings import TrainingWork, training_work
from stradavit.planning.work import DEVICE_STAGES
from stradavit.settings import Settings
from stradavit.settings.sources import ChipsSurvey, MosaicSurvey


@dataclass(frozen=True)
class Plan:
    """Everything the plan says; the text and the JSON are made of this and of nothing else.

    Parameters
    ----------
    configfiles, results : what it is a plan of
    speed : what is assumed of the device
    seeds : of the trainings
    device_hours, processor_hours : of all that is left
    bytes_here, bytes_to_come, bytes_free : on the disk of the results
    files_to_fetch, bytes_to_fetch : from archives
    next : the command to give
    """

    configfiles: tuple[str, ...]
    results: str
    speed: Speed
    seeds: tuple[int, ...]
    encoders: tuple[RunCount, ...]
    detectors: tuple[DetectorCount, ...]
    cells: tuple[CellCount, ...]
    surveys: tuple[SurveyPlan, ...]
    corpora: tuple[CorpusPlan, ...]
    benchmarks: tuple[SamplePlan, ...]
    detection_sets: tuple[DetectionSetPlan, ...]
    trainings: tuple[TrainingWork, ...]
    jobs: tuple[JobWork, ...]
    device_hours: float
    processor_hours: float
    disk: tuple[Space, ...]
    bytes_here: int
    bytes_to_come: int
    bytes_free: int
    raw: tuple[Raw, ...]
    files_to_fetch: int
    bytes_to_fetch: int
    next: str

    @property
    def is_short_of_disk(self) -> bool:
        """Whether what is to come is more than there is room for."""
        return self.bytes_to_come > self.bytes_free

    def to_json(self) -> str:
        """For programs."""
        values: dict[str, Any] = asdict(self) | {"is_short_of_disk": self.is_short_of_disk}
        return json.dumps(values, indent=1, ensure_ascii=False)


def make_plan(
    settings: Settings,
    configfiles: Sequence[Path],
    results_dir: Path,
    device: Device | None = None,
    tflops: float | None = None,
) -> Plan:
    """Count, measure and add up; nothing is written and nobody is asked.

    Parameters
    ----------
    settings : the config and what is laid over it
    configfiles : where they were read from
    results_dir : folder of the results, which need not be there
    device : to plan for; as jobs would choose here if absent
    tflops : TFLOP/s it sustains, for what was not measured

    Raises
    ------
    SettingsError, TrainingError, DataError
        If the config cannot be carried out: a corpus too small for its batches, a local survey
        without files.
    """
    results_dir = Path(results_dir)
    speed = speed_of(settings, device, tflops)
    size_px = settings.cutouts.size_px
    fields = {
        name: survey_plan(name, _mosaics(settings, name), size_px, results_dir)
        for name in dict.fromkeys([*_surveys_in_use(settings), *fields_in_use(settings)])
    }
    mosaics = {name: fields[name] for name in _surveys_in_use(settings)}
    sets = {
        name: set_plan(name, settings, fields, results_dir)
        for name in settings.used_detection_sets()
    }
    chips = {}
    for name in chips_in_use(settings):
        survey = settings.surveys[name]
        assert isinstance(survey, ChipsSurvey), "the settings check this"
        chips[name] = chips_plan(name, survey, sets[survey.detection], size_px, results_dir)
    surveys = mosaics | chips
    corpora = corpus_plans(settings, surveys, results_dir)
    samples = {
        name: sample_plan(name, benchmark, results_dir)
        for name, benchmark in settings.benchmarks.items()
    }
    found = runs(settings, results_dir)
    left = cells_left(settings, found, results_dir)
    searched = detectors(settings, found, results_dir)
    trainings = training_work(settings, found, corpora, results_dir, speed)
    jobs = [
        *cutting_jobs([*mosaics.values()], size_px, results_dir),
        *cutting_detection_jobs([*sets.values()]),
        *cutting_jobs([*chips.values()], size_px, results_dir, "cut_chips"),
        *scoring_jobs(settings, found, left, samples, results_dir, speed),
        *detector_jobs(settings, searched, sets, results_dir, speed),
    ]
    raw = [
        *raw_of(settings, fields, samples, found, results_dir),
        *detection_raw(settings, sets, results_dir),
    ]
    disk = spaces(settings, surveys, samples, sets, raw, found, searched, results_dir)
    fetched = [item for item in raw if item.is_fetched]
    files_to_fetch = sum(item.files_left for item in fetched)
    has_begun = any(item.files_here for item in fetched)
    is_done = not left and all(run.is_done for run in found)
    is_done = is_done and all(one.is_scored for one in searched)
    on_device = [job.hours for job in jobs if job.stage in DEVICE_STAGES]
    return Plan(
        configfiles=tuple(map(str, configfiles)),
        results=str(results_dir),
        speed=speed,
        seeds=settings.training.seeds,
        encoders=tuple(count_runs(found)),
        detectors=tuple(count_detectors(searched)),
        cells=tuple(count_cells(settings, left)),
        surveys=tuple(surveys.values()),
        corpora=tuple(corpora.values()),
        benchmarks=tuple(samples.values()),
        detection_sets=tuple(sets.values()),
        trainings=tuple(trainings),
        jobs=tuple(jobs),
        device_hours=sum(work.device_hours for work in trainings) + sum(on_device),
        processor_hours=sum(job.hours for job in jobs) - sum(on_device),
        disk=tuple(disk),
        bytes_here=sum(space.here for space in disk),
        bytes_to_come=sum(space.to_come for space in disk),
        bytes_free=free_bytes(results_dir),
        raw=tuple(raw),
        files_to_fetch=files_to_fetch,
        bytes_to_fetch=sum(item.bytes_left for item in fetched),
        next=_next(configfiles, results_dir, is_done, files_to_fetch > 0 and not has_begun),
    )


def _surveys_in_use(settings: Settings) -> list[str]:
    """Surveys of mosaics that some corpus is made of, in the order of the config."""
    corpora = (*settings.matrix.corpora, *settings.matrix.reduced_corpora)
    wanted = {survey for name in corpora for survey in settings.corpus(name).surveys}
    return [name for name in settings.surveys if name in wanted]


def _mosaics(settings: Settings, name: str) -> MosaicSurvey:
    survey = settings.surveys[name]
    assert not isinstance(survey, ChipsSurvey), "the settings check this"
    return survey


def _next(
    configfiles: Sequence[Path], results_dir: Path, is_done: bool, asks_archives_first: bool
) -> str:
    """The one command that comes next."""
    paths = [str(path) for path in configfiles]
    if asks_archives_first:
        return f"stradavit doctor --configfile {' '.join(paths)}"
    # Snakemake reads config.yaml by itself.
    overlays = paths[1:] if Path(paths[0]).name == "config.yaml" else paths
    words = ["snakemake --cores all results/tables"]
    if results_dir.absolute() != Path("results").absolute():
        words.append(f"--directory {results_dir.parent}")
    if overlays:
        words.append(f"--configfile {' '.join(overlays)}")
    return " ".join(words) + ("  # encoders and cells are all there" if is_done else "")
