"""Starts of the DINOv2 kind in the settings: whose grid they belong to, and what seeds do."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from stradavit.errors import SettingsError
from stradavit.settings import Settings


@pytest.fixture
def config(repository: Path) -> dict[str, Any]:
    """The default config with a drawn DINOv2 that has registers."""
    loaded: dict[str, Any] = yaml.safe_load((repository / "config.yaml").read_text())
    shape = {"image_px": 28, "width": 32, "layers": 2, "heads": 2, "registers": 4}
    loaded["encoders"]["dino"] = {"source": "scratch_dinov2", "architecture": shape}
    loaded["matrix"]["dinov2"] = {"starts": ["dino"], "losses": ["hcl"], "registers": [0]}
    return loaded


def test_its_runs_have_the_dinov2_phase_and_a_start_for_each_seed(config: dict[str, Any]) -> None:
    config["training"]["seeds"] = [1, 2]
    settings = Settings.parse(config)
    nodes = settings.nodes()
    for seed in (1, 2):
        run = nodes[f"contrastive_dino_hcl_r0_all_s{seed}"]
        parent = settings.parent(run)
        assert parent is not None and parent.name == f"start_dino_s{seed}"
        assert settings.pretrain_settings(run).phase == settings.training.dinov2


@pytest.mark.parametrize(
    ("grid", "values"),
    [
        ("reconstruction", {"starts": ["dino"], "losses": ["l2"]}),
        ("contrastive", {"starts": ["dino"], "losses": ["hcl"]}),
        ("dinov2", {"starts": ["dino"], "losses": ["hcl"], "registers": [0, 4]}),
    ],
)
def test_other_grids_and_registers_are_refused(
    config: dict[str, Any], grid: str, values: dict[str, Any]
) -> None:
    config["matrix"][grid] = values
    with pytest.raises(SettingsError, match=rf"matrix\.{grid}\.starts names 'dino', a DINOv2"):
        Settings.parse(config)


def test_registers_belong_to_the_architecture(config: dict[str, Any]) -> None:
    config["encoders"]["dino"]["registers"] = 4
    with pytest.raises(SettingsError, match=r"encoders\.dino\.registers: unknown key"):
        Settings.parse(config)


def test_an_overlay_can_make_it_a_published_one(config: dict[str, Any]) -> None:
    config["encoders"]["dino"] |= {"source": "hub", "repo": "a/b", "architecture": None}
    settings = Settings.parse(config)
    assert settings.encoders["dino"].source == "hub"
    assert "start_dino" in settings.nodes()
