"""`profiles/slurm` and the rules agree; needs no Slurm."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from stradavit.settings import Settings


@pytest.fixture(scope="module")
def profile(repository: Path) -> dict[str, Any]:
    """The profile, with its anchors resolved."""
    text = (repository / "profiles" / "slurm" / "config.yaml").read_text(encoding="utf-8")
    return dict(yaml.safe_load(text))


@pytest.fixture(scope="module")
def rules(repository: Path) -> dict[str, str]:
    """Text of each rule of the workflow; one that takes over another has the other's."""
    files = sorted((repository / "workflow" / "rules").glob("*.smk"))
    text = "\n".join(path.read_text(encoding="utf-8") for path in files)
    parts = re.split(r"^(?:rule (\w+):|use rule (\w+) as (\w+) with:)", text, flags=re.MULTILINE)
    found: dict[str, str] = {}
    for own, taken, name, body in zip(*(iter(parts[1:]),) * 4, strict=True):
        found[own or name] = found[taken] + body if taken else body
    return found


def arrays(profile: dict[str, Any]) -> set[str]:
    """Rules that are submitted as arrays."""
    return set(profile["slurm-array-jobs"].split(","))


def test_every_rule_it_names_exists(profile: dict[str, Any], rules: dict[str, str]) -> None:
    named = arrays(profile) | set(profile["set-resources"]) | set(profile["groups"])
    assert named <= set(rules)


def test_every_rule_of_a_gpu_gets_one_and_no_other(
    profile: dict[str, Any], rules: dict[str, str]
) -> None:
    claiming = {name for name, body in rules.items() if re.search(r"^ +gpu=", body, re.MULTILINE)}
    given = {name for name, block in profile["set-resources"].items() if block.get("gpu")}
    assert given == claiming


def test_every_rule_that_fetches_may_run_in_a_partition_of_its_own(
    profile: dict[str, Any], rules: dict[str, str]
) -> None:
    fetching = {name for name, body in rules.items() if "archives=ARCHIVES" in body}
    assert fetching <= set(profile["set-resources"])


def test_no_rule_of_an_array_is_in_a_group(profile: dict[str, Any]) -> None:
    assert not arrays(profile) & set(profile["groups"])
    assert set(profile["group-components"]) == set(profile["groups"].values())


def test_no_limit_can_divide_an_array(
    profile: dict[str, Any], rules: dict[str, str], repository: Path
) -> None:
    # The plugin waits for the rest of an array that Snakemake does not start: for ever.
    limited = {"downloads", "casda"}
    for name in arrays(profile):
        assert not [key for key in limited if re.search(rf"^ +{key}=", rules[name], re.MULTILINE)]
    paper = repository / "workflow" / "config" / "paper.yaml"
    settings = Settings.read(repository / "config.yaml", paper)
    parts = sum(survey.parts for survey in settings.surveys.values())
    # Cells, the features of each encoder and benchmark, trainings, and two jobs for each part.
    n_jobs = len(settings.cells()) + len(settings.nodes()) * (1 + len(settings.benchmarks))
    assert profile["jobs"] > 3 * (n_jobs + 2 * parts)


def test_no_rule_that_keeps_checkpoints_is_in_an_array(profile: dict[str, Any]) -> None:
    # The early signal reaches steps of a job only, and a task of an array has none.
    trainings = {"pretrain_reconstruction", "pretrain_contrastive", "train_detector", "finetune"}
    assert not arrays(profile) & trainings
    assert "--signal=TERM@" in profile["default-resources"]["slurm_extra"]


def test_stages_are_no_children_of_a_shell(rules: dict[str, str]) -> None:
    # A shell that dies of SIGTERM ends the job while the stage still writes its checkpoint.
    commands = [re.search(r'^ +"(.*)stradavit ', body, re.MULTILINE) for body in rules.values()]
    assert {found[1] for found in commands if found} == {"exec "}
    assert all(commands)
