"""Tables 1 and 2: what the models are pretrained and scored on, and what was left out."""

from pathlib import Path
from typing import Any

import numpy as np

from stradavit.cutouts.benchmark import LabelledCutouts
from stradavit.cutouts.corpus import Corpus
from stradavit.paper.layout import Cell, Column, Head, Row, RowGroup, Table
from stradavit.paper.names import benchmark_title, corpus_title, guarded_title, survey_title
from stradavit.settings import Settings


def corpus_table(settings: Settings, results_dir: Path) -> Table:
    """Table 1: cutouts of each survey and chips; ours are the columns of what was left out."""
    counts = {
        name: Corpus(results_dir / "corpora" / f"{name}.h5").counts()
        for name in (*settings.matrix.corpora, *settings.matrix.chips.corpora)
    }
    flat = {
        name: {s: _flatten(counts[name][s]) for s in settings.corpus(name).surveys}
        for name in counts
    }
    reasons = _occurring(settings, [row for rows in flat.values() for row in rows.values()])
    groups = []
    for name, by_survey in flat.items():
        total = {key: sum(row.get(key, 0) for row in by_survey.values()) for key in reasons}
        total |= {key: sum(row[key] for row in by_survey.values()) for key in ("kept", "products")}
        labelled = [(survey_title(settings, survey), row) for survey, row in by_survey.items()]
        rows = []
        for label, row in [*labelled, ("Total", total)]:
            cells: list[Cell] = [row["kept"], row["kept"] / total["kept"], row["products"]]
            rows.append(Row((label,), (*cells, *(row.get(key, 0) for key in reasons))))
        groups.append(
            RowGroup(tuple(rows), f"Corpus {corpus_title(settings, name)}" if len(flat) > 1 else "")
        )
    caption = (
        f"Cutouts of {settings.cutouts.size_px} px. A product that cannot be read is skipped, a "
        "cutout with bad or no content is dropped when it is cut; the overlap guard drops cutouts "
        "near positions of a benchmark, and those of unknown sky."
    )
    if any(settings.detection_guards(name) for name in flat):
        caption += " It also drops those that show held-out images of a detection set."
    if settings.matrix.chips.corpora:
        caption += (
            " Chips are whole pictures, resized; they have no sky to guard, and one that another "
            "split has too is dropped."
        )
    return Table(
        number=1,
        slug="pretraining_sources",
        title="Pretraining cutouts by source",
        caption=caption,
        heads=(Head("source", "Source"),),
        columns=(
            Column("cutouts", "Cutouts"),
            Column("ratio", "Ratio"),
            Column("products", "Products"),
            *(Column(key, title, group) for key, (title, group) in reasons.items()),
        ),
        groups=tuple(groups),
        group_key="corpus",
    )


def benchmark_table(settings: Settings, results_dir: Path) -> Table:
    """Table 2: images and classes of each benchmark, and what else must be known of them."""
    rows = []
    notes = [
        f"{benchmark_title(settings, name)} {block.note}."
        for name, block in settings.benchmarks.items()
        if block.note
    ]
    for name in settings.benchmarks:
        labelled = LabelledCutouts(results_dir / "benchmarks" / f"{name}.h5")
        counted = np.bincount(labelled.labels, minlength=len(labelled.classes))
        cells: tuple[Cell, ...] = (
            len(labelled),
            len(set(labelled.sources)),
            len(labelled.classes),
            ", ".join(f"{c} {n}" for c, n in zip(labelled.classes, counted, strict=True)),
            ", ".join(f"{_words(reason)} {n}" for reason, n in labelled.excluded.items()) or "none",
        )
        rows.append(Row((benchmark_title(settings, name),), cells))
    return Table(
        number=2,
        slug="benchmarks",
        title="Benchmarks",
        caption=" ".join(
            ["Samples are the images that are scored; images of one source share a fold.", *notes]
        ),
        heads=(Head("dataset", "Dataset"),),
        columns=(
            Column("samples", "Samples"),
            Column("sources", "Sources"),
            Column("classes", "Classes"),
            Column("class_counts", "Samples by class"),
            Column("excluded", "Excluded by reason"),
        ),
        groups=(RowGroup(tuple(rows)),),
    )


def _flatten(block: dict[str, Any]) -> dict[str, int]:
    """Counts of a survey under the names of the CSV's columns."""
    flat = {key: int(block[key]) for key in ("kept", "products", "no_sky", "duplicate")}
    for key in ("skipped", "dropped", "guard"):
        flat |= {f"{key} {reason}": int(number) for reason, number in block[key].items()}
    return flat


def _occurring(settings: Settings, rows: list[dict[str, int]]) -> dict[str, tuple[str, str]]:
    """Title and heading of the reasons that occur, those of a kind side by side."""
    columns: dict[str, tuple[str, str]] = {}
    names = sorted({name for row in rows for name, number in row.items() if number})
    for kind, heading in (("skipped", "Products skipped"), ("dropped", "Cutouts dropped")):
        for name in names:
            if name.startswith(f"{kind} "):
                columns[name] = (_words(name.removeprefix(f"{kind} ")), heading)
    if "duplicate" in names:
        columns["duplicate"] = ("duplicate", "Cutouts dropped")
    # A guard that dropped nothing is worth saying.
    for benchmark in dict.fromkeys(n for row in rows for n in row if n.startswith("guard ")):
        title = guarded_title(settings, benchmark.removeprefix("guard "))
        columns[benchmark] = (title, "Overlap guard")
    if "no_sky" in names:
        columns["no_sky"] = ("unknown sky", "Overlap guard")
    return columns


def _words(reason: str) -> str:
    return reason.replace("_", " ")
