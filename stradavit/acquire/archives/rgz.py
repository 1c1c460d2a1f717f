"""Radio Galaxy Zoo DR1 (Wong et al. 2025): catalogue from Zenodo, cutouts from FIRST.

A label counts the components and peaks volunteers saw, such as 2c3p. A source that was classified
twice has several rows: of those with one label the first is kept, and all share a source, so that
folds keep them together.
"""

import math
import re
from pathlib import Path

from stradavit.acquire.archives.catalogue_positions import (
    j_name_position,
    one_source,
    separation_arcmin,
)
from stradavit.acquire.archives.cutout_files import NO_IMAGE
from stradavit.acquire.archives.first import PIXEL_ARCSEC, first_cutout
from stradavit.acquire.archives.labelled_cutouts import LeftOut, Sample, bring_cutouts, spread
from stradavit.acquire.archives.rgz_tables import radio_table
from stradavit.acquire.labels import LabelledImage
from stradavit.acquire.positions import name_sources
from stradavit.acquire.table import Row, read_table
from stradavit.acquire.transfer.fetch import Remote
from stradavit.acquire.transfer.web import Web
from stradavit.settings.archives import ArchiveUrls
from stradavit.settings.sources import RgzBenchmark

CLASSES = ("1c1p", "1c2p", "1c3p", "2c2p", "2c3p", "3c3p")
COLUMNS = ("RGZID", "RA", "Dec", "CL", "N_comp", "N_peaks", "LAE")
REMEDY = "Delete it, and run again to fetch it; correct benchmarks.<name>.record."
NOWHERE = (math.nan, math.nan)

# What the row of another source may be called in the column of duplicates: 307, or 2333;3462.
POINTER = re.compile(r"(\d+)(?:\.0+)?")


def acquire(
    benchmark_name: str, benchmark: RgzBenchmark, web: Web, urls: ArchiveUrls, folder: Path
) -> list[LabelledImage]:
    """Labelled images of the sources FIRST has an image of; see `bring_cutouts`."""
    samples, left_out = read_samples(radio_table(benchmark.record, web, urls, folder), benchmark)

    def remote_of(sample: Sample) -> Remote:
        return first_cutout(
            urls,
            sample.file,
            sample.position_deg,
            sample.size_arcmin,
            benchmark.centre_tolerance_arcmin,
        )

    return bring_cutouts(
        benchmark_name,
        web,
        samples,
        remote_of,
        lambda reason: reason.startswith((*NO_IMAGE, "no data")),
        left_out,
        benchmark.allow_missing,
        folder,
    )


def read_samples(path: Path, benchmark: RgzBenchmark) -> tuple[list[Sample], list[LeftOut]]:
    """What to fetch, in the order of the catalogue, and the rows left out.

    Parameters
    ----------
    path : table of radio classifications; a missing or zero angular extent leaves a row out, as
        in the authors' own preparation

    Raises
    ------
    DataError
        If it is no such table.
    """
    rows = read_table(path, COLUMNS, REMEDY)
    sources = _sources(rows, benchmark.centre_tolerance_arcmin)
    classes = benchmark.classes or CLASSES
    samples: dict[str, Sample] = {}
    left_out: list[LeftOut] = []
    for row, source in zip(rows, sources, strict=True):
        label = _label(row)
        position = _position(row, benchmark.centre_tolerance_arcmin)
        extent_arcsec = _number(row["LAE"])
        name = _identity(row)
        image = f"{name}_{label}"
        if not _number(row["CL"]) >= benchmark.consensus_min:
            reason = f"below the consensus: {row['CL'] or 'none'}"
        elif label not in classes:
            reason = f"other class: {label}"
        elif image in samples:
            reason = "repeated: of a source and label that is there already"
        elif math.isnan(position[0]):
            reason = "no position"
        elif not 0 < extent_arcsec < math.inf:
            reason = f"no angular extent: {row['LAE'] or 'none'}"
        else:
            size_arcmin = (
                max(benchmark.lae_factor * extent_arcsec, benchmark.min_px * PIXEL_ARCSEC) / 60
            )
            # Rows of one source may differ in size or place; those that do not share the file.
            # The tolerance decides whether it is kept: files of another are not these.
            file = (
                f"{name}_{position[0]:.4f}{position[1]:+.4f}_{size_arcmin:.4f}arcmin"
                f"_within{benchmark.centre_tolerance_arcmin:g}.fits"
            )
            samples[image] = Sample(image, spread(file), label, source, position, size_arcmin)
            continue
        left_out.append(LeftOut(image, label, source, position, "catalogue", reason))
    return list(samples.values()), left_out


def _label(row: Row) -> str:
    n_components, n_peaks = _number(row["N_comp"]), _number(row["N_peaks"])
    if not (n_components.is_integer() and n_peaks.is_integer()):
        return "unknown"
    return f"{int(n_components)}c{int(n_peaks)}p"


def _position(row: Row, tolerance_arcmin: float) -> tuple[float, float]:
    """Columns of the row, or its name where these disagree or are empty; NaN if both are none."""
    named = j_name_position(row["RGZID"])
    ra_deg, dec_deg = _number(row["RA"]), _number(row["Dec"])
    if not (-180 <= ra_deg <= 360 and -90 <= dec_deg <= 90):
        return named or NOWHERE
    position = ra_deg % 360.0, dec_deg
    # Some columns are of another place than the name; the authors trust the name.
    if named is not None and separation_arcmin(position, named) > tolerance_arcmin:
        return named
    return position


def _sources(rows: list[Row], tolerance_arcmin: float) -> list[str]:
    """A source for each row: by its identifier, its place, or a pointer to a duplicate."""
    places = [_position(row, tolerance_arcmin) for row in rows]
    numbers = [str(number) for number in range(len(rows))]
    tokens = []
    for row, place in zip(rows, name_sources(places, numbers), strict=True):
        known = {("name", _identity(row)): None, ("place", place): None}
        number = row.cells.get("CatID", row.cells.get("#CatID", ""))
        for pointer in POINTER.findall(f"{number};{row.cells.get('DC', '')}"):
            known["row", pointer] = None
        tokens.append(list(known))
    return one_source([_identity(row) for row in rows], tokens)


def _identity(row: Row) -> str:
    """RGZID as `J…`, fit for a file name."""
    name = re.sub(r"[^A-Za-z0-9+.-]", "_", row["RGZID"])[:40]
    return re.sub(r"^RGZ[_ ]?(?=J)", "", name) or f"line{row.line}"


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
