"""What is said of a request that did not end well: what was asked, what came, what to do.

Addresses may hold secrets, and so may what the client says of them: both are shown in part only.
"""

from urllib.parse import urlsplit

import httpx2 as httpx

from stradavit.errors import DataError

# Statuses that only a moment's trouble explains.
RETRIED = frozenset({408, 429, 500, 502, 503, 504})


class WebError(DataError):
    """A request that did not end well.

    Parameters
    ----------
    message : what was asked, what came, what to do
    status : of the last answer, None if there was none
    is_permanent : whether asking again cannot help
    retry_after_s : what the server asked us to wait
    reason : what came, in a few words
    """

    def __init__(
        self,
        message: str,
        status: int | None = None,
        is_permanent: bool = False,
        retry_after_s: float | None = None,
        reason: str = "",
    ) -> None:
        super().__init__(message)
        self.status = status
        self.is_permanent = is_permanent
        self.retry_after_s = retry_after_s
        self.reason = reason or message


class StoppedError(DataError):
    """Another transfer met an error that ends all."""


def shown(url: str, secret: bool = False) -> str:
    """An address as messages show it: without query and user; of a secret one only the host."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return "(an address that cannot be read)"
    where = f"{parts.scheme}://{host}{port}"
    return f"{where}/…" if secret else f"{where}{parts.path}"


def failure(
    method: str,
    url: str,
    secret: bool,
    status: int | None = None,
    *,
    reason: str = "",
    remedy: str = "",
    tries: int = 1,
    wait: float | None = None,
    is_permanent: bool | None = None,
) -> WebError:
    """A `WebError` that says what was asked, what came and what to do."""
    reason = reason or f"answered {status}"
    if is_permanent is None:
        is_permanent = status is not None and status not in RETRIED
    often = f", {tries} times" if tries > 1 else ""
    remedy = remedy or _remedy(status, is_permanent)
    message = f"{method} {shown(url, secret)}: {reason}{often}. {remedy}"
    return WebError(message, status, is_permanent, wait, reason)


def broken(method: str, url: str, secret: bool, error: Exception) -> WebError:
    """A `WebError` for what the client raises.

    The text and the request of that error may hold the address: it must not be chained.
    """
    return failure(
        method, url, secret, reason=_told(error, secret), is_permanent=not _is_passing(error)
    )


def _remedy(status: int | None, is_permanent: bool) -> str:
    match status:
        case 401 | 403:
            return "Check credentials and rights; an archive may also block an address for a while."
        case 404 | 410:
            return "It is not there any more: compare the address with `archives.urls`."
        case 429:
            return "Try again later, with fewer archives.streams and a longer archives.pause_s."
        case None if not is_permanent:
            return "Check the network and `archives.urls`; a later call goes on from here."
        case _ if is_permanent:
            return "Compare the address with `archives.urls`; the archive may have changed."
        case _:
            return "The archive is in trouble: a later call goes on from here."


def _is_passing(error: Exception) -> bool:
    """Whether an error of the client may be gone at the next try."""
    return isinstance(
        error,
        httpx.TimeoutException
        | httpx.NetworkError
        | httpx.RemoteProtocolError
        | httpx.ProxyError
        | httpx.DecodingError,
    )


def _told(error: Exception, secret: bool) -> str:
    match error:
        case httpx.ConnectTimeout() | httpx.ConnectError():
            reason = "cannot be reached"
        case httpx.TimeoutException():
            return "fell silent"
        case httpx.NetworkError() | httpx.RemoteProtocolError():
            reason = "broke the connection"
        case httpx.TooManyRedirects():
            return "redirects in circles"
        case httpx.UnsupportedProtocol():
            return "leads to an address that is not http"
        case _:
            return f"cannot be asked ({type(error).__name__})"
    detail = str(error)
    return reason if secret or not detail or "://" in detail else f"{reason} ({detail})"
