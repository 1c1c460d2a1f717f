"""How many encoders and cells the matrix asks for, and which of them are there already."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stradavit.files import read_json
from stradavit.models.card import read_card
from stradavit.settings import Settings
from stradavit.settings.evaluation import Protocol
from stradavit.settings.matrix import EncoderNode

KINDS = {
    "start": "starting points",
    "reconstruction": "reconstruction",
    "contrastive": "contrastive",
    "two_stage": "two-stage",
    "dinov2": "DINOv2",
    "leave_out": "leave-one-out",
    "chips": "masked autoencoders of chips",
}
"""What the rows of the plan are called; all but the first are trainings."""

_CHECKPOINT = re.compile(r"(\d{9})-[0-9a-f]{64}\.pt")


@dataclass(frozen=True)
class Run:
    """An encoder of the matrix and how far it is.

    Parameters
    ----------
    node : its place in the matrix
    kind : one of `KINDS`
    is_done : its folder is whole and made by the settings of now, and so is its parent's
    is_outdated : its folder is whole, but made by other settings or from an outdated parent
    updates_done : updates of the checkpoint it would go on from
    """

    node: EncoderNode
    kind: str
    is_done: bool
    is_outdated: bool
    updates_done: int


@dataclass(frozen=True)
class RunCount:
    """Encoders of one kind: how many are wanted and done; `outdated` are among those left."""

    kind: str
    title: str
    wanted: int
    done: int
    left: int
    outdated: int


@dataclass(frozen=True)
class CellCount:
    """Cells of one protocol on one benchmark."""

    protocol: Protocol
    benchmark: str
    wanted: int
    done: int
    left: int


def kind_of(settings: Settings, node: EncoderNode) -> str:
    """Which row of the plan a node counts in."""
    if node.branch == "start":
        return "start"
    if node.corpus in settings.matrix.reduced_corpora:
        return "leave_out"
    if node.corpus is not None and settings.is_of_chips(node.corpus):
        return "chips"
    # As `Settings.pretrain_settings` tells them apart.
    if node.branch == "contrastive" and node.start in settings.matrix.dinov2.starts:
        return "dinov2"
    return node.branch


def runs(settings: Settings, results_dir: Path) -> list[Run]:
    """Every encoder of the matrix, parents first."""
    found: dict[str, Run] = {}
    for node in settings.nodes().values():
        folder = results_dir / "encoders" / node.name
        wanted = _settings_of(settings, node)
        is_whole = (folder / "model.safetensors").is_file()
        parent = settings.parent(node)
        is_current = is_whole and _is_made_by(folder, node, wanted)
        if parent is not None and not found[parent.name].is_done:
            is_current = False
        found[node.name] = Run(
            node,
            kind_of(settings, node),
            is_done=is_current,
            is_outdated=is_whole and not is_current,
            updates_done=0 if is_whole else checkpoint_updates(folder, wanted),
        )
    return list(found.values())


def count_runs(found: list[Run]) -> list[RunCount]:
    """Rows by kind, without kinds nobody asked for."""
    rows = []
    for kind, title in KINDS.items():
        of_kind = [run for run in found if run.kind == kind]
        done = sum(run.is_done for run in of_kind)
        outdated = sum(run.is_outdated for run in of_kind)
        if of_kind:
            n = len(of_kind)
            rows.append(RunCount(kind, title, n, done, n - done, outdated))
    return rows


def cells_left(
    settings: Settings, found: list[Run], results_dir: Path
) -> list[tuple[Protocol, str, str]]:
    """Cells (protocol, encoder, benchmark) that are not there, or of an encoder that is not."""
    done = {run.node.name for run in found if run.is_done}
    return [
        cell
        for cell in settings.cells()
        if cell[1] not in done or not metrics_path(results_dir, *cell).is_file()
    ]


def count_cells(settings: Settings, left: list[tuple[Protocol, str, str]]) -> list[CellCount]:
    """Rows by protocol and benchmark, in the order of the config."""
    rows = []
    wanted = settings.cells()
    for protocol in settings.evaluation.protocols:
        for benchmark in settings.benchmarks:
            place = (protocol, benchmark)
            n = sum((cell[0], cell[2]) == place for cell in wanted)
            n_left = sum((cell[0], cell[2]) == place for cell in left)
            if n:
                rows.append(CellCount(protocol, benchmark, n, n - n_left, n_left))
    return rows


def metrics_path(results_dir: Path, protocol: str, encoder: str, benchmark: str) -> Path:
    """Where the numbers of a cell lie."""
    return results_dir / "metrics" / protocol / encoder / f"{benchmark}.json"


def _settings_of(settings: Settings, node: EncoderNode) -> dict[str, Any]:
    """What decides the weights of an encoder, as its card or its checkpoints say it."""
    if node.branch == "start":
        return settings.encoders[node.start].model_dump(mode="json", exclude={"title"})
    wanted: dict[str, Any] = json.loads(settings.pretrain_settings(node).to_json())
    return wanted


def _is_made_by(folder: Path, node: EncoderNode, wanted: dict[str, Any]) -> bool:
    """Whether the card names these settings; a folder without a card is taken as it is."""
    card = read_card(folder)
    if node.branch == "start":
        found = card.get("settings")
        return not isinstance(found, dict) or found | {"title": None} == wanted | {"title": None}
    identity = card.get("identity")
    return not isinstance(identity, dict) or identity.get("settings") == wanted


def checkpoint_updates(folder: Path, wanted: dict[str, Any]) -> int:
    """Updates of the newest checkpoint made by these settings; 0 if there is none."""
    updates = [0]
    for identity_path in folder.glob("checkpoints/*/identity.json"):
        try:
            is_ours = read_json(identity_path)["settings"] == wanted
        except (OSError, ValueError, KeyError, TypeError):
            continue
        names = [_CHECKPOINT.fullmatch(path.name) for path in identity_path.parent.iterdir()]
        updates += [int(name[1]) for name in names if name and is_ours]
    return max(updates)
