"""A flipped byte is noticed, with the name of the file, or changes nothing."""

import pickle
import random
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stradavit.acquire.detection_sources import read_sources
from stradavit.acquire.labels import read_labels
from stradavit.acquire.manifest import read_ledger, read_manifest
from stradavit.cutouts.benchmark import LabelledCutouts
from stradavit.cutouts.corpus import Corpus
from stradavit.cutouts.detection_images import DetectionImages
from stradavit.cutouts.shards import ROW, Shard
from stradavit.detection.detector import load_detector
from stradavit.errors import StradavitError
from stradavit.evaluation.feature_file import read_features
from stradavit.evaluation.kept_folds import read_outcome, write_outcome
from stradavit.evaluation.metrics import FoldOutcome
from stradavit.models.hub import load_encoder
from stradavit.paper.detection_files import read_detection_metrics, read_found
from stradavit.paper.leakage_table import read_report
from stradavit.paper.metric_files import read_metrics

from .stages import run

FLIPS = 30


def _shard(path: Path) -> Any:
    shard = Shard(path)
    try:
        shard.verify()
        rows, names = shard.rows(), ("survey", "part", "settings", "skipped", "dropped")
        pixels = shard.read(np.arange(len(rows)), rows["checksum"])
        columns = [rows[column].tobytes() for column in ROW.names or ()]
        return columns, shard.products(), pixels, [shard.attribute(name) for name in names]
    finally:
        shard.close()


def _corpus(path: Path) -> Any:
    corpus = Corpus(path)
    try:
        return corpus.read(np.arange(len(corpus))), corpus.counts(), corpus.describe(0)
    finally:
        corpus.close()


def _benchmark(path: Path) -> Any:
    cutouts = LabelledCutouts(path)
    try:
        return cutouts._columns(), cutouts.classes, [cutouts.read(n) for n in range(len(cutouts))]
    finally:
        cutouts.close()


def _detection(path: Path) -> Any:
    images = DetectionImages(path)
    try:
        levels = [images.levels(number) for number in range(len(images))]
        boxes = [
            (images.boxes(n), images.labels(n), images.is_crowd(n), images.sources(n))
            for n in range(len(images))
        ]
        return levels, boxes, images.classes, images.names, images.report
    finally:
        images.close()


def _features(path: Path) -> Any:
    found = read_features(path)
    return found.values, found.labels, found.classes, found.sources, found.images, found.splits


def _encoder(path: Path) -> Any:
    loaded = load_encoder(path.parent)
    with torch.inference_mode():
        read = loaded.embed(torch.linspace(0, 1, 1024).reshape(1, 1, 32, 32))
    return {name: t.numpy() for name, t in loaded.encoder.state_dict().items()}, read.numpy()


def _detector(path: Path) -> Any:
    model, meta = load_detector(path.parent)
    return {name: t.numpy() for name, t in model.state_dict().items()}, meta, vars(model.config)


def _metrics(path: Path) -> Any:
    found = read_metrics(path, "linear_probe", "start", "drawn")
    scores = found.folds()
    return found.classes, found.settings, found.code, vars(scores)


def _detected(path: Path) -> Any:
    metrics = read_detection_metrics(path.with_name("s7.json"), "start", "sar", 7)
    found = read_found(metrics)
    known = vars(metrics) | {"detections_sha256": None}  # a digest of no file is no promise
    return known, {number: vars(one) for number, one in found.items()}


def _report(path: Path) -> Any:
    report = read_report(path, "drawn")
    return [report[key] for key in ("n_images", "pairs", "published_split", "examples")]


# File in the world, and what is made of it.
KINDS: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "manifest": ("manifests/sky.csv", read_manifest),
    "ledger": ("raw/sky/0.csv", read_ledger),
    "labels": ("raw/drawn/labels.csv", read_labels),
    "sources of a detection set": ("raw/sar/sources.json", lambda p: read_sources(p)["classes"]),
    "shard": ("shards/sky/0.h5", _shard),
    "corpus": ("corpora/sky.h5", _corpus),
    "benchmark": ("benchmarks/drawn.h5", _benchmark),
    "detection set": ("detection/sar.h5", _detection),
    "features": ("features/drawn.h5", _features),
    "weights of an encoder": ("encoders/start/model.safetensors", _encoder),
    "config of an encoder": ("encoders/start/config.json", _encoder),
    "preprocessor of an encoder": ("encoders/start/preprocessor_config.json", _encoder),
    "weights of a detector": ("detectors/start/model.safetensors", _detector),
    "config of a detector": ("detectors/start/config.json", _detector),
    "metrics": ("metrics/drawn.json", _metrics),
    "metrics of a detector": ("metrics/detection/s7.json", _detected),
    "detections": ("metrics/detection/s7.detections.json", _detected),
    "leakage": ("leakage/drawn.json", _report),
}


