"""`provenance.json`: each table with the files it was made from, equal for equal numbers."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from stradavit.files import read_json, sha256_of
from stradavit.paper.sources import fingerprint
from stradavit.paper.tables import write_tables
from stradavit.provenance import maker_path
from stradavit.settings import Settings
from tests.unit.test_docs import fenced

from .fake_data import write_data
from .fake_results import small_config, write_all_metrics


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    settings, folder = Settings.parse(small_config()), tmp_path_factory.mktemp("results")
    write_all_metrics(settings, folder)
    write_data(settings, folder)
    write_tables(settings, folder, folder / "tables")
    return folder


def test_rows_have_their_numbers_as_printed_and_their_files(written: Path) -> None:
    sources = read_json(written / "tables" / "provenance.json")
    table = sources["tables"]["13_two_stage_probe"]
    printed = (written / "tables" / "13_two_stage_probe.md").read_text(encoding="utf-8")
    (row,) = [row for row in table["rows"] if row["files"]]
    assert len(row["cells"]) == len(table["columns"])
    for cell in row["cells"]:
        assert f"| {cell} " in printed
    assert table["columns"][0]["title"] == "MiraBest Macro-F1"
    # Two seeds on two benchmarks.
    assert len(row["files"]) == 4
    for file in row["files"]:
        assert sources["files"][file] == fingerprint(written / file)


def test_tables_without_metrics_name_their_corpora_and_benchmarks(written: Path) -> None:
    sources = read_json(written / "tables" / "provenance.json")
    tables = sources["tables"]
    assert tables["01_pretraining_sources"]["sources"] == ["corpora/all.h5"]
    benchmarks = ["benchmarks/mirabest.h5", "benchmarks/rgz.h5"]
    assert tables["02_benchmarks"]["sources"] == benchmarks
    assert tables["05_training_settings"]["sources"] == []
    assert sources["files"]["corpora/all.h5"] == sha256_of(written / "corpora" / "all.h5")


def test_settings_that_only_change_speed_leave_it_as_it_is(written: Path, tmp_path: Path) -> None:
    faster = Settings.parse(small_config() | {"loader": {"workers": 3}})
    write_tables(faster, written, tmp_path / "tables")
    before = (written / "tables" / "provenance.json").read_bytes()
    assert (tmp_path / "tables" / "provenance.json").read_bytes() == before
    more = Settings.parse(small_config() | {"evaluation": {"probe": {"seed": 3}}})
    write_tables(more, written, tmp_path / "tables")
    after = read_json(tmp_path / "tables" / "provenance.json")
    assert after["settings_sha256"] != json.loads(before)["settings_sha256"]


def test_a_fingerprint_is_of_the_numbers_and_not_of_who_made_them(tmp_path: Path) -> None:
    here, there = tmp_path / "here.json", tmp_path / "there.json"
    here.write_text('{"macro_f1": 0.5, "made_by": {"machine": "a"}}')
    there.write_text('{"made_by": {"machine": "b"},\n "macro_f1": 0.5}')
    assert fingerprint(here) == fingerprint(there)
    there.write_text('{"macro_f1": 0.6, "made_by": {"machine": "a"}}')
    assert fingerprint(here) != fingerprint(there)


def test_the_note_beside_a_big_file_saves_reading_it(tmp_path: Path) -> None:
    path = tmp_path / "set.h5"
    path.write_bytes(b"pixels")
    assert fingerprint(path) == sha256_of(path)
    maker_path(path).write_text('{"sha256": "ab"}')
    assert fingerprint(path) == "ab"


def test_the_script_of_the_page_finds_the_metrics_that_changed(
    written: Path, tmp_path: Path, repository: Path
) -> None:
    (script,) = fenced(repository / "docs" / "provenance.md", "python")
    shutil.copytree(written, tmp_path / "results")
    path = next((tmp_path / "results" / "metrics").glob("linear_probe/start*/rgz.json"))
    content = json.loads(path.read_text())
    content["folds"][0]["macro_f1"] += 0.01
    path.write_text(json.dumps(content))
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    lines = [line.split() for line in done.stdout.splitlines()]
    assert len(lines) > 10
    other = [file for said, file in lines if said == "OTHER"]
    assert other == [path.relative_to(tmp_path / "results").as_posix()]
