"""Truth catalogues: drawn CSV, archive text with and without prose, and their faults."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from stradavit.acquire import truth_catalogue
from stradavit.acquire.simulated.surveys import draw_product
from stradavit.acquire.truth_catalogue import TRUTH_COLUMNS, read_truth
from stradavit.errors import DataError

PROSE = (
    b"COLUMN1:    ID    [none]    Source ID\n"
    b"COLUMN10:    PA    [degs]    \nPA (measured clockwise)\n"
    b"     ID   RA (core)  DEC (core)\n"
)
FULL = b"7 -0.34 -29.7 -0.35 -29.8 1.5e-05 0.25 5.6 2.5 -21.8 2 3\n"
TRAINING = b"  7  -0.34 -29.7 -0.35 -29.8 1.5e-05 0.25 5.6 2.5 338.2  2  3  1 19704.5 17712.9\n"


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("content", [FULL, PROSE + TRAINING, PROSE + b"\n" + TRAINING + b"\n"])
def test_a_row_is_read_whatever_stands_before_it(tmp_path: Path, content: bytes) -> None:
    (row,) = read_truth(written(tmp_path / "t.txt", content))
    assert row["id"] == 7
    # Right ascension wraps: the archive writes -0.34 where images say 359.66.
    np.testing.assert_allclose([row["ra_core"], row["ra_cent"]], [359.66, 359.65], atol=1e-12)
    np.testing.assert_allclose([row["dec_core"], row["dec_cent"]], [-29.7, -29.8])
    np.testing.assert_allclose(row["flux"], 1.5e-5, rtol=1e-6)
    np.testing.assert_allclose([row["core_frac"], row["b_maj"], row["b_min"]], [0.25, 5.6, 2.5])
    assert (row["size"], row["class"]) == (2, 3)


def test_drawn_catalogues_are_read_as_they_were_written(tmp_path: Path) -> None:
    path = draw_product("sdc1", 0, 128, 1, tmp_path).with_suffix(".truth.csv")
    rows = read_truth(path)
    lines = path.read_text().splitlines()
    assert lines[0] == ",".join(TRUTH_COLUMNS) and len(rows) == len(lines) - 1
    for row, line in zip(rows, lines[1:], strict=True):
        cells = line.split(",")
        assert str(row["id"]) == cells[0]
        assert row["ra_cent"] == pytest.approx(float(cells[3]), abs=1e-9)
        assert row["flux"] == pytest.approx(float(cells[5]), rel=1e-6)
        assert row["pa"] == pytest.approx(float(cells[9]), abs=1e-3)


def test_blocks_and_keep_change_nothing_but_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [b"%d %f -29.7 -0.3 -29.7 1e-7 0 1 1 0 2 3\n" % (n, n / 10) for n in range(25)]
    path = written(tmp_path / "t.txt", b"".join(lines))
    whole = read_truth(path)
    monkeypatch.setattr(truth_catalogue, "BLOCK_LINES", 4)
    seen = []

    def keep(rows):
        seen.append(len(rows))
        return rows["id"] % 5 == 0

    assert np.array_equal(read_truth(path), whole) and whole["id"].tolist() == list(range(25))
    assert read_truth(path, keep)["id"].tolist() == [0, 5, 10, 15, 20]
    assert seen == [4] * 6 + [1]


def test_sources_that_were_not_injected_are_left_out(tmp_path: Path) -> None:
    absent = TRAINING.replace(b"  7 ", b"  8 ").replace(b" 3  1 ", b" 3  0 ")
    assert read_truth(written(tmp_path / "t.txt", PROSE + TRAINING + absent))["id"].tolist() == [7]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"8 0 -29.7 0\n", "12 numbers, as the other rows have"),
        (b"8 0 -29.7 0 -29.7 faint 0 1 1 0 2 3\n", "12 numbers"),
        (b"8 0 -29.7 0 -29.7 nan 0 1 1 0 2 3\n", "finite numbers"),
        (b"8 0 -99.7 0 -29.7 1 0 1 1 0 2 3\n", "declinations"),
        (b"8 0 -29.7 0 -29.7 1 0 -1 1 0 2 3\n", "sizes from 0"),
        (b"8 0 -29.7 0 -29.7 1 0 1 1 0 2 4\n", "codes 1, 2 or 3"),
    ],
)
def test_a_bad_line_is_named_with_what_it_says(tmp_path: Path, line: bytes, expected: str) -> None:
    path = written(tmp_path / "t.txt", PROSE + FULL + FULL + line + FULL)
    with pytest.raises(DataError) as raised:
        read_truth(path)
    n_line = (PROSE + FULL + FULL).count(b"\n") + 1
    assert f"t.txt, line {n_line}: found {line.strip().decode()!r}" in str(raised.value)
    assert expected in str(raised.value)


def test_a_line_without_end_is_not_read_whole(tmp_path: Path) -> None:
    path = written(tmp_path / "t.txt", b"x" * 30_000_000)
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="none of its first 60 lines"):
            read_truth(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 5e6


def test_what_is_no_catalogue_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a.txt: none of its first 60 lines .* '<html>'"):
        read_truth(written(tmp_path / "a.txt", b"<html>\n</html>\n"))
    with pytest.raises(DataError, match="none of its first 60 lines"):
        read_truth(written(tmp_path / "b.txt", b""))
    with pytest.raises(DataError, match=r"c.csv, line 1: found 'ID,RA'; expected 'ID,RA \(core\)"):
        read_truth(written(tmp_path / "c.csv", b"ID,RA\n1,2\n"))
    header = ",".join(TRUTH_COLUMNS).encode() + b"\n"
    with pytest.raises(DataError, match=r"d.csv: has a header and no rows"):
        read_truth(written(tmp_path / "d.csv", header))
    with pytest.raises(DataError, match=r"absent.txt: cannot be read"):
        read_truth(tmp_path / "absent.txt")


def test_the_published_training_sets_are_read_whole(shared_data: Path) -> None:
    folder = shared_data / "catalogues" / "sdc1"
    rows = read_truth(folder / "TrainingSet_B1_v2_ML.txt")
    assert len(rows) == 19_222 and len(read_truth(folder / "TrainingSet_B5_v2_ML.txt")) == 30
    (row,) = rows[rows["id"] == 30377710]
    assert row["flux"] == pytest.approx(5.75539e-05) and row["pa"] == pytest.approx(72.932)
    assert rows["ra_cent"].min() > 359.3
