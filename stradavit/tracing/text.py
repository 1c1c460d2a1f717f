"""A chain as a tree to read, and as JSON."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stradavit.paper.render import ABSENT
from stradavit.tracing.chain import short
from stradavit.tracing.node import Finding, Node, RawFile
from stradavit.tracing.trace import Trace

FROM_SETTINGS = "this table is made from the settings alone"
FEW = 3
"""Raw files, and shards of a survey, that are listed unless all are asked for."""


def as_text(found: Trace, is_all: bool = False) -> str:
    """The tree of a trace.

    Parameters
    ----------
    is_all : whether every shard and every raw file is listed, with all digits of its hash
    """
    tree = _Tree(is_all)
    lines = [_title(found)]
    lines += [f"  ! {finding}" for finding in found.findings]
    if found.cell and not found.nodes:
        is_left_out = found.cell.value == ABSENT
        why = "the configuration left this cell out" if is_left_out else FROM_SETTINGS
        lines.append(f"  {why}")
    for title, nodes in (("", found.nodes), ("compared with", found.minus)):
        if nodes and title:
            lines += ["", f"{title}:"]
        for node in nodes:
            lines += ["", *tree.lines(node, "")]
    if tree.makers:
        lines += ["", *(f"[{number}] {maker}" for maker, number in tree.makers.items())]
    if found.chain.is_thorough:
        lines += ["", _verdict(found)]
    return "\n".join(lines)


def as_json(found: Trace) -> str:
    """All of a trace; a file that is met again has `is_repeated` and no content."""
    cell = found.cell
    content = {
        "asked": found.asked,
        "cell": None if cell is None else {k: v for k, v in vars(cell).items() if k != "hashes"},
        "nodes": [_node(node) for node in found.nodes],
        "minus": [_node(node) for node in found.minus],
        "findings": [_finding(finding) for finding in found.all_findings()],
        "is_verified": found.chain.is_thorough,
        "compared": found.chain.n_compared,
        "absent": found.chain.n_absent,
    }
    return json.dumps(content, indent=1, ensure_ascii=False, default=str)


def _title(found: Trace) -> str:
    if found.cell is None:
        return found.asked
    cell = found.cell
    return f"{cell.table}, row '{cell.row}', column '{cell.column}': {cell.value}"


def _verdict(found: Trace) -> str:
    chain, wrong = found.chain, found.all_findings()
    absent = f", {chain.n_absent:,} not on this disk" if chain.n_absent else ""
    said = f"{chain.n_compared:,} hashes compared{absent}"
    if not wrong:
        return f"Verified: {said}; nothing differs."
    listed = "\n".join(f"  ! {finding}" for finding in wrong)
    return f"NOT verified: {said}; wrong are\n{listed}"


class _Tree:
    """Lines of nodes; what belongs to a node stands two places to its right.

    Attributes
    ----------
    makers : who made the files, each told once and called by its number from then on
    """

    def __init__(self, is_all: bool) -> None:
        self._is_all = is_all
        self.makers: dict[str, int] = {}

    def lines(self, node: Node, indent: str) -> list[str]:
        """A node and all below it."""
        name = node.path or node.facts.get("name", "")
        lines = [f"{indent}{node.kind} {name}" + " (as above)" * node.is_repeated]
        inner = f"{indent}  "
        for key, value in node.facts.items():
            if key != "name":
                lines.append(f"{inner}{key}: {self._value(key, value)}")
        lines += [f"{inner}- {note}" for note in node.notes]
        lines += [f"{inner}! {finding}" for finding in node.findings]
        shown = node.files if self._is_all else node.files[:FEW]
        lines += [f"{inner}{_raw(file, self._is_all)}" for file in shown]
        lines += _more(inner, len(node.files) - len(shown), "files")
        kept = [source for i, source in enumerate(node.sources) if self._is_shown(node, i, source)]
        for source in kept:
            lines += self.lines(source, inner)
        if node.kind == "survey":
            lines += _more(inner, len(node.sources) - len(kept), "shards")
        return lines

    def _value(self, key: str, value: str) -> str:
        if not key.startswith(("made by", "then by")):
            return value
        return f"[{self.makers.setdefault(value, len(self.makers) + 1)}]"

    def _is_shown(self, node: Node, number: int, source: Node) -> bool:
        """A few shards of each survey, and of a guard its name; what is wrong is never left out."""
        if self._is_all or source.all_findings():
            return True
        return number < {"survey": FEW, "guard": 0}.get(node.kind, number + 1)


def _more(indent: str, n: int, what: str) -> list[str]:
    return [f"{indent}… and {n:,} more {what}: --files all lists them"] if n > 0 else []


def _raw(file: RawFile, is_all: bool) -> str:
    parts = [str(file.path) if is_all else file.name]
    if file.bytes is not None:
        parts.append(f"{file.bytes:,} bytes")
    if file.sha256:
        parts.append(f"SHA-256 {file.sha256 if is_all else short(file.sha256)}")
    if file.url:
        # Of drawn products the source is their number.
        parts.append(f"number {file.url}" if file.url.isdecimal() else f"from {file.url}")
    if not file.is_there:
        parts.append("not on this disk")
    return ", ".join(parts)


def _node(node: Node) -> dict[str, Any]:
    content: dict[str, Any] = {"kind": node.kind, "path": _path(node.path)}
    if node.is_repeated:
        return content | {"is_repeated": True}
    return content | {
        "facts": node.facts,
        "record": node.record,
        "notes": node.notes,
        "findings": [_finding(finding) for finding in node.findings],
        "files": [{**vars(file), "path": str(file.path)} for file in node.files],
        "sources": _nodes(node.sources),
    }


def _nodes(nodes: Sequence[Node]) -> list[dict[str, Any]]:
    return [_node(node) for node in nodes]


def _path(path: Path | None) -> str | None:
    return None if path is None else str(path)


def _finding(finding: Finding) -> dict[str, str]:
    return {"path": str(finding.path), "text": finding.text, "remedy": finding.remedy}
