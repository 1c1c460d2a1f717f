"""From what a reader points at to the chain behind it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from stradavit.errors import DataError
from stradavit.paper.sources import fingerprint
from stradavit.tracing.boxes import detection_node
from stradavit.tracing.cells import FORM, Cell, find_cell, read_sources
from stradavit.tracing.chain import Chain, short
from stradavit.tracing.labels import benchmark_node
from stradavit.tracing.networks import WEIGHTS, detector_node, encoder_node
from stradavit.tracing.node import Finding, Node
from stradavit.tracing.scores import features_node, leakage_node, metrics_node
from stradavit.tracing.skies import corpus_node, ledger_node, shard_node

# How files of each folder below the results are told.
FOLDERS: dict[str, Callable[[Chain, Path], Node]] = {
    "metrics": metrics_node,
    "leakage": leakage_node,
    "features": features_node,
    "encoders": encoder_node,
    "detectors": detector_node,
    "corpora": corpus_node,
    "shards": shard_node,
    "benchmarks": benchmark_node,
    "detection": detection_node,
    "raw": ledger_node,
}


@dataclass
class Trace:
    """A question and its answer.

    Attributes
    ----------
    asked : what the reader pointed at
    chain : the walk, with counts of what was compared
    cell : the printed number, if a cell was asked for
    nodes : one for each file behind it: several seeds have several
    minus : the same of what was subtracted, or compared with
    findings : of the table itself: files made again since it was written
    """

    asked: str
    chain: Chain
    cell: Cell | None = None
    nodes: list[Node] = field(default_factory=list)
    minus: list[Node] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    def all_findings(self) -> list[Finding]:
        """Everything that is wrong, each once."""
        found = self.findings + [f for n in self.nodes + self.minus for f in n.all_findings()]
        return list(dict.fromkeys(found))


def trace(asked: str, results: Path, is_thorough: bool = False) -> Trace:
    """Walk from a cell, coordinates or a file down to raw files.

    Parameters
    ----------
    asked : ``TABLE:ROW:COLUMN``, ``PROTOCOL/ENCODER/BENCHMARK``, ``detection/ENCODER/SET/sSEED``,
        or a file below the results
    results : folder of the results
    is_thorough : whether every file is read and compared with what was recorded of it

    Raises
    ------
    DataError
        If nothing fits what was asked; the choices are listed.
    """
    found = Trace(asked, Chain(results, is_thorough))
    if (path := _file(asked, results)) is not None:
        found.nodes = [_node(found.chain, path)]
        return found
    tables = results / "tables"
    is_table = ":" in asked or (tables.is_dir() and asked in read_sources(tables)["tables"])
    if not is_table:
        raise DataError(_unknown(asked, results))
    cell = found.cell = find_cell(tables, asked)
    found.nodes = [_node(found.chain, results / file) for file in cell.files]
    found.minus = [_node(found.chain, results / file) for file in cell.minus]
    for file, recorded in cell.hashes.items():
        path = results / file
        if path.is_file() and fingerprint(path) != recorded:
            text = f"says something else than when the table was written (then {short(recorded)})"
            remedy = f"Write the tables again: snakemake --cores all {tables}."
            found.findings.append(Finding(path, text, remedy))
    return found


def _file(asked: str, results: Path) -> Path | None:
    """The file below the results that was asked for, by its path or by coordinates."""
    whole = Path(asked).absolute()
    if whole.is_relative_to(results.absolute()):
        path = results / whole.relative_to(results.absolute())
        return path / WEIGHTS if (path / WEIGHTS).is_file() else path
    for path in (results / asked, results / "metrics" / f"{asked}.json"):
        if path.is_file():
            return path
        if (path / WEIGHTS).is_file():
            return path / WEIGHTS
    return None


def _node(chain: Chain, path: Path) -> Node:
    parts = path.relative_to(chain.results).parts
    if len(parts) < 2 or parts[0] not in FOLDERS or path.name in ("labels.csv", "sources.json"):
        raise DataError(
            f"{path}: no chain begins here; expected a file in one of the folders "
            f"{', '.join(FOLDERS)}. {FORM}."
        )
    if not path.is_file():
        raise DataError(f"{path}: is not there. Make it: snakemake --cores all {path}.")
    return FOLDERS[parts[0]](chain, path)


def _unknown(asked: str, results: Path) -> str:
    """What to say to coordinates that lead nowhere: the names that are there at the first fault."""
    folder = results / "metrics"
    for part in asked.split("/"):
        names = sorted({p.name.split(".")[0] for p in folder.iterdir()}) if folder.is_dir() else []
        if part not in names:
            there = f"; in {folder} are {', '.join(names)}" if names else ""
            return f"{asked!r} is no cell and no file below {results}{there}. {FORM}."
        folder = folder / part
    return f"{asked!r} names no single cell; go on with one of {folder}. {FORM}."
