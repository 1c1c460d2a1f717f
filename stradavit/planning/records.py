"""What earlier runs say about speed: the records of trainings and Snakemake's timings of jobs."""

import csv
import datetime
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from stradavit.errors import SettingsError
from stradavit.files import read_json
from stradavit.models.card import read_card
from stradavit.planning.networks import Network, network_of, read_network
from stradavit.planning.work import Sample, scoring_work, training_flops
from stradavit.settings import Settings
from stradavit.settings.evaluation import EvaluationSettings
from stradavit.settings.training import PretrainSettings

Device = Literal["cuda", "cpu"]

STAGES = {
    "features": "features",
    "linear_probe": "probe",
    "finetune": "finetune",
    "knn": "knn",
    "label_budget": "label_budget",
    "published_split": "published_split",
}
"""The rule of each stage of scoring; its jobs' logs and timings bear that name."""

# The lines in which stages tell what they compute on.
_TRAINING = re.compile(r": \w+, (?P<devices>\d+) x (?P<device>\w+) in (?P<precision>\w+), ")
_FEATURES = re.compile(r"embedding (?P<images>\d+) images on (?P<device>\w+) in ")


@dataclass(frozen=True)
class TrainingRecord:
    """How fast a finished or running training is.

    Parameters
    ----------
    name : of the encoder
    settings, network : what it trains, and how
    device : kind of device
    device_s : seconds of one device for one cutout
    cutouts_s : cutouts a second, on all its devices
    source, date : the file below the results that says so, and when it was written last
    """

    name: str
    settings: PretrainSettings
    network: Network
    device: str
    device_s: float
    cutouts_s: float
    source: str
    date: str

    def fits(self, network: Network, settings: PretrainSettings, device: Device) -> bool:
        """Whether another run does the same work on the same kind of device."""
        return (
            self.device == device
            and self.settings.objective == settings.objective
            and self.settings.phase.precision == settings.phase.precision
            and self.settings.views == settings.views
            and self.network.is_like(network)
        )

    def seconds(self, network: Network, settings: PretrainSettings) -> float:
        """Seconds of one device for a cutout of another run that it fits."""
        share = training_flops(network, settings) / training_flops(self.network, self.settings)
        return self.device_s * share


@dataclass(frozen=True)
class JobRecord:
    """How long one job of scoring took, and how much work that was."""

    stage: str
    benchmark: str
    network: Network
    device: str
    work: float
    seconds: float
    source: str
    date: str


def training_records(settings: Settings, results_dir: Path) -> list[TrainingRecord]:
    """Of every encoder folder with a record, the matrix's or not; the newest first."""
    records = []
    for path in (results_dir / "encoders").glob("*/metrics.jsonl"):
        rate, about = _rate(path), _settings_of(settings, path.parent)
        network = _network_of(settings, path.parent, results_dir)
        told = told_in_log(results_dir, "pretrain_*", path.parent.name, _TRAINING)
        if rate is None or about is None or network is None or told is None:
            continue
        records.append(
            TrainingRecord(
                path.parent.name,
                about,
                network,
                told["device"],
                int(told["devices"]) / rate,
                rate,
                shown_path(path, results_dir),
                date_of(path),
            )
        )
    return sorted(records, key=lambda record: (record.date, record.name), reverse=True)


def job_records(settings: Settings, results_dir: Path) -> list[JobRecord]:
    """Of every job of scoring on the benchmarks of the config that left its time."""
    records = []
    for folder in sorted((results_dir / "encoders").glob("*/")):
        network = _network_of(settings, folder, results_dir)
        for stage, rule in STAGES.items():
            for benchmark, block in settings.benchmarks.items():
                path = results_dir / "timings" / rule / f"{folder.name}-{benchmark}.tsv"
                seconds = seconds_of_job(path)
                if network is None or seconds is None:
                    continue
                found = _job(settings.evaluation, results_dir, stage, folder.name, benchmark)
                if found is None:
                    continue
                evaluation, images, device = found
                sample = Sample(images, len(block.classes or ()) or 2)
                work = scoring_work(stage, evaluation, sample, network)
                source, date = shown_path(path, results_dir), date_of(path)
                records.append(
                    JobRecord(stage, benchmark, network, device, work, seconds, source, date)
                )
    return records


