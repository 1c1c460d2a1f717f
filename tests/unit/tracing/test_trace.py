"""The chain is told down to the FITS files, and whatever is not as it was is named."""

import json
from pathlib import Path

import pytest

from stradavit.acquire.manifest import read_ledger
from stradavit.cli import main
from stradavit.cutouts.hdf5 import seal_attributes
from stradavit.cutouts.selection import read_guard
from stradavit.errors import DataError
from stradavit.files import read_json, sha256_of, write_json
from stradavit.tracing.node import Node
from stradavit.tracing.text import as_json, as_text
from stradavit.tracing.trace import Trace, trace

from .conftest import CELL, FIRST, METRICS, SECOND, flip

COORDINATES = f"linear_probe/{SECOND}/mirabest"


def nodes(found: Trace, kind: str) -> list[Node]:
    """Links of a kind, those told before left out."""

    def below(node: Node) -> list[Node]:
        return [node, *(n for source in node.sources for n in below(source))]

    return [n for top in found.nodes for n in below(top) if n.kind == kind and not n.is_repeated]


def faults(found: Trace) -> list[str]:
    return [f"{finding.path}: {finding.text}" for finding in found.all_findings()]


def test_a_cell_is_told_down_to_its_fits_files(results: Path) -> None:
    found = trace(CELL, results)
    assert found.cell is not None
    assert found.cell.value == "0.500 ± 0.100"
    assert not found.all_findings()
    (metrics,) = nodes(found, "metrics")
    content = read_json(results / METRICS)
    assert metrics.path == results / METRICS
    assert metrics.record["settings"] == content["settings"]
    assert metrics.record["seeds"] == {"folds.seed": 0, "probe.seed": 0}
    assert metrics.record["code"] == content["code"]
    assert metrics.record["made_by"]["machine"]["processor"]
    # Every encoder back to the start, each once.
    encoders = nodes(found, "encoder")
    assert [node.facts["name"] for node in encoders] == [SECOND, FIRST, "start_tiny_s7"]
    assert [node.facts["seed"] for node in encoders] == ["7", "7", "7"]
    for node in encoders:
        assert node.path is not None
        assert node.record["sha256"] == sha256_of(node.path)
    (corpus,) = nodes(found, "corpus")
    guard = read_guard("mirabest", results / "benchmarks" / "mirabest.h5", 2.0)
    assert corpus.record["guards"] == {
        "mirabest": {"positions_sha256": guard.digest(), "arcmin": 2.0}
    }
    assert len(nodes(found, "shard")) == 1
    (ledger,) = nodes(found, "ledger")
    acquired = read_ledger(results / "raw" / "mgcls" / "0.csv")
    assert [(f.name, f.sha256, f.bytes, f.url) for f in ledger.files] == [
        (item.product, item.sha256, item.bytes, str(number)) for number, item in enumerate(acquired)
    ]
    assert ledger.facts["source"] == "simulated, like mgcls, seed 3"
    (labels,) = nodes(found, "labels")
    assert len(labels.files) == 12


def test_verifying_reads_every_file(results: Path) -> None:
    found = trace(COORDINATES, results, is_thorough=True)
    assert not found.all_findings()
    assert found.chain.n_absent == 0
    # Products, images, notes, and each link with the one above it.
    assert found.chain.n_compared >= 2 + 12 + 5 + 10
    assert "nothing differs" in as_text(found)


@pytest.mark.parametrize(
    ("file", "place", "said"),
    [
        ("shards/mgcls/0.h5", 0.5, "its pixels have changed"),
        ("shards/mgcls/0.h5", 0.999, "metadata checksum"),
        ("raw/mgcls/files/mgcls-0000.fits", 0.5, "0.csv says"),
        (f"features/{SECOND}/mirabest.h5", 0.3, "mirabest.h5"),
        ("benchmarks/mirabest.h5", 0.5, "mirabest.h5 says"),
        ("corpora/all.h5", 0.9, f"{FIRST} says"),
        (f"encoders/{FIRST}/model.safetensors", 0.9, f"{SECOND} says"),
    ],
)
def test_a_flipped_bit_is_named_with_its_file(
    results: Path, file: str, place: float, said: str
) -> None:
    flip(results / file, place)
    found = trace(COORDINATES, results, is_thorough=True)
    named = [fault for fault in faults(found) if Path(file).name in fault]
    assert any(said in fault for fault in named), faults(found)
    assert all(finding.remedy for finding in found.all_findings())
    assert as_text(found).count("NOT verified") == 1


