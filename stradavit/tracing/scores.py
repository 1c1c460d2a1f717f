"""Links that hold numbers: metrics of every protocol, features, reports on leakage."""

import json
from pathlib import Path
from typing import Any

import h5py

from stradavit.errors import DataError
from stradavit.evaluation.feature_file import read_features
from stradavit.files import read_json
from stradavit.tracing.boxes import detection_node
from stradavit.tracing.chain import (
    Chain,
    code_text,
    damage,
    maker_text,
    remake,
    settings_hash,
    short,
)
from stradavit.tracing.labels import benchmark_node
from stradavit.tracing.networks import WEIGHTS, detector_node, encoder_node
from stradavit.tracing.node import Finding, Node

# The stage that writes the metrics of each protocol.
STAGES = {
    "linear_probe": "stradavit.evaluation.probe",
    "finetune": "stradavit.evaluation.finetune",
    "knn": "stradavit.evaluation.knn",
    "label_budget": "stradavit.evaluation.label_budget",
    "published_split": "stradavit.evaluation.published_split",
    "yardstick": "stradavit.evaluation.yardsticks",
    "detection": "stradavit.detection.detect",
}
SCORES = ("macro_f1", "weighted_f1")


def metrics_node(chain: Chain, path: Path) -> Node:
    """A metrics file: its settings, seeds and code, and what was scored."""

    def fill(node: Node) -> None:
        content = read_json(path)
        protocol = content["protocol"]
        node.facts["protocol"] = protocol.replace("_", " ")
        node.facts |= _scores(content)
        _add_origin(node, content, STAGES[protocol])
        remedy = f"Score it again: {remake(path)}."
        if protocol == "detection":
            _detection(chain, node, content, remedy)
        elif protocol == "yardstick":
            _benchmark(chain, node, content, remedy)
        else:
            _classification(chain, node, content, remedy)

    return chain.node("metrics", path, fill)


def leakage_node(chain: Chain, path: Path) -> Node:
    """A report on images of a benchmark that show the same sky."""

    def fill(node: Node) -> None:
        content = read_json(path)
        _add_origin(node, content, "stradavit.evaluation.leakage")
        _benchmark(chain, node, content, f"Look again: {remake(path)}.")

    return chain.node("leakage", path, fill)


def features_node(chain: Chain, path: Path) -> Node:
    """Embedded images of a benchmark, and the encoder and benchmark they are of."""

    def fill(node: Node) -> None:
        with h5py.File(path, "r") as file:
            checksum = str(file.attrs["sha256"])
            provenance = json.loads(file["names"].asstr()[()])["provenance"]
            maker = json.loads(file["made_by"].asstr()[()]) if "made_by" in file else {}
            n_images, _, width = file["features"].shape
        node.facts["images"] = f"{n_images:,} in 8 orientations, {width} features each"
        node.facts["computed"] = f"{provenance['precision']} on {provenance['device']}"
        node.facts["code"] = code_text(provenance["features_code"], "stradavit.evaluation.features")
        if maker:
            node.facts["made by"] = maker_text(maker)
        node.record |= {"sha256": checksum, "made_by": maker, "provenance": provenance}
        remedy = f"Make the features again: {remake(path)}."
        _inputs(chain, node, provenance, path.parent.name, path.stem, path.name, remedy)
        if chain.is_thorough:
            try:
                read_features(path)
                chain.n_compared += 1
            except DataError as error:
                advice = "Delete it and run the stage `features` again."
                node.findings.append(damage(path, error, advice, remedy))

    return chain.node("features", path, fill)


def _add_origin(node: Node, content: dict[str, Any], module: str) -> None:
    """Settings, seeds, code and machine of a file of numbers."""
    settings = content["settings"]
    node.facts["settings"] = short(settings_hash(settings))
    if seeds := _seeds(settings):
        node.facts["seeds"] = ", ".join(f"{key} = {seed}" for key, seed in seeds.items())
    node.facts["code"] = code_text(content["code"], module)
    maker = content.get("made_by")
    if maker:
        node.facts["made by"] = maker_text(maker)
    else:
        node.notes.append("which machine made it is not recorded")
    node.record |= {"settings": settings, "settings_sha256": settings_hash(settings)}
    node.record |= {"seeds": seeds, "code": content["code"], "made_by": maker or {}}
    node.record["provenance"] = content["provenance"]


