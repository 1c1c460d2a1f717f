"""Notes how faults end while the tests run, for the comparison with docs/faults.md at their end."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from . import server
from .faults import RECORD_VARIABLE


@pytest.fixture(scope="session", autouse=True)
def fault_record(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The file outcomes are noted in: the caller's, or one of this session."""
    given = os.environ.get(RECORD_VARIABLE)
    path = Path(given) if given else tmp_path_factory.mktemp("faults") / "record.jsonl"
    path.touch()
    os.environ[RECORD_VARIABLE] = str(path)
    yield path
    if given is None:
        del os.environ[RECORD_VARIABLE]


@pytest.fixture(autouse=True)
def short_patience(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the fault is silence, the test waits for the end of the client's patience."""
    called = getattr(request.node, "callspec", None)
    if called is not None and called.params.get("fault") == "stall":
        monkeypatch.setattr(server, "PATIENCE_S", 1.0)
