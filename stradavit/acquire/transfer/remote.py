"""What is wanted from a server, and what became of it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from stradavit.acquire.transfer.checksums import parse
from stradavit.acquire.transfer.names import safe_name

Content = Literal[
    "any",
    "fits",
    "fits.gz",
    "png",
    "jpeg",
    "csv",
    "text",
    "json",
    "votable",
    "html",
    "tar.gz",
    "zip",
    "safetensors",
]
State = Literal["fetched", "refused", "failed"]


@dataclass(frozen=True)
class Remote:
    """One file on a server. What may hold a secret is left out of its representation.

    Parameters
    ----------
    name : file name below the folder, with at most one sub-folder; checked
    url : address
    bytes : exact size; None if unknown or only estimated
    checksum : published one, as in `checksums.parse`; empty if there is none
    content : what the file must be; a page in HTML is taken only for "html"
    form : fields to POST instead of a GET; such a transfer starts anew when cut
    params : query to add to the address
    secret : the address is a key in itself (pre-signed) and is never written anywhere
    auth : user and password for this host only
    no_data : text by which the server says, with whatever status, that it has no such thing
    verify : a last look at the finished file: a reason to refuse it, or None
    most_bytes : largest it may be where `bytes` is unknown; `archives.file_gb` if None
    """

    name: str
    url: str = field(repr=False)
    bytes: int | None = None
    checksum: str = ""
    content: Content = "any"
    form: tuple[tuple[str, str], ...] | None = field(default=None, repr=False)
    params: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    secret: bool = False
    auth: tuple[str, str] | None = field(default=None, repr=False)
    no_data: str = ""
    verify: Callable[[Path], str | None] | None = None
    most_bytes: int | None = None

    def __post_init__(self) -> None:
        safe_name(self.name)
        parse(self.checksum)


@dataclass(frozen=True)
class Outcome:
    """What became of one `Remote`.

    Parameters
    ----------
    name : as wanted
    state : fetched: the file is here, whole and checked; refused: asking again will not help;
        failed: the server or the network broke off each time, a later call may succeed
    reason : in words, empty if fetched
    path : absolute, of a fetched file
    bytes, sha256 : of a fetched file; 0 and empty otherwise
    """

    name: str
    state: State
    reason: str = ""
    path: Path | None = None
    bytes: int = 0
    sha256: str = ""
