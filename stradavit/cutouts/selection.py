"""Which cutouts of the shards make a corpus: the overlap guard and the search for duplicates."""

import hashlib
import logging
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from stradavit.cutouts.benchmark import LabelledCutouts
from stradavit.cutouts.detection_images import FORMAT as DETECTION
from stradavit.cutouts.detection_images import DetectionImages
from stradavit.cutouts.shards import Shard
from stradavit.cutouts.sky import Floats, Footprints, near
from stradavit.errors import DataError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Guard:
    """The sky of a benchmark, or of a detection set, that no cutout may touch.

    Attributes
    ----------
    benchmark : name
    positions : (m, 2) right ascension and declination, deg; NaN where unknown
    guard_arcmin : a footprint nearer than this to a position is dropped
    """

    benchmark: str
    positions: Floats
    guard_arcmin: float

    def digest(self) -> str:
        """Hex SHA-256 of the positions: of the sky alone, whatever else the file says."""
        return hashlib.sha256(np.ascontiguousarray(self.positions, "<f8").tobytes()).hexdigest()


def read_guard(benchmark: str, path: Path, guard_arcmin: float) -> Guard:
    """The guard of a benchmark or of a detection set, from its file.

    Of a detection set the images for validation and testing are guarded, each as a circle: the
    largest of their radii is added to `guard_arcmin`. Those for training may be learned from.

    Raises
    ------
    DataError
        If none of its images has a position, or one of a detection set has none: nothing could be
        kept away from it.
    """
    if _format_of(path) == DETECTION:
        return _detection_guard(benchmark, path, guard_arcmin)
    positions = LabelledCutouts(path).positions
    n_unknown = int((~np.isfinite(positions).all(axis=1)).sum())
    if n_unknown == len(positions):
        raise DataError(
            f"{path}: none of the {n_unknown} images of the benchmark {benchmark} has a position, "
            "so no cutout can be kept away from it. Give its ra_column and dec_column (or its "
            "filename_pattern), or take it out of the guards of the corpus."
        )
    if n_unknown:
        logger.warning(
            "%s: %d of %d images have no position and are not guarded",
            benchmark,
            n_unknown,
            len(positions),
        )
    return Guard(benchmark, positions, guard_arcmin)


def _format_of(path: Path) -> str | None:
    """What kind of file it says it is; None if it says nothing, which its reader then tells."""
    try:
        with h5py.File(path, "r", locking=False) as file:
            return str(file.attrs.get("format"))
    except OSError:
        return None


def _detection_guard(name: str, path: Path, guard_arcmin: float) -> Guard:
    images = DetectionImages(path)
    sky = images.sky[images.splits != "train"]
    n_unknown = int((~np.isfinite(sky).all(axis=1)).sum())
    if n_unknown or not len(sky):
        raise DataError(
            f"{path}: of the {len(sky)} images for validation and testing of the detection set "
            f"{name}, {n_unknown} have no place on the sky; expected one of each, to keep cutouts "
            f"away from them. Take {name} out of the guards of the corpus."
        )
    return Guard(name, sky[:, :2], guard_arcmin + float(sky[:, 2].max()) / 60.0)


def fates(
    footprints: Footprints, checksums: NDArray[np.uint64], guards: list[Guard]
) -> NDArray[np.str_]:
    """What becomes of each cutout.

    - `no_sky`: there are guards, and where the cutout lies is not known;
    - `guard:<benchmark>`: it comes too near to that benchmark, the first of `guards` that hits;
    - `duplicate`: its pixels equal those of an earlier cutout, or of one that a guard drops, so
      that a copy under a wrong position does not slip through;
    - `kept`.

    Parameters
    ----------
    footprints : of n cutouts
    checksums : (n,) equal for equal pixels
    guards : may be empty

    Returns
    -------
    (n,) text
    """
    fate = np.full(len(footprints), "kept", dtype=object)
    for guard in reversed(guards):
        is_near = near(footprints, guard.positions, guard.guard_arcmin)
        fate[is_near] = f"guard:{guard.benchmark}"
    is_guarded = fate != "kept"
    if guards:
        fate[~footprints.is_known] = "no_sky"
    is_kept = fate == "kept"
    is_repeat = np.ones(len(fate), dtype=bool)
    candidates = np.flatnonzero(is_kept)
    _, first = np.unique(checksums[candidates], return_index=True)
    is_repeat[candidates[first]] = False
    is_repeat |= np.isin(checksums, checksums[is_guarded])
    fate[is_kept & is_repeat] = "duplicate"
    return fate.astype(str)


def footprints_of(rows: NDArray[np.void]) -> Footprints:
    """The sky of n cutouts from their records (`stradavit.cutouts.shards.ROW`)."""
    return Footprints(
        centres=np.stack([rows["ra_deg"], rows["dec_deg"]], axis=-1),
        corners=np.stack([rows["corner_ra_deg"], rows["corner_dec_deg"]], axis=-1),
        radius_arcsec=rows["radius_arcsec"],
    )


def count_fates(
    shards: list[Shard], fate: list[NDArray[np.str_]], benchmarks: list[str]
) -> dict[str, Any]:
    """What became of the cutouts of one survey; see `stradavit.cutouts.corpus.Corpus.counts`."""
    number = Counter(name for part in fate for name in part.tolist())
    skipped: Counter[str] = Counter()
    dropped: Counter[str] = Counter()
    for shard in shards:
        skipped.update(shard.attribute("skipped"))
        dropped.update(shard.attribute("dropped"))
    return {
        "products": sum(len(shard.products()) for shard in shards),
        "skipped": dict(skipped),
        "dropped": dict(dropped),
        "cut": sum(number.values()),
        "no_sky": number["no_sky"],
        "guard": {name: number[f"guard:{name}"] for name in benchmarks},
        "duplicate": number["duplicate"],
        "kept": number["kept"],
    }
