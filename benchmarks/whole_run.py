"""Whole run: where the seconds of the default `make tables` go, and what it costs to start."""

import csv
import os
import re
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.harness import Comparison, Target, in_turn
from benchmarks.machine import REPOSITORY, n_cores

BIN = Path(sys.executable).parent
COPIED = ("Snakefile", "config.yaml", "workflow", "profiles", "envs")
# What a job of each rule imports before it begins.
MODULES = {
    "acquire_manifest": "stradavit.acquire.stages",
    "acquire_part": "stradavit.acquire.stages",
    "acquire_benchmark": "stradavit.acquire.stages",
    "acquire_encoder": "stradavit.models.stages",
    "acquire_detection": "stradavit.acquire.detection_sets",
    "cut_part": "stradavit.cutouts.stages",
    "cut_benchmark": "stradavit.cutouts.stages",
    "cut_corpus": "stradavit.cutouts.stages",
    "cut_detection": "stradavit.cutouts.detection_stages",
    "cut_chips": "stradavit.cutouts.chips",
    "pretrain_reconstruction": "stradavit.training.pretrain",
    "pretrain_contrastive": "stradavit.training.pretrain",
    "features": "stradavit.evaluation.features",
    "probe": "stradavit.evaluation.probe",
    "knn": "stradavit.evaluation.knn",
    "label_budget": "stradavit.evaluation.label_budget",
    "published_split": "stradavit.evaluation.published_split",
    "finetune": "stradavit.evaluation.finetune",
    "leakage": "stradavit.evaluation.leakage",
    "train_detector": "stradavit.detection.training",
    "detect": "stradavit.detection.detect",
    "tables": "stradavit.paper.tables",
}
REPORT_EVERY_S = 20.0


def compare(work_dir: Path, device: torch.device, rounds: int) -> list[Comparison]:
    """One run of the default workflow, not repeated; and the start of the command line."""
    return [run_workflow(work_dir / "project"), _compare_start(rounds)]


def run_workflow(folder: Path, overlays: Sequence[Path] = ()) -> Comparison:
    """Run `results/tables` from nothing in a copy of the project and share out the seconds.

    Parameters
    ----------
    folder : to make the copy in; an older one is replaced
    overlays : laid over config.yaml
    """
    _copy_project(folder)
    configured = ["--configfile", *map(str, overlays)] if overlays else []
    arguments = ["--cores", "all", *configured, "--", "results/tables"]
    planning_s = _seconds_of([BIN / "snakemake", "--dry-run", *arguments], folder)
    cpu_before, started = _cpu_of_children(), time.perf_counter()
    _run_snakemake(folder, arguments)
    wall_s = time.perf_counter() - started
    cpu_s = _cpu_of_children() - cpu_before
    seconds = read_timings(folder / "results" / "timings")
    rows = stage_rows(seconds, {rule: start_of(MODULES[rule]) for rule in seconds}, wall_s)
    job_s, start_s = sum(row["seconds"] for row in rows), sum(row["start-up s"] for row in rows)
    offered_s = wall_s * n_cores()
    return Comparison(
        name="the default run",
        question="Where do the seconds of the default `make tables` go?",
        unit="s",
        sides=[],
        figures={
            "stages": rows,
            "whole": {
                "wall-clock seconds": round(wall_s, 1),
                "cores": n_cores(),
                "jobs": sum(len(of_rule) for of_rule in seconds.values()),
                "share of the cores' time that was computing": round(cpu_s / offered_s, 3),
                "share of the cores' time inside jobs": round(job_s / offered_s, 3),
                "share of the cores' time that is start-up of jobs": round(start_s / offered_s, 3),
                "seconds to plan (`snakemake --dry-run`)": round(planning_s, 1),
                "Snakemake's own and idle core-seconds": round(offered_s - job_s, 1),
            },
        },
        notes=[
            "One run from nothing, not repeated. Seconds are sums over the jobs of a stage, each "
            "of which has one thread. Start-up is what the interpreter and the imports of the "
            "stage take in a process that does nothing else, times the jobs."
        ],
    )