def cutting_seconds(results_dir: Path, rule: str, survey: str) -> float:
    """Seconds all jobs of a rule took that cut a part of a survey."""
    folder = results_dir / "timings" / rule
    paths = [p for p in folder.glob(f"{survey}-*.tsv") if p.stem[len(survey) + 1 :].isdecimal()]
    return sum(seconds_of_job(path) or 0.0 for path in paths)


def _job(
    now: EvaluationSettings, results_dir: Path, stage: str, encoder: str, benchmark: str
) -> tuple[EvaluationSettings, int, str] | None:
    """With which settings a job ran, on how many images, on which kind of device."""
    if stage == "features":
        told = told_in_log(results_dir, "features", f"{encoder}-{benchmark}", _FEATURES)
        return None if told is None else (now, int(told["images"]), told["device"])
    try:
        content = read_json(results_dir / "metrics" / stage / encoder / f"{benchmark}.json")
        then = {k: v for k, v in content["settings"].items() if k in type(now).model_fields}
        known = now.model_dump(mode="json") | then
        device = content["provenance"]["device"] if stage == "finetune" else "cpu"
        return EvaluationSettings.parse(known), int(content["n_images"]), str(device)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, SettingsError):
        return None


# -- single files ---------------------------------------------------------------------------------


def _rate(path: Path) -> float | None:
    """Cutouts a second over all epochs of a record, or over all lines of its first epoch."""
    lines: dict[str, list[Mapping[str, Any]]] = {"epoch": [], "step": []}
    for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            line = json.loads(text)
        except ValueError:
            break  # a kill cut the last line off
        if line.get("kind") in lines and line.get("cutouts_per_s", 0) > 0:
            lines[line["kind"]].append(line)
    chosen = lines["epoch"] or lines["step"]
    n = sum(line["n_cutouts"] for line in chosen)
    seconds = sum(line["n_cutouts"] / line["cutouts_per_s"] for line in chosen)
    return n / seconds if seconds else None


def _settings_of(settings: Settings, folder: Path) -> PretrainSettings | None:
    """The settings of a run: by its card, else its newest checkpoint, else the matrix."""
    identities = [read_card(folder).get("identity")]
    checkpoints = sorted(folder.glob("checkpoints/*/identity.json"), key=_modified)
    for path in reversed(checkpoints):
        try:
            identities.append(read_json(path))
        except (OSError, ValueError):
            continue
    for identity in identities:
        if isinstance(identity, dict) and isinstance(identity.get("settings"), dict):
            try:
                return PretrainSettings.parse(identity["settings"])
            except SettingsError:
                continue  # of another version
    node = settings.nodes().get(folder.name)
    if any(identities) or node is None or node.branch == "start":
        return None
    return settings.pretrain_settings(node)


def _network_of(settings: Settings, folder: Path, results_dir: Path) -> Network | None:
    """By its files when it is done, and by the matrix before."""
    found, node = read_network(folder), settings.nodes().get(folder.name)
    if found is None and node is not None:
        found = network_of(settings, node, results_dir)
    return found


def told_in_log(
    results_dir: Path, rule: str, name: str, pattern: re.Pattern[str]
) -> Mapping[str, str] | None:
    """What a job's log says in the line that matches."""
    for path in (results_dir / "logs").glob(f"{rule}/{name}.log"):
        if found := pattern.search(path.read_text(encoding="utf-8", errors="replace")):
            return found.groupdict()
    return None


def seconds_of_job(path: Path) -> float | None:
    """Wall-clock seconds in a benchmark file of Snakemake."""
    try:
        with path.open(newline="", encoding="utf-8") as opened:
            found = [float(row["s"]) for row in csv.DictReader(opened, delimiter="\t")]
    except (OSError, ValueError, KeyError, TypeError, csv.Error):
        return None
    is_good = found and math.isfinite(found[-1]) and found[-1] > 0
    return found[-1] if is_good else None


def shown_path(path: Path, results_dir: Path) -> str:
    return path.relative_to(results_dir).as_posix()


def _modified(path: Path) -> float:
    return path.stat().st_mtime


def date_of(path: Path) -> str:
    return datetime.date.fromtimestamp(_modified(path)).isoformat()
