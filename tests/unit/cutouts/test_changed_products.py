"""A product whose pixels changed after it was acquired is noticed, though its size is the same."""

from pathlib import Path

import pytest

from stradavit.acquire.labels import LabelledImage, read_labels, write_labels
from stradavit.cutouts.stages import cut_benchmark, cut_part
from stradavit.errors import DataError
from tests.unit.cutouts.test_stages import CUTOUTS, benchmark, ledger, mosaic, survey


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("folder", "remedy"),
    [
        ("raw/lotss/files", "Delete both, and acquire the part again"),
        ("mine", "Put the right one back, or delete the ledger, and acquire the part again"),
    ],
)
def test_a_flipped_bit_of_a_pixel_ends_the_part(tmp_path: Path, folder: str, remedy: str) -> None:
    (tmp_path / folder).mkdir(parents=True)
    path = mosaic(tmp_path / folder / "a.fits")
    ledger_path = ledger(tmp_path / "raw" / "lotss" / "0.csv", path)
    out_path = tmp_path / "shards" / "lotss" / "0.h5"
    flip(path, 2880 + 4 * 700 + 3)  # the last bit of a pixel in the middle
    with pytest.raises(DataError, match=rf"a\.fits: does not have the SHA-256.*0\.csv.*{remedy}"):
        cut_part("lotss", survey(), CUTOUTS, ledger_path, out_path)
    assert not out_path.exists()
    flip(path, 2880 + 4 * 700 + 3)
    cut_part("lotss", survey(), CUTOUTS, ledger_path, out_path)
    assert out_path.is_file()


def test_a_flipped_bit_of_a_labelled_image_ends_the_benchmark(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    path = mosaic(tmp_path / "files" / "a.fits")
    labels_path = tmp_path / "labels.csv"
    write_labels(labels_path, [LabelledImage("a", path, None, "x", "s", 1.0, 2.0)])
    flip(path, 2880 + 4 * 700 + 3)
    with pytest.raises(DataError, match=r"a\.fits: is not the file.*labels\.csv.*Delete both"):
        cut_benchmark("b", benchmark(), labels_path, tmp_path / "b.h5")
    flip(path, 2880 + 4 * 700 + 3)
    cut_benchmark("b", benchmark(), labels_path, tmp_path / "b.h5")


def test_images_of_a_user_may_change(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    path = mosaic(tmp_path / "mine" / "a.fits")
    labels_path = tmp_path / "raw" / "labels.csv"
    write_labels(labels_path, [LabelledImage("a", path, None, "x", "s", 1.0, 2.0)])
    assert [row.sha256 for row in read_labels(labels_path)] == [""]
    flip(path, 2880 + 4 * 700 + 3)
    cut_benchmark("b", benchmark(), labels_path, tmp_path / "b.h5")
