"""What an archive says it has."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Listed:
    """One product of an archive, before anything is fetched.

    Parameters
    ----------
    product : unique safe name; the file takes it, and the `Remote` that fetches it has it as `name`
    location : where it is in stable words (key, publisher's identifier, field), never a pre-signed
        address: manifests are shared
    bytes : exact size if the archive publishes it; None if it is unknown or an estimate
    checksum : as in `stradavit.acquire.transfer.checksums`; empty if none is published
    """

    product: str
    location: str
    bytes: int | None = None
    checksum: str = ""
