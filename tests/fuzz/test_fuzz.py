"""A few hundred broken files in `make test`; `make fuzz` has thousands."""

import mmap
import os
import signal
import sys
import time
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from tests.fuzz import outcome, table, workers
from tests.fuzz.cases import HEAVY, WEIGHTS, make_case
from tests.fuzz.originals import joined, originals, split
from tests.fuzz.outcome import Judge, Outcome
from tests.fuzz.table import Summary, write_page
from tests.fuzz.workers import judge_all

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="memory is measured in /proc, which only Linux has"
)

N_WORKERS = min(2, os.cpu_count() or 1)
SEED = 20


def failures(seed: int, numbers: list[int]) -> list[str]:
    return [
        f"python -m tests.fuzz --seed {seed} --first {number} --files 1 --keep .: {found.faults}"
        for number, found in judge_all(seed, numbers, N_WORKERS)
        if found.faults
    ]


def test_every_kind_of_damage_ends_in_cutouts_or_a_reason() -> None:
    assert failures(SEED, list(range(200))) == []


def test_damage_drawn_by_another_seed() -> None:
    """Fixed, as the one above: what nobody has seen yet is for `make fuzz` to find."""
    seed = SEED + 1
    # The kinds that cost seconds were had once; the first cases have one of each.
    numbers = [
        number
        for number in range(len(WEIGHTS), len(WEIGHTS) + 80)
        if make_case(seed, number, originals()).kind not in HEAVY
    ]
    assert failures(seed, numbers) == []


def test_a_case_is_a_function_of_its_seed_and_number() -> None:
    sources = originals()
    for number in (3, 7, 12, 33):
        first, again = (make_case(5, number, sources) for _ in range(2))
        assert first == again
        assert first.content != make_case(6, number, sources).content
    kinds = [make_case(5, number, sources).kind for number in range(len(WEIGHTS))]
    assert kinds == list(WEIGHTS)


def test_undamaged_files_are_put_together_as_they_were() -> None:
    plain = next(source.content for source in originals() if source.name == "plain")
    assert joined(split(plain)) == plain
    tiles = next(source.content for source in originals() if source.name.startswith("RICE"))
    assert joined(split(tiles)) == tiles and len(split(tiles)) == 2


@pytest.fixture
def judge(tmp_path: Path) -> Judge:
    plain = next(source.content for source in originals() if source.name == "plain")
    return Judge(tmp_path / "work", plain)


def test_outcomes_of_files_that_are_known(judge: Judge) -> None:
    content = {source.name: source.content for source in originals()}
    for name, expected in {
        "plain": "cut",
        "plain.gz": "cut",
        "RICE_1 of floats": "cut",
        "HCOMPRESS_1 of integers": "compression",
        "PLIO_1 of integers": "compression",
        "PNG": "cut",
    }.items():
        found = judge.judge(content[name])
        assert (found.name, found.faults) == (expected, [])
    hdus = split(content["plain"])
    hdus[0].data = bytes(len(hdus[0].data))
    assert judge.judge(joined(hdus)).name == "dropped"
    assert judge.judge(content["plain"][:5000]).name == "truncated"
    assert judge.judge(b"").name == "unknown_format"


def takes(n_bytes: int) -> None:
    """Memory from the kernel: an allocator may have as much to spare from the tests before."""
    with mmap.mmap(-1, n_bytes) as block:
        for page in range(0, n_bytes, mmap.PAGESIZE):
            block[page] = 1


@pytest.mark.parametrize(
    ("name", "stand_in", "fault"),
    [
        ("image_axes", lambda path: 1 / 0, "image_axes raised ZeroDivisionError"),
        ("check_image", lambda *_: "MemoryError", "check_image tried to allocate too much"),
        ("check_image", lambda *_: takes(600_000_000), r"check_image took \d+ MB"),
        ("cut_part", lambda *_: 1 / 0, "cut_part raised ZeroDivisionError"),
    ],
)
def test_what_must_not_be_is_seen(
    judge: Judge, monkeypatch: pytest.MonkeyPatch, name: str, stand_in: object, fault: str
) -> None:
    monkeypatch.setattr(outcome, name, stand_in)
    found = judge.judge(b"SIMPLE  =")
    assert found.name == "failed"
    with pytest.raises(AssertionError, match=fault):
        raise AssertionError(found.faults)


def dies(connection: Connection, seed: int, folder: Path) -> None:
    with suppress(EOFError):
        while True:
            number = connection.recv()
            if number in (1, 2):
                os.kill(os.getpid(), signal.SIGSEGV if number == 1 else signal.SIGXCPU)
            connection.send(Outcome("cut"))


def sleeps(connection: Connection, seed: int, folder: Path) -> None:
    if connection.recv() == 1:
        time.sleep(600)
    connection.send(Outcome("cut"))


def test_a_process_that_dies_is_reported_and_replaced() -> None:
    found = dict(judge_all(1, [0, 1, 2, 3], 1, dies))
    assert [found[number].faults for number in range(4)] == [
        [],
        ["the process died: exit code -11"],
        ["hangs: the processor's time was up"],
        [],
    ]


def test_a_process_that_hangs_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "MOST_WALL_S", 3.0)
    found = dict(judge_all(1, [1], 1, sleeps))
    assert found[1].faults == ["hangs: no answer in 3 s"]


def test_the_table_is_put_between_its_marks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table, "real_data", lambda: None)
    summary = Summary(4, 3)
    for number, found in enumerate(
        [Outcome("cut", cpu_s=0.1), Outcome("truncated", peak_mb=9.0), Outcome(faults=["a crash"])]
    ):
        case = make_case(4, 0, originals())
        assert case.number == 0 and number < 3
        summary.add(case, found)
    page = tmp_path / "page.md"
    page.write_text("# Page\n\n<!-- fuzz: begin -->\nold\n<!-- fuzz: end -->\n\nAfter.\n")
    for _ in range(2):
        write_page(page, summary)
        text = page.read_text()
        assert text.startswith("# Page\n\n<!-- fuzz: begin -->\n") and text.endswith("\nAfter.\n")
        assert "| card missing | 3 | 1 | 0 | 1 truncated, 1 failed | 0.10 | 9 |" in text
        assert "--seed 4 --files 3`, without real files: 1 files were cut" in text
        assert "1 failed" in text and "old" not in text
    write_page(tmp_path / "new.md", summary)
    assert "<!-- fuzz: end -->" in (tmp_path / "new.md").read_text()
