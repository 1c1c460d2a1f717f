"""Several devices for one training: part of its settings, shared equally between machines."""

from typing import Any

import pytest
import yaml

from stradavit.errors import SettingsError
from stradavit.settings import Settings
from stradavit.settings.base import merge
from tests.conftest import REPOSITORY


def with_overlay(overlay: dict[str, Any]) -> Settings:
    text = (REPOSITORY / "config.yaml").read_text(encoding="utf-8")
    return Settings.parse(merge(yaml.safe_load(text), overlay))


def test_devices_decide_a_run_and_machines_do_not() -> None:
    usual = with_overlay({})
    node = next(node for node in usual.nodes().values() if node.branch != "start")
    assert usual.pretrain_settings(node).devices == 1
    four = with_overlay({"training": {"devices": 4}}).pretrain_settings(node)
    assert four.devices == 4
    spread = with_overlay({"training": {"devices": 4}, "loader": {"nodes": 2}})
    assert spread.pretrain_settings(node).to_json() == four.to_json()
    # A detector is trained on one, whatever the runs are.
    assert spread.detector_run(0).to_json() == usual.detector_run(0).to_json()


def test_devices_that_machines_cannot_share_are_a_fault() -> None:
    expected = r"training.devices is 4, which 3 machines \(loader.nodes\) cannot share equally"
    with pytest.raises(SettingsError, match=expected):
        with_overlay({"training": {"devices": 4}, "loader": {"nodes": 3}})
