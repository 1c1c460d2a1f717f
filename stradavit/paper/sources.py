"""What each table was made from, as `provenance.json` beside the tables says it.

It has

- `code`, `settings_sha256`: of the code that wrote the tables and of the settings it was given;
- `files`: a digest of every file read, by its path below the results (see `fingerprint`);
- `tables`: for each table its `title`, the titles of its `heads`, `columns` with `key` and `title`,
  the files all of it was made from as `sources`, and `rows`: `group`, `labels`, `cells` as printed,
  and the metrics files of the row as `files` and `minus`.

`stradavit provenance` reads it; so can whoever got a table by mail.
"""

import json
from pathlib import Path
from typing import Any

from stradavit.cutouts.detection_images import DetectionImages
from stradavit.files import read_json, sha256_of, sha256_of_text
from stradavit.paper.layout import Row, RowGroup, Table
from stradavit.paper.render import cell_text
from stradavit.provenance import code_hash, read_maker
from stradavit.settings import Settings

NAME = "provenance.json"
# Entries of metrics that say where numbers come from, and not what they are.
WHENCE = ("made_by", "provenance")


def table_sources(settings: Settings, results_dir: Path, tables: list[Table]) -> dict[str, Any]:
    """The content of `provenance.json`."""
    described = {table.name: _describe(settings, table) for table in tables}
    used = {
        file
        for table in described.values()
        for file in (
            *table["sources"],
            *(f for r in table["rows"] for f in r["files"] + r["minus"]),
        )
    }
    decided = settings.model_dump(mode="json", exclude={"loader", "archives"})
    return {
        "code": code_hash("stradavit.paper.tables"),
        "settings_sha256": sha256_of_text(json.dumps(decided, sort_keys=True)),
        "files": {
            file: fingerprint(results_dir / file)
            for file in sorted(used)
            if (results_dir / file).is_file()
        },
        "tables": described,
    }


def fingerprint(path: Path) -> str:
    """Hex digest of what a file says.

    Of JSON the SHA-256 of all but `made_by` and `provenance`: the same numbers, by the same
    settings and code, are the same wherever they were computed. Of a detection set the checksum
    of its tables, which hold those of its pixels. Of other files SHA-256 of all bytes, as the note
    beside them says it, if it does, so that none is read for it.
    """
    if path.suffix == ".json":
        content = {key: value for key, value in read_json(path).items() if key not in WHENCE}
        return sha256_of_text(json.dumps(content, sort_keys=True))
    if path.parent.name == "detection":
        return str(DetectionImages(path).attribute("rows_checksum"))
    return str(read_maker(path).get("sha256") or sha256_of(path))


def _describe(settings: Settings, table: Table) -> dict[str, Any]:
    return {
        "title": table.title,
        "heads": [head.title for head in table.heads],
        "columns": [
            {"key": column.key, "title": f"{column.group} {column.title}".strip()}
            for column in table.columns
        ],
        "sources": _sources(settings, table),
        "rows": [_row(table, group, row) for group in table.groups for row in group.rows],
    }


def _row(table: Table, group: RowGroup, row: Row) -> dict[str, Any]:
    return {
        "group": group.title,
        "labels": list(row.labels),
        "cells": [cell_text(c, column) for c, column in zip(row.cells, table.columns, strict=True)],
        "files": [f"metrics/{file}" for file in row.files],
        "minus": [f"metrics/{file}" for file in row.minus],
    }


def _sources(settings: Settings, table: Table) -> list[str]:
    """Files that are no metrics and that a table is made from; of most there are none."""
    matrix = settings.matrix
    corpora = [*matrix.corpora, *matrix.chips.corpora]
    benchmarks = [f"benchmarks/{name}.h5" for name in settings.benchmarks]
    by_slug = {
        "pretraining_sources": [f"corpora/{name}.h5" for name in corpora],
        "benchmarks": benchmarks,
        "leakage": [f"leakage/{name}.json" for name in settings.benchmarks],
        "detection_sets": [f"detection/{name}.h5" for name in settings.used_detection_sets()],
    }
    return by_slug.get(table.slug, [])
