"""What all links of a chain share: the disk, what was told already, and comparing hashes."""

import json
import shlex
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stradavit.errors import StradavitError
from stradavit.files import sha256_of, sha256_of_text
from stradavit.provenance import code_hash, maker_path, read_maker
from stradavit.tracing.node import Finding, Node

# A larger file is read for its hash only if that is asked for: this much takes a second or two.
QUICK_BYTES = 2**30

SHOWN = 16
"""Digits of a hash in print."""


@dataclass
class Chain:
    """A walk from one file to all it was made from.

    Parameters
    ----------
    results : folder of the results
    is_thorough : whether every file is read and compared, however large
    """

    results: Path
    is_thorough: bool = False
    n_compared: int = 0
    n_absent: int = 0
    _told: set[Path] = field(default_factory=set)
    _hashes: dict[Path, str] = field(default_factory=dict)

    def node(
        self,
        kind: str,
        path: Path,
        fill: Callable[[Node], None],
        beyond: Callable[[Node], None] | None = None,
    ) -> Node:
        """The link of a file; `fill` adds what it says, once for each file.

        What cannot be read is a finding. The walk then goes on with what is known without the
        file, which `beyond` adds.
        """
        node = Node(kind, path)
        if path in self._told:
            node.is_repeated = True
            return node
        self._told.add(path)
        if not path.is_file():
            node.notes.append("not on this disk" + "; its sources are not known" * (not beyond))
        is_told = path.is_file() and self._tell(node, path, fill)
        if beyond and not is_told:
            self._tell(node, path, beyond)
        return node

    def _tell(self, node: Node, path: Path, tell: Callable[[Node], None]) -> bool:
        """Whether a file could be told of; if not, why is a finding."""
        try:
            tell(node)
        except (StradavitError, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            finding = damage(path, error, "", f"Make it again: {remake(path)}.")
            node.findings += [finding] * (finding not in node.findings)
            return False
        return True

    def sha256(self, path: Path) -> str:
        """Hash of a file, read once."""
        if path not in self._hashes:
            self._hashes[path] = sha256_of(path)
        return self._hashes[path]

    def compare(
        self, node: Node, path: Path, recorded: str | None, recorder: str, remedy: str
    ) -> None:
        """Compare a file with the hash that was recorded when it was used.

        Parameters
        ----------
        node : link that is told what comes of it
        recorded : hexadecimal SHA-256; empty or None if there is none
        recorder : whose record it is
        remedy : what to do if it is another file now
        """
        if not recorded:
            node.notes.append(f"{recorder} does not say which {path.name} was used")
        elif not path.is_file():
            self.n_absent += 1
            node.notes.append(f"{path} is not on this disk; {recorder} used {short(recorded)}")
        elif not self.is_thorough and path.stat().st_size > QUICK_BYTES:
            size = path.stat().st_size / 2**30
            node.notes.append(f"{path.name} was not compared: --verify reads its {size:.1f} GiB")
        elif (found := self.sha256(path)) != recorded:
            text = (
                f"its SHA-256 is {short(found)}, {recorder} says {short(recorded)}: it was made "
                "again since, or is damaged"
            )
            node.findings.append(Finding(path, text, remedy))
        else:
            self.n_compared += 1

    def add_maker(self, node: Node, path: Path) -> None:
        """What the note beside a file says of how it was made; with `is_thorough`, compares it."""
        note = read_maker(path)
        if not note:
            node.notes.append(f"who made it is not recorded: {maker_path(path).name} is not there")
            return
        node.record["made_by"] = note
        if note.get("code"):
            node.facts["code"] = code_text(note["code"], note.get("module", ""))
        node.facts["made by"] = maker_text(note)
        if self.is_thorough:
            remedy = f"Make it again: {remake(path)}."
            self.compare(node, path, note.get("sha256"), "the note beside it", remedy)


def damage(path: Path, error: Exception, advice: str, remedy: str) -> Finding:
    """The finding for a file that a reader refuses; `advice` is what the reader says to do."""
    text = str(error) if isinstance(error, StradavitError) else f"cannot be read ({error!r})"
    text = text.removeprefix(f"{path}: ").removesuffix(advice).rstrip(" .")
    return Finding(path, text, remedy)


def remake(path: Path) -> str:
    """The command that makes a file of the results again."""
    quoted = shlex.quote(str(path))
    return f"rm {quoted} && snakemake --cores all {quoted}"


def short(digest: str) -> str:
    """The beginning of a hash."""
    return digest[:SHOWN] + "…" if len(digest) > SHOWN else digest


def settings_hash(settings: Any) -> str:
    """Hex SHA-256 of settings as sorted JSON."""
    return sha256_of_text(json.dumps(settings, sort_keys=True))


def code_text(recorded: str, module: str) -> str:
    """Hash of the code that made a file, and whether it is that of now."""
    is_now = bool(module) and recorded == code_hash(module)
    return f"{short(recorded)} ({'as now' if is_now else 'not the code of now'})"


def maker_text(maker: dict[str, Any]) -> str:
    """Version, commit, machine and the libraries that matter most, in a line."""
    machine = maker.get("machine", {})
    commit = maker.get("commit", "")
    edited = " with uncommitted changes" if commit.endswith("+") else ""
    version = f"stradavit {maker.get('version', '?')}"
    if commit:
        version += f", commit {commit[:12]}{edited}"
    names = ("gpu", "processor", "system")
    parts = [version, *(machine[name] for name in names if machine.get(name))]
    parts += [f"Python {machine['python']}"] if machine.get("python") else []
    parts += [
        f"{label} {machine[name]}"
        for name, label in (("driver", "driver"), ("cuda", "CUDA"))
        if machine.get(name)
    ]
    libraries = maker.get("libraries", {})
    parts += [f"{name} {libraries[name]}" for name in ("torch", "numpy") if name in libraries]
    return "; ".join(parts)