def _scores(content: dict[str, Any]) -> dict[str, str]:
    """The numbers of a metrics file, as far as a line holds them."""
    if "scores" in content:
        values = {key: value for key, value in content["scores"].items() if value is not None}
        return {
            "trained with seed": str(content["seed"]),
            "scores": ", ".join(f"{key} {value:.3f}" for key, value in values.items()),
        }
    found = {key: content[key] for key in SCORES if key in content}
    if not found:
        return {"budgets": ", ".join(str(b["per_class"]) for b in content.get("budgets", []))}
    spread = ", ".join(f"{key} {v['mean']:.3f} ± {v['std']:.3f}" for key, v in found.items())
    return {"scores": f"{spread} over {len(content['folds'])} folds"}


def _seeds(settings: Any, path: str = "") -> dict[str, int]:
    """Every setting that is called a seed, by dotted path."""
    found = {}
    for key, value in settings.items() if isinstance(settings, dict) else ():
        dotted = f"{path}.{key}" if path else key
        if key == "seed":
            found[dotted] = value
        found |= _seeds(value, dotted)
    return found


def _classification(chain: Chain, node: Node, content: dict[str, Any], remedy: str) -> None:
    """An encoder on a benchmark, through features where the protocol trains on them."""
    provenance = content["provenance"]
    encoder, benchmark = content["encoder"], content["benchmark"]
    assert node.path is not None
    if "features_code" in provenance:
        features = chain.results / "features" / encoder / f"{benchmark}.h5"
        made = features_node(chain, features)
        node.sources.append(made)
        recorded, found = provenance.get("features_sha256"), made.record.get("sha256")
        if found and recorded and found != recorded:
            text = (
                f"their checksum is {short(found)}, {node.path.name} says {short(recorded)}: they "
                "were made again since"
            )
            node.findings.append(Finding(features, text, remedy))
        if features.is_file() or made.is_repeated:
            return
    _inputs(chain, node, provenance, encoder, benchmark, node.path.name, remedy)


def _inputs(
    chain: Chain,
    node: Node,
    provenance: dict[str, Any],
    encoder: str,
    benchmark: str,
    user: str,
    remedy: str,
) -> None:
    """The encoder and the benchmark that a file of features or of metrics is of."""
    weights = chain.results / "encoders" / encoder / WEIGHTS
    images = chain.results / "benchmarks" / f"{benchmark}.h5"
    node.sources.append(benchmark_node(chain, images))
    chain.compare(node, images, provenance.get("benchmark_sha256"), user, remedy)
    node.sources.append(encoder_node(chain, weights))
    chain.compare(node, weights, provenance.get("encoder_sha256"), user, remedy)


def _benchmark(chain: Chain, node: Node, content: dict[str, Any], remedy: str) -> None:
    path = chain.results / "benchmarks" / f"{content['benchmark']}.h5"
    assert node.path is not None
    node.sources.append(benchmark_node(chain, path))
    recorded = content["provenance"].get("benchmark_sha256")
    chain.compare(node, path, recorded, node.path.name, remedy)


def _detection(chain: Chain, node: Node, content: dict[str, Any], remedy: str) -> None:
    """A detector on a split of a detection set."""
    encoder, images, seed = content["encoder"], content["set"], content["seed"]
    provenance = content["provenance"]
    assert node.path is not None
    user = node.path.name
    detector = chain.results / "detectors" / encoder / images / f"s{seed}" / WEIGHTS
    set_path = chain.results / "detection" / f"{images}.h5"
    node.sources.append(detector_node(chain, detector))
    chain.compare(node, detector, provenance.get("detector_sha256"), user, remedy)
    if not detector.is_file():
        weights = chain.results / "encoders" / encoder / WEIGHTS
        node.sources.append(encoder_node(chain, weights))
        chain.compare(node, weights, provenance.get("encoder_sha256"), user, remedy)
    node.sources.append(detection_node(chain, set_path))
    chain.compare(node, set_path, provenance.get("set_sha256"), user, remedy)
