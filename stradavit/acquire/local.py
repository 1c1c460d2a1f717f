"""Surveys that already lie on disk, found by glob patterns."""

import glob
import hashlib
import math
import os
import re
from pathlib import Path

from stradavit.acquire.manifest import ManifestRow, part_of
from stradavit.acquire.positions import parse_position
from stradavit.acquire.table import read_table
from stradavit.errors import DataError
from stradavit.settings.sources import LocalSurvey

POSITION_COLUMNS = ("filename", "ra_deg", "dec_deg")


def survey_files(survey_name: str, survey: LocalSurvey) -> list[Path]:
    """Files of a local survey: absolute, links followed, each once, sorted.

    Raises
    ------
    DataError
        If a pattern matches no file, or a file cannot be read.
    """
    found: set[Path] = set()
    for pattern in survey.files:
        matches = {
            Path(name).resolve()
            for name in glob.glob(os.path.expanduser(pattern), recursive=True)  # noqa: PTH111, PTH207
            if Path(name).is_file()
        }
        if not matches:
            raise DataError(
                f"surveys.{survey_name}.files: no file matches {pattern!r}, looked for from "
                f"{Path.cwd()}. Check the path and the spelling; '**' descends into folders."
            )
        found |= matches
    files = sorted(found)
    for path in files:
        try:
            with path.open("rb") as opened:
                opened.read(1)
        except OSError as error:
            raise DataError(
                f"{path}: cannot be read ({error.strerror}), though a pattern of "
                f"surveys.{survey_name}.files matches it. Repair its permissions, or narrow the "
                "pattern."
            ) from error
    return files


def local_manifest(survey_name: str, survey: LocalSurvey) -> list[ManifestRow]:
    """What a local survey holds; its table of positions is checked on the way.

    Names of products come from paths below the folder all files share, so that moving that folder
    changes neither names nor parts.
    """
    if survey.positions is not None:
        read_positions(Path(survey.positions))
    files = survey_files(survey_name, survey)
    folder = Path(os.path.commonpath([path.parent for path in files]))
    rows = []
    for path in files:
        product = _product_name(path.relative_to(folder).as_posix())
        rows.append(ManifestRow(product, part_of(product, survey.parts), str(path)))
    return rows


def _product_name(relative: str) -> str:
    """A safe file name that is unique: what a path may hold and a name may not is replaced."""
    raw = relative.encode("utf-8", "surrogateescape")
    readable = re.sub(r"[^A-Za-z0-9.+-]+", "-", relative).strip("-.")[-80:]
    return f"{readable}-{hashlib.sha256(raw).hexdigest()[:8]}"


def read_positions(csv_path: Path) -> dict[Path, tuple[float, float]]:
    """Positions of images without a WCS.

    Parameters
    ----------
    csv_path : CSV with the columns filename (relative to the CSV), ra_deg, dec_deg

    Returns
    -------
    Right ascension and declination in degrees by absolute path, links followed

    Raises
    ------
    DataError
        If the table is missing or damaged, a position is none, or a file has two.
    """
    csv_path = Path(csv_path)
    remedy = "Give one row an image, with the columns filename, ra_deg, dec_deg."
    positions: dict[Path, tuple[float, float]] = {}
    for row in read_table(csv_path, POSITION_COLUMNS, remedy):
        where = f"{csv_path}, line {row.line}"
        position = parse_position(row["ra_deg"], row["dec_deg"], where)
        if math.isnan(position[0]):
            continue
        try:
            path = (csv_path.parent / row["filename"]).resolve()
        except ValueError as error:
            raise DataError(f"{where}: {row['filename']!r} is no file name ({error})") from error
        if positions.setdefault(path, position) != position:
            raise DataError(f"{where}: {row['filename']} has two different positions. {remedy}")
    return positions
