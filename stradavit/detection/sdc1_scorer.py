"""The scorer of the SKA Science Data Challenge 1 (package ska-sdc), run quietly.

Version 2.0.0, the last one, is of 2021 and fails on what it is installed with today. Nothing of how
it scores is changed; three things around it are:

- its module that reads a table of the primary beam uses `pkg_resources`, which setuptools no longer
  has, and an option that pandas no longer has: ours reads the same file instead;
- it hands an array of pandas to scikit-learn that cannot be written to: a copy is handed over;
- it takes over the root logger and uses what pandas warns about: both are kept inside.
"""

import logging
import sys
import types
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stradavit.errors import DataError

PACKAGE = "ska_sdc"
RESOURCES = "ska_sdc.data.data_resources"
BEAM_COLUMNS = ["radius", "pixels", "average", "rms", "ann_sum", "cum_sum"]
# Sources are matched by their centroids, which is what boxes tell.
MODE_CENTROID = 1


@dataclass(frozen=True)
class ChallengeCount:
    """What the scorer found in one field; counts of fields can be added.

    Attributes
    ----------
    matched_score : sum of the scores of matched detections, each in [0, 1]
    n_detections, n_matched : sources submitted, and of these matched with a true one
    """

    matched_score: float = 0.0
    n_detections: int = 0
    n_matched: int = 0

    @property
    def n_false(self) -> int:
        """Submitted sources without a true one."""
        return self.n_detections - self.n_matched

    @property
    def score(self) -> float:
        """Each false detection costs 1; without any match it is 0, as the scorer has it."""
        return self.matched_score - self.n_false if self.n_matched else 0.0

    def __add__(self, other: "ChallengeCount") -> "ChallengeCount":
        return ChallengeCount(
            self.matched_score + other.matched_score,
            self.n_detections + other.n_detections,
            self.n_matched + other.n_matched,
        )


def score_field(submitted: pd.DataFrame, truth: pd.DataFrame, band_mhz: int) -> ChallengeCount:
    """Score the sources found in one field.

    The scorer can only score what lies in the challenge's training area, or what lies off it. Each
    is scored by itself and both are added: a pair on either side of its edge is no match.

    Parameters
    ----------
    submitted, truth : the columns of `stradavit.acquire.truth_catalogue.TRUTH`, in its order and
        units, ids unique
    band_mhz : 560, 1400 or 9200; decides the beam the scorer takes and where the training area is

    Raises
    ------
    DataError
        If the package is not installed.
    """
    with _quiet():
        scorer, area = _load()
        total = ChallengeCount()
        for is_training in (True, False):
            found, true = (
                table[_in_area(table, area[band_mhz]) == is_training].reset_index(drop=True)
                for table in (submitted, truth)
            )
            if found.empty or true.empty:
                # Its tree cannot be empty; what would come of it is known.
                total += ChallengeCount(n_detections=len(found))
                continue
            score = scorer(found, true, band_mhz).run(mode=MODE_CENTROID, train=is_training)
            total += ChallengeCount(float(score.score_det), int(score.n_det), int(score.n_match))
    return total


def _in_area(table: pd.DataFrame, limits: dict[str, float]) -> NDArray[np.bool_]:
    """(n,) whether sources lie in the training area, as `refine_area` of the package has it."""
    ra, dec = (table[name].to_numpy(np.float64) for name in ("ra_core", "dec_core"))
    ra = np.where(ra > 180.0, ra - 360.0, ra)
    inside: NDArray[np.bool_] = (
        (ra > limits["ra_min"])
        & (ra < limits["ra_max"])
        & (dec > limits["dec_min"])
        & (dec < limits["dec_max"])
    )
    return inside


def _load() -> tuple[Any, dict[int, dict[str, float]]]:
    """The class Sdc1Scorer, and the limits of the training area by band."""
    spec = find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise DataError(
            "the package ska-sdc is not installed; expected it, for the score of the SDC1 "
            "challenge. Install the project with its dependencies (see the README)."
        )
    if RESOURCES not in sys.modules:
        sys.modules[RESOURCES] = _resources(Path(spec.submodule_search_locations[0]) / "data")
    from ska_sdc.sdc1.dc_defns import TRAIN_LIM
    from ska_sdc.sdc1.sdc1_scorer import Sdc1Scorer
    from ska_sdc.sdc1.utils.sdc1_xmatch import Sdc1XMatch

    original = Sdc1XMatch.get_radius_arr
    if original.__module__ != __name__:

        def get_radius_arr(self: Any) -> NDArray[np.float64]:
            return np.array(original(self))

        Sdc1XMatch.get_radius_arr = get_radius_arr
    return Sdc1Scorer, TRAIN_LIM


def _resources(folder: Path) -> types.ModuleType:
    """What the package's `data_resources` offers."""
    module = types.ModuleType(RESOURCES)
    beam = pd.read_csv(
        folder / "beam_info" / "PB_I_14.log",
        header=None,
        names=BEAM_COLUMNS,
        sep=r"\s+",
        comment="#",
    )
    found = {"pb_info_df": beam, "SDC2_CONFIG_PATH": str(folder / "conf" / "sdc2" / "config.ini")}
    module.__dict__.update(found)
    return module


@contextmanager
def _quiet() -> Iterator[None]:
    """Nothing logged below a warning, no warning shown, the root logger as it was."""
    root, before = logging.getLogger(), logging.root.manager.disable
    # With a handler there, the package's `basicConfig` changes nothing.
    handler = logging.NullHandler()
    root.addHandler(handler)
    logging.disable(max(before, logging.INFO))
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
        root.removeHandler(handler)
