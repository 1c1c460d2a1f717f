"""The subcommands hand their options to the stages."""

import pytest
import torch

from stradavit.cli import main
from stradavit.files import read_json
from tests.unit.detection.sets import lines, run_settings, write_encoder, write_set


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    torch.set_num_threads(1)


def test_a_detector_is_trained_and_scored_from_the_command_line(tmp_path, capsys):
    write_encoder(tmp_path / "encoder")
    images = str(write_set(tmp_path / "drawn.h5"))
    names = ["--encoder-name", "tiny", "--set-name", "drawn"]
    speed = ["--loader", '{"device": "cpu"}']
    weights = tmp_path / "s7" / "model.safetensors"
    arguments = ["train-detector", *names, "--images", images, *speed]
    arguments += ["--encoder", str(tmp_path / "encoder" / "model.safetensors")]
    arguments += ["--run", run_settings(epochs=1).to_json(), "--out", str(weights)]
    assert main(arguments) == 0
    assert capsys.readouterr().out == f"detector: {tmp_path / 's7'}\n"
    assert weights.is_file() and lines(tmp_path / "s7", "end")

    arguments = ["detect", *names, "--images", images, "--split", "test", *speed]
    out_path = tmp_path / "metrics" / "s7.json"
    assert main([*arguments, "--detector", str(weights), "--out", str(out_path)]) == 0
    assert capsys.readouterr().out == f"metrics: {out_path}\n"
    assert read_json(out_path)["encoder"] == "tiny"
    assert (tmp_path / "metrics" / "s7.detections.json").is_file()


def test_a_wrong_key_is_one_message(tmp_path, capsys):
    arguments = ["train-detector", "--encoder-name", "a", "--set-name", "b", "--encoder", "x"]
    arguments += ["--images", "y", "--run", '{"colour": 1}', "--out", f"{tmp_path}/z"]
    assert main(arguments) == 1
    assert "colour: unknown key" in capsys.readouterr().err
