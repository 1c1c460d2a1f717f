"""Notes how faults end while the tests run, for the comparison with docs/faults.md at their end."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

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
