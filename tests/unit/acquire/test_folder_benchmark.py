"""Benchmarks that are a folder of images and a CSV of labels."""

import csv
import logging
import math
from pathlib import Path

import pytest

from stradavit.acquire.labels import LabelledImage, read_labels
from stradavit.acquire.stages import acquire_benchmark
from stradavit.errors import DataError, LabelError
from stradavit.settings.sources import FolderBenchmark


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.png", "b.png", "sub/c.fits", "extra.png"):
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    (tmp_path / "secret.png").write_bytes(b"x")
    return tmp_path / "images"


def acquire(folder: Path, text: str, **more: object) -> list[LabelledImage]:
    (folder.parent / "labels.csv").write_text(text)
    values = {"images": str(folder), "labels": str(folder.parent / "labels.csv"), **more}
    benchmark = FolderBenchmark.model_validate({"source": "folder", **values})
    out_path = folder.parent / "raw" / "labels.csv"
    acquire_benchmark("mine", benchmark, out_path)
    return read_labels(out_path)


HEADER = "filename,label,ra_deg,dec_deg\n"


def test_images_are_read_with_position_and_source(folder: Path) -> None:
    # The first two lie 3.6" apart, one of them across the meridian of 0h.
    rows = acquire(folder, HEADER + "a.png,X,359.9998,0\nsub/c.fits,X,0.0008,0\nb.png,Y,,\n")
    assert [row.label for row in rows] == ["X", "X", "Y"]
    assert [row.path for row in rows] == [folder / "a.png", folder / "sub/c.fits", folder / "b.png"]
    assert rows[0].source == rows[1].source != rows[2].source == "b.png"
    assert rows[0].ra_deg == pytest.approx(359.9998, abs=1e-9)
    assert math.isnan(rows[2].ra_deg) and rows[2].member is None


def test_column_names_the_source(folder: Path) -> None:
    text = "file,kind,src\na.png,X,s1\nb.png,Y,s1\n"
    columns = {"filename_column": "file", "label_column": "kind", "source_column": "src"}
    rows = acquire(folder, text, ra_column=None, dec_column=None, **columns)
    assert [row.source for row in rows] == ["s1", "s1"]


def test_column_names_the_side_of_the_published_split(folder: Path) -> None:
    text = "filename,label,side\na.png,X,Train\nb.png,Y,TEST\nsub/c.fits,Y,{}\n"
    columns = {"ra_column": None, "dec_column": None, "split_column": "side"}
    for validation in ("valid", "Val"):
        rows = acquire(folder, text.format(validation), **columns)
        assert [row.split for row in rows] == ["train", "test", "train"]
    for wrong in ("holdout", ""):
        match = rf"labels\.csv, line 4: the column 'side' says '{wrong}'; expected train or test"
        with pytest.raises(LabelError, match=match):
            acquire(folder, text.format(wrong), **columns)
    rows = acquire(folder, text.format("holdout"), ra_column=None, dec_column=None)
    assert [row.split for row in rows] == ["", "", ""]


def test_side_that_is_none_is_told(folder: Path) -> None:
    acquire(folder, HEADER + "a.png,X,,\n")
    path = folder.parent / "raw" / "labels.csv"
    rows = list(csv.DictReader(path.read_text().splitlines()))
    kept = [name for name in rows[0] if name not in ("check", "split")]
    path.write_text(f"{','.join(kept)},split\n{','.join(rows[0][n] for n in kept)},both\n")
    with pytest.raises(LabelError, match=r"line 2: the split is 'both'; expected train, test"):
        read_labels(path)


def test_unknown_images_are_counted_and_named(folder: Path) -> None:
    text = HEADER + "a.png,X,,\n" + "".join(f"n{k}.png,X,,\n" for k in range(5))
    match = (
        r"5 of 6 rows name images that are not in .*images: line 3: n0\.png; line 4: n1\.png; "
        r"line 5: n2\.png\. Correct benchmarks\.mine\.images"
    )
    with pytest.raises(LabelError, match=match):
        acquire(folder, text)


@pytest.mark.parametrize(
    "name", ["../secret.png", "/etc/passwd", "sub/../../secret.png", "a\0.png"]
)
def test_names_that_leave_the_folder_are_refused(folder: Path, name: str) -> None:
    with pytest.raises((LabelError, DataError), match=r"line 2: the file name|not a CSV file"):
        acquire(folder, HEADER + f"{name},X,,\n")


def test_image_labelled_twice_is_refused(folder: Path) -> None:
    with pytest.raises(LabelError, match=r"line 3: \./a\.png was labelled in line 2 already"):
        acquire(folder, HEADER + "a.png,X,,\n./a.png,Y,,\n")


def test_empty_label_is_refused(folder: Path) -> None:
    with pytest.raises(LabelError, match="line 2: the column 'label' is empty"):
        acquire(folder, HEADER + "a.png,,,\n")


def test_other_classes_are_left_out_and_counted(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = acquire(folder, HEADER + "a.png,X,,\nb.png,Y,,\n", classes=["X"])
    assert [row.label for row in rows] == ["X"]
    assert "1 images left out" in caplog.text and "1 of 'Y'" in caplog.text
    with pytest.raises(LabelError, match="no image has the label 'Z'; the labels are 1 of 'X'"):
        acquire(folder, HEADER + "a.png,X,,\n", classes=["X", "Z"])


def test_unlabelled_images_are_counted(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        acquire(folder, HEADER + "a.png,X,,\nb.png,Y,,\n")
    assert "2 images have no label and are not used (1 .fits, 1 .png)" in caplog.text


def test_absent_folder_is_named(folder: Path) -> None:
    with pytest.raises(LabelError, match=r"benchmarks\.mine\.images: .*nowhere is no folder"):
        acquire(folder, HEADER + "a.png,X,,\n", images="nowhere")


def test_absent_column_is_named(folder: Path) -> None:
    with pytest.raises(DataError, match="expected a header with the columns filename, label"):
        acquire(folder, "filename,class\na.png,X\n")


def test_real_images_of_first(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "benchmarks" / "first-radio-galaxies"
    benchmark = FolderBenchmark(
        source="folder",
        images=str(folder),
        labels=str(folder / "labels.csv"),
        label_column="class",
        classes=("FRI", "FRII"),
    )
    acquire_benchmark("first", benchmark, tmp_path / "labels.csv")
    rows = read_labels(tmp_path / "labels.csv")
    assert [sum(row.label == name for row in rows) for name in ("FRI", "FRII")] == [412, 767]
