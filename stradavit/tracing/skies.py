"""Links from a corpus down to FITS files: surveys, shards, ledgers, products."""

import json
import os
from pathlib import Path
from typing import Any

from stradavit.acquire.manifest import read_ledger, read_manifest
from stradavit.cutouts import corpus as corpora
from stradavit.cutouts.hdf5 import LazyFile
from stradavit.cutouts.selection import read_guard
from stradavit.cutouts.shards import REMEDY, Shard
from stradavit.errors import StradavitError
from stradavit.tracing.boxes import detection_node
from stradavit.tracing.chain import Chain, damage, remake, settings_hash, short
from stradavit.tracing.labels import benchmark_node
from stradavit.tracing.node import Finding, Node, RawFile

LEDGER_REMEDY = "Delete the ledger and acquire the part again: "


def corpus_node(chain: Chain, path: Path) -> Node:
    """A corpus: what became of each survey's cutouts, its guards, and its shards."""

    def fill(node: Node) -> None:
        lazy = LazyFile(path, corpora.FORMAT, corpora.VERSION, corpora.REMEDY)
        with lazy.opened() as file:
            shards = [os.path.normpath(path.parent / p) for p in file["shards/path"].asstr()[()]]
            has_checksums = "rows_checksum" in file["shards"]
            checksums = file["shards/rows_checksum"].asstr()[()].tolist() if has_checksums else []
            n_cutouts = len(file["cutouts/row"])
            counts = json.loads(file.attrs["counts"])
            guards = json.loads(file.attrs.get("guards", "{}"))
        lazy.close()
        node.facts["cutouts"] = f"{n_cutouts:,}"
        node.record |= {"cutouts": n_cutouts, "counts": counts, "guards": guards}
        chain.add_maker(node, path)
        if not has_checksums:
            node.notes.append("which shards it was made from is recorded by name alone")
        used = dict(zip(map(Path, shards), checksums or [""] * len(shards), strict=True))
        for survey, count in counts.items():
            mine = {p: c for p, c in used.items() if p.parent.name == survey}
            node.sources.append(_survey_node(chain, survey, count, mine))
        for name, guard in guards.items():
            node.sources.append(_guard_node(chain, node, name, guard))

    return chain.node("corpus", path, fill)


def shard_node(chain: Chain, path: Path, rows_checksum: str = "") -> Node:
    """A shard: its settings, and the ledger of its part, or the pictures it was resized from.

    Parameters
    ----------
    rows_checksum : that of the shard the corpus was made from; empty if that is not recorded
    """

    def fill(node: Node) -> None:
        shard = Shard(path)
        try:
            settings, dropped = shard.attribute("settings"), shard.attribute("dropped")
            survey, part = str(shard.attribute("survey")), str(shard.attribute("part"))
            found = str(shard.attribute("rows_checksum"))
            node.facts["cutouts"] = f"{len(shard):,} of {shard.size_px} px"
            node.facts["settings"] = short(settings_hash(settings))
            node.record |= {"settings": settings, "settings_sha256": settings_hash(settings)}
            node.record |= {"survey": survey, "part": part, "dropped": dropped}
            node.record |= {"rows_checksum": found, "cutouts": len(shard)}
            with_ledger = "splits" not in settings  # those of chips name splits
            ledger_sha256 = shard.attribute("ledger_sha256") if with_ledger else ""
        finally:
            shard.close()
        chain.add_maker(node, path)
        remedy = f"Make it again: {remake(path)}."
        if rows_checksum and rows_checksum != found:
            text = (
                f"its rows have the checksum {found}, the corpus says {rows_checksum}: it was cut "
                "again since"
            )
            node.findings.append(Finding(path, text, "Make the corpus again with snakemake."))
        if chain.is_thorough:
            _read_cutouts(node, path, remedy)
        if not with_ledger:
            images = chain.results / "detection"
            node.sources += [
                detection_node(chain, p) for p in sorted(images.glob("*.h5")) if _gave(p, path)
            ]
            return
        ledger = _ledger(chain, survey, part)
        node.sources.append(ledger_node(chain, ledger))
        remedy = f"The part was acquired again since; cut it again: {remake(path)}."
        chain.compare(node, ledger, str(ledger_sha256), path.name, remedy)

    def beyond(node: Node) -> None:
        ledger = _ledger(chain, path.parent.name, path.stem)
        if ledger.is_file():
            node.sources.append(ledger_node(chain, ledger))

    return chain.node("shard", path, fill, beyond)


