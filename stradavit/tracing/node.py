"""One link of a chain: a file, what it says of itself, and what it was made from."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Finding:
    """What is wrong with a file, and what to do about it."""

    path: Path
    text: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.path}: {self.text}. {self.remedy}"


@dataclass
class RawFile:
    """A file that came from outside, or was drawn.

    Attributes
    ----------
    name : of the product
    path : where it lay when it was acquired
    sha256, bytes : as they were recorded then; empty and None if they were not
    url : where it came from, in the words of its source
    is_there : whether it is still on this disk
    """

    name: str
    path: Path
    sha256: str
    bytes: int | None
    url: str
    is_there: bool


@dataclass
class Node:
    """A link of a chain.

    Attributes
    ----------
    kind : metrics, features, encoder, corpus, survey, shard, ledger, …
    path : the file it is about; None for what is no file
    facts : what a reader wants to know, in order
    record : all of it, as JSON values
    notes : what cannot be said, and why: a file that is gone, a hash that was not recorded
    findings : what is wrong: a file that is not the one that was used
    files : raw files, of a ledger or of labels
    sources : what it was made from
    is_repeated : whether it was told in full before, so that only its name is here
    """

    kind: str
    path: Path | None
    facts: dict[str, str] = field(default_factory=dict)
    record: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    files: list[RawFile] = field(default_factory=list)
    sources: list["Node"] = field(default_factory=list)
    is_repeated: bool = False

    def all_findings(self) -> list[Finding]:
        """Its own findings and those of all it was made from."""
        return self.findings + [f for source in self.sources for f in source.all_findings()]
