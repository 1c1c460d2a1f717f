"""Whether the blocks of a configuration fit together: names that exist, grids that can be run."""

import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from stradavit.settings.detection import CocoSet, DetectionSet, TruthSet
from stradavit.settings.encoders import ScratchDinov2Encoder
from stradavit.settings.sources import ChipsSurvey

if TYPE_CHECKING:
    from stradavit.settings import Settings

BLOCKS = ("surveys", "benchmarks", "corpora", "encoders")
# The name of a run holds those of a start and a corpus, that of its log also that of a set, and
# no name of a file may have more than 255 bytes.
MAX_NAME = 48


def is_safe_name(name: str) -> bool:
    """Whether a name from the config can stand in a file name and in an encoder's name."""
    return re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name) is not None


def faults_of(settings: "Settings") -> list[str]:
    """Every fault that needs more than one block to be seen, led by the path of a key."""
    return [
        *_names(settings),
        *_corpora(settings),
        *_grids(settings),
        *_left_out(settings),
        *_detection(settings),
        *_repeats(settings),
        *_devices(settings),
    ]


def _unknown(path: str, names: Iterable[str], known: Iterable[str]) -> Iterator[str]:
    found = set(known)
    for name in names:
        if name not in found:
            yield f"{path} names {name!r}, which is not among {sorted(found)}"


def _names(settings: "Settings") -> Iterator[str]:
    entries: list[tuple[str, Any]] = [(block, getattr(settings, block)) for block in BLOCKS]
    entries.append(("detection.sets", settings.detection.sets))
    for block, names in entries:
        for name in names:
            if not is_safe_name(name):
                yield (
                    f"{block}.{name}: use ASCII letters, digits, '.', '_', '-' only, a letter or "
                    "digit first: names become file names"
                )
            elif len(name) > MAX_NAME:
                yield f"{block}.{name}: has {len(name)} characters; {MAX_NAME} fit into file names"
        yield from _twins(block, names)
    for name in settings.detection.sets:
        for block in ("surveys", "benchmarks"):
            if name in getattr(settings, block):
                yield f"detection.sets.{name} has a name of {block}; rename it: both have a folder"


def _twins(block: str, names: Iterable[str]) -> Iterator[str]:
    """Names that some disks, and readers of tables, cannot tell apart."""
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(name.casefold(), name)
        if other != name:
            yield f"{block}.{name} differs from {other} in capitals only; rename it"


def _corpora(settings: "Settings") -> Iterator[str]:
    for name, corpus in settings.corpora.items():
        yield from _unknown(f"corpora.{name}.surveys", corpus.surveys, settings.surveys)
        yield from _unknown(f"corpora.{name}.guards", corpus.guards or (), settings.benchmarks)
        yield from _unknown(
            f"corpora.{name}.transductive", corpus.transductive, settings.benchmarks
        )
        of_chips = {
            isinstance(settings.surveys[survey], ChipsSurvey)
            for survey in corpus.surveys
            if survey in settings.surveys
        }
        if len(of_chips) > 1:
            yield f"corpora.{name}.surveys mixes chips with mosaics, which are seen by other views"
        elif of_chips == {True} and (corpus.guards or corpus.transductive):
            yield f"corpora.{name} has guards or transductive, but chips have no known sky"


def _grids(settings: "Settings") -> Iterator[str]:
    matrix, encoders = settings.matrix, settings.encoders
    for path, corpora, wants_chips in (
        ("matrix.corpora", matrix.corpora, False),
        ("matrix.chips.corpora", matrix.chips.corpora, True),
    ):
        yield from _unknown(path, corpora, settings.corpora)
        for name in corpora:
            if name in settings.corpora and settings.is_of_chips(name) is not wants_chips:
                other = "matrix.corpora" if wants_chips else "matrix.chips.corpora"
                yield f"{path} names {name!r}, which belongs into {other}"
    yield from _unknown("matrix.baselines", matrix.baselines, encoders)
    yield from _unknown("matrix.dinov2_references", matrix.dinov2_references, encoders)
    yield from _unknown("matrix.reference", filter(None, (matrix.reference,)), encoders)
    registers = settings.scratch_registers
    for grid in ("reconstruction", "contrastive", "dinov2", "two_stage", "chips"):
        starts, asked = getattr(matrix, grid).starts, getattr(matrix, grid).registers
        yield from _unknown(f"matrix.{grid}.starts", starts, encoders)
        for start in starts:
            if isinstance(encoders.get(start), ScratchDinov2Encoder) and (
                grid != "dinov2" or set(matrix.dinov2.registers) - {0}
            ):
                yield (
                    f"matrix.{grid}.starts names {start!r}, a DINOv2: it trains by the grid "
                    "matrix.dinov2 only, with registers: [0], which leaves those of its "
                    "architecture as they are"
                )
            found = registers.get(start)
            if others := [r for r in asked if found and r != found]:
                yield (
                    f"matrix.{grid}.registers asks for {others} from the start {start!r}, "
                    f"which has {found}: registers can only be added to a start without any; "
                    f"set encoders.{start}.registers to 0"
                )


