"""Subcommands of detection data, as they are typed."""

import json
from pathlib import Path

import h5py
import pytest

from stradavit.cli import main
from stradavit.cutouts.detection_images import DetectionImages
from stradavit.cutouts.shards import Shard

SET = json.dumps(
    {
        "source": "simulated",
        "table": "sar",
        "side_px": 64,
        "images": {"train": 4, "val": 1, "test": 2},
    }
)


@pytest.fixture
def cut(tmp_path: Path) -> Path:
    sources, out = str(tmp_path / "raw" / "sources.json"), str(tmp_path / "drawn.h5")
    named = ["--name", "drawn", "--set", SET]
    assert main(["acquire-detection", *named, "--ledgers", "--out", sources]) == 0
    more = ["--cutouts", "{}", "--sources", sources, "--out", out]
    assert main(["cut-detection", *named, *more]) == 0
    return Path(out)


def test_from_a_set_to_chips(cut: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "0.h5")
    options = ["--name", "chips", "--detection", str(cut), "--splits", "train", "val"]
    assert (
        main(
            ["cut-chips", *options, "--part", "0", "--parts", "1", "--size-px", "32", "--out", out]
        )
        == 0
    )
    assert f"shard of chips: {out}" in capsys.readouterr().out
    assert len(Shard(Path(out))) == 5
    assert len(DetectionImages(cut)) == 7


def test_a_file_is_checked(cut: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["check-detection", "--file", str(cut)]) == 0
    said = capsys.readouterr().out
    assert said.startswith("train: 4 images (") and "test: 2 images" in said
    with h5py.File(cut, "r+") as file:
        file["pixels"][5] += 1
    assert main(["check-detection", "--file", str(cut)]) == 1
    assert "pixels have changed" in capsys.readouterr().err


def test_a_set_is_checked(cut: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["check-detection", "--set", SET]) == 0
    drawn = capsys.readouterr().out
    copy = json.dumps({"source": "coco", "table": "sar", "path": str(tmp_path / "raw")})
    assert main(["check-detection", "--set", copy]) == 0
    assert capsys.readouterr().out == drawn
    path = tmp_path / "raw" / "files" / "Annotations" / "train.json"
    coco = json.loads(path.read_text())
    coco["images"][0]["width"] = coco["images"][1]["height"] = 0
    path.write_text(json.dumps(coco))
    assert main(["check-detection", "--set", copy]) == 1
    said = capsys.readouterr().err
    assert "for 2 faults" in said and "`width` is 0" in said and "`height` is 0" in said


def test_what_can_be_checked(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check-detection"]) == 1
    assert "give either --set or --file" in capsys.readouterr().err
    truth = json.dumps({"source": "truth", "table": "radio", "survey": "sdc1"})
    assert main(["check-detection", "--set", truth]) == 1
    assert "a set of source truth is checked when it is cut" in capsys.readouterr().err


def test_a_wrong_block_is_one_message(capsys: pytest.CaptureFixture[str]) -> None:
    wrong = json.dumps({"source": "coco", "table": "sar", "path": "x", "colour": 1})
    options = ["--name", "s", "--set", wrong, "--out", "nowhere.json"]
    assert main(["acquire-detection", *options]) == 1
    assert "--set: " in capsys.readouterr().err
