"""A detection set's truth comes from the archive, once."""

from pathlib import Path
from typing import Literal

import pytest

from stradavit.acquire.archives.sdc1 import FULL_SHARES, TRAINING_SHARES
from stradavit.acquire.manifest import Acquired, write_ledger
from stradavit.acquire.truth_catalogue import read_truth
from stradavit.acquire.truth_sources import truth_sources
from stradavit.errors import DataError
from stradavit.files import sha256_of
from stradavit.settings.detection import TruthSet

from .fake_sdc1 import FakeSdc1, sample
from .server import Loopback, impatient


def ledger_of(folder: Path, *names: str) -> Path:
    rows = []
    for name in names:
        path = folder / name
        path.write_bytes(name.encode())
        rows.append(Acquired(name, path, sha256_of(path), path.stat().st_size))
    write_ledger(folder / "0.csv", rows)
    return folder / "0.csv"


def block(catalogue: Literal["training", "full"]) -> TruthSet:
    return TruthSet(source="truth", table="radio", survey="sdc1", catalogue=catalogue)


@pytest.mark.parametrize(
    ("catalogue", "expected", "n_rows"),
    [("full", ["True_560_v2.txt", "True_1400_v2.txt"], 80), ("training", None, 40)],
)
def test_each_band_gets_its_catalogue_and_a_second_call_asks_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    catalogue: Literal["training", "full"],
    expected: list[str] | None,
    n_rows: int,
) -> None:
    monkeypatch.setattr("stradavit.acquire.archives.sdc1.TRUTH_BYTES", {})
    names = ["SKAMid_B1_1000h_v3.fits", "SKAMid_B1_8h_v3.fits", "SKAMid_B2_1000h_v3.fits"]
    ledger, out = ledger_of(tmp_path, *names), tmp_path / "set" / "sources.json"
    with Loopback(FakeSdc1(sample(64))) as server:
        archives = impatient({"sdc1": f"{server.url}/index.php/s"})
        found = truth_sources("x", block(catalogue), out, [ledger], archives)
    expected = expected or ["TrainingSet_B1_v2.txt", "TrainingSet_B2_v2.txt"]
    truths = [Path(item["truth"]) for item in found["products"]]
    assert [path.name for path in truths] == [expected[0], expected[0], expected[1]]
    assert all(path.parent == out.parent / "files" for path in truths)
    assert len(read_truth(truths[0])) == n_rows
    # The server is gone.
    assert truth_sources("x", block(catalogue), out, [ledger], archives) == found


def test_a_share_that_has_gone_says_what_to_do(tmp_path: Path) -> None:
    ledger = ledger_of(tmp_path, "SKAMid_B1_1000h_v3.fits")
    gone = frozenset([*FULL_SHARES.values(), *TRAINING_SHARES.values()])
    with Loopback(FakeSdc1(sample(64), expired=gone)) as server:
        archives = impatient({"sdc1": f"{server.url}/index.php/s"})
        with pytest.raises(DataError, match=r"x: True_560_v2.txt, .* did not come \(.*by hand"):
            truth_sources("x", block("full"), tmp_path / "s.json", [ledger], archives)
