"""How many cutouts each survey and each corpus has, or is expected to have."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from stradavit.acquire.manifest import ManifestRow, read_manifest
from stradavit.errors import DataError
from stradavit.planning.headers import image_axes
from stradavit.planning.known import Known, least_sure
from stradavit.planning.published import (
    TABLE_1_PX,
    expected_products,
    table_1_cutouts,
    usual_product,
)
from stradavit.settings import Settings
from stradavit.settings.sources import ArchiveSurvey, LocalSurvey, MosaicSurvey, SimulatedSurvey

# Planes of the simulated cubes and bytes of their values, of which `stradavit.acquire.simulated`
# says why; importing that costs a second.
SIMULATED_PLANES = {"mgcls": 2, "askap": 1, "lotss": 1, "sdc1": 1}
SIMULATED_VALUE_BYTES = {"mgcls": 4, "askap": 4, "lotss": 8, "sdc1": 4}

# Headers that are read of a local survey; the other files are taken to be like these.
_HEADERS = 200


@dataclass(frozen=True)
class SurveyPlan:
    """What a survey comes to.

    Parameters
    ----------
    name : key in the config
    products : files, here or to come
    cutouts : in its shards, when all are there
    parts, parts_cut : its parts, and how many of them have a shard
    cutouts_here : in those shards
    """

    name: str
    products: Known
    cutouts: Known
    parts: int
    parts_cut: int
    cutouts_here: int


@dataclass(frozen=True)
class CorpusPlan:
    """Cutouts of a corpus; before the sky of benchmarks is left out, unless it is there."""

    name: str
    surveys: tuple[str, ...]
    cutouts: Known
    is_here: bool


def survey_plan(name: str, survey: MosaicSurvey, size_px: int, results_dir: Path) -> SurveyPlan:
    """Counted in the shards that are here, and expected beyond them."""
    rows = manifest_rows(name, survey, results_dir)
    products = _products(name, survey, rows, results_dir)
    found = shards_here(name, survey.parts, size_px, results_dir)
    n_here = sum(found.values())
    if len(found) == survey.parts:
        cutouts = Known(n_here, "counted", "in its shards")
    elif rows is not None and n_here and (n_cut := sum(row.part in found for row in rows)):
        # Parts are drawn by hash, so those that are cut speak for the others.
        source = f"{len(found)} of {survey.parts} shards, the others in proportion"
        cutouts = Known(round(n_here * len(rows) / n_cut), "counted", source)
    else:
        cutouts = _expected(name, survey, products, size_px)
    return SurveyPlan(name, products, cutouts, survey.parts, len(found), n_here)


def corpus_plans(
    settings: Settings, surveys: dict[str, SurveyPlan], results_dir: Path
) -> dict[str, CorpusPlan]:
    """Every corpus the matrix trains on."""
    matrix = settings.matrix
    names = (*matrix.corpora, *matrix.chips.corpora, *matrix.reduced_corpora)
    plans = {}
    for name in names:
        members = settings.corpus(name).surveys
        parts = [surveys[survey] for survey in members]
        path = results_dir / "corpora" / f"{name}.h5"
        n_here = _in_corpus(path, settings.cutouts.size_px, members)
        if n_here is not None:
            cutouts = Known(n_here, "counted", str(path))
        else:
            total = sum(part.cutouts.value for part in parts)
            basis = least_sure([part.cutouts.basis for part in parts])
            said = "the sum of its surveys"
            if settings.guards(name) or settings.detection_guards(name):
                said += ", less what guards will leave out"
            cutouts = Known(total, basis, said)
        plans[name] = CorpusPlan(name, members, cutouts, n_here is not None)
    return plans


def manifest_rows(name: str, survey: MosaicSurvey, results_dir: Path) -> list[ManifestRow] | None:
    """What a survey should consist of, if a manifest says so already."""
    paths = [results_dir / "manifests" / f"{name}.csv"]
    if isinstance(survey, ArchiveSurvey) and survey.frozen_manifest is not None:
        paths.append(Path(survey.frozen_manifest))
    for path in paths:
        try:
            return read_manifest(path)
        except DataError:
            continue
    return None


def _products(
    name: str, survey: MosaicSurvey, rows: list[ManifestRow] | None, results_dir: Path
) -> Known:
    if rows is not None:
        return Known(len(rows), "counted", "its manifest")
    match survey:
        case SimulatedSurvey():
            return Known(survey.products, "counted", "drawn")
        case LocalSurvey():
            return Known(len(_files(name, survey)), "counted", "files that match")
        case ArchiveSurvey():
            return expected_products(survey)


def _expected(name: str, survey: MosaicSurvey, products: Known, size_px: int) -> Known:
    """Cutouts of a survey that is not cut yet."""
    match survey:
        case SimulatedSurvey():
            planes = SIMULATED_PLANES[survey.like]
            tiles = (survey.side_px // size_px) ** 2 if survey.grid == "tiles" else 1
            n = products.value * _planes(survey, planes) * tiles
            return Known(n, "counted", "at most: whole tiles of all planes")
        case LocalSurvey():
            return _of_files(survey, _files(name, survey), size_px)
        case ArchiveSurvey():
            usual = usual_product(survey)
            published = table_1_cutouts(survey)
            if published is not None and size_px == TABLE_1_PX and survey.grid == "tiles":
                return Known(published, "published", "the paper's Table 1")
            planes = _planes(survey, usual.planes)
            per_product = usual.cutouts(size_px, planes) if survey.grid == "tiles" else planes
            basis = least_sure(["published", products.basis])
            said = f"{per_product:.4g} a product of {usual.side_px} px"
            return Known(round(products.value * per_product), basis, said)


def _of_files(survey: LocalSurvey, files: Sequence[Path], size_px: int) -> Known:
    """By the headers of the files, or of an even choice of them."""
    some = files[:: -(-len(files) // _HEADERS)]
    axes = [found for path in some if (found := image_axes(path)) is not None]
    if not axes:
        return Known(0, "assumed", "no header can be read")
    n = 0
    for planes, ny, nx in axes:
        tiles = (ny // size_px) * (nx // size_px)
        n += _planes(survey, planes) * (min(tiles, 1) if survey.grid == "centre" else tiles)
    what = "one of each plane" if survey.grid == "centre" else "whole tiles"
    said = f"at most: {what}, by the headers of {len(axes)} of {len(files)} files"
    return Known(round(n * len(files) / len(axes)), "counted", said)


def _planes(survey: MosaicSurvey, n_planes: int) -> int:
    return n_planes if survey.planes == "all" else min(n_planes, len(survey.planes))


def _files(name: str, survey: LocalSurvey) -> list[Path]:
    # Imported here: astropy, which it needs for positions, takes a second.
    from stradavit.acquire.local import survey_files

    return survey_files(name, survey)


# -- files that are here ----------------------------------------------------------------------


def shards_here(name: str, parts: int, size_px: int, results_dir: Path) -> dict[int, int]:
    """Cutouts of each part of a survey that has a shard of this size."""
    paths = {part: results_dir / "shards" / name / f"{part}.h5" for part in range(parts)}
    return {part: n for part, path in paths.items() if (n := _in_shard(path, size_px)) is not None}


def _in_shard(path: Path, size_px: int) -> int | None:
    """Cutouts of a shard; None if there is none that fits."""
    if not path.is_file():
        return None
    from stradavit.cutouts.shards import Shard

    shard = Shard(path)
    try:
        return len(shard) if shard.size_px == size_px else None
    except DataError:
        return None
    finally:
        shard.close()


def _in_corpus(path: Path, size_px: int, surveys: tuple[str, ...]) -> int | None:
    """Cutouts of a corpus; None if there is none, or one of other surveys or sizes."""
    if not path.is_file():
        return None
    from stradavit.cutouts.corpus import Corpus

    try:
        corpus = Corpus(path)
    except DataError:
        return None
    is_ours = corpus.size_px == size_px and set(corpus.counts()) == set(surveys)
    return len(corpus) if is_ours else None
