"""Table 25 (ours): what the detection sets hold, by split, and what was left out of them.

The reports come from `stradavit.cutouts.detection_report`.
"""

from typing import Any

from stradavit.cutouts.detection_images import DetectionImages
from stradavit.errors import DataError
from stradavit.paper.cells import Results
from stradavit.paper.layout import Cell, Column, Head, Row, RowGroup, Table
from stradavit.paper.names import detection_title
from stradavit.settings.detection import SPLITS

FATES = {
    "boxes": "have a box",
    "faint": "are too faint",
    "outside": "lie outside the images",
    "on_dropped": "lie on an image that was dropped",
    "other_class": "are of other classes",
    "shared_by_splits": "lie across two splits",
}
LEFT_OUT = {"no_area": "without area", "outside": "outside", "other_class": "of other classes"}


def detection_set_table(results: Results) -> Table | None:
    """Table 25; None if the config uses no detection set."""
    settings = results.settings
    rows = [row for name in settings.used_detection_sets() for row in _rows(results, name)]
    if not rows:
        return None
    return Table(
        number=25,
        slug="detection_sets",
        title="Detection sets",
        caption="Images and boxes as they are trained and scored on. A repeated image has an equal "
        "one in another split, pixel by pixel. Boxes without area, outside their image or of "
        "classes that the config leaves out are not among the boxes; those that reach over the "
        "edge are clipped to it. Regions to ignore are neither learned nor scored.",
        heads=(Head("set", "Set"), Head("split", "Split")),
        columns=(
            Column("images", "Images"),
            Column("empty", "without boxes"),
            Column("repeated", "repeated in another split"),
            Column("boxes", "Boxes"),
            Column("ignored", "regions to ignore"),
            Column("classes", "Boxes by class"),
            *(Column(f"left_out {key}", title, "Left out") for key, title in LEFT_OUT.items()),
            Column("clipped", "Clipped"),
        ),
        groups=(RowGroup(tuple(rows)),),
    )


def _rows(results: Results, name: str) -> list[Row]:
    path = results.results_dir / "detection" / f"{name}.h5"
    images = DetectionImages(path)
    title = detection_title(results.settings, name)
    try:
        report = images.report
        repeated = _repeated(images)
        notes = _notes(title, report)
        return [
            Row((title, split), _cells(report["splits"][split], repeated[split]), notes)
            for split in SPLITS
            if split in report["splits"]
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{path}: its report is not what cut-detection writes ({type(error).__name__}: "
            f"{error}). Delete the file and run `snakemake {path}`."
        ) from error


def _cells(counts: dict[str, Any], repeated: int) -> tuple[Cell, ...]:
    by_class = ", ".join(f"{name} {int(n):,}" for name, n in counts["per_class"].items())
    cells: list[Cell] = [int(counts["images"]), int(counts["empty"]), repeated]
    cells += [int(counts["boxes"]), int(counts["crowd"]), by_class]
    # Drawn scenes and truth catalogues have no such boxes, and no counts of them.
    for key in (*LEFT_OUT, "clipped"):
        found = counts.get(key)
        cells.append(sum(found.values()) if isinstance(found, dict) else found)
    return tuple(cells)


def _repeated(images: DetectionImages) -> dict[str, int]:
    """For each split the number of its images that another split has too."""
    splits: dict[tuple[int, ...], set[str]] = {}
    keys = []
    for number, split in enumerate(images.splits.tolist()):
        # Equal images share the checksum of their pixels and their shape.
        keys.append((int(images.checksums[number]), *images.shapes[number].tolist()))
        splits.setdefault(keys[-1], set()).add(split)
    return {
        split: sum(len(splits[keys[number]]) > 1 for number in images.of_split(split))
        for split in SPLITS
    }


def _notes(title: str, report: dict[str, Any]) -> tuple[str, ...]:
    notes = []
    if shared := int(report["sources_in_two_splits"]["number"]):
        plural = "sources have" if shared > 1 else "source has"
        notes.append(f"{title}: {shared:,} {plural} boxes in two splits.")
    # Of sets made from truth catalogues.
    if sources := report.get("counts", {}).get("sources", {}):
        told = [f"{int(sources[key]):,} {words}" for key, words in FATES.items() if key in sources]
        notes.append(f"{title}: of the sources of the truth catalogue {', '.join(told)}.")
    return tuple(notes)
