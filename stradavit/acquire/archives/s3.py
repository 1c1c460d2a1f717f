"""Listings of S3-style object stores: pages of XML, version 2 with version 1 as the way out.

boto3 is not used: two GET requests without a signature are all that is needed, and they must go
through the same retries, pauses and limits as every other request.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import quote, unquote_plus
from xml.etree import ElementTree

from stradavit.acquire.archives.foreign_text import declaration_in, quoted
from stradavit.acquire.transfer.web import Web, WebError
from stradavit.errors import DataError

PAGE_KEYS = 1000
MAX_PAGES = 1000

# Answers of stores that do not know version 2 of the listing, or the parameter that asks for it.
NO_SUCH_VERSION = (400, 405, 501)

MD5_ETAG = re.compile(r'"?([0-9a-fA-F]{32})"?')


@dataclass(frozen=True)
class S3Object:
    """One object: its key, its size, and its MD5 digest where the store publishes one."""

    key: str
    bytes: int
    md5: str


@dataclass(frozen=True)
class Page:
    """One page of a listing, and how the store says that the next one is asked for."""

    objects: list[S3Object]
    is_truncated: bool
    token: str
    next_marker: str


def list_objects(
    web: Web, bucket_url: str, prefix: str, archive: str, remedy: str
) -> list[S3Object]:
    """Every object of a bucket whose key begins with `prefix`, in the order of the store.

    Stores that know only version 1 of the protocol ignore or refuse `list-type=2`; either way
    the listing goes on by markers.

    Parameters
    ----------
    bucket_url : such as https://host/bucket
    prefix : of the keys, ending in '/'
    archive, remedy : name of the archive and what the user can do, for messages

    Raises
    ------
    DataError
        If the store refuses, keeps failing, or answers with anything but a listing.
    """
    where = f"{archive}: the listing of {prefix}"
    found: dict[str, S3Object] = {}
    asked: set[tuple[tuple[str, str], ...]] = set()
    cursor = {"list-type": "2"}
    for _ in range(MAX_PAGES):
        asked.add(tuple(cursor.items()))
        page = _ask(web, bucket_url, prefix, cursor, where, remedy)
        if page is None:
            cursor = {"marker": ""}
            continue
        for item in page.objects:
            if not item.key.startswith(prefix):
                raise DataError(
                    f"{where} holds {item.key[:200]!r}, which is not below the prefix: this is "
                    f"another service. {remedy}"
                )
            found[item.key] = item
        if not page.is_truncated:
            return list(found.values())
        cursor = _next(page, where, remedy)
        if tuple(cursor.items()) in asked:
            raise DataError(
                f"{where} goes in circles: after {len(found)} keys it names a page again that "
                f"was read. {remedy}"
            )
    raise DataError(f"{where} has more than {MAX_PAGES} pages; expected a few. {remedy}")


def object_url(bucket_url: str, key: str) -> str:
    """Address of an object: the key is quoted, so that it can never change host or query.

    Raises
    ------
    DataError
        If the key holds '.' or '..' as a step, which clients resolve before they ask.
    """
    if not key or {".", "..", ""} & set(key.split("/")):
        raise DataError(
            f"the object key {key[:200]!r} is no plain path. Delete the manifest it comes from and "
            "make it again."
        )
    return f"{bucket_url.rstrip('/')}/{quote(key)}"


def parse_xml(text: str, where: str, remedy: str) -> ElementTree.Element:
    """The root of an XML answer; declarations are refused, so that no entity can expand.

    The text comes from `Web`, which bounds its size.

    Raises
    ------
    DataError
        If the text declares entities or is not well formed, such as an HTML page.
    """
    if declared := declaration_in(text):
        raise DataError(
            f"{where} was answered with a document that holds {declared!r}, as HTML pages do; "
            f"expected plain XML. {remedy}"
        )
    try:
        return ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError) as error:
        raise DataError(
            f"{where} was answered with something that is no XML ({error}); it begins with "
            f"{quoted(text[:80])!r}. {remedy}"
        ) from error


def parse_page(text: str, where: str, remedy: str) -> Page:
    """One page of a listing of either version.

    Raises
    ------
    DataError
        If the text is no `ListBucketResult`, or an object lacks its key or its size.
    """
    root = parse_xml(text, where, remedy)
    if _tag(root) != "ListBucketResult":
        raise DataError(
            f"{where} was answered with <{quoted(_tag(root), 60)}>{_error_of(root)}; expected "
            f"<ListBucketResult>. {remedy}"
        )
    # Asked for nowhere, but a gateway may encode keys of its own accord, and says so.
    is_encoded = _text(root, "EncodingType") == "url"
    objects = []
    for child in root:
        if _tag(child) == "Contents":
            objects.append(_object(child, is_encoded, where, remedy))
    next_marker = _text(root, "NextMarker")
    return Page(
        objects=objects,
        is_truncated=_text(root, "IsTruncated").lower() == "true",
        token=_text(root, "NextContinuationToken"),
        next_marker=unquote_plus(next_marker) if is_encoded else next_marker,
    )


def error_text(text: str) -> str:
    """Code and message of an S3 error document, as ' (Code: message)'; '' if it is none."""
    if declaration_in(text):
        return ""
    try:
        return _error_of(ElementTree.fromstring(text))
    except (ElementTree.ParseError, ValueError):
        return ""


def _ask(
    web: Web, bucket_url: str, prefix: str, cursor: dict[str, str], where: str, remedy: str
) -> Page | None:
    """One page; None if the store does not know the version that was asked for."""
    params = {"prefix": prefix, "max-keys": str(PAGE_KEYS), **cursor}
    is_first_of_v2 = cursor == {"list-type": "2"}
    for is_last_try in (False, True):
        try:
            answer = web.answer("GET", f"{bucket_url.rstrip('/')}/", params=params)
        except WebError as error:
            if is_first_of_v2 and error.status in NO_SUCH_VERSION:
                return None
            raise DataError(f"{where} failed: {error}") from error
        if is_first_of_v2 and answer.status in NO_SUCH_VERSION:
            return None
        if answer.status != 200:
            raise DataError(
                f"{where} was refused with status {answer.status}{error_text(answer.text)}. "
                f"{remedy}"
            )
        try:
            return parse_page(answer.text, where, remedy)
        except DataError:
            # A page of a busy gateway, or half a listing: gone at the next try, or there to stay.
            if is_last_try:
                raise
            web.wait(1)
    raise AssertionError("the last try returns or raises")


def _next(page: Page, where: str, remedy: str) -> dict[str, str]:
    """What asks for the page after this one."""
    if page.token:
        return {"list-type": "2", "continuation-token": page.token}
    marker = page.next_marker or (page.objects[-1].key if page.objects else "")
    if not marker:
        raise DataError(
            f"{where} breaks off: its page has no key and says that more follow. {remedy}"
        )
    return {"marker": marker}


def _object(element: ElementTree.Element, is_encoded: bool, where: str, remedy: str) -> S3Object:
    key, size = _text(element, "Key"), _text(element, "Size")
    if not key or not (size.isascii() and size.isdecimal()):
        raise DataError(
            f"{where} has an object with the key {key!r} and the size {size!r}. {remedy}"
        )
    # With a '-', or of other length, an ETag is no digest of the whole object.
    etag = MD5_ETAG.fullmatch(_text(element, "ETag"))
    return S3Object(
        unquote_plus(key) if is_encoded else key, int(size), etag[1].lower() if etag else ""
    )


def _error_of(root: ElementTree.Element) -> str:
    if _tag(root) != "Error":
        return ""
    parts: Iterable[str] = (_text(root, "Code"), _text(root, "Message"))
    said = ": ".join(quoted(part, 200) for part in parts if part)
    return f" ({said})" if said else ""


def _tag(element: ElementTree.Element) -> str:
    """Name without its namespace: gateways differ in whether they give one."""
    return element.tag.rpartition("}")[2]


def _text(element: ElementTree.Element, name: str) -> str:
    for child in element:
        if _tag(child) == name:
            return (child.text or "").strip()
    return ""
