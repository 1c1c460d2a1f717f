"""Questions to a TAP service, answered completely or not at all.

pyvo and astroquery are not used here: they wait without bound and keep sessions of their own, so
the retries, pauses and time-outs of the transfer layer would not apply. A synchronous question is
one POST.
"""

from collections.abc import Callable, Sequence

from stradavit.acquire.archives.foreign_text import quoted, without_tags
from stradavit.acquire.archives.votable import Row, ServiceError, VOTable, read_votable
from stradavit.acquire.transfer.web import Answer, Web, WebError
from stradavit.errors import DataError

# Far above what any survey has, so that the defaults of services (2,000 rows) never decide.
MAX_ROWS = 200_000
REMEDY = "Try again later, or give the manifest of an earlier run as frozen_manifest."


def ask_tap(web: Web, url: str, adql: str, columns: Sequence[str], archive: str) -> list[Row]:
    """Rows of a question, all of them.

    Parameters
    ----------
    url : base of the service; `/sync` is appended
    columns : that every row must have
    archive : for errors

    Raises
    ------
    DataError
        If the service is out of reach, refuses, breaks off, or sends only a part of the rows.
    """
    where = f"{archive}, {url}/sync"
    form = [("request", "doQuery"), ("lang", "ADQL"), ("format", "votable")]
    form += [("maxrec", str(MAX_ROWS)), ("query", adql)]
    try:
        answer, table = ask_for_table(
            web, lambda: web.answer("POST", f"{url}/sync", form=form), where
        )
    except WebError as error:
        raise DataError(
            f"{where}: the list of products cannot be had ({error}). {REMEDY}"
        ) from error
    except ServiceError as fault:
        raise ServiceError(f"{fault} The question was: {adql}. {REMEDY}") from None
    if table is None:
        raise DataError(
            f"{where}: answered with status {answer.status}: "
            f"{quoted(without_tags(answer.text)) or 'nothing'}. {REMEDY}"
        )
    if table.is_truncated:
        raise DataError(
            f"{where}: sent only {len(table.rows)} rows and says there are more (OVERFLOW). "
            "Nothing was listed, since part of a survey would pass for all of it: narrow the "
            "question."
        )
    if not table.has_table or not table.columns.issuperset(columns):
        raise DataError(
            f"{where}: the answer has the columns {sorted(table.columns) or 'none'}; expected "
            f"{sorted(columns)}. The service has changed: report this to the project."
        )
    return list(table.rows)


def ask_for_table(web: Web, ask: Callable[[], Answer], where: str) -> tuple[Answer, VOTable | None]:
    """An answer and its VOTable, None if the status says that it is something else.

    What cannot be read is asked for once more: answers are cut short, servers have bad moments.

    Raises
    ------
    ServiceError
        If the service refuses, whatever the status: DaCHS does it with 400, CASDA with 200.
    DataError
        If a table is announced and cannot be read.
    WebError
        If the service is out of reach.
    """
    for attempt in (1, 2):
        answer = ask()
        try:
            return answer, read_votable(answer.text, where)
        except ServiceError as fault:
            if attempt == 2 or "TransientFault" not in str(fault):
                raise
        except DataError:
            if answer.status != 200:
                return answer, None
            if attempt == 2:
                raise
        web.wait(attempt)
    raise AssertionError("the second attempt returns or raises")


def literal(text: str) -> str:
    """A text as ADQL writes it."""
    return "'" + text.replace("'", "''") + "'"