def _left_out(settings: "Settings") -> Iterator[str]:
    matrix = settings.matrix
    known = settings.corpora.get(matrix.corpora[0]) if matrix.corpora else None
    if known is not None:
        yield from _unknown("matrix.leave_out", matrix.leave_out, known.surveys)
        if matrix.leave_out and len(known.surveys) < 2:
            yield "matrix.leave_out: the first corpus has no other survey"
    if matrix.leave_out and not matrix.corpora:
        yield "matrix.leave_out: matrix.corpora is empty, so there is nothing to leave them out of"
    for name, survey in matrix.reduced_corpora.items():
        if name in settings.corpora:
            yield (
                f"corpora.{name} has the name that matrix.leave_out gives to the first corpus "
                f"without {survey}; rename it"
            )
    if matrix.leave_out and matrix.selected_start is None:
        yield (
            "matrix.leave_out: matrix.selected says which model is trained without each survey, "
            "but it is missing or its branch has no starts"
        )


def _detection(settings: "Settings") -> Iterator[str]:
    sets, surveys = settings.detection.sets, settings.surveys
    for name, survey in surveys.items():
        if not isinstance(survey, ChipsSurvey):
            continue
        yield from _unknown(f"surveys.{name}.detection", (survey.detection,), sets)
        if survey.detection in sets and sets[survey.detection].scored in survey.splits:
            yield (
                f"surveys.{name}.splits has {sets[survey.detection].scored!r}, on which "
                f"detection.sets.{survey.detection} is scored"
            )
    for name, block in sets.items():
        if isinstance(block, TruthSet):
            mosaics = [key for key in surveys if not isinstance(surveys[key], ChipsSurvey)]
            yield from _unknown(f"detection.sets.{name}.survey", (block.survey,), mosaics)
    yield from _unknown("matrix.detection", settings.matrix.detection, sets)
    for name, grid in settings.matrix.detection.items():
        path = f"matrix.detection.{name}"
        yield from _unknown(f"{path}.baselines", grid.baselines, settings.encoders)
        if grid.selected and (
            settings.matrix.selected_start is None or not settings.matrix.corpora
        ):
            yield (
                f"{path}.selected: matrix.selected is missing, its branch has no starts, or "
                "matrix.corpora is empty"
            )
        if name in sets:
            yield from _splits(f"detection.sets.{name}", sets[name])


def _splits(path: str, block: DetectionSet) -> Iterator[str]:
    """A detector needs images to learn from and images to be scored on."""
    if isinstance(block, CocoSet):
        for split in dict.fromkeys(("train", block.scored)):
            if split not in block.splits:
                use = "trained" if split == "train" else "scored"
                yield f"{path}.splits has no {split!r}, on which detectors are {use}"
    elif isinstance(block, TruthSet) and block.scored == "val" and not block.val_fraction:
        yield f"{path}.scored is 'val', of which a val_fraction of 0 leaves no images"


def _repeats(settings: "Settings") -> Iterator[str]:
    """What stands twice in a list would be counted as two."""
    lists: list[tuple[str, tuple[Any, ...]]] = [
        ("training.seeds", settings.training.seeds),
        ("detection.training.seeds", settings.detection.training.seeds),
        *(
            (f"detection.sets.{name}.classes", block.classes or ())
            for name, block in settings.detection.sets.items()
        ),
    ]
    for path, values in lists:
        if twice := sorted({value for value in values if values.count(value) > 1}):
            yield f"{path} names {twice[0]!r} more than once"


def _devices(settings: "Settings") -> Iterator[str]:
    devices, nodes = settings.training.devices, settings.loader.nodes
    if devices % nodes:
        yield (
            f"training.devices is {devices}, which {nodes} machines (loader.nodes) cannot share "
            "equally; choose a multiple"
        )
