"""The command line tells a mistake in one message and teaches what a stage needs."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from stradavit.cli import build_parser, main

STAGES = [
    "acquire-manifest",
    "acquire-part",
    "acquire-benchmark",
    "acquire-detection",
    "acquire-encoder",
    "cut-part",
    "cut-benchmark",
    "check-detection",
    "cut-detection",
    "cut-chips",
    "cut-corpus",
    "pretrain",
    "features",
    "probe",
    "knn",
    "label-budget",
    "published-split",
    "finetune",
    "yardsticks",
    "leakage",
    "train-detector",
    "detect",
    "tables",
    "figures",
    "settings",
    "doctor",
    "plan",
    "provenance",
]


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_has_help(stage: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        build_parser().parse_args([stage, "--help"])
    assert left.value.code == 0
    assert "usage: stradavit" in capsys.readouterr().out


def test_a_wrong_block_is_one_message_and_status_one(
    tmp_path: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    survey = json.dumps({"source": "local", "files": ["x"], "colour": 1})
    arguments = [
        "acquire-manifest",
        "--name",
        "s",
        "--survey",
        survey,
        "--out",
        f"{tmp_path}/m.csv",
    ]
    assert main(arguments) == 1
    assert "colour: unknown key" in capsys.readouterr().err


def test_console_script_prints_no_traceback() -> None:
    command = ["acquire-manifest", "--name", "s", "--survey", "{}", "--out", "nowhere.csv"]
    done = subprocess.run(
        [sys.executable, "-m", "stradavit.cli", *command], capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr


def test_a_missing_file_of_settings_is_one_message(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["acquire-manifest", "--name", "s", "--survey", "@nowhere.json", "--out", "m.csv"])
    assert left.value.code == 2
    assert "--survey: nowhere.json: cannot be read as text" in capsys.readouterr().err


@pytest.mark.parametrize("radii", ["2.0", "[2]", '{"first": null}', "{first: 2}"])
def test_radii_must_be_a_mapping(radii: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["cut-corpus", "--name", "all", "--guard-arcmin", radii, "--guards", "--out", "c.h5"])
    assert "gives no radii; expected JSON" in capsys.readouterr().err


def test_every_guard_needs_its_file(capsys: pytest.CaptureFixture[str]) -> None:
    radii = json.dumps({"mirabest": 2.0, "first": 3.0})
    arguments = ["--name", "all", "--guard-arcmin", radii, "--guards", "m.h5", "--shards", "s.h5"]
    assert main(["cut-corpus", *arguments, "--out", "c.h5"]) == 1
    assert "--guards has 1 files, --guard-arcmin the radii of mirabest, first" in (
        capsys.readouterr().err
    )


def test_torchrun_leaves_the_options_of_pretrain_alone() -> None:
    from torch.distributed.run import get_args_parser

    subparsers = next(action for action in build_parser()._actions if action.dest == "command")
    ours = subparsers.choices["pretrain"]._option_string_actions  # type: ignore[index,union-attr]
    # argparse takes a unique or ambiguous beginning of its own options for the option itself.
    theirs = get_args_parser()._option_string_actions
    taken = [
        option
        for option in ours
        if option not in ("-h", "--help") and any(known.startswith(option) for known in theirs)
    ]
    assert not taken


# -- doctor -------------------------------------------------------------------------------------


def test_the_doctor_is_asked_about_a_config_and_what_lies_over_it(
    repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Nothing answers at this address.
    overlay = tmp_path / "overlay.yaml"
    overlay.write_text(
        "surveys: {sdc1: {source: sdc1, like: null, side_px: null, products: null}}\n"
        "archives: {attempts: 1, timeout_s: 1, urls: {sdc1: 'http://127.0.0.1:1'}}\n"
    )
    config = str(repository / "config.yaml")
    assert main(["doctor", "--configfile", config, str(overlay)]) == 1
    told = capsys.readouterr().out
    assert "surveys.sdc1" in told and "FAULT" in told and "to be put right first" in told


def test_the_doctor_tells_programs_in_json(
    repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(repository)
    monkeypatch.delenv("KAGGLE_CONFIG_DIR", raising=False)
    assert main(["doctor", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["is_ready"] is True
    assert {"archives", "this machine"} == {finding["subject"] for finding in report["findings"]}


def test_a_config_the_doctor_cannot_read_is_one_message(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["doctor", "--configfile", "nowhere.yaml"]) == 1
    assert "stradavit doctor: nowhere.yaml: cannot be read as YAML" in capsys.readouterr().err


def test_help_loads_nothing_that_takes_time() -> None:
    heavy = ["torch", "pydantic", "numpy", "yaml", "httpx", "h5py", "astropy", "snakemake"]
    script = (
        "import sys\nfrom stradavit.cli import build_parser\nbuild_parser().format_help()\n"
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr
