"""What detection sets draw or fetch: scenes, SARDet-100K, truth catalogues."""

from collections.abc import Mapping
from pathlib import Path

from stradavit.planning.detection_sets import DetectionSetPlan
from stradavit.planning.known import Basis
from stradavit.planning.raw import Raw, in_journal
from stradavit.settings import Settings
from stradavit.settings.detection import SPLITS, CocoSet, SardetSet, SimulatedScenes, TruthSet
from stradavit.settings.sources import Sdc1Survey

# The one size that is known of SDC1's full catalogues; the training ones tell of a twentieth.
_TRUTH_BYTES = {"full": 228_644_250, "training": 228_644_250 // 20}


def detection_raw(
    settings: Settings, sets: Mapping[str, DetectionSetPlan], results_dir: Path
) -> list[Raw]:
    """Every set with files of its own in the results; those on this disk stay in place.

    Mosaics that a set is cut from are files of their survey.
    """
    found = []
    for name, plan in sets.items():
        block = settings.detection.sets[name]
        files = results_dir / "raw" / name / "files"
        # Whole files that came; an archive is deleted once it is unpacked.
        came = here = in_journal(files)
        basis: Basis = "counted"
        match block:
            case SimulatedScenes():
                n_files, n_bytes = plan.images + len(SPLITS), plan.images * plan.pixels
                source = "drawn"
                came = here = _files_below(files)
            case CocoSet():
                continue
            case SardetSet():
                n_files, n_bytes, basis = 1, plan.images * plan.pixels, "assumed"
                source = "a byte a pixel; as much again while it is unpacked"
                here = _files_below(files)
            case TruthSet():
                n_files = _catalogues(block, settings)
                n_bytes, basis = n_files * _TRUTH_BYTES[block.catalogue], "published"
                source = f"{block.catalogue} truth catalogues, one a band"
        if not n_files:
            continue
        is_whole = plan.is_cut or (files.parent / "sources.json").is_file()
        n_left = 0 if is_whole else max(0, n_files - len(came))
        found.append(
            Raw(
                f"detection.sets.{name}",
                not isinstance(block, SimulatedScenes),
                len(here),
                sum(here.values()),
                n_left,
                round(n_bytes * n_left / n_files),
                basis,
                source,
            )
        )
    return found


def _files_below(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_size for path in folder.rglob("*") if path.is_file()}


def _catalogues(block: TruthSet, settings: Settings) -> int:
    """Truth catalogues an archive is asked for: one for each band without one on this disk."""
    survey = settings.surveys[block.survey]
    if not isinstance(survey, Sdc1Survey):
        return 0
    named = set(block.truth or ())
    images = set(block.products or survey.files) - named
    # Band 1 of SKAMid_B1_1000h_v3.fits.
    return len({image.split("_")[1] if "_" in image else image for image in images})
