"""Seconds by stage from Snakemake's files, and start-up times jobs."""

import stat
from pathlib import Path

import pytest

from benchmarks import whole_run
from benchmarks.report import render_comparison
from benchmarks.whole_run import MODULES, read_timings, run_workflow, stage_rows
from tests.conftest import REPOSITORY

HEADER = "s\th:m:s\tmax_rss\tcpu_time\n"


def test_timings_are_read_by_rule(tmp_path: Path) -> None:
    for name, seconds in (("probe/a-b.tsv", "1.5"), ("probe/a-c.tsv", "2.5"), ("tables.tsv", "3")):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        # Snakemake writes NA where a job was too short to look at.
        path.write_text(f"{HEADER}{seconds}\t0:00:01\tNA\tNA\n")
    assert read_timings(tmp_path) == {"probe": [1.5, 2.5], "tables": [3.0]}


def test_rows_are_in_the_order_of_work() -> None:
    rows = stage_rows(
        {"tables": [2.0], "probe": [1.0, 4.0, 3.0]}, {"tables": 0.5, "probe": 0.25}, 60.0
    )
    assert [row["stage"] for row in rows] == ["probe", "tables"]
    assert rows[0] == {
        "stage": "probe",
        "jobs": 3,
        "seconds": 8.0,
        "median s": 3.0,
        "share": "80 %",
        "start-up s": 0.8,
        "jobs/min": 3.0,
    }


def test_every_rule_with_a_timing_has_its_module() -> None:
    timed = {
        line.strip().strip('"').removeprefix("results/timings/").split("/")[0].removesuffix(".tsv")
        for path in (REPOSITORY / "workflow" / "rules").glob("*.smk")
        for line in path.read_text().splitlines()
        if "results/timings/" in line
    }
    # Not part of `make tables`.
    assert timed - {"yardsticks", "figures"} == set(MODULES)


@pytest.fixture
def snakemake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """`snakemake(script)` puts a stand-in where Snakemake is looked for."""

    def put(script: str) -> None:
        program = tmp_path / "bin" / "snakemake"
        program.parent.mkdir()
        program.write_text(f"#!/bin/sh\n[ $1 = --dry-run ] && exit 0\n{script}\n")
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setattr(whole_run, "BIN", program.parent)
        monkeypatch.setattr(whole_run, "start_of", lambda module: 0.25)

    return put


def test_a_run_is_shared_out(tmp_path: Path, snakemake) -> None:
    snakemake(
        "test -f Snakefile -a -d workflow/rules || exit 1\n"
        "mkdir -p results/timings/probe\n"
        "printf 's\\tcpu_time\\n2.0\\tNA\\n' | tee results/timings/probe/a.tsv "
        "> results/timings/tables.tsv"
    )
    run = run_workflow(tmp_path / "project")
    assert [(row["stage"], row["jobs"]) for row in run.figures["stages"]] == [
        ("probe", 1),
        ("tables", 1),
    ]
    assert run.figures["whole"]["jobs"] == 2
    assert "| probe " in render_comparison(run.to_json())


def test_a_run_that_fails_names_the_rule(tmp_path: Path, snakemake) -> None:
    snakemake("echo 'Error in rule cut_part:'; echo '    jobid: 3'; exit 1")
    with pytest.raises(RuntimeError, match=r"status 1: in cut_part$"):
        run_workflow(tmp_path / "project")
