"""Settings refuse what they do not know, all faults at once, and expand the matrix."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml

from stradavit.errors import SettingsError
from stradavit.settings import Settings
from stradavit.settings.describe import describe
from stradavit.settings.training import PretrainSettings


@pytest.fixture
def config(repository: Path) -> dict[str, Any]:
    """The default config as Snakemake hands it over."""
    loaded: dict[str, Any] = yaml.safe_load((repository / "config.yaml").read_text())
    return loaded


def test_all_faults_are_told_at_once_with_their_dotted_paths(config: dict[str, Any]) -> None:
    config["evaluation"]["probe"]["learning_rat"] = 1
    config["surveys"]["mgcls"]["prodcts"] = 3
    config["loader"]["workers"] = -1
    with pytest.raises(SettingsError) as caught:
        Settings.parse(config)
    message = str(caught.value)
    assert "3 faults" in message
    assert "evaluation.probe.learning_rat: unknown key" in message
    assert "surveys.mgcls.prodcts: unknown key" in message
    assert "loader.workers" in message
    assert "found -1" in message


def test_image_must_be_divisible_by_patch(config: dict[str, Any]) -> None:
    config["encoders"]["vit-tiny"]["architecture"]["image_px"] = 60
    with pytest.raises(
        SettingsError, match=r"image_px 60 is not divisible by patch_px 8.*choose 56"
    ):
        Settings.parse(config)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("corpora", "all", "surveys"), ["nowhere"], r"corpora\.all\.surveys names 'nowhere'"),
        (("matrix", "baselines"), ["vit-x"], r"matrix\.baselines names 'vit-x'"),
        (("views",), {"crops": {"roi_side": [0.8, 0.5]}}, "runs backwards"),
        (("matrix", "reconstruction", "losses"), ["l3"], r"matrix\.reconstruction\.losses\.0"),
    ],
)
def test_wrong_references_and_values(
    config: dict[str, Any], path: tuple[str, ...], value: Any, message: str
) -> None:
    block = config
    for key in path[:-1]:
        block = block[key]
    block[path[-1]] = value
    with pytest.raises(SettingsError, match=message):
        Settings.parse(config)


def test_overlays_merge_and_null_removes(repository: Path, tmp_path: Path) -> None:
    overlay = tmp_path / "overlay.yaml"
    overlay.write_text("surveys: {sdc1: null}\ncorpora: {all: {surveys: [mgcls]}}\n")
    settings = Settings.read(repository / "config.yaml", overlay)
    assert "sdc1" not in settings.surveys
    assert settings.corpora["all"].surveys == ("mgcls",)


def test_paths_expand_variables_and_say_which_is_missing(
    config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    config["surveys"]["mine"] = {"source": "local", "files": ["${SKY_OF_MINE}/*.fits"]}
    with pytest.raises(SettingsError, match=r"\$\{SKY_OF_MINE\} is not set"):
        Settings.parse(config)
    monkeypatch.setenv("SKY_OF_MINE", "/sky")
    assert Settings.parse(config).surveys["mine"].files == ("/sky/*.fits",)  # type: ignore[union-attr]


def test_names_spell_coordinates_and_parents_come_first(config: dict[str, Any]) -> None:
    settings = Settings.parse(config)
    names = list(settings.nodes())
    assert len(set(names)) == len(names)
    for node in settings.nodes().values():
        parent = settings.parent(node)
        if parent is not None:
            assert names.index(parent.name) < names.index(node.name)
            assert node.start in node.name and f"r{node.registers}" in node.name


def test_the_papers_matrix_has_its_number_of_runs(config: dict[str, Any]) -> None:
    losses, negatives = ["l2", "l2_l1", "l2_bl1"], ["info_nce", "soft_hcl", "hcl"]
    config["matrix"] |= {
        "reconstruction": {"starts": ["vit-tiny"], "losses": losses, "registers": [0, 4]},
        "contrastive": {"starts": ["vit-tiny"], "losses": negatives, "registers": [0, 4]},
        "two_stage": {
            "starts": ["vit-tiny"],
            "reconstruction_losses": losses,
            "contrastive_losses": negatives,
            "registers": [0, 4],
        },
    }
    branches = [node.branch for node in Settings.parse(config).nodes().values()]
    assert [branches.count(b) for b in ("start", "reconstruction", "contrastive", "two_stage")] == [
        1,
        6,
        6,
        18,
    ]


def test_a_run_is_scored_only_on_sky_its_corpus_guards(config: dict[str, Any]) -> None:
    config["corpora"]["all"] |= {"guards": ["mirabest"], "transductive": ["rgz_dr1"]}
    settings = Settings.parse(config)
    roles = {
        (node.branch == "start", benchmark): settings.role(node, benchmark)
        for node in settings.nodes().values()
        for benchmark in settings.benchmarks
    }
    assert roles[False, "mirabest"] == "inductive"
    assert roles[False, "rgz_dr1"] == "transductive"
    assert roles[False, "lotss_dr2"] is None
    assert roles[True, "lotss_dr2"] == "inductive"
    run_cells = {bench for _, name, bench in settings.cells() if not name.startswith("start")}
    assert run_cells == {"mirabest", "rgz_dr1"}


def test_pretrain_settings_survive_their_json(config: dict[str, Any]) -> None:
    settings = Settings.parse(config)
    for node in settings.nodes().values():
        if node.branch != "start":
            block = settings.pretrain_settings(node)
            assert PretrainSettings.parse(block.to_json()) == block


def test_speed_settings_do_not_reach_a_run(config: dict[str, Any]) -> None:
    changed = deepcopy(config)
    changed["loader"] = {"workers": 3, "threads": 7}
    one, other = Settings.parse(config), Settings.parse(changed)
    for name, node in one.nodes().items():
        if node.branch != "start":
            assert one.pretrain_settings(node) == other.pretrain_settings(other.nodes()[name])


def test_every_key_is_described() -> None:
    page = describe(Settings)
    for key in (
        "learning_rate",
        "roi_side",
        "guard_arcmin",
        "registers",
        "checkpoint_every_epochs",
    ):
        assert f"{key}:" in page
