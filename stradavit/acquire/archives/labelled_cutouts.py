"""Bring one small cutout for each labelled source: tens of thousands, resumable to the single one.

Cutouts lie in up to 256 sub-folders, since a folder of a hundred thousand files makes most tools
crawl. What was left out, and why, is a table beside the labels.
"""

import hashlib
import logging
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from stradavit.acquire.labels import LabelledImage
from stradavit.acquire.table import write_table
from stradavit.acquire.transfer.fetch import Outcome, Remote, fetch
from stradavit.acquire.transfer.web import Web
from stradavit.errors import DataError

logger = logging.getLogger(__name__)

LEFT_OUT = "left_out.csv"
COLUMNS = ("image", "label", "source", "ra_deg", "dec_deg", "state", "reason")

# After a round of which not one cutout came, and which was not short, a service is taken to be down
# or changed: asking on would take days. Later rounds are longer, since each waits for its slowest.
FIRST_ROUND, LATER_ROUND = 100, 2000
SILENT = 20


@dataclass(frozen=True)
class Sample:
    """One labelled source and the file its cutout has.

    Parameters
    ----------
    image : unique id
    file : name below the folder, see `spread`; samples of one cutout share it
    label, source : as in `LabelledImage`
    position_deg : right ascension and declination
    size_arcmin : side of the cutout
    """

    image: str
    file: str
    label: str
    source: str
    position_deg: tuple[float, float]
    size_arcmin: float


@dataclass(frozen=True)
class LeftOut:
    """A row of a catalogue, or a sample, without an image.

    `state` is `catalogue` for rows that were not asked for, else that of an `Outcome`.
    """

    image: str
    label: str
    source: str
    position_deg: tuple[float, float]
    state: str
    reason: str


def spread(name: str) -> str:
    """`name` in the sub-folder its hash says, of 256."""
    return f"{hashlib.sha256(name.encode()).hexdigest()[:2]}/{name}"


def bring_cutouts(
    benchmark_name: str,
    web: Web,
    samples: Sequence[Sample],
    remote_of: Callable[[Sample], Remote],
    is_no_image: Callable[[str], bool],
    left_out: Sequence[LeftOut],
    allow_missing: int,
    folder: Path,
) -> list[LabelledImage]:
    """Fetch the cutouts that are not there yet; returns the samples that have one, in their order.

    Cutouts the archive has not, or that show nothing, are left out and counted. All that is left
    out is written to `left_out.csv` beside `folder`, also if this fails.

    Parameters
    ----------
    benchmark_name : key of the benchmark
    samples : what is wanted; a file several of them share is fetched once
    remote_of : how to ask for the file of a sample
    is_no_image : whether the reason of a refusal says that the archive has no usable image there;
        other refusals may be a page of a server in trouble, so they count as missing
    left_out : what the catalogue itself left out
    allow_missing : most cutouts that may be missing
    folder : where the cutouts go

    Raises
    ------
    DataError
        If more than `allow_missing` cutouts are missing, a whole round of them brought nothing, or
        none is left. A later call goes on where this one ended.
    """
    logger.info(
        "%s: %d sources wanted; rows of the catalogue left out: %s",
        benchmark_name,
        len(samples),
        _counted(left_out, "none"),
    )
    wanted = {sample.file: sample for sample in samples}
    outcomes: dict[str, Outcome] = {}
    trouble = ""

    def bring(names: Sequence[str], what: str) -> list[Outcome]:
        remotes = [remote_of(wanted[name]) for name in names]
        came = fetch(web, remotes, folder, f"{benchmark_name}: {what}")
        outcomes.update((outcome.name, outcome) for outcome in came)
        return came

    def is_missing(outcome: Outcome) -> bool:
        is_absent = outcome.state == "refused" and is_no_image(outcome.reason)
        return outcome.path is None and not is_absent

    try:
        names = list(wanted)
        while len(outcomes) < len(names) and not trouble:
            start = len(outcomes)
            end = min(start + (LATER_ROUND if start else FIRST_ROUND), len(names))
            came = bring(names[start:end], f"cutouts {start + 1} to {end} of {len(names)}")
            if len(came) >= SILENT and all(outcome.path is None for outcome in came):
                trouble = (
                    f"none of the last {len(came)} cutouts came, so the rest was not asked for"
                )
        again = [outcome.name for outcome in outcomes.values() if is_missing(outcome)]
        if again and not trouble:
            # Hours may lie between: what a busy server refused it may give now.
            bring(again, "missing cutouts once more")
    finally:
        _write_left_out(folder.absolute().parent / LEFT_OUT, samples, outcomes, left_out)
    _check(benchmark_name, outcomes, len(wanted), is_missing, allow_missing, trouble, folder)
    paths = {name: outcome.path for name, outcome in outcomes.items()}
    return [
        LabelledImage(sample.image, path, None, sample.label, sample.source, *sample.position_deg)
        for sample in samples
        if (path := paths[sample.file]) is not None
    ]


