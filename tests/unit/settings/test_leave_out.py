"""Surveys left out one at a time: the nodes, corpora and cells that follow."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from stradavit.errors import SettingsError
from stradavit.settings import Settings


@pytest.fixture
def config(repository: Path) -> dict[str, Any]:
    """The default config with two of its four surveys left out, one at a time."""
    loaded: dict[str, Any] = yaml.safe_load((repository / "config.yaml").read_text())
    loaded["matrix"]["leave_out"] = ["mgcls", "sdc1"]
    loaded["evaluation"]["protocols"] = ["linear_probe", "published_split"]
    return loaded


def test_each_survey_left_out_adds_the_selected_model_and_its_first_phase(
    config: dict[str, Any],
) -> None:
    with_them = Settings.parse(config).nodes()
    config["matrix"]["leave_out"] = []
    without = Settings.parse(config).nodes()
    assert set(without) < set(with_them)
    assert [name for name in with_them if name not in without] == [
        "reconstruction_vit-tiny_l2_l1_r4_all-without-mgcls_s42",
        "two_stage_vit-tiny_l2_l1_soft_hcl_r4_all-without-mgcls_s42",
        "reconstruction_vit-tiny_l2_l1_r4_all-without-sdc1_s42",
        "two_stage_vit-tiny_l2_l1_soft_hcl_r4_all-without-sdc1_s42",
    ]


def test_a_reduced_corpus_lacks_its_survey_and_keeps_the_guards(config: dict[str, Any]) -> None:
    settings = Settings.parse(config)
    reduced = settings.corpus("all-without-sdc1")
    assert reduced.surveys == ("mgcls", "askap", "lotss")
    assert settings.guards("all-without-sdc1") == settings.guards("all")
    # No others are made, and the whole one is not touched.
    assert settings.corpus("all").surveys == ("mgcls", "askap", "lotss", "sdc1")
    with pytest.raises(KeyError):
        settings.corpus("all-without-lotss")


@pytest.mark.parametrize("n_seeds", [1, 2])
def test_first_phases_on_reduced_corpora_are_trained_but_not_scored(
    config: dict[str, Any], n_seeds: int
) -> None:
    config["training"]["seeds"] = [42, 43][:n_seeds]
    settings = Settings.parse(config)
    nodes = settings.nodes()
    scored = [name for protocol, name, _ in settings.cells() if "without" in name]
    assert {nodes[name].branch for name in scored} == {"two_stage"}
    # Two surveys; three benchmarks by the probe and one by its published split.
    assert len(scored) == n_seeds * 2 * (3 + 1)
    for name in scored:
        parent = settings.parent(nodes[name])
        assert parent is not None
        assert parent == nodes[parent.name]
        assert parent.corpus == nodes[name].corpus


def test_only_benchmarks_with_a_split_are_scored_on_it(config: dict[str, Any]) -> None:
    cells = Settings.parse(config).cells()
    assert {bench for protocol, _, bench in cells if protocol == "published_split"} == {"mirabest"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"leave_out": ["emu"]}, r"matrix\.leave_out names 'emu', which is not among \['askap'"),
        ({"selected": None}, r"matrix\.selected says which model"),
        ({"two_stage": {"starts": []}}, r"its branch has no starts"),
    ],
)
def test_faults_are_told(config: dict[str, Any], change: dict[str, Any], message: str) -> None:
    config["matrix"].update(change)
    with pytest.raises(SettingsError, match=message):
        Settings.parse(config)


def test_the_only_survey_cannot_be_left_out(config: dict[str, Any]) -> None:
    config["corpora"]["all"]["surveys"] = ["mgcls"]
    config["matrix"]["leave_out"] = ["mgcls"]
    with pytest.raises(SettingsError, match="has no other survey"):
        Settings.parse(config)


def test_a_corpus_cannot_have_the_name_of_a_reduced_one(config: dict[str, Any]) -> None:
    config["corpora"]["all-without-sdc1"] = {"surveys": ["mgcls"]}
    with pytest.raises(SettingsError, match=r"corpora\.all-without-sdc1 .* matrix\.leave_out"):
        Settings.parse(config)
