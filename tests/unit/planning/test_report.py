"""The text says what the JSON says; the command is quick, needs no torch, and writes nothing."""

import json
import re
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stradavit.cli import main
from stradavit.planning.plan import Plan
from stradavit.planning.report import size_text, time_text
from stradavit.planning.speed import ASSUMED_TFLOPS
from stradavit.settings import Settings

MakePlan = Callable[..., Plan]
PAPER = "workflow/config/paper.yaml"
UNITS = {"B": 1.0, "kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12}
TIMES = {"s": 1 / 3600, "min": 1 / 60, "h": 1.0}


def both(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[str, dict[str, Any]]:
    """The plan as text and as JSON."""
    assert main(["plan", *arguments]) == 0
    text = capsys.readouterr().out
    assert main(["plan", *arguments, "--json"]) == 0
    return text, json.loads(capsys.readouterr().out)


def table(text: str, title: str) -> dict[str, list[str]]:
    """Rows of a section by their first cell, without wrapped lines and without the head."""
    section = text.partition(f"\n{title}\n")[2].partition("\n\n")[0]
    rows = [re.split(r" {2,}", line.strip()) for line in section.splitlines()[1:]]
    return {row[0]: row[1:] for row in rows if len(row) > 2}


def number(cell: str) -> float:
    """A count, a size in bytes or a time in hours."""
    value, _, unit = cell.replace(",", "").partition(" ")
    return float(value) * (UNITS | TIMES).get(unit, 1.0)


@pytest.fixture
def paper_plan(
    repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> tuple[str, dict[str, Any]]:
    """Of the paper, nothing being there."""
    configs = [str(repository / "config.yaml"), str(repository / PAPER)]
    folder = str(tmp_path / "results")
    return both(capsys, "--configfile", *configs, "--results", folder, "--device", "cuda")


def test_the_text_has_the_numbers_of_the_json(paper_plan: tuple[str, dict[str, Any]]) -> None:
    text, found = paper_plan
    encoders = table(text, "Encoders")
    for row in found["encoders"]:
        shown = list(map(number, encoders[row["title"]][:3]))
        assert shown == [row["wanted"], row["done"], row["left"]]
    runs = [row for row in found["encoders"] if row["kind"] != "start"]
    assert number(encoders["all trainings"][0]) == sum(row["wanted"] for row in runs)
    for protocol, columns in table(text, "Cells").items():
        of_it = [row for row in found["cells"] if row["protocol"] == protocol]
        said = [f"{row['done']} of {row['wanted']}" for row in of_it]
        assert [column for column in columns[:-1] if column != "–"] == said
        assert number(columns[-1]) == sum(row["left"] for row in of_it)
    cutouts = table(text, "Cutouts")
    for survey in found["surveys"]:
        shown = list(map(number, cutouts[survey["name"]][:2]))
        assert shown == [survey["products"]["value"], survey["cutouts"]["value"]]
    for sample in found["benchmarks"]:
        assert (
            number(table(text, "Labelled images")[sample["name"]][0]) == (sample["images"]["value"])
        )
    for row in found["detectors"]:
        shown = list(map(number, table(text, "Detectors")[row["detection_set"]][:3]))
        assert shown == [row["wanted"], row["trained"], row["scored"]]
    for images in found["detection_sets"]:
        shown = list(map(number, table(text, "Detection sets")[images["name"]][:3]))
        assert shown == [images["train"], images["val"], images["test"]]
    trainings = table(text, "Training that is left")
    for work in found["trainings"]:
        runs_left, updates, cutouts_of_run, hours, source = trainings[work["title"]]
        assert (number(runs_left), number(updates)) == (work["runs"], work["updates"])
        assert number(cutouts_of_run) == work["cutouts"]
        assert number(hours) == pytest.approx(work["device_hours"], rel=0.05)
        assert source.startswith(f"{work['basis']}: ")
    jobs = list(table(text, "Other jobs that are left").values())
    for work, columns in zip(found["jobs"], jobs, strict=True):
        assert number(columns[0]) == work["jobs"]
        # To two digits, but whole seconds.
        assert number(columns[1]) == pytest.approx(work["hours"], rel=0.05, abs=0.5 / 3600)
    disk = table(text, "Disk")
    for space in found["disk"]:
        here, to_come = map(number, disk[space["title"]][:2])
        assert here == pytest.approx(space["here"], rel=0.006)
        assert to_come == pytest.approx(space["to_come"], rel=0.006)
    fetched = table(text, "Downloads")
    for item in found["raw"]:
        files, size = map(number, fetched[item["name"]][:2])
        assert files == item["files_left"]
        assert size == pytest.approx(item["bytes_left"], rel=0.006)


def test_sums_are_those_of_their_rows(paper_plan: tuple[str, dict[str, Any]]) -> None:
    text, found = paper_plan
    on_device = [work["device_hours"] for work in found["trainings"]]
    on_device += [job["hours"] for job in found["jobs"] if job["device"] == "cuda"]
    assert found["device_hours"] == pytest.approx(sum(on_device))
    beside = sum(job["hours"] for job in found["jobs"] if job["device"] == "cpu")
    assert found["processor_hours"] == pytest.approx(beside)
    assert found["bytes_to_come"] == sum(space["to_come"] for space in found["disk"])
    assert found["files_to_fetch"] == sum(item["files_left"] for item in found["raw"])
    assert found["bytes_to_fetch"] == sum(item["bytes_left"] for item in found["raw"])
    n_cells = sum(cell["left"] for cell in found["cells"])
    assert f"32 trainings, 3 detectors and {n_cells} cells are left" in text
    said = (time_text(found["device_hours"]), size_text(found["bytes_to_come"]))
    assert all(" ".join(text.split()).count(words) for words in said)
    assert found["is_short_of_disk"] is (found["bytes_to_come"] > found["bytes_free"])
    assert ("TOO LITTLE" in text) is found["is_short_of_disk"]


def test_the_archives_are_asked_first_and_once(
    paper: Settings, plan: MakePlan, read: Callable[..., Settings], tmp_path: Path
) -> None:
    assert plan(paper).next.startswith("stradavit doctor --configfile ")
    files = tmp_path / "results" / "raw" / "sdc1" / "files"
    files.mkdir(parents=True)
    line = {"bytes": 9, "checksum": "", "name": "SKAMid_B1_1000h_v3.fits", "sha256": ""}
    (files / ".journal.jsonl").write_text(json.dumps(line, sort_keys=True) + "\n")
    begun = plan(paper)
    assert begun.next == f"snakemake --cores all results/tables --directory {tmp_path}"
    # Nothing is fetched for a simulated sky.
    drawn = plan(read())
    assert drawn.next.startswith("snakemake ")
    assert (drawn.files_to_fetch, drawn.bytes_to_fetch) == (0, 0)


def test_overlays_are_handed_on(
    repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(repository)
    seeds = "workflow/config/seeds.yaml"
    text, found = both(capsys, "--configfile", "config.yaml", seeds, "--device", "cpu")
    assert found["next"].startswith(f"snakemake --cores all results/tables --configfile {seeds}")
    assert f"Next: {found['next']}" in text


def test_it_is_quick_and_leaves_no_trace(repository: Path, tmp_path: Path) -> None:
    script = (
        "import sys\nfrom stradavit.cli import main\n"
        f"main(['plan', '--configfile', 'config.yaml', '{PAPER}', "
        f"'--results', r'{tmp_path / 'results'}'])\n"
        "heavy = {'torch', 'astropy', 'snakemake', 'transformers', 'pandas', 'sklearn'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", script], cwd=repository, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    # Time of the processor, not of the clock: whatever else this machine does. It takes half a
    # second, and several on an old or shared processor.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 6
    assert not (tmp_path / "results").exists()


def test_the_help_names_what_is_assumed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["plan", "--help"])
    told = " ".join(capsys.readouterr().out.split())
    assert f"{ASSUMED_TFLOPS['cuda']:g} for a GPU and {ASSUMED_TFLOPS['cpu']:g} for each" in told


@pytest.mark.parametrize(
    ("hours", "text"),
    [
        (0.0, "0 s"),
        (0.02, "72 s"),
        (0.05, "3 min"),
        (1.2, "72 min"),
        (7.25, "7.2 h"),
        (1234.0, "1,234 h"),
    ],
)
def test_times_are_for_people(hours: float, text: str) -> None:
    assert time_text(hours) == text
