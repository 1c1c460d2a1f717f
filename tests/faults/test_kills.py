"""A stage that is killed leaves a whole output or none, and the rerun makes the same one."""

import random
import shutil
import time
from pathlib import Path

import pytest

from stradavit.files import _LEFTOVER

from .stages import STAGES, contents, run, start

KILLS = 2


@pytest.mark.parametrize("stage", STAGES)
def test_killed_at_any_time_it_ends_with_the_same_files(
    stage: str, world: Path, tmp_path: Path, seed: int
) -> None:
    begin = time.monotonic()
    folder, draw = tmp_path / "out", random.Random(f"{stage} {seed}")
    undisturbed = start(stage, world, folder)
    undisturbed.join(120)
    lasts_s = time.monotonic() - begin
    assert undisturbed.exitcode == 0
    expected = contents(folder)
    shutil.rmtree(folder)  # the same one again: some files name where others lie

    for _ in range(KILLS):
        process = start(stage, world, folder)
        process.join(draw.random() * lasts_s)
        process.kill()
        process.join(30)
        output = folder / STAGES[stage].output
        # Beside it may lie what is not done yet, but under its own name it is whole.
        if output.exists():
            assert output.read_bytes() == expected[STAGES[stage].output], (seed, stage)

    again = start(stage, world, folder)
    again.join(120)
    assert again.exitcode == 0, seed
    found = contents(folder)
    assert sorted(found) == sorted(expected), seed
    assert [name for name in found if found[name] != expected[name]] == [], seed
    assert [p for p in folder.rglob("*") if _LEFTOVER.fullmatch(p.name)] == [], seed


def test_tables_are_replaced_as_a_whole(tmp_path: Path) -> None:
    """The folder of tables or figures: what a kill left beside it is swept by the next run."""
    from stradavit import files
    from stradavit.paper.folder import atomic_folder

    folder = tmp_path / "results" / "tables"
    with atomic_folder(folder) as temporary:
        (temporary / "1.csv").write_text("old")
    dead = f".999999999-{files._MACHINE}.tables"
    for name in (dead, dead + ".old"):
        (folder.parent / name).mkdir()
        (folder.parent / name / "half").write_text("h")
    files._swept.discard(folder.parent)
    with pytest.raises(KeyError), atomic_folder(folder) as temporary:
        (temporary / "1.csv").write_text("new")
        raise KeyError
    assert (folder / "1.csv").read_text() == "old"
    assert [path.name for path in folder.parent.iterdir()] == ["tables"]


def test_the_leftovers_of_the_living_are_left(tmp_path: Path) -> None:
    import os

    from stradavit import files

    names = {
        f".{os.getppid()}-{files._MACHINE}.a.h5": True,  # it runs
        f".999999999-{files._MACHINE}.b.h5": False,  # it does not
        ".4711-00000000.c.h5": True,  # of another machine, written just now
        ".4711-00000000.d.h5": False,  # of another machine, silent for long
        ".4711.e.h5": False,  # of before, when names had no machine
        ".hidden": True,
    }
    for name in names:
        (tmp_path / name).write_bytes(b"half")
    for name in (".4711-00000000.d.h5", ".4711.e.h5"):
        os.utime(tmp_path / name, (0, 0))
    files.write_json(tmp_path / "new.json", 1)
    kept = {path.name for path in tmp_path.iterdir()}
    assert kept == {name for name, stays in names.items() if stays} | {"new.json"}


def test_the_status_of_a_stage_says_whether_it_worked(world: Path, tmp_path: Path) -> None:
    assert run("probe", world, tmp_path) == 0
    assert run("probe", tmp_path, tmp_path) == 1
