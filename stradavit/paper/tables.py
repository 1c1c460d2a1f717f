"""All tables of the paper and some of ours, each as CSV, Markdown and LaTeX, and a list of them."""

import logging
from pathlib import Path

from stradavit.files import write_json
from stradavit.paper.budget_table import budget_table
from stradavit.paper.cells import Results
from stradavit.paper.claims import claim_table
from stradavit.paper.class_wise import class_wise_table
from stradavit.paper.datasets import benchmark_table, corpus_table
from stradavit.paper.deltas import delta_table
from stradavit.paper.detection_set_table import detection_set_table
from stradavit.paper.detection_tables import detection_tables
from stradavit.paper.encoder_tables import knn_table, split_table
from stradavit.paper.folder import atomic_folder
from stradavit.paper.layout import Table
from stradavit.paper.leakage_table import leakage_table
from stradavit.paper.recipes import augmentation_table, contrastive_loss_table, training_table
from stradavit.paper.render import FORMATS
from stradavit.paper.sources import NAME, table_sources
from stradavit.paper.survey_table import survey_table
from stradavit.paper.transfer import (
    baseline_tables,
    contrastive_tables,
    dinov2_table,
    reconstruction_tables,
    two_stage_tables,
)
from stradavit.settings import Settings

log = logging.getLogger(__name__)


def write_tables(settings: Settings, results_dir: Path, out_dir: Path) -> None:
    """Write Tables 1 to 15 of the paper, those of detection, ours, and lists of them into a folder.

    `index.md` has their captions, `provenance.json` what each was made from.

    A cell the config's matrix left out is "–" in print and empty in CSV. A table of ours (from 16
    on) that would hold nothing else is not written; those of the paper always are, if there is any
    benchmark.

    Parameters
    ----------
    settings : the whole config
    results_dir : folder that holds `corpora/`, `benchmarks/` and `metrics/`
    out_dir : replaced as a whole; other files in it are lost

    Raises
    ------
    DataError
        If a metrics file the matrix asks for is missing or malformed.
    """
    results = Results(settings, results_dir)
    tables = all_tables(results)
    with atomic_folder(out_dir) as folder:
        for table in tables:
            for suffix, render in FORMATS.items():
                (folder / f"{table.name}{suffix}").write_text(render(table), encoding="utf-8")
        (folder / "index.md").write_text(_index(tables), encoding="utf-8")
        write_json(folder / NAME, table_sources(settings, results_dir, tables))
    for note in dict.fromkeys(note for table in tables for note in table.notes):
        log.info("%s", note)


def all_tables(results: Results) -> list[Table]:
    """The tables of the paper in its order, then those of ours the config has something for."""
    settings, results_dir = results.settings, results.results_dir
    if not settings.benchmarks:
        # A config of detection alone: nothing else is scored, and there are no views of the sky.
        papers = [corpus_table(settings, results_dir), training_table(settings)]
        ours = [*detection_tables(results), detection_set_table(results)]
        return papers + [table for table in ours if table is not None]
    papers = [
        corpus_table(settings, results_dir),
        benchmark_table(settings, results_dir),
        augmentation_table(settings),
        contrastive_loss_table(settings),
        training_table(settings),
        *baseline_tables(results),
        *reconstruction_tables(results),
        *contrastive_tables(results),
        dinov2_table(results),
        *two_stage_tables(results),
        delta_table(results),
    ]
    ours = [
        *detection_tables(results),
        class_wise_table(results),
        claim_table(results),
        knn_table(results),
        budget_table(results),
        survey_table(results),
        split_table(results),
        leakage_table(results),
        detection_set_table(results),
    ]
    return papers + [table for table in ours if table is not None]


def _index(tables: list[Table]) -> str:
    lines = [
        "# Tables",
        "",
        "Markdown and LaTeX show three decimals (of percentages one), CSV all of them. A cell the "
        "configuration left out is “–” in print and empty in CSV. What each table was made from "
        f"is in [{NAME}]({NAME}); `stradavit provenance` reads it.",
        "",
    ]
    for table in tables:
        links = ", ".join(f"[{suffix[1:]}]({table.name}{suffix})" for suffix in FORMATS)
        lines += [f"- **{table.heading}** ({links}). {table.caption}"]
    return "\n".join(lines) + "\n"
