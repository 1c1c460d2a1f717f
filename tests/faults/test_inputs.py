"""Input that changes between listing and reading never ends as fewer cutouts or images."""

import json
import logging
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from stradavit.acquire.stages import acquire_part, make_manifest
from stradavit.cutouts import stages
from stradavit.cutouts.shards import Shard
from stradavit.cutouts.stages import cut_part
from stradavit.errors import DataError
from stradavit.settings import CutoutSettings
from stradavit.settings.sources import LocalSurvey

from .stages import run

SIZE_PX = 32
CUTOUTS = CutoutSettings(size_px=SIZE_PX)


def _mosaic(path: Path, blank: bool = False) -> Path:
    """Four cutouts of noise; with `blank` one pixel of the first is NaN."""
    pixels = np.random.default_rng(1).normal(size=(2 * SIZE_PX, 2 * SIZE_PX)).astype(np.float32)
    if blank:
        pixels[3, 4] = np.nan
    path.parent.mkdir(parents=True, exist_ok=True)
    fits.PrimaryHDU(pixels).writeto(path)
    return path


def _ledger(folder: Path, mosaic: Path) -> tuple[LocalSurvey, Path]:
    survey = LocalSurvey(source="local", files=(str(mosaic),), parts=1)
    make_manifest("sky", survey, folder / "sky.csv")
    acquire_part("sky", survey, folder / "sky.csv", 0, folder / "raw" / "0.csv")
    return survey, folder / "raw" / "0.csv"


def _cut(folder: Path, survey: LocalSurvey, ledger: Path) -> Path:
    out_path = folder / "shards" / "0.h5"
    cut_part("sky", survey, CUTOUTS, ledger, out_path)
    return out_path


def _vanish(path: Path) -> None:
    path.unlink()


def _truncate(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)


def _spoil(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[:6] = b"<html>"
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_vanish, r"cannot be (found|opened) \(No such file or directory\)"),
        (_truncate, r"has \d+ bytes, .* says \d+: it has changed"),
        (_spoil, "does not have the SHA-256 that .* lists: it is damaged, or was changed"),
    ],
)
@pytest.mark.parametrize("when", ["before it is opened", "after it was opened"])
def test_a_fits_that_changes_after_it_was_listed_is_named(
    change: Callable[[Path], None],
    message: str,
    when: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mosaic = _mosaic(tmp_path / "in" / "a.fits")
    survey, ledger = _ledger(tmp_path, mosaic)
    if when == "before it is opened":
        change(mosaic)
    else:
        opened = stages.open_product

        @contextmanager
        def opened_late(path: Path, memory_mb: int) -> Iterator[Any]:
            change(path)
            with opened(path, memory_mb) as product:
                yield product

        monkeypatch.setattr(stages, "open_product", opened_late)
    with pytest.raises(DataError, match=rf"{mosaic}: .*{message}.*(?i:acquire the part again)"):
        _cut(tmp_path, survey, ledger)
    assert not list((tmp_path / "shards").iterdir())


def test_a_fits_that_was_listed_damaged_is_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What the archive has is what it has: a skip with its reason, in Table 1."""
    mosaic = _mosaic(tmp_path / "in" / "a.fits")
    _truncate(mosaic)
    caplog.set_level(logging.WARNING)
    shard = Shard(_cut(tmp_path, *_ledger(tmp_path, mosaic)))
    assert shard.attribute("skipped") == {"truncated": 1}
    assert len(shard) == 0
    assert "skipped: truncated" in caplog.text


def test_a_blank_pixel_drops_its_cutout_and_no_other(tmp_path: Path) -> None:
    whole = Shard(_cut(tmp_path / "a", *_ledger(tmp_path / "a", _mosaic(tmp_path / "a/in/a.fits"))))
    mosaic = _mosaic(tmp_path / "b/in/a.fits", blank=True)
    shard = Shard(_cut(tmp_path / "b", *_ledger(tmp_path / "b", mosaic)))
    assert shard.attribute("dropped") == {"non_finite": 1}
    corners = [(int(row["y0"]), int(row["x0"])) for row in shard.rows()]
    assert corners == [(0, SIZE_PX), (SIZE_PX, 0), (SIZE_PX, SIZE_PX)]
    assert shard.rows()["checksum"].tolist() == whole.rows()["checksum"].tolist()[1:]


def test_a_local_file_that_changes_after_the_manifest_is_named(
    tmp_path: Path,
) -> None:
    mosaic = _mosaic(tmp_path / "in" / "a.fits")
    survey = LocalSurvey(source="local", files=(str(mosaic),), parts=1)
    make_manifest("sky", survey, tmp_path / "sky.csv")
    mosaic.unlink()
    with pytest.raises(DataError, match=rf"{mosaic}: cannot be read .*Put it back, or delete the"):
        acquire_part("sky", survey, tmp_path / "sky.csv", 0, tmp_path / "raw" / "0.csv")
    assert not (tmp_path / "raw" / "0.csv").exists()


@pytest.mark.parametrize("change", [_vanish, _truncate])
def test_a_labelled_image_that_changes_is_named(
    change: Callable[[Path], None],
    world: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.copytree(world / "raw", tmp_path / "raw")
    image = sorted((tmp_path / "raw/drawn/files").glob("*.fits"))[0]
    change(image)
    assert run("cut-benchmark", tmp_path, tmp_path / "out") == 1
    message = capsys.readouterr().err
    assert str(image) in message and "Traceback" not in message, message
    assert not (tmp_path / "out" / "drawn.h5").exists()


def test_predictions_and_detections_can_be_told_from_damaged_ones(world: Path) -> None:
    from stradavit.files import sha256_of

    for metrics, digest, beside in (
        ("metrics/drawn.json", "predictions_sha256", "metrics/drawn.predictions.csv"),
        ("metrics/detection/s7.json", "detections_sha256", "metrics/detection/s7.detections.json"),
    ):
        content = json.loads((world / metrics).read_text())
        assert content[digest] == sha256_of(world / beside)
