"""A chain made by the stages themselves: a drawn sky, two trainings, and one probed benchmark."""

import shutil
from pathlib import Path

import pytest
import torch

from stradavit.acquire.stages import acquire_benchmark, acquire_part, make_manifest
from stradavit.cutouts.stages import cut_benchmark, cut_corpus, cut_part
from stradavit.evaluation.features import extract_features
from stradavit.evaluation.probe import probe
from stradavit.files import write_json
from stradavit.models.stages import acquire_encoder
from stradavit.paper.layout import Column, Head, Row, RowGroup, Spread, Table
from stradavit.paper.sources import NAME, table_sources
from stradavit.settings import CutoutSettings, Settings
from stradavit.settings.encoders import Architecture, ScratchEncoder
from stradavit.settings.evaluation import FoldSettings, ProbeSettings
from stradavit.settings.sources import SimulatedBenchmark, SimulatedSurvey
from stradavit.training.pretrain import pretrain
from tests.unit.paper.fake_results import small_config
from tests.unit.training.runs import contrastive, loader, reconstruction

FIRST, SECOND = "reconstruction_s7", "two_stage_s7"
CELL = "13:L2, Soft-HCL:MiraBest Macro-F1"
METRICS = f"metrics/linear_probe/{SECOND}/mirabest.json"


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder `results` of the chain; not to be changed."""
    torch.set_num_threads(1)
    results = tmp_path_factory.mktemp("chain") / "results"
    survey = SimulatedSurvey(source="simulated", like="mgcls", products=2, side_px=192, seed=3)
    manifest, ledger = results / "manifests" / "mgcls.csv", results / "raw" / "mgcls" / "0.csv"
    shard, corpus = results / "shards" / "mgcls" / "0.h5", results / "corpora" / "all.h5"
    make_manifest("mgcls", survey, manifest)
    acquire_part("mgcls", survey, manifest, 0, ledger)
    cut_part("mgcls", survey, CutoutSettings(size_px=64), ledger, shard)

    benchmark = SimulatedBenchmark(source="simulated", like="mirabest", images_per_class=6)
    labels, images = results / "raw" / "mirabest" / "labels.csv", results / "benchmarks"
    acquire_benchmark("mirabest", benchmark, labels)
    cut_benchmark("mirabest", benchmark, labels, images / "mirabest.h5")
    cut_corpus("all", {"mgcls": [shard]}, {"mirabest": (images / "mirabest.h5", 2.0)}, corpus)

    size = Architecture(
        image_px=32, width=32, layers=1, heads=2, mlp_width=32,
        decoder_width=32, decoder_layers=1, decoder_heads=2, decoder_mlp_width=32,
    )  # fmt: skip
    encoders = results / "encoders"
    start = ScratchEncoder(source="scratch", architecture=size)
    acquire_encoder("tiny", start, 7, encoders / "start_tiny_s7")
    first = reconstruction(epochs=1)
    pretrain(first, corpus, encoders / "start_tiny_s7", encoders / FIRST, loader())
    second = contrastive(epochs=1)
    pretrain(second, corpus, encoders / FIRST, encoders / SECOND, loader())

    features = results / "features" / SECOND / "mirabest.h5"
    extract_features(encoders / SECOND, images / "mirabest.h5", features, loader())
    names = (SECOND, "mirabest")
    quick = ProbeSettings(epochs=1)
    probe(features, FoldSettings(), "training_fold", quick, names, results / METRICS)
    write_tables(results)
    return results


def write_tables(results: Path) -> None:
    """`provenance.json` of two tables: one of scores, one of settings alone."""
    scored = Row(
        ("L2", "Soft-HCL"),
        (Spread(0.5, 0.1), Spread(0.4, 0.1)),
        files=(METRICS.removeprefix("metrics/"),),
    )
    absent = Row(("L2+L1", "Soft-HCL"), (None, None))
    columns = tuple(
        Column(f"mirabest {key}", title, "MiraBest", has_spread=True)
        for key, title in (("macro_f1", "Macro-F1"), ("weighted_f1", "Weighted-F1"))
    )
    heads = (Head("reconstruction", "Reconstruction"), Head("contrastive", "Contrastive"))
    scores = Table(
        13, "two_stage_probe", "Two-stage", "", heads, columns, (RowGroup((scored, absent), "R"),)
    )
    settings = Table(
        3, "augmentations", "Augmentations", "", (Head("operator", "Operator"),),
        (Column("mild", "Mild"),), (RowGroup((Row(("Flip",), ("yes",)),)),),
    )  # fmt: skip
    described = table_sources(Settings.parse(small_config()), results, [settings, scores])
    write_json(results / "tables" / NAME, described)


@pytest.fixture
def results(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the chain to do harm to; the path is relative, as a user has it."""
    shutil.copytree(made, tmp_path / "results")
    monkeypatch.chdir(tmp_path)
    return Path("results")


def flip(path: Path, place: float = 0.5) -> None:
    """Change one bit of a file."""
    content = bytearray(path.read_bytes())
    content[int(len(content) * place)] ^= 1
    path.write_bytes(bytes(content))
