"""Links from a detection set down to its pictures, mosaics and catalogues."""

from pathlib import Path
from typing import Any

from stradavit.acquire.detection_sources import read_sources
from stradavit.cutouts.detection_images import REMEDY, DetectionImages
from stradavit.errors import StradavitError
from stradavit.tracing.chain import Chain, damage, remake, settings_hash, short
from stradavit.tracing.node import Node, RawFile


def detection_node(chain: Chain, path: Path) -> Node:
    """A detection set, and what it consists of."""

    def fill(node: Node) -> None:
        images = DetectionImages(path)
        try:
            settings = images.attribute("settings")
            sources_sha256 = str(images.attribute("sources_sha256"))
            n_images, n_classes = len(images), len(images.classes)
            if chain.is_thorough:
                _verify(node, images, path)
        finally:
            images.close()
        node.facts["images"] = (
            f"{n_images:,} with boxes of {n_classes} class{'es' * (n_classes > 1)}"
        )
        node.facts["settings"] = short(settings_hash(settings))
        node.record |= {"images": n_images, "classes": n_classes}
        node.record |= {"settings": settings, "settings_sha256": settings_hash(settings)}
        chain.add_maker(node, path)
        sources = chain.results / "raw" / path.stem / "sources.json"
        node.sources.append(_sources_node(chain, sources))
        remedy = f"The set was acquired again since; cut it again: {remake(path)}."
        chain.compare(node, sources, sources_sha256, path.name, remedy)

    return chain.node("detection set", path, fill)


def _verify(node: Node, images: DetectionImages, path: Path) -> None:
    try:
        images.verify()
    except StradavitError as error:
        node.findings.append(damage(path, error, REMEDY, f"Make it again: {remake(path)}."))


def _sources_node(chain: Chain, path: Path) -> Node:
    def fill(node: Node) -> None:
        sources = read_sources(path)
        node.record["sources"] = sources
        chain.add_maker(node, path)
        files = _truth_files(sources) if sources["kind"] == "truth" else _coco_files(sources)
        node.facts["kind"] = f"{sources['kind']}, {len(files)} files"
        if digest := sources.get("pixels_sha256"):
            node.facts["pictures"] = f"SHA-256 of all together {short(digest)}"
        remedy = f"Acquire the set again: {remake(path)}."
        node.files = files
        for file in files:
            if not file.is_there:
                chain.n_absent += 1
            elif chain.is_thorough or file.path.suffix != ".fits":
                chain.compare(node, file.path, file.sha256, path.name, remedy)

    return chain.node("sources", path, fill)


def _coco_files(sources: dict[str, Any]) -> list[RawFile]:
    """The annotations of each split; pictures are under the checksums of the set itself."""
    url = str(sources.get("download", {}).get("name", ""))
    return [
        _raw(f"annotations of {split}", Path(noted["path"]), noted["sha256"], None, url)
        for split, noted in sources["annotations"].items()
    ]


def _truth_files(sources: dict[str, Any]) -> list[RawFile]:
    """Mosaics, and the truth catalogues that belong to them, each once."""
    files = {}
    for item in sources["products"]:
        mosaic, truth = Path(item["path"]), Path(item["truth"])
        files[mosaic] = _raw(item["product"], mosaic, item["sha256"], item["bytes"])
        files[truth] = _raw(truth.name, truth, item["truth_sha256"], None)
    return list(files.values())


def _raw(name: str, path: Path, sha256: str, size: int | None, url: str = "") -> RawFile:
    return RawFile(name, path, sha256, size, url, path.is_file())
