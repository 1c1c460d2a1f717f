"""Fixtures all tests share."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

REPOSITORY = Path(__file__).parents[1]

# How long an example takes says what else the machine does, not whether the code is right.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real radio files beside the checkout; tests that need them skip where they are absent."""
    folder = Path(os.environ.get("STRADAVIT_SHARED_DATA", REPOSITORY.parent / "shared" / "data"))
    if not (folder / "mosaics").is_dir():
        pytest.skip("no real data: set STRADAVIT_SHARED_DATA to the folder that holds mosaics/")
    return folder
