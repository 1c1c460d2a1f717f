"""Settings refuse what they do not know, all faults at once, and expand the matrix."""

import re
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml

from stradavit.errors import SettingsError
from stradavit.settings import Settings
from stradavit.settings.describe import describe
from stradavit.settings.training import PretrainSettings
from stradavit.settings.views import STRONG


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
        (("evaluation", "probe", "betas"), [0.9, 1.0], r"evaluation\.probe\.betas\.1: .* less"),
        (("surveys", "mine"), {"source": "local", "files": []}, r"surveys\.mine\.files: .* 1 item"),
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
        "chips": {},
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
        if node.corpus != "chips"
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


def test_a_block_given_in_part_keeps_the_rest_of_its_own_default(config: dict[str, Any]) -> None:
    config["training"]["dinov2"] = {"epochs": 5, "optimiser": {"weight_decay": 0.1}}
    config["views"]["contrastive_wide"] = {"flip_probability": 0.4}
    config["views"]["contrastive_additional"] = {"flip_probability": 0.4}
    settings = Settings.parse(config)
    dinov2, views = settings.training.dinov2, settings.views
    assert (dinov2.epochs, dinov2.batch_size, dinov2.head_output_norm) == (5, 20, False)
    assert (dinov2.optimiser.weight_decay, dinov2.optimiser.learning_rate) == (0.1, 1e-4)
    assert (views.contrastive_wide.flip_probability, views.contrastive_wide.bands_max) == (0.4, 0)
    assert views.contrastive_additional == STRONG.model_copy(update={"flip_probability": 0.4})


def test_the_page_shows_the_defaults_of_a_block_and_not_of_its_class() -> None:
    page = describe(Settings)
    dinov2 = page[page.index("dinov2:", page.index("\ntraining:")) :]
    assert "learning_rate: 0.0001" in dinov2[: dinov2.index("\nevaluation:")]
    strong = page[page.index("contrastive_additional:") :]
    assert "noise_sigma: 0.04" in strong[: strong.index("\ntraining:")]


@pytest.mark.parametrize(("name", "is_safe"), [("my_survey", True), ("é", False), ("_a", False)])
def test_names_are_those_the_rules_admit(
    config: dict[str, Any], repository: Path, name: str, is_safe: bool
) -> None:
    config["surveys"][name] = {"source": "simulated", "like": "sdc1"}
    if is_safe:
        assert name in Settings.parse(config).surveys
    else:
        with pytest.raises(SettingsError, match=rf"surveys\.{name}: use ASCII letters"):
            Settings.parse(config)
    rules = (repository / "Snakefile").read_text(encoding="utf-8")
    for wildcard in ("survey", "benchmark", "corpus"):
        constraint = re.search(rf'{wildcard}=r"(.*)"', rules)
        assert constraint is not None
        assert (re.fullmatch(constraint[1], name) is not None) == is_safe


def test_two_encoders_of_one_name_are_refused(config: dict[str, Any]) -> None:
    config["encoders"]["vit-tiny_soft"] = config["encoders"]["vit-tiny"]
    config["matrix"]["contrastive"] = {
        "starts": ["vit-tiny", "vit-tiny_soft"],
        "losses": ["hcl", "soft_hcl"],
    }
    with pytest.raises(SettingsError, match="contrastive_vit-tiny_soft_hcl_r0_all_s42"):
        Settings.parse(config).nodes()


def test_registers_a_start_cannot_have_are_refused(config: dict[str, Any]) -> None:
    config["encoders"]["vit-tiny"]["registers"] = 4
    with pytest.raises(SettingsError, match=r"matrix\.contrastive\.registers asks for \[0\]"):
        Settings.parse(config)


def test_what_looks_like_a_credential_is_not_repeated(config: dict[str, Any]) -> None:
    config["archives"] = {"opal_password": "hunter2", "pace": "swift"}
    with pytest.raises(SettingsError) as caught:
        Settings.parse(config)
    message = str(caught.value)
    assert "archives.opal_password: unknown key." in message and "hunter2" not in message
    assert "archives.pace: unknown key (its value is 'swift')" in message


def test_nulls_take_out_what_an_overlaid_entry_of_another_source_had(
    config: dict[str, Any],
) -> None:
    config["surveys"]["lotss"] |= {"source": "lotss", "like": None, "side_px": None}
    with pytest.raises(SettingsError, match=r"surveys\.lotss\.products: unknown key"):
        Settings.parse(config)
    config["surveys"]["lotss"]["products"] = None
    assert Settings.parse(config).surveys["lotss"].source == "lotss"
    config["surveys"]["lotss"]["prodcts"] = None
    with pytest.raises(SettingsError, match=r"surveys\.lotss\.prodcts: unknown key"):
        Settings.parse(config)


@pytest.mark.parametrize("contact", ["José", "a@example.org\r\nX-Other: 1"])
def test_a_contact_goes_into_a_header(config: dict[str, Any], contact: str) -> None:
    config["archives"] = {"contact": contact}
    with pytest.raises(SettingsError, match=r"archives\.contact.*one line of plain ASCII"):
        Settings.parse(config)
