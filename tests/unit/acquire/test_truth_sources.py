"""Which truth belongs to which product, and what is said where there is none."""

from pathlib import Path

import pytest

from stradavit.acquire.manifest import Acquired, write_ledger
from stradavit.acquire.truth_sources import truth_sources
from stradavit.errors import DataError
from stradavit.files import sha256_of
from stradavit.settings.detection import TruthSet


def block(**changes) -> TruthSet:
    return TruthSet(source="truth", table="radio", survey="sky", **changes)


@pytest.fixture
def ledgers(tmp_path: Path) -> list[Path]:
    """Two parts with a product each, one of which has a catalogue beside it."""
    folder = tmp_path / "files"
    folder.mkdir()
    found = []
    for part, name in enumerate(["b", "a"]):
        path = folder / f"{name}.fits"
        path.write_bytes(name.encode())
        write_ledger(
            tmp_path / f"{part}.csv", [Acquired(name, path, sha256_of(path), path.stat().st_size)]
        )
        found.append(tmp_path / f"{part}.csv")
    (folder / "a.truth.csv").write_text("truth of a")
    return found


def test_named_truth_goes_before_the_one_beside_a_product(tmp_path, ledgers):
    named = tmp_path / "named.txt"
    named.write_text("named")
    beside = tmp_path / "files" / "a.truth.csv"
    out = tmp_path / "set" / "sources.json"
    found = truth_sources("x", block(truth={"b": str(named)}), out, ledgers)
    assert found["kind"] == "truth"
    assert [item["product"] for item in found["products"]] == ["a", "b"]
    assert [item["truth"] for item in found["products"]] == [str(beside), str(named)]
    for item in found["products"]:
        assert item["sha256"] == sha256_of(item["path"]) and item["bytes"] == 1
        assert item["truth_sha256"] == sha256_of(item["truth"])
    both = truth_sources("x", block(truth={"a": str(named), "b": str(named)}), out, ledgers)
    assert {item["truth"] for item in both["products"]} == {str(named)}


def test_products_can_be_chosen(tmp_path, ledgers):
    found = truth_sources("x", block(products=("a",)), tmp_path / "s.json", ledgers)
    assert [item["product"] for item in found["products"]] == ["a"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, r"x: the product b \(.*b.fits\) has no truth catalogue: .* detection.sets.x.truth"),
        ({"products": ("c",)}, r"has no product 'c'; it has a, b. Correct detection.sets.x.prod"),
        ({"truth": {"c": "t"}}, r"has no product 'c'; it has a, b. Correct detection.sets.x.truth"),
        ({"truth": {"b": "absent.txt"}}, r"absent.txt: is no file; .* truth catalogue of b"),
    ],
)
def test_missing_truth_says_what_to_do(tmp_path, ledgers, changes, message):
    with pytest.raises(DataError, match=message):
        truth_sources("x", block(**changes), tmp_path / "s.json", ledgers)


def test_a_survey_without_products_is_refused(tmp_path):
    write_ledger(tmp_path / "0.csv", [])
    with pytest.raises(DataError, match=r"x: the survey sky has no product in its ledgers"):
        truth_sources("x", block(), tmp_path / "s.json", [tmp_path / "0.csv"])
