"""The command: what it lists is there, what fails is said, what is kept is kept."""

import ast
import importlib
import json
import sys
import types
from pathlib import Path

import pytest

from benchmarks import __main__ as command
from benchmarks.harness import Comparison, Target
from benchmarks.machine import describe_commit, describe_machine, describe_versions
from benchmarks.report import BEGIN, END
from tests.conftest import REPOSITORY

# In the group `bench` of pyproject.toml; the tests run without them.
PEERS = {"lightly", "torchvision", "webdataset", "zarr"}


@pytest.mark.parametrize("name", command.CATALOGUE)
def test_every_benchmark_has_the_one_function(name: str) -> None:
    module = importlib.import_module(f"benchmarks.{name}")
    arguments = module.compare.__code__.co_varnames[: module.compare.__code__.co_argcount]
    assert arguments == ("work_dir", "device", "rounds")


@pytest.mark.parametrize(
    "path", sorted((REPOSITORY / "benchmarks").glob("*.py")), ids=lambda p: p.stem
)
def test_peers_are_imported_where_they_are_used(path: Path) -> None:
    names = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.split(".")[0])
    assert not names & PEERS


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """`run(*arguments)` with three made-up benchmarks; gives status and report."""
    (tmp_path / "performance.md").write_text(f"{BEGIN}\n{END}\n")
    seen = []

    def module(compare):
        return types.SimpleNamespace(compare=compare)

    def fine(work_dir, device, rounds):
        seen.append((work_dir.is_dir(), device.type, rounds))
        return Comparison("fine", "q", "u", [], targets=[Target("t", 4.0, 1.0)])

    def broken(work_dir, device, rounds):
        raise OSError(f"cannot read {work_dir}/input.h5")

    made_up = {
        "views": module(fine),
        "shards": module(broken),
        "probe": module(lambda *a: [fine(*a), fine(*a)]),
    }
    monkeypatch.setattr(command, "CATALOGUE", dict.fromkeys(made_up, "made up"))
    for name, fake in made_up.items():
        monkeypatch.setitem(sys.modules, f"benchmarks.{name}", fake)

    def run(*arguments: str):
        status = command.main([*arguments, "--device", "cpu", "--out", str(tmp_path)])
        return status, json.loads((tmp_path / "performance.json").read_text()), seen

    return run


def test_a_missed_target_is_loud_and_no_failure(run, capsys) -> None:
    status, report, seen = run("views", "--rounds", "2")
    assert status == 0 and list(report) == ["views"]
    assert seen == [(True, "cpu", 2)]
    out = capsys.readouterr().out
    assert "MISSED: fine: t: 1, wanted ≥ 4" in out


def test_one_that_fails_is_named_and_the_others_run(run, tmp_path, capsys) -> None:
    status, report, _ = run()
    assert status == 1
    assert set(report) == {"views", "shards", "probe"}
    assert report["shards"]["failed"] == "OSError: cannot read …/input.h5"
    assert len(report["probe"]["comparisons"]) == 2
    assert "FAILED: shards: OSError" in capsys.readouterr().out
    assert "**This benchmark did not run:**" in (tmp_path / "performance.md").read_text()
    # A later success takes the failure away.
    command.CATALOGUE.pop("shards")
    assert run()[0] == 0


def test_inputs_are_removed_unless_a_folder_is_named(run, tmp_path) -> None:
    run("views", "--work", str(tmp_path / "work"))
    assert (tmp_path / "work" / "views").is_dir()


def test_help_names_every_benchmark(capsys) -> None:
    with pytest.raises(SystemExit, match=r"^0$"):
        command.main(["--help"])
    text = capsys.readouterr().out
    assert all(f"  {name} " in text for name in command.CATALOGUE)
    assert command.main(["--list"]) == 0


@pytest.mark.parametrize("arguments", [["colour"], ["--rounds", "0"], ["--device", "tpu"]])
def test_nonsense_is_refused(arguments: list[str]) -> None:
    with pytest.raises(SystemExit, match=r"^2$"):
        command.main(arguments)


def test_the_machine_is_described_without_its_name() -> None:
    machine = describe_machine()
    assert machine["cores"] >= 1 and machine["memory_gib"] > 0
    assert describe_versions()["numpy"]
    assert describe_commit()
    import platform

    node = platform.node()
    assert len(node) < 4 or node not in json.dumps(machine)
