"""Links from labelled cutouts down to the images they came from."""

import json
from pathlib import Path

from stradavit.acquire.labels import LabelledImage, read_labels
from stradavit.acquire.transfer.journal import Journal
from stradavit.cutouts import benchmark as benchmarks
from stradavit.cutouts.hdf5 import LazyFile
from stradavit.cutouts.labelled import images_digest
from stradavit.tracing.chain import Chain, remake, settings_hash, short
from stradavit.tracing.node import Finding, Node, RawFile


def benchmark_node(chain: Chain, path: Path) -> Node:
    """The labelled cutouts of a benchmark, and the labels and images they were cut from."""

    labels = chain.results / "raw" / path.stem / "labels.csv"

    def fill(node: Node) -> None:
        lazy = LazyFile(path, benchmarks.FORMAT, benchmarks.VERSION, benchmarks.REMEDY)
        with lazy.opened() as file:
            classes = json.loads(file.attrs["classes"])
            settings = json.loads(file.attrs["settings"])
            excluded = json.loads(file.attrs["excluded"])
            labels_sha256 = str(file.attrs.get("labels_sha256", ""))
            images_sha256 = str(file.attrs.get("images_sha256", ""))
            n_images = len(file["label"])
        lazy.close()
        node.facts["images"] = f"{n_images:,} of {len(classes)} classes"
        node.facts["settings"] = short(settings_hash(settings))
        node.record |= {"images": n_images, "classes": classes, "excluded": excluded}
        node.record |= {"settings": settings, "settings_sha256": settings_hash(settings)}
        node.record |= {"labels_sha256": labels_sha256, "images_sha256": images_sha256}
        chain.add_maker(node, path)
        node.sources.append(_labels_node(chain, labels, classes, images_sha256, path))
        remedy = f"The benchmark was acquired again since; cut it again: {remake(path)}."
        chain.compare(node, labels, labels_sha256, path.name, remedy)

    def beyond(node: Node) -> None:
        node.sources.append(_labels_node(chain, labels, None, "", path))

    return chain.node("benchmark", path, fill, beyond)


def _labels_node(
    chain: Chain, path: Path, classes: list[str] | None, images_sha256: str, cut: Path
) -> Node:
    def fill(node: Node) -> None:
        rows = [row for row in read_labels(path) if classes is None or row.label in classes]
        node.files = _images(rows)
        n_there = sum(file.is_there for file in node.files)
        node.facts["images"] = f"{len(rows):,} in {len(node.files):,} files"
        if images_sha256:
            node.facts["files"] = f"SHA-256 of all together {short(images_sha256)}"
        chain.add_maker(node, path)
        if n_there < len(node.files):
            chain.n_absent += len(node.files) - n_there
            node.notes.append(f"{len(node.files) - n_there:,} of its files are not on this disk")
        elif chain.is_thorough and images_sha256:
            if images_digest(rows) == images_sha256:
                chain.n_compared += len(node.files)
                return
            text = f"lists images that have changed since {cut} was cut from them"
            remedy = f"Acquire them again and cut them again: {remake(path)}; {remake(cut)}."
            node.findings.append(Finding(path, text, remedy))

    return chain.node("labels", path, fill)


def _images(rows: list[LabelledImage]) -> list[RawFile]:
    """The files the images lie in, each once; hashes as the journal of a download has them."""
    files = []
    journals: dict[Path, Journal] = {}
    for path in dict.fromkeys(row.path for row in rows):
        journal = journals.setdefault(path.parent, Journal(path.parent))
        entry = journal.entry(path.name)
        size = entry.bytes if entry else path.stat().st_size if path.is_file() else None
        sha256 = entry.sha256 if entry else ""
        files.append(RawFile(path.name, path, sha256, size, "", path.exists()))
    return files
