"""CASDA's DataLink behind the OPAL login: which file may be staged, and with which token.

Tokens and signed links are secrets: they appear in no message.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from stradavit.acquire.archives.credentials import OPAL_PASSWORD, OPAL_USER, Login
from stradavit.acquire.archives.foreign_text import quoted, without_tags
from stradavit.acquire.archives.tap import ask_for_table
from stradavit.acquire.archives.votable import Row, ServiceError
from stradavit.acquire.transfer.web import Answer, Web, WebError
from stradavit.errors import DataError

SERVICE = "async_service"
SIDECAR = re.compile(r"\s*[0-9a-f]{1,8}\s+([0-9a-f]{40})\s+([0-9a-f]{1,16})\s*", re.IGNORECASE)


class LinkError(DataError):
    """One file that cannot be staged; `is_final` if asking again will not help."""

    def __init__(self, message: str, is_final: bool) -> None:
        super().__init__(message)
        self.is_final = is_final


@dataclass(frozen=True)
class Link:
    """The right to stage one file: its token, and its size if DataLink tells it."""

    token: str = field(repr=False)
    bytes: int | None = None


def check_login(web: Web, login_url: str, login: Login) -> None:
    """Ask whether the login is good and the service open, before anything is staged.

    Raises
    ------
    DataError
        If not.
    """
    url = f"{login_url}/tap/availability"
    try:
        answer = web.answer("GET", url, auth=login.auth)
    except WebError as error:
        raise DataError(f"CASDA's login cannot be reached ({error})") from error
    _refuse_bad_login(answer, url)
    if answer.status != 200 or "availability" not in answer.text[:2000]:
        raise DataError(
            f"{url}: answered with status {answer.status} and "
            f"{quoted(without_tags(answer.text), 120)!r}; expected whether CASDA is "
            "available. Check archives.urls.casda_login, or try later."
        )
    available = re.search(r"<(?:\w+:)?available>\s*(\w+)", answer.text)
    if available and available[1].lower() in ("false", "0"):
        note = re.search(r"<(?:\w+:)?note>([^<]*)", answer.text)
        said = quoted(note[1]) if note else ""
        raise DataError(f"CASDA says it is not available ({said or 'no reason given'}). Try later.")


def link_of(web: Web, login_url: str, login: Login, identifier: str) -> Link:
    """The right to stage one file.

    Raises
    ------
    LinkError
        If CASDA gives none for this file, or the answer cannot be used.
    WebError
        If the service is out of reach.
    DataError
        If the login is refused.
    """
    url = f"{login_url}/datalink/links"
    where = f"CASDA, DataLink of {identifier}"
    try:
        answer, table = ask_for_table(
            web,
            lambda: web.answer("GET", url, params={"ID": identifier}, auth=login.auth),
            where,
        )
    except WebError as error:
        if not error.is_permanent:
            raise
        raise LinkError(f"{where}: {error}", is_final=True) from error
    except ServiceError as fault:
        # The service as a whole; only UsageFault speaks of this file.
        raise LinkError(str(fault), is_final="UsageFault" in str(fault)) from fault
    except DataError as error:
        raise LinkError(str(error), is_final=False) from error
    _refuse_bad_login(answer, url)
    if answer.status != 200 or table is None:
        said = quoted(without_tags(answer.text), 120) or "nothing more"
        raise LinkError(f"{where}: answered {answer.status} ({said}).", answer.status != 409)
    return link_in(table.rows, where)


def read_sidecar(text: str, where: str) -> tuple[str, int]:
    """Checksum and size in bytes from a checksum file: crc32, sha1 and size, all hexadecimal.

    The SHA-1 digest is used, which leaves nothing for the CRC to add.

    Raises
    ------
    LinkError
        If it is no such file.
    """
    found = SIDECAR.fullmatch(text)
    if found is None:
        raise LinkError(
            f"{where}: its checksum file begins with {quoted(text, 60)!r}; expected crc32, sha1 "
            "and size in hexadecimal digits. Without it the file cannot be trusted.",
            is_final=True,
        )
    return f"sha1:{found[1].lower()}", int(found[2], 16)


def link_in(rows: Sequence[Row], where: str) -> Link:
    """The right to stage a file, from its rows of DataLink.

    Raises
    ------
    LinkError
        If they give none; in the words of their faults.
    """
    faults = [str(row["error_message"]) for row in rows if row.get("error_message")]
    for row in rows:
        token = row.get("authenticated_id_token")
        if row.get("service_def") == SERVICE and token and not row.get("error_message"):
            size = row.get("content_length")
            return Link(str(token), size if isinstance(size, int) and size > 0 else None)
    if faults:
        raise LinkError(
            f"{where}: {quoted(faults[0])}. It may be under embargo, or another team's: ask CASDA "
            "for access, or leave it out.",
            is_final=not any("TransientFault" in fault for fault in faults),
        )
    raise LinkError(
        f"{where}: gives no token for {SERVICE} in its {len(rows)} rows, as if nobody had logged "
        f"in. Check archives.urls.casda_login and the rights of {OPAL_USER}.",
        is_final=True,
    )


def _refuse_bad_login(answer: Answer, url: str) -> None:
    if answer.status == 401:
        # Not asked again for other files: accounts are locked after some wrong passwords.
        raise DataError(
            f"{url}: CASDA refuses the OPAL login (401). Check {OPAL_USER} and {OPAL_PASSWORD}, or "
            "the keyring, at opal.atnf.csiro.au."
        )