def test_flipped_bits_of_big_files_are_left_to_verifying(results: Path) -> None:
    flip(results / "raw/mgcls/files/mgcls-0000.fits")
    assert not trace(COORDINATES, results).all_findings()


def test_a_changed_image_of_a_benchmark_is_noticed(results: Path) -> None:
    image = next((results / "raw" / "mirabest" / "files").glob("*.fits"))
    flip(image)
    (fault,) = faults(trace(COORDINATES, results, is_thorough=True))
    assert "lists images that have changed" in fault


def test_an_encoder_that_was_trained_again_is_told_from_the_one_that_was_used(
    results: Path,
) -> None:
    flip(results / "encoders" / SECOND / "model.safetensors", 0.9)
    (fault,) = faults(trace(COORDINATES, results))
    assert f"encoders/{SECOND}/model.safetensors: its SHA-256 is" in fault
    assert "made again since" in fault


def test_what_is_gone_is_said_and_the_rest_is_told(results: Path) -> None:
    for product in (results / "raw" / "mgcls" / "files").glob("*.fits"):
        product.unlink()
    (results / "manifests" / "mgcls.csv").unlink()
    (results / "shards" / "mgcls" / "0.h5.made.json").unlink()
    (results / "features" / SECOND / "mirabest.h5").unlink()
    found = trace(COORDINATES, results, is_thorough=True)
    assert not found.all_findings()
    assert found.chain.n_absent == 2
    (ledger,) = nodes(found, "ledger")
    assert "2 of its files are not on this disk" in ledger.notes
    assert any("mgcls.csv is gone" in note for note in ledger.notes)
    (shard,) = nodes(found, "shard")
    assert any("0.h5.made.json is not there" in note for note in shard.notes)
    # Features are gone, and what they were of is in the metrics as well.
    assert nodes(found, "encoder")[0].facts["name"] == SECOND
    assert "not on this disk" in as_text(found)


def test_a_missing_ledger_and_a_damaged_card_do_not_stop_the_walk(results: Path) -> None:
    (results / "raw" / "mgcls" / "0.csv").unlink()
    (results / "encoders" / "start_tiny_s7" / "README.md").unlink()
    found = trace(COORDINATES, results)
    (ledger,) = nodes(found, "ledger")
    assert ledger.notes == ["not on this disk; its sources are not known"]
    start = nodes(found, "encoder")[-1]
    assert "its model card says nothing of where it comes from" in start.notes


def test_without_shards_benchmark_and_weights_the_walk_goes_on_by_name(results: Path) -> None:
    for file in ("shards/mgcls/0.h5", "benchmarks/mirabest.h5"):
        (results / file).unlink()
    (results / "encoders" / FIRST / "model.safetensors").unlink()
    found = trace(COORDINATES, results)
    assert not found.all_findings()
    assert [node.facts["name"] for node in nodes(found, "encoder")][1:] == [FIRST, "start_tiny_s7"]
    assert len(nodes(found, "ledger")[0].files) == 2
    assert len(nodes(found, "labels")[0].files) == 12
    (results / "raw" / "mirabest" / "labels.csv").write_text("nothing\n")
    assert "labels.csv: expected a header" in faults(trace(COORDINATES, results))[0]


def test_metrics_made_after_the_table_are_named(results: Path) -> None:
    path = results / METRICS
    content = read_json(path)
    content["macro_f1"]["mean"] += 0.01
    write_json(path, content)
    (fault,) = faults(trace(CELL, results))
    assert "says something else than when the table was written" in fault
    # Who made the same numbers is no difference.
    content["macro_f1"]["mean"] -= 0.01
    content["made_by"]["machine"]["processor"] = "another"
    write_json(path, content)
    assert not faults(trace(CELL, results))


def test_a_shard_that_was_cut_again_is_not_the_one_of_the_corpus(results: Path) -> None:
    import h5py

    with h5py.File(results / "shards" / "mgcls" / "0.h5", "r+") as file:
        file.attrs["rows_checksum"] = "0" * 32
        seal_attributes(file)
    (fault,) = faults(trace(COORDINATES, results))
    assert "the corpus says" in fault


