"""Staging jobs of CASDA (SODA async, a UWS service): made, started, watched, taken up again.

pyvo and astroquery are not used: they wait for a job without bound, and drop the reason of its
failure. Who knows the address of a job can download its files, so addresses are kept out of
messages, and the notes about running jobs are readable for their owner only.
"""

import logging
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from xml.etree import ElementTree

from stradavit.acquire.archives.foreign_text import HTML, declaration_in, quoted, without_tags
from stradavit.acquire.transfer.web import Answer, Web
from stradavit.errors import DataError

logger = logging.getLogger(__name__)

UWS = "{http://www.ivoa.net/xml/UWS/v1.0}"
HREF = "{http://www.w3.org/1999/xlink}href"
JOB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")
CHECKSUM_SUFFIX = ".checksum"
GONE = (404, 410)
LOG_INTERVAL_S = 600.0
MAX_STARTS = 5


class JobError(DataError):
    """A job that will bring nothing.

    Parameters
    ----------
    message : what happened and what to do
    is_gone : the archive does not know the job any more: another one can be made
    is_refused : the job itself is at fault (ERROR, or not even taken): parts of it may do
    is_aborted : somebody stopped it
    """

    def __init__(
        self,
        message: str,
        is_gone: bool = False,
        is_refused: bool = False,
        is_aborted: bool = False,
    ) -> None:
        super().__init__(message)
        self.is_gone = is_gone
        self.is_refused = is_refused
        self.is_over = is_gone or is_refused or is_aborted


@dataclass(frozen=True)
class Job:
    """A job as the service describes it; addresses of results by their ids, not shown by `repr`."""

    phase: str
    hrefs: Mapping[str, str]
    message: str
    destruction: datetime | None

    def __repr__(self) -> str:
        return f"Job({self.phase}, {len(self.hrefs)} results)"


def create_job(web: Web, data_url: str, tokens: Sequence[str]) -> str:
    """Id of a new job for the files that tokens stand for; it is not started yet.

    Raises
    ------
    JobError
        If the service does not take the tokens.
    WebError
        If it is out of reach.
    """
    # In the body, not in the address: long lists break addresses, and those end in logs of proxies.
    answer = _ask(web, "POST", f"{data_url}/async", form=[("ID", token) for token in tokens])
    location = answer.headers.get("Location") or ""
    # Only the last step of the address is used: proxies send http or an inner name for its host.
    job_id = location.split("?")[0].rstrip("/").rsplit("/", 1)[-1]
    if answer.status not in (201, 302, 303) or not JOB_ID.fullmatch(job_id):
        raise JobError(
            f"CASDA made no staging job for {len(tokens)} files: {_said(answer, tokens)}. Asked "
            "again in the next run; if it persists, write to atnf-datasup@csiro.au.",
            is_refused=answer.status in (400, 403, 413),
        )
    return job_id


def start_job(web: Web, data_url: str, job_id: str) -> None:
    """Set a job running; one that runs already is left alone.

    Raises
    ------
    JobError, WebError
        If the service refuses, or is out of reach.
    """
    url = f"{data_url}/async/{job_id}/phase"
    answer = _ask(web, "POST", url, form=[("phase", "RUN")])
    if answer.status in GONE:
        raise _gone()
    if answer.status >= 400 and look_at_job(web, data_url, job_id).phase == "PENDING":
        # A start whose answer was lost is refused at its repetition; then the job is not PENDING.
        raise JobError(
            f"CASDA does not start a staging job: {_said(answer, ())}. Asked again in the next run."
        )


def look_at_job(web: Web, data_url: str, job_id: str) -> Job:
    """A job as it is now.

    Raises
    ------
    JobError
        If it is gone or cannot be read.
    WebError
        If the service is out of reach.
    """
    answer = _ask(web, "GET", f"{data_url}/async/{job_id}", accept="application/xml")
    if answer.status in GONE:
        raise _gone()
    if answer.status != 200:
        raise JobError(f"CASDA does not describe a staging job: {_said(answer, ())}.")
    return read_job(answer.text)