@pytest.fixture(scope="module")
def copied(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The world again, to be damaged."""
    folder = tmp_path_factory.mktemp("copied") / "world"
    shutil.copytree(world, folder)
    assert run("leakage", folder, folder / "leakage") == 0
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_a_flipped_byte_is_named_or_changes_nothing(kind: str, copied: Path, seed: int) -> None:
    file, read = KINDS[kind]
    path = copied / file
    whole, expected = path.read_bytes(), _frozen(read(path))
    draw = random.Random(f"{kind} {seed}")
    n_noticed = 0
    try:
        for _ in range(FLIPS):
            place, change = draw.randrange(len(whole)), draw.randrange(1, 256)
            damaged = bytearray(whole)
            damaged[place] ^= change
            path.write_bytes(damaged)
            about = f"{kind}, seed {seed}: byte {place} of {len(whole)} xor {change}"
            try:
                assert _frozen(read(path)) == expected, about
            except StradavitError as error:
                n_noticed += 1
                # The file, or the folder of the files that belong together.
                assert str(path.parent) in str(error), about
                assert re.search("(?i)delete|again|check|put |take ", str(error)), (about, error)
            except Exception as error:
                raise AssertionError(about) from error
    finally:
        path.write_bytes(whole)
    # HDF5 keeps room for more, which may be most of a small file.
    assert n_noticed >= FLIPS // 2 or path.suffix == ".h5", (kind, seed)


def test_a_damaged_index_of_a_corpus_does_not_blame_the_shard(copied: Path) -> None:
    import h5py

    path = copied / "corpora/sky.h5"
    whole = path.read_bytes()
    try:
        with h5py.File(path, "r+") as file:
            file["cutouts/checksum"][0] += 1
        with pytest.raises(StradavitError, match=rf"{path}: its index does not have its checksum"):
            Corpus(path)
    finally:
        path.write_bytes(whole)


def test_a_damaged_label_does_not_make_a_class(copied: Path) -> None:
    path = copied / "raw/drawn/labels.csv"
    whole = path.read_bytes()
    try:
        path.write_bytes(whole.replace(b",FR", b",FS", 1))
        assert path.read_bytes() != whole
        with pytest.raises(StradavitError, match=r"labels.csv, line \d+: has changed since it was"):
            read_labels(path)
    finally:
        path.write_bytes(whole)


@pytest.mark.parametrize(
    ("file", "old", "new", "read"),
    [
        # HDF5 keeps texts where it guards nothing.
        ("corpora/sky.h5", b'"kept": ', b'"kepu": ', _corpus),
        # Some labels have no such column, and are read without it.
        ("raw/drawn/labels.csv", b",sha256,", b",sha257,", read_labels),
        # The only row becomes a part of the header.
        ("raw/sky/0.csv", b"check\n", b"checkI", read_ledger),
    ],
)
def test_damage_beside_the_rows_is_named(
    file: str, old: bytes, new: bytes, read: Callable[[Path], Any], copied: Path
) -> None:
    path = copied / file
    whole = path.read_bytes()
    assert old in whole
    try:
        path.write_bytes(whole.replace(old, new, 1))
        with pytest.raises(StradavitError, match=r"has changed since|do not have their checksum"):
            read(path)
    finally:
        path.write_bytes(whole)


def test_a_damaged_fold_is_trained_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "fold.json"
    probabilities = np.array([[0.25, 0.75], [0.5, 0.5]], np.float32)
    write_outcome(path, FoldOutcome(1, 5, np.array([3, 4]), probabilities, {"loss": [0.5]}))
    kept = read_outcome(path)
    assert kept is not None and kept.probabilities.tobytes() == probabilities.tobytes()
    for old, new in ((b"0.75", b"0.85"), (b"fold", b"gold"), (b"{", b"["), (b"seal", b"teal\xff")):
        whole = path.read_bytes()
        path.write_bytes(whole.replace(old, new, 1))
        assert read_outcome(path) is None
        path.write_bytes(whole)
    assert "is damaged" in caplog.text and "training this fold again" in caplog.text


def test_a_damaged_record_of_a_training_stops_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is to look at: the line is left out, and said."""
    from stradavit.training.record import Record

    path = tmp_path / "metrics.jsonl"
    lines = [f'{{"kind": "step", "update": {n}, "epoch": 1}}' for n in (1, 2, 3, 4)]
    damaged = [lines[0], lines[1].replace('"update"', '"uqdate"'), lines[2] + "\xff", lines[3]]
    path.write_bytes("\n".join(damaged).encode("latin-1"))
    Record(tmp_path, 4, is_writer=True).close()
    assert path.read_text().splitlines() == [lines[0], lines[3]]
    assert caplog.text.count("a line cannot be read and is left out") == 2


def test_not_a_number_among_features_or_weights_is_refused(copied: Path, tmp_path: Path) -> None:
    """Levels of cutouts are integers: there a NaN cannot be."""
    from dataclasses import replace

    from safetensors.torch import load_file

    from stradavit.evaluation.feature_file import write_features
    from stradavit.models.weights import write_weights

    features = read_features(copied / "features/drawn.h5")
    values = features.values.copy()
    values[3, 2, 1] = np.nan
    with pytest.raises(StradavitError, match=r"f\.h5: .*image 3 .*not finite"):
        write_features(tmp_path / "f.h5", replace(features, values=values))

    folder = tmp_path / "encoder"
    shutil.copytree(copied / "encoders/start", folder)
    tensors = load_file(folder / "model.safetensors")
    next(iter(tensors.values())).view(-1)[0] = torch.nan
    write_weights(folder / "model.safetensors", tensors)
    with pytest.raises(StradavitError, match=r"model\.safetensors: .* not finite"):
        load_encoder(folder)


def _frozen(value: Any) -> bytes:
    return pickle.dumps(_plain(value))


def _plain(value: Any) -> Any:
    """Arrays as their bytes, so that NaN equals NaN and pickles are equal."""
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes() if value.dtype != object else 0
    if isinstance(value, dict):
        return [(_plain(key), _plain(item)) for key, item in value.items()]
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return repr(value)