def read_timings(folder: Path) -> dict[str, list[float]]:
    """Wall-clock seconds of each job by rule, from Snakemake's benchmark files."""
    seconds: defaultdict[str, list[float]] = defaultdict(list)
    for path in sorted(folder.rglob("*.tsv")):
        rule = path.relative_to(folder).parts[0].removesuffix(".tsv")
        with path.open(newline="", encoding="utf-8") as file:
            seconds[rule] += [float(row["s"]) for row in csv.DictReader(file, delimiter="\t")]
    return dict(seconds)


def stage_rows(
    seconds: dict[str, list[float]], start_s: dict[str, float], wall_s: float
) -> list[dict[str, Any]]:
    """A row for each stage in the order of work, with its share of all job seconds.

    Parameters
    ----------
    seconds : of the jobs, by rule
    start_s : of one job, by rule
    wall_s : of the whole run, for jobs a minute
    """
    total = sum(map(sum, seconds.values()))
    rows = []
    for rule in sorted(seconds, key=list(MODULES).index):
        of_rule = seconds[rule]
        rows.append(
            {
                "stage": rule,
                "jobs": len(of_rule),
                "seconds": round(sum(of_rule), 1),
                "median s": round(statistics.median(of_rule), 1),
                "share": f"{100 * sum(of_rule) / total:.0f} %",
                "start-up s": round(start_s[rule] * len(of_rule), 1),
                "jobs/min": round(60 * len(of_rule) / wall_s, 2),
            }
        )
    return rows


def start_of(module: str) -> float:
    """Seconds until a fresh interpreter has imported a stage; median of three."""
    return statistics.median(
        _seconds_of([sys.executable, "-c", f"import {module}"], REPOSITORY) for _ in range(3)
    )


def _compare_start(rounds: int) -> Comparison:
    # Many short starts make one round, as a single one is as long as a scheduler's hiccup.
    starts = 10

    def repeat(command: Sequence[str | Path]) -> float:
        for _ in range(starts):
            _seconds_of(command, REPOSITORY)
        return starts

    sides, ratios = in_turn(
        {
            "stradavit": ("`stradavit --help`", lambda: repeat([BIN / "stradavit", "--help"])),
            "python": (
                "an interpreter that does nothing",
                lambda: repeat([sys.executable, "-c", ""]),
            ),
        },
        rounds,
    )
    return Comparison(
        name="start of the command",
        question="How often a second can the command line be started?",
        unit="starts/s",
        sides=sides,
        ratios=ratios,
        targets=[
            Target("seconds of `stradavit --help`", 0.3, 1 / sides[0].rate.median, at_least=False)
        ],
    )


def _copy_project(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name in COPIED:
        source = REPOSITORY / name
        if source.is_dir():
            shutil.copytree(source, folder / name)
        else:
            shutil.copy(source, folder / name)


def _environment() -> dict[str, str]:
    # The rules call `stradavit` by name.
    return os.environ | {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}


def _seconds_of(command: Sequence[str | Path], folder: Path) -> float:
    started = time.perf_counter()
    subprocess.run(command, cwd=folder, env=_environment(), capture_output=True, check=True)
    return time.perf_counter() - started


def _run_snakemake(folder: Path, arguments: Sequence[str]) -> None:
    """Run it with a word on the progress now and then.

    Raises
    ------
    RuntimeError
        Naming the rules that failed, else with the end of its log.
    """
    log_path = folder / "snakemake.log"
    with log_path.open("wb") as log:
        running = subprocess.Popen(
            [BIN / "snakemake", *arguments],
            cwd=folder,
            env=_environment(),
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            while True:
                try:
                    status = running.wait(REPORT_EVERY_S)
                    break
                except subprocess.TimeoutExpired:
                    done = re.findall(r"\d+ of \d+ steps", log_path.read_text(errors="replace"))
                    print(f"      {done[-1] if done else 'planning'}", file=sys.stderr, flush=True)
        finally:
            if running.poll() is None:
                running.terminate()
                running.wait()
    if status:
        text = log_path.read_text(errors="replace")
        rules = sorted(set(re.findall(r"Error in rule (\w+)", text)))
        what = f"in {', '.join(rules)}" if rules else " / ".join(text.splitlines()[-3:])
        raise RuntimeError(f"snakemake ended with status {status}: {what}")


def _cpu_of_children() -> float:
    """Processor seconds of all ended child processes, theirs included."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
