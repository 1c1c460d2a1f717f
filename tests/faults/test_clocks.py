"""A clock that is put forward or back by years decides nothing."""

import ast
import time
from pathlib import Path

import pytest

from stradavit.acquire.transfer.manners import retry_after_s
from stradavit.progress import progress

# The wall clock, by file: what is asked of it, and why a wrong answer does no harm.
ALLOWED = {
    # Dates that archives set on their own data and jobs; a wrong one asks the archive once more.
    "acquire/archives/casda.py": {"datetime.now"},
    "acquire/archives/casda_jobs.py": {"datetime.now"},
    # How old a note on a finished job of an archive is; a wrong answer asks for the job anew.
    "acquire/archives/casda_notes.py": {"time.time"},
    # Seconds until the moment a server names; how long is waited at most is set by the caller.
    "acquire/transfer/manners.py": {"time.time"},
}
CLOCKS = {"time.time", "time.time_ns", "time.localtime", "time.gmtime", "datetime.now",
          "datetime.today", "datetime.utcnow", "date.today"}  # fmt: skip


def test_only_clocks_that_never_jump_measure_durations(repository: Path) -> None:
    found: dict[str, set[str]] = {}
    package = repository / "stradavit"
    for path in sorted(package.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                called = ".".join(ast.unparse(node.func).split(".")[-2:])
                if called in CLOCKS:
                    found.setdefault(path.relative_to(package).as_posix(), set()).add(called)
    assert found == ALLOWED


YEARS_S = 3 * 365 * 86400.0


@pytest.mark.parametrize("jump_s", [-YEARS_S, YEARS_S])
def test_a_training_does_not_look_at_the_wall_clock(
    jump_s: float, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from .stages import contents, run

    real, calls = time.time, 0

    def jumping() -> float:
        nonlocal calls
        calls += 1
        return real() + (jump_s if calls % 3 == 0 else 0.0)

    monkeypatch.setattr(time, "time", jumping)
    for stage in ("finetune", "features"):
        assert run(stage, world, tmp_path / stage) == 0
        monkeypatch.undo()
        assert run(stage, world, tmp_path / f"{stage}-undisturbed") == 0
        monkeypatch.setattr(time, "time", jumping)
        assert contents(tmp_path / stage) == contents(tmp_path / f"{stage}-undisturbed")


@pytest.mark.parametrize("jump_s", [-YEARS_S, YEARS_S])
def test_a_server_is_not_waited_for_by_years(
    jump_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The wait is asked for; `Manners.wait` bounds it, and a moment that is past is none."""
    import httpx2 as httpx

    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + jump_s)
    response = httpx.Response(503, headers={"Retry-After": "Mon, 01 Jan 2024 00:00:00 GMT"})
    wait_s = retry_after_s(response)
    assert wait_s is not None and wait_s >= 0.0


def test_a_bar_goes_on_when_the_clock_jumps(monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = time.time, 0

    def jumping() -> float:
        nonlocal calls
        calls += 1
        return real() + (-1) ** calls * YEARS_S

    monkeypatch.setattr(time, "time", jumping)
    assert list(progress(range(5), desc="test")) == [0, 1, 2, 3, 4]
