"""The acquired form of a labelled benchmark: one CSV row for each image."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, cast, get_args

from stradavit.acquire.table import from_table, read_table, relative_to_table, write_table
from stradavit.errors import LabelError
from stradavit.files import sha256_of

Side = Literal["train", "test", ""]
"""Side of the division an image was published with; empty where there is none."""

COLUMNS = ("image", "path", "member", "label", "source", "ra_deg", "dec_deg", "split")
REMEDY = "Delete it and acquire the benchmark again."


@dataclass(frozen=True)
class LabelledImage:
    """One labelled image.

    Parameters
    ----------
    image : unique id
    path : absolute; the file, folder or archive the image lies in
    member : running number of the image within `path`, None if the file holds just this image
    label : name of the class
    source : name of the source; images of one source must share a fold
    ra_deg, dec_deg : position, NaN if unknown
    split : side of the published division into training and test images
    sha256 : of the file at `path` when it was acquired; empty for a file that is the user's own
    """

    image: str
    path: Path
    member: int | None
    label: str
    source: str
    ra_deg: float
    dec_deg: float
    split: Side = ""
    sha256: str = field(default="", compare=False)


def write_labels(path: Path, rows: Sequence[LabelledImage]) -> None:
    """Write labels in the given order; files below their folder are ours, and are hashed."""
    folder = Path(path).absolute().parent
    ours = (file for file in {row.path for row in rows} if file.is_relative_to(folder))
    hashes = {file: sha256_of(file) for file in ours if file.is_file()}
    write_table(
        path,
        (*COLUMNS, "sha256"),
        [
            (
                row.image,
                relative_to_table(row.path, path),
                "" if row.member is None else row.member,
                row.label,
                row.source,
                _degrees(row.ra_deg),
                _degrees(row.dec_deg),
                row.split,
                hashes.get(row.path, ""),
            )
            for row in rows
        ],
        checked=True,
    )


def read_labels(path: Path) -> list[LabelledImage]:
    """The labelled images, in the order of the file.

    Raises
    ------
    DataError
        If the file is missing or damaged.
    LabelError
        If a cell cannot be understood or an image is named twice.
    """
    rows = []
    for row in read_table(path, COLUMNS, REMEDY, checked=True):
        member = row["member"]
        try:
            rows.append(
                LabelledImage(
                    row["image"],
                    from_table(row["path"], path),
                    int(member) if member else None,
                    row["label"],
                    row["source"],
                    float(row["ra_deg"] or math.nan),
                    float(row["dec_deg"] or math.nan),
                    _side(row["split"]),
                    # Labels of a user, and those written before, have no such column.
                    row.cells.get("sha256", ""),
                )
            )
        except ValueError as error:
            raise LabelError(f"{path}, line {row.line}: {error}. {REMEDY}") from error
    repeated = [name for name, count in Counter(row.image for row in rows).items() if count > 1]
    if repeated:
        raise LabelError(f"{path}: the image {repeated[0]!r} is named twice. {REMEDY}")
    return rows


def _side(text: str) -> Side:
    if text not in get_args(Side):
        raise ValueError(f"the split is {text!r}; expected train, test or nothing")
    return cast(Side, text)


def _degrees(value: float) -> str:
    # Nine decimals of a degree are four micro-arcseconds.
    return "" if math.isnan(value) else f"{value:.9f}"
