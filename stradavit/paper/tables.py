"""All tables of the paper, each as CSV, Markdown and LaTeX, and a list of them."""

import logging
from pathlib import Path

from stradavit.paper.cells import Results
from stradavit.paper.datasets import benchmark_table, corpus_table
from stradavit.paper.deltas import delta_table
from stradavit.paper.folder import atomic_folder
from stradavit.paper.layout import Table
from stradavit.paper.recipes import augmentation_table, contrastive_loss_table, training_table
from stradavit.paper.render import FORMATS
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
    """Write Tables 1 to 15 of the paper and `index.md` into a folder of their own.

    A cell the config's matrix left out is "–" in print and empty in CSV.

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
    for note in dict.fromkeys(note for table in tables for note in table.notes):
        log.info("%s", note)


def all_tables(results: Results) -> list[Table]:
    """The tables in the order of the paper."""
    settings, results_dir = results.settings, results.results_dir
    return [
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


def _index(tables: list[Table]) -> str:
    lines = [
        "# Tables",
        "",
        "Markdown and LaTeX show three decimals, CSV all of them. A cell the configuration left "
        "out is “–” in print and empty in CSV.",
        "",
    ]
    for table in tables:
        links = ", ".join(f"[{suffix[1:]}]({table.name}{suffix})" for suffix in FORMATS)
        lines += [f"- **{table.heading}** ({links}). {table.caption}"]
    return "\n".join(lines) + "\n"
