"""Records of Zenodo: which files they hold, with sizes and MD5 digests.

Two records are all we need, so this speaks to the API itself: zenodo_get does not retry unless
told, and pooch asks for the list of files without an agent of its own, which Zenodo may refuse.
"""

import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from stradavit.acquire.archives.foreign_text import quoted
from stradavit.acquire.transfer.web import Web, WebError
from stradavit.errors import DataError
from stradavit.settings.archives import ArchiveUrls

MD5 = re.compile(r"(?:md5:)?([0-9a-fA-F]{32})")


@dataclass(frozen=True)
class RecordFile:
    """One file of a record; `checksum` is as in `Remote`, empty where none is published."""

    name: str
    url: str
    bytes: int | None
    checksum: str


def record_files(web: Web, urls: ArchiveUrls, record: str) -> list[RecordFile]:
    """The files of a record, in the order of the answer.

    Parameters
    ----------
    record : number of one version; a concept's number would lead to whatever is newest

    Raises
    ------
    DataError
        If the record cannot be read or has no files.
    """
    where = f"Zenodo record {record}"
    if not re.fullmatch(r"[0-9]{1,12}", record):
        raise DataError(f"{where}: a record is a number such as 14195049. Correct `record`.")
    try:
        answer = web.json(f"{urls.zenodo}/api/records/{record}")
    except WebError as error:
        raise DataError(f"{where}: {error} {_remedy(error)}") from error
    except DataError as error:
        raise DataError(f"{where}: its list of files cannot be read. {error}") from error
    listed = answer.get("files") if isinstance(answer, dict) else None
    if not isinstance(listed, list) or not listed:
        raise DataError(
            f"{where}: the answer lists no files. The record may be withdrawn or restricted: open "
            f"{urls.zenodo}/records/{record} in a browser, and correct `record`."
        )
    return [_file(urls, record, item, where) for item in listed]


def _file(urls: ArchiveUrls, record: str, item: Any, where: str) -> RecordFile:
    # For some days in October 2023 `key` was spelt `filename` and digests had no `md5:`.
    name = (item.get("key") or item.get("filename")) if isinstance(item, dict) else None
    if not isinstance(name, str):
        raise DataError(
            f"{where}: found a file without a name: {quoted(str(item), 120)}. Try again later."
        )
    digest = MD5.fullmatch(str(item.get("checksum", "")))
    size = item.get("size", item.get("filesize"))
    return RecordFile(
        name,
        # Made from the name and not taken from the answer, which could lead to another host.
        f"{urls.zenodo}/api/records/{record}/files/{quote(name, safe='')}/content",
        size if isinstance(size, int) and size >= 0 else None,
        f"md5:{digest[1].lower()}" if digest else "",
    )


def _remedy(error: WebError) -> str:
    if error.status == 403:
        # Zenodo turns away some programs by their name, with a page and the status 403.
        return (
            "Zenodo refuses some programs by their name: set archives.contact to your e-mail "
            "address, so that ours says who asks."
        )
    if error.status in (404, 410):
        return "There is no such record: correct `record`."
    if error.status == 429:
        return "Zenodo allows 60 requests a minute: wait an hour and run again."
    return "Run again; what was fetched is kept."