def test_another_sky_of_a_guarded_benchmark_is_noticed(results: Path) -> None:
    import h5py

    with h5py.File(results / "corpora" / "all.h5", "r+") as file:
        guards = json.loads(file.attrs["guards"])
        guards["mirabest"]["positions_sha256"] = "0" * 64
        file.attrs["guards"] = json.dumps(guards)
        seal_attributes(file)
    (said,) = faults(trace("corpora/all.h5", results))
    assert "mirabest.h5: its positions have the SHA-256" in said
    flip(results / "benchmarks" / "mirabest.h5", 0.99)
    assert faults(trace("corpora/all.h5", results))


def test_any_file_of_the_results_can_be_asked_for(results: Path) -> None:
    for file, kind in (
        (f"encoders/{FIRST}", "encoder"),
        ("corpora/all.h5", "corpus"),
        ("results/shards/mgcls/0.h5", "shard"),
        ("raw/mgcls/0.csv", "ledger"),
        (str(Path("results/benchmarks/mirabest.h5").absolute()), "benchmark"),
    ):
        assert trace(file, results).nodes[0].kind == kind


def test_the_tree_lists_a_few_files_or_all(results: Path) -> None:
    found = trace(CELL, results)
    text = as_text(found)
    assert text.startswith("13_two_stage_probe, row 'L2, Soft-HCL, R'")
    assert "… and 9 more files: --files all lists them" in text
    assert text.count("stradavit 0") == 1, "who made the files is told once"
    assert "(as above)" in text
    sha256 = read_ledger(results / "raw" / "mgcls" / "0.csv")[0].sha256
    assert sha256 not in text
    assert sha256 in as_text(found, is_all=True)
    assert "more files" not in as_text(found, is_all=True)


def test_json_holds_all_of_it(results: Path) -> None:
    content = json.loads(as_json(trace(CELL, results)))
    assert content["cell"]["value"] == "0.500 ± 0.100"
    assert content["findings"] == []
    (metrics,) = content["nodes"]
    assert metrics["record"]["settings"] == read_json(results / METRICS)["settings"]
    (features,) = metrics["sources"]
    assert [source["kind"] for source in features["sources"]] == ["benchmark", "encoder"]


def test_a_cell_without_files_says_why(results: Path) -> None:
    left_out = trace("13:2:MiraBest Macro-F1", results)
    assert "the configuration left this cell out" in as_text(left_out)
    assert "made from the settings alone" in as_text(trace("03:Flip:Mild", results))


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("13", "is no cell and no file"),
        ("13_two_stage_probe", "Rows of 13_two_stage_probe:\n  1: L2, Soft-HCL, R"),
        ("99:1:Mild", "no table of results/tables fits '99'"),
        ("13:9:MiraBest Macro-F1", "no row of 13_two_stage_probe fits '9'. Choose one:\n  1: L2"),
        ("13:Soft-HCL:MiraBest Macro-F1", "2 rows of 13_two_stage_probe fit 'Soft-HCL'"),
        ("13:1:MiraBest", "2 columns of 13_two_stage_probe fit 'MiraBest'"),
        ("13:1:", "names no column. Columns of 13_two_stage_probe: 'MiraBest Macro-F1'"),
        ("13:1:RGZ", "no column of 13_two_stage_probe fits 'RGZ'"),
        ("linear_probe/nobody/mirabest", f"in results/metrics/linear_probe are {SECOND}"),
        (f"linear_probe/{SECOND}", "names no single cell"),
        ("raw/mirabest/labels.csv", "no chain begins here"),
        ("results/corpora/none.h5", "is not there. Make it: snakemake --cores all"),
    ],
)
def test_an_unknown_cell_lists_what_there_is(results: Path, asked: str, said: str) -> None:
    with pytest.raises(DataError) as raised:
        trace(asked, results)
    assert said in str(raised.value)


def test_tables_of_before_are_named_with_the_remedy(results: Path) -> None:
    (results / "tables" / "provenance.json").unlink()
    with pytest.raises(DataError, match=r"provenance.json: cannot be read.*--forcerun tables"):
        trace(CELL, results)


def test_the_command_ends_with_status_one_if_something_differs(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["provenance", CELL, "--verify"]) == 0
    assert "nothing differs" in capsys.readouterr().out
    flip(results / "shards" / "mgcls" / "0.h5")
    assert main(["provenance", CELL, "--verify", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["findings"]
    assert main(["provenance", "nothing"]) == 1
    assert "stradavit provenance: 'nothing' is no cell" in capsys.readouterr().err
