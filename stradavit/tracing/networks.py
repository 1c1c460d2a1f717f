"""Links of encoders and detectors: their settings, seeds and starts, down to what trained them."""

import json
from pathlib import Path
from typing import Any

from stradavit.models.card import read_card
from stradavit.tracing.boxes import detection_node
from stradavit.tracing.chain import Chain, code_text, maker_text, remake, settings_hash, short
from stradavit.tracing.node import Node
from stradavit.tracing.skies import corpus_node

WEIGHTS = "model.safetensors"


def encoder_node(chain: Chain, path: Path) -> Node:
    """An encoder by its weights: a trained run, or a starting point.

    Parameters
    ----------
    path : ``model.safetensors`` of its folder
    """

    def fill(node: Node) -> None:
        node.facts["weights"] = f"SHA-256 {short(chain.sha256(path))}"
        node.record["sha256"] = chain.sha256(path)
        tell_card(node)

    def tell_card(node: Node) -> None:
        card = read_card(path.parent)
        node.facts["name"] = path.parent.name
        node.record["card"] = card
        if not card:
            node.notes.append("its model card says nothing of where it comes from")
        elif "identity" in card:
            _run(chain, node, path, card)
        else:
            _start(node, card)
        _add_makers(node, card.get("made_by", []))

    return chain.node("encoder", path, fill, tell_card)


def detector_node(chain: Chain, path: Path) -> Node:
    """A trained detector by its weights, its encoder and its detection set."""

    def fill(node: Node) -> None:
        config = json.loads((path.parent / "config.json").read_text(encoding="utf-8"))
        meta = config["meta"]
        run = meta["settings"]
        node.facts["weights"] = f"SHA-256 {short(chain.sha256(path))}"
        node.facts["seed"] = str(run["seed"])
        node.facts["settings"] = short(settings_hash(run))
        node.facts["code"] = code_text(meta["code"], "stradavit.detection.training")
        node.record |= {"sha256": chain.sha256(path), "meta": meta}
        node.record |= {"settings_sha256": settings_hash(run)}
        _add_makers(node, meta.get("made_by", []))
        encoder = chain.results / "encoders" / meta["encoder"] / WEIGHTS
        images = chain.results / "detection" / f"{meta['set']}.h5"
        remedy = f"Train the detector again: {remake(path)}."
        node.sources.append(encoder_node(chain, encoder))
        chain.compare(node, encoder, meta.get("encoder_sha256"), "the detector", remedy)
        node.sources.append(detection_node(chain, images))
        chain.compare(node, images, meta.get("set_sha256"), "the detector", remedy)

    return chain.node("detector", path, fill)


def _run(chain: Chain, node: Node, path: Path, card: dict[str, Any]) -> None:
    """A trained run: what decided its weights, its start, its corpus."""
    identity = card["identity"]
    settings = identity["settings"]
    phase = settings["phase"]
    devices = settings.get("devices", identity.get("devices", 1))
    epochs = phase["epochs"]
    node.facts["trained"] = (
        f"{settings['objective']} by {settings['loss']}, R = {settings['registers']}, "
        f"{epochs} epoch{'s' if epochs > 1 else ''} ({card['updates']:,} updates) "
        f"on {devices} device{'s' if devices > 1 else ''}"
    )
    node.facts["seed"] = str(settings["seed"])
    node.facts["settings"] = short(settings_hash(settings))
    node.facts["code"] = code_text(card["code"], "stradavit.training.pretrain")
    node.record["settings_sha256"] = settings_hash(settings)
    remedy = f"Train it again: {remake(path)}."
    start = chain.results / "encoders" / card["start"]
    node.sources.append(encoder_node(chain, start / WEIGHTS))
    # Weights first: where they differ the rest is no news.
    for name in sorted(identity["start"], key=lambda name: name != WEIGHTS):
        chain.compare(node, start / name, identity["start"][name], path.parent.name, remedy)
    corpus = card.get("corpus", {}).get("name")
    if corpus is None:
        node.notes.append("the name of its corpus was not recorded")
        return
    corpus_path = chain.results / "corpora" / f"{corpus}.h5"
    node.sources.append(corpus_node(chain, corpus_path))
    chain.compare(node, corpus_path, identity["corpus"], path.parent.name, remedy)


def _start(node: Node, card: dict[str, Any]) -> None:
    """A starting point: drawn from a seed, copied, or downloaded at a revision."""
    settings = card.get("settings", {})
    source = settings.get("source", "")
    origin = {
        "hub": f"{settings.get('repo')}, revision {card.get('commit') or settings.get('revision')}",
        "local": f"copied from {settings.get('path')}",
    }
    node.facts["start"] = origin.get(source, f"drawn ({source})")
    if "seed" in card:
        node.facts["seed"] = str(card["seed"])
    node.facts["settings"] = short(settings_hash(settings))
    node.record["settings_sha256"] = settings_hash(settings)
    if weights := card.get("weights"):
        node.facts["source"] = f"{weights['file']}, SHA-256 {short(weights['sha256'])}"
    if code := card.get("code"):
        node.facts["code"] = code_text(code, "stradavit.models.stages")


def _add_makers(node: Node, makers: list[dict[str, Any]]) -> None:
    """Usually one; more if a run went on elsewhere, or under another commit."""
    for number, maker in enumerate(makers):
        node.facts["made by" if number == 0 else f"then by {number}"] = maker_text(maker)
    if not makers:
        node.notes.append("which machine made it is not recorded")
