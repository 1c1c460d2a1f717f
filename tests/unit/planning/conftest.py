"""Configurations to plan, and results that are there in part."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from stradavit.planning.plan import Plan, make_plan
from stradavit.settings import Settings

PAPER = "workflow/config/paper.yaml"


@pytest.fixture(autouse=True)
def _no_cache_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever this machine has fetched before is not there."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "no-hub"))


@pytest.fixture
def paper(repository: Path) -> Settings:
    """The paper at full scale."""
    return Settings.read(repository / "config.yaml", repository / PAPER)


@pytest.fixture
def read(repository: Path, tmp_path: Path) -> Callable[..., Settings]:
    """`read(overlay, ...)`: config.yaml with these mappings laid over it."""

    def settings(*overlays: dict[str, Any]) -> Settings:
        paths = []
        for number, overlay in enumerate(overlays):
            paths.append(tmp_path / f"overlay{number}.yaml")
            paths[-1].write_text(yaml.safe_dump(overlay))
        return Settings.read(repository / "config.yaml", *paths)

    return settings


@pytest.fixture
def plan(tmp_path: Path) -> Callable[..., Plan]:
    """`plan(settings, **more)`: of the results in `tmp_path`, on a processor by default."""

    def planned(settings: Settings, **more: Any) -> Plan:
        known = {"device": "cpu"} | more
        return make_plan(settings, [Path("config.yaml")], tmp_path / "results", **known)

    return planned