def ledger_node(chain: Chain, path: Path) -> Node:
    """A ledger: every FITS file of a part, with its hash, its size and where it came from."""

    def fill(node: Node) -> None:
        acquired = read_ledger(path)
        manifest = chain.results / "manifests" / f"{path.parent.name}.csv"
        urls = {}
        if manifest.is_file():
            urls = {row.product: row.location for row in read_manifest(manifest)}
        else:
            node.notes.append(f"where its files came from is not known: {manifest} is gone")
        size = sum(item.bytes for item in acquired)
        node.facts["products"] = f"{len(acquired):,}, {size:,} bytes"
        chain.add_maker(node, path)
        add_source_settings(node)
        for item in acquired:
            is_there = item.path.is_file()
            url = urls.get(item.product, "")
            node.files.append(
                RawFile(item.product, item.path, item.sha256, item.bytes, url, is_there)
            )
            _check_product(chain, node, item.path, item.bytes, item.sha256)
        if n_gone := sum(not file.is_there for file in node.files):
            node.notes.append(f"{n_gone:,} of its files are not on this disk")

    return chain.node("ledger", path, fill)


def add_source_settings(node: Node) -> None:
    """Where raw data came from, and of drawn ones the seed."""
    settings = node.record.get("made_by", {}).get("settings", {})
    named = ("source", "like", "seed", "release", "version")
    known = {key: settings[key] for key in named if settings.get(key) is not None}
    if known:
        node.facts["source"] = ", ".join(
            str(v) if k == "source" else f"{k} {v}" for k, v in known.items()
        )


def _ledger(chain: Chain, survey: str, part: str) -> Path:
    return chain.results / "raw" / survey / f"{part}.csv"


def _check_product(chain: Chain, node: Node, path: Path, size: int, sha256: str) -> None:
    ledger = node.path
    assert ledger is not None
    if not path.is_file():
        chain.n_absent += 1
        return
    remedy = f"{LEDGER_REMEDY}{remake(ledger)}."
    found = path.stat().st_size
    if found != size:
        text = f"changed since it was acquired: it has {found:,} bytes, {ledger} says {size:,}"
        node.findings.append(Finding(path, text, remedy))
    elif chain.is_thorough:
        chain.compare(node, path, sha256, str(ledger), remedy)


def _survey_node(chain: Chain, survey: str, count: dict[str, Any], shards: dict[Path, str]) -> Node:
    kept, cut = count.get("kept", 0), count.get("cut", 0)
    guarded = {name: n for name, n in count.get("guard", {}).items() if n}
    left_out = [f"{n:,} near {name}" for name, n in guarded.items()]
    left_out += [
        f"{count[key]:,} {text}"
        for key, text in (("no_sky", "of unknown sky"), ("duplicate", "seen twice"))
        if count.get(key)
    ]
    node = Node("survey", None, record={"survey": survey, "counts": count})
    node.facts["name"] = survey
    node.facts["kept"] = f"{kept:,} of {cut:,} cutouts" + (
        f"; left out: {', '.join(left_out)}" if left_out else ""
    )
    node.sources = [shard_node(chain, path, checksum) for path, checksum in shards.items()]
    return node


def _guard_node(chain: Chain, corpus: Node, name: str, guard: dict[str, Any]) -> Node:
    """What a corpus keeps away from: a benchmark, or held-out images of a detection set."""
    path = chain.results / "benchmarks" / f"{name}.h5"
    is_benchmark = path.is_file() or not (chain.results / "detection" / f"{name}.h5").is_file()
    if is_benchmark:
        node = benchmark_node(chain, path)
    else:
        path = chain.results / "detection" / f"{name}.h5"
        node = detection_node(chain, path)
    assert corpus.path is not None
    guarding = Node("guard", None, record={"benchmark": name, **guard}, sources=[node])
    guarding.facts["name"] = name
    guarding.facts["radius"] = f"{guard['arcmin']:g} arcmin"
    if not path.is_file():
        return guarding
    remedy = f"Make the corpus again: {remake(corpus.path)}."
    try:
        found = read_guard(name, path, guard["arcmin"]).digest()
    except StradavitError as error:
        guarding.findings.append(damage(path, error, "", remedy))
        return guarding
    if found != guard["positions_sha256"]:
        text = (
            f"its positions have the SHA-256 {short(found)}, {corpus.path.name} says "
            f"{short(guard['positions_sha256'])}: it was made again since"
        )
        guarding.findings.append(Finding(path, text, remedy))
    else:
        chain.n_compared += 1
    return guarding


def _read_cutouts(node: Node, path: Path, remedy: str) -> None:
    """Name the cutout that has changed, which a hash of the file does not."""
    shard = Shard(path)
    try:
        shard.verify()
    except StradavitError as error:
        node.findings.append(damage(path, error, REMEDY, remedy))
    finally:
        shard.close()


def _gave(images: Path, chips: Path) -> bool:
    """Whether a shard of chips was made from this detection set."""
    from stradavit.cutouts.detection_images import DetectionImages

    shard, found = Shard(chips), DetectionImages(images)
    try:
        return bool(found.attribute("rows_checksum") == shard.attribute("detection_checksum"))
    finally:
        shard.close()
        found.close()
