"""Visual classes of LoTSS DR2 sources (Horton et al. 2025): catalogue from CDS, cutouts from LoTSS.

The benchmark has the sources with exactly one of the five initial classes. All flags of a source
are kept in a JSON file beside its cutout.
"""

import math
from pathlib import Path

from astropy.cosmology import Planck18

from stradavit.acquire.archives.catalogue_positions import j_name_position, j_name_sexagesimal
from stradavit.acquire.archives.cutout_files import NO_IMAGE
from stradavit.acquire.archives.horton_catalogue import (
    FLAGS,
    INITIAL,
    VisualClass,
    read_catalogue,
)
from stradavit.acquire.archives.labelled_cutouts import LeftOut, Sample, bring_cutouts, spread
from stradavit.acquire.archives.lotss_cutouts import MAX_ARCMIN, NO_COVERAGE, lotss_cutout
from stradavit.acquire.archives.vizier import catalogue_path
from stradavit.acquire.labels import LabelledImage
from stradavit.acquire.positions import name_sources
from stradavit.acquire.transfer.fetch import Remote
from stradavit.acquire.transfer.web import Web
from stradavit.files import read_json, write_json
from stradavit.settings.archives import ArchiveUrls
from stradavit.settings.sources import HortonBenchmark

CATALOGUE, TABLE = "J/A+A/699/A338", "catalog.dat"
CLASSES = {
    "FRI": "FR I",
    "FRII": "FR II",
    "Hybrid": "Hybrid",
    "Spiral": "Spiral",
    "Relaxed": "Relaxed double",
}
assert tuple(CLASSES) == INITIAL


def acquire(
    benchmark_name: str, benchmark: HortonBenchmark, web: Web, urls: ArchiveUrls, folder: Path
) -> list[LabelledImage]:
    """Labelled images of the sources LoTSS DR2 has an image of; see `bring_cutouts`."""
    path = catalogue_path(web, urls, CATALOGUE, TABLE, read_catalogue, folder)
    known = {row.name: row for row in read_catalogue(path)}
    samples, left_out = choose_samples(list(known.values()), benchmark)

    def remote_of(sample: Sample) -> Remote:
        position = j_name_sexagesimal(sample.image)
        return lotss_cutout(urls, sample.file, position, sample.position_deg, sample.size_arcmin)

    images = bring_cutouts(
        benchmark_name,
        web,
        samples,
        remote_of,
        lambda reason: reason.startswith((*NO_IMAGE, *NO_COVERAGE)),
        left_out,
        benchmark.allow_missing,
        folder,
    )
    size_arcmin = {sample.image: sample.size_arcmin for sample in samples}
    for image in images:
        _write_sidecar(image.path, known[image.image], size_arcmin[image.image])
    return images


def choose_samples(
    rows: list[VisualClass], benchmark: HortonBenchmark
) -> tuple[list[Sample], list[LeftOut]]:
    """What to fetch, in the order of the catalogue, and the rows left out."""
    positions = [j_name_position(row.name) or (math.nan, math.nan) for row in rows]
    sources = name_sources(positions, [row.name for row in rows])
    samples, left_out = [], []
    for row, position, source in zip(rows, positions, sources, strict=True):
        initial = row.initial
        label = "+".join(CLASSES[name] for name in initial)
        size_arcmin = cutout_arcmin(row, benchmark)
        if len(initial) != 1:
            reason = "several initial classes" if initial else "no initial class"
        elif benchmark.classes is not None and label not in benchmark.classes:
            reason = f"other class: {label}"
        elif math.isnan(position[0]):
            reason = "no position"
        elif size_arcmin > MAX_ARCMIN:
            reason = f"too large for the service: {size_arcmin:.0f} arcmin"
        else:
            file = spread(f"{row.name}_{size_arcmin:.4f}arcmin.fits")
            samples.append(Sample(row.name, file, label, source, position, size_arcmin))
            continue
        left_out.append(LeftOut(row.name, label, source, position, "catalogue", reason))
    return samples, left_out


def cutout_arcmin(row: VisualClass, benchmark: HortonBenchmark) -> float:
    """Side of a source's cutout: its physical size as seen from here, or the fallback."""
    size_arcmin = benchmark.fallback_arcmin
    # NaN compares false.
    if row.redshift > 0 and row.size_kpc > 0:
        distance_kpc = Planck18.angular_diameter_distance(row.redshift).to_value("kpc")
        size_arcmin = math.degrees(row.size_kpc / float(distance_kpc)) * 60
    return benchmark.enlargement * size_arcmin


def _write_sidecar(image_path: Path, row: VisualClass, size_arcmin: float) -> None:
    path = image_path.with_suffix(".json")
    content = {
        "name": row.name,
        "file": image_path.name,
        "cutout_arcmin": round(size_arcmin, 4),
        "redshift": _known(row.redshift),
        "size_kpc": _known(row.size_kpc),
        "luminosity_w_hz": _known(row.luminosity_w_hz),
        "log_mass": _known(row.log_mass),
        "is_mass_good": row.is_mass_good,
        "labels": {
            group: [name for name in names if row.flags[name]] for group, names in FLAGS.items()
        },
        "raw_flags": row.flags,
    }
    try:
        if read_json(path) == content:
            return
    except (OSError, ValueError):
        pass
    write_json(path, content)


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value