def wait_for_job(web: Web, data_url: str, job_id: str) -> Job:
    """A job once it is COMPLETED; a PENDING one is started.

    QUEUED, EXECUTING, SUSPENDED and phases nobody knows are waited for, each look
    `archives.poll_s` after the last, and `archives.job_timeout_h` at most.

    Raises
    ------
    JobError
        If it ends otherwise, goes on for too long, or is gone.
    WebError
        If the service is out of reach.
    """
    begin = time.monotonic()
    last_phase, last_line = "", begin
    n_starts = n_unreadable = 0
    while True:
        try:
            job = look_at_job(web, data_url, job_id)
        except JobError as error:
            # A page in place of a job, now and then, ends no wait of hours.
            n_unreadable += 1
            if error.is_over or n_unreadable >= web.archives.attempts:
                raise
            time.sleep(web.archives.poll_s)
            continue
        n_unreadable = 0
        now = time.monotonic()
        if job.phase != last_phase or now - last_line > LOG_INTERVAL_S:
            logger.info("CASDA staging job: %s after %.0f min", job.phase, (now - begin) / 60)
            last_phase, last_line = job.phase, now
        match job.phase:
            case "COMPLETED":
                if job.destruction is not None and job.destruction <= datetime.now(UTC):
                    raise _gone()
                return job
            case "ERROR":
                raise JobError(
                    f"CASDA's staging job ended in ERROR: {job.message or 'no reason given'}. If "
                    "it persists, write to atnf-datasup@csiro.au.",
                    is_refused=True,
                )
            case "ABORTED":
                raise JobError(
                    "CASDA's staging job was ABORTED, at the archive or from its web page"
                    f"{': ' + job.message if job.message else ''}. Run again to stage anew.",
                    is_aborted=True,
                )
            case "ARCHIVED":
                raise _gone()
        if now - begin > web.archives.job_timeout_h * 3600:
            raise JobError(
                f"CASDA's staging job is still {job.phase} after {web.archives.job_timeout_h:g} h "
                "(archives.job_timeout_h). It goes on there: run again later to take it up."
            )
        if job.phase == "PENDING":
            if n_starts >= MAX_STARTS:
                raise JobError(
                    f"CASDA's staging job is still PENDING after {n_starts} starts. Run again "
                    "later to take it up."
                )
            n_starts += 1
            start_job(web, data_url, job_id)
        time.sleep(web.archives.poll_s)


def read_job(text: str) -> Job:
    """A job from its XML.

    Raises
    ------
    JobError
        If it is none.
    """
    where = "CASDA's staging job"
    if HTML.match(text):
        raise JobError(
            f"{where}: answered with a web page: {quoted(without_tags(text))}. The service is down "
            "or moved; run again later to take the job up."
        )
    if declared := declaration_in(text):
        raise JobError(
            f"{where}: the answer holds {declared!r}, which no archive has reason to send. It is "
            "not read. Check archives.urls.casda_data."
        )
    try:
        root = ElementTree.fromstring(text.lstrip().encode())
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise JobError(
            f"{where}: its description cannot be read ({error}); it may have been cut short. Run "
            "again to take the job up."
        ) from error
    phase = (root.findtext(f"{UWS}phase") or "").strip().upper()
    if root.tag != f"{UWS}job" or not phase:
        raise JobError(
            f"{where}: its description is a {quoted(root.tag, 60)} without a phase; expected a UWS "
            "job. Check archives.urls.casda_data."
        )
    hrefs: dict[str, str] = {}
    for result in root.iterfind(f"{UWS}results/{UWS}result"):
        name, href = result.get("id", "").strip(), result.get(HREF, "").strip()
        # A link is taken letter by letter as it is: it may be signed.
        if name and href.startswith(("http://", "https://")):
            hrefs[name] = href
    message = root.findtext(f"{UWS}errorSummary/{UWS}message") or ""
    for token in root.iterfind(f"{UWS}parameters/{UWS}parameter"):
        # The parameters are tokens, and messages may repeat them.
        message = _without(message, (token.text or "").strip())
    return Job(phase, hrefs, quoted(message), _time(root.findtext(f"{UWS}destruction") or ""))


def _time(text: str) -> datetime | None:
    """A time with an offset; None if there is none, which is read as for ever."""
    try:
        found = datetime.fromisoformat(text.strip())
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _ask(
    web: Web,
    method: str,
    url: str,
    form: Sequence[tuple[str, str]] | None = None,
    accept: str = "text/plain",
) -> Answer:
    """An answer whose redirect is not followed: it says what was done, the rest is looked up."""
    # Without an Accept header the service explains its refusals in web pages.
    return web.answer(
        method,
        url,
        form=None if form is None else list(form),
        headers={"Accept": accept},
        follow=False,
        secret=True,
    )


def _said(answer: Answer, tokens: Sequence[str]) -> str:
    text = without_tags(answer.text).strip().removeprefix("FAILURE:")
    for token in tokens:
        text = _without(text, token)
    return f"it answered {answer.status} ({quoted(text) or 'nothing more'})"


def _without(text: str, secret: str) -> str:
    return text.replace(secret, "…") if secret else text


def _gone() -> JobError:
    return JobError(
        "CASDA does not have the staging job any more; its files lie there for some days only. Run "
        "again to stage anew.",
        is_gone=True,
    )