def _write_left_out(
    path: Path,
    samples: Sequence[Sample],
    outcomes: dict[str, Outcome],
    left_out: Sequence[LeftOut],
) -> None:
    rows = list(left_out)
    for sample in samples:
        outcome = outcomes.get(sample.file)
        if outcome is None:
            state, reason = "not_asked", "the stage ended before"
        elif outcome.path is None:
            state, reason = outcome.state, outcome.reason
        else:
            continue
        identity = (sample.image, sample.label, sample.source, sample.position_deg)
        rows.append(LeftOut(*identity, state, reason))
    write_table(
        path,
        COLUMNS,
        [
            (
                *(row.image, row.label, row.source),
                *map(_degrees, row.position_deg),
                *(row.state, " ".join(row.reason.split())),
            )
            for row in rows
        ],
    )


def _degrees(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.7f}"


def _check(
    benchmark_name: str,
    outcomes: dict[str, Outcome],
    n_wanted: int,
    is_missing: Callable[[Outcome], bool],
    allow_missing: int,
    trouble: str,
    folder: Path,
) -> None:
    missing = [outcome for outcome in outcomes.values() if is_missing(outcome)]
    absent = [
        outcome for outcome in outcomes.values() if outcome.path is None and not is_missing(outcome)
    ]
    n_here = len(outcomes) - len(missing) - len(absent)
    listed = folder.absolute().parent / LEFT_OUT
    allowed = f"benchmarks.{benchmark_name}.allow_missing"
    if absent:
        counts = _counted(absent)
        logger.warning(
            "%s: %d cutouts left out: %s; see %s", benchmark_name, len(absent), counts, listed
        )
    if trouble or len(missing) > allow_missing:
        why = trouble or f"{len(missing)} of {n_wanted} cutouts did not come"
        # Of a service that gives nothing, no number of missing cutouts makes a benchmark.
        more = "" if trouble else f" To do without some, set {allowed}."
        raise DataError(
            f"{benchmark_name}: {why} ({_counted(missing or absent)}). {n_here} are in "
            f"{folder}; {listed} lists the others. Run again: it goes on from here.{more}"
        )
    if missing:
        logger.warning(
            "%s: %d cutouts missing, as %s lets them be: %s; see %s",
            benchmark_name,
            len(missing),
            allowed,
            _counted(missing),
            listed,
        )
    if not n_here:
        raise DataError(
            f"{benchmark_name}: no image is left of {n_wanted} sources ({_counted(absent)}); see "
            f"{listed}."
        )


def _counted(rows: Sequence[Outcome | LeftOut], none: str = "nothing asked for") -> str:
    """Counts by reason; what comes after a colon is of the single cutout."""
    counts = Counter(row.reason.split(":")[0][:80] for row in rows)
    return ", ".join(f"{n} {reason}" for reason, n in counts.most_common(8)) or none
