"""How many detectors the matrix asks for, and which of them are trained and scored already."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stradavit.files import read_json
from stradavit.planning.runs import Run, checkpoint_updates
from stradavit.settings import Settings


@dataclass(frozen=True)
class Detector:
    """One training of a detector and how far it is.

    Parameters
    ----------
    encoder, detection_set, seed : its cell
    is_done : its folder is whole and made by the settings of now, and its encoder is done
    is_outdated : its folder is whole, but made by other settings or from an outdated encoder
    is_scored : it is done and its metrics are there
    updates_done : updates of the checkpoint it would go on from
    """

    encoder: str
    detection_set: str
    seed: int
    is_done: bool
    is_outdated: bool
    is_scored: bool
    updates_done: int

    @property
    def job(self) -> str:
        """What logs and timings of its jobs are called."""
        return f"{self.encoder}-{self.detection_set}-s{self.seed}"


@dataclass(frozen=True)
class DetectorCount:
    """Detectors of one detection set; `outdated` are among those left."""

    detection_set: str
    wanted: int
    trained: int
    scored: int
    left: int
    outdated: int


def detectors(settings: Settings, runs: Sequence[Run], results_dir: Path) -> list[Detector]:
    """Every training of a detector the matrix asks for, in the order of its tables."""
    encoders_done = {run.node.name for run in runs if run.is_done}
    found = []
    # Two rows of a table may have one encoder in common.
    for encoder, name, seed in dict.fromkeys(settings.detection_cells()):
        folder = detector_folder(results_dir, encoder, name, seed)
        wanted = json.loads(settings.detector_run(seed).to_json())
        is_whole = (folder / "model.safetensors").is_file()
        is_done = is_whole and encoder in encoders_done and _is_made_by(folder, wanted)
        metrics = results_dir / "metrics" / "detection" / encoder / name / f"s{seed}.json"
        found.append(
            Detector(
                encoder,
                name,
                seed,
                is_done,
                is_outdated=is_whole and not is_done,
                is_scored=is_done and metrics.is_file(),
                updates_done=0 if is_whole else checkpoint_updates(folder, wanted),
            )
        )
    return found


def count_detectors(found: Sequence[Detector]) -> list[DetectorCount]:
    """Rows by detection set, in the order of the config."""
    rows = []
    for name in dict.fromkeys(one.detection_set for one in found):
        of_set = [one for one in found if one.detection_set == name]
        trained = sum(one.is_done for one in of_set)
        rows.append(
            DetectorCount(
                name,
                wanted=len(of_set),
                trained=trained,
                scored=sum(one.is_scored for one in of_set),
                left=len(of_set) - trained,
                outdated=sum(one.is_outdated for one in of_set),
            )
        )
    return rows


def detector_folder(results_dir: Path, encoder: str, detection_set: str, seed: int) -> Path:
    """Where a detector lies."""
    return results_dir / "detectors" / encoder / detection_set / f"s{seed}"


def _is_made_by(folder: Path, wanted: dict[str, Any]) -> bool:
    """Whether a detector's config names these settings; one that says nothing is taken as it is."""
    try:
        found = read_json(folder / "config.json")["meta"]["settings"]
    except (OSError, ValueError, KeyError, TypeError):
        return True
    return bool(found == wanted)
