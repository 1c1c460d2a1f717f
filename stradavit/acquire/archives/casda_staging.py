"""Batches of CASDA files: staged by a job, fetched with their checksums, staged anew once."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from stradavit.acquire.archives.casda_jobs import (
    CHECKSUM_SUFFIX,
    Job,
    JobError,
    create_job,
    wait_for_job,
)
from stradavit.acquire.archives.casda_links import Link, LinkError, link_of, read_sidecar
from stradavit.acquire.archives.casda_notes import KnownJob, forget_job, note_job
from stradavit.acquire.archives.credentials import Login
from stradavit.acquire.manifest import ManifestRow
from stradavit.acquire.transfer.fetch import Content, Outcome, Remote, State, fetch
from stradavit.acquire.transfer.leads import leads_inside
from stradavit.acquire.transfer.web import Web, WebError
from stradavit.settings.archives import ArchiveUrls

logger = logging.getLogger(__name__)

# As CASDA's own client takes them; longer lists were refused.
BATCH_FILES = 20


@dataclass
class _Staged:
    """What a batch came to: files to fetch, rows whose copy is no good, and what is settled.

    `jobs`: products by the id of the job that holds them.
    """

    remotes: list[Remote] = field(default_factory=list)
    stale: dict[str, str] = field(default_factory=dict)
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    jobs: dict[str, list[str]] = field(default_factory=dict)

    def settle(self, rows: Sequence[ManifestRow], state: State, reason: str) -> None:
        """Give rows their outcome."""
        for row in rows:
            self.outcomes[row.product] = Outcome(row.product, state, reason)

    def add(self, other: "_Staged") -> None:
        """Take in what another batch came to."""
        self.remotes += other.remotes
        self.stale |= other.stale
        self.outcomes |= other.outcomes
        self.jobs |= other.jobs


class Staging:
    """Staging and fetching under one login, into one folder.

    Once CASDA is out of reach, or does not finish a job, the batches that remain are not tried:
    each would only wait as long again.
    """

    def __init__(self, web: Web, urls: ArchiveUrls, login: Login, folder: Path, what: str) -> None:
        self.web, self.urls, self.login = web, urls, login
        self.folder, self.what = folder, what
        self.outage = ""

    def bring(self, rows: Sequence[ManifestRow], known: KnownJob | None) -> dict[str, Outcome]:
        """Outcomes of one batch, by product.

        What is refused though it was staged is staged anew, once: links expire, and a staged copy
        may be damaged.
        """
        staged = self._take_up(rows, known) if known else self._stage(rows, is_first=True)
        self._fetch(staged)
        stale = [row for row in rows if row.product in staged.stale]
        if stale:
            product = stale[0].product
            reason = staged.stale[product]
            logger.warning(
                "%s: staging %d files anew: %s: %s", self.what, len(stale), product, reason
            )
            self._forget(staged.jobs)
            again = self._stage(stale, is_first=False)
            self._fetch(again)
            for product, reason in again.stale.items():
                again.outcomes[product] = Outcome(
                    product, "refused", f"{reason.rstrip('.')}; staged anew in vain"
                )
            staged.outcomes |= again.outcomes
            staged.jobs = again.jobs
        self._forget(
            job_id
            for job_id, products in staged.jobs.items()
            if all(staged.outcomes[product].state != "failed" for product in products)
        )
        return staged.outcomes

    def _fetch(self, staged: _Staged) -> None:
        """Fetch what was staged; what is refused becomes stale."""
        if not staged.remotes:
            return
        outcomes = fetch(self.web, staged.remotes, self.folder, self.what)
        for outcome in outcomes:
            if outcome.state == "refused":
                staged.stale[outcome.name] = outcome.reason
            else:
                staged.outcomes[outcome.name] = outcome
        if all(outcome.state == "failed" for outcome in outcomes):
            self.outage = outcomes[0].reason

    def _take_up(self, rows: Sequence[ManifestRow], known: KnownJob) -> _Staged:
        """A job made by an earlier call; another one if that is over."""
        staged = _Staged(jobs={known.job_id: [row.product for row in rows]})
        try:
            self._collect(staged, rows, known.job_id, {})
        except JobError as error:
            if not error.is_over:
                return self._broken_off(staged, rows, str(error))
            logger.info("%s: a job of an earlier call is of no use: %s", self.what, error)
            self._forget(staged.jobs)
            return self._stage(rows, is_first=True)
        except WebError as error:
            return self._broken_off(staged, rows, str(error))
        logger.info("%s: took up a job of an earlier call, %d files", self.what, len(rows))
        return staged

    def _stage(self, rows: Sequence[ManifestRow], is_first: bool) -> _Staged:
        """Stage a batch by a job of its own.

        A job that ends in ERROR is made again in halves, so that one bad file spoils only some of
        the others; as later calls take only what is left, it ends up alone.
        """
        staged = _Staged()
        if self.outage:
            staged.settle(rows, "failed", f"not asked for, since CASDA fails: {self.outage}")
            return staged
        try:
            links = self._links(staged, rows)
            rows = [row for row in rows if row.location in links]
            if rows:
                self._run(staged, rows, links)
        except WebError as error:
            left = [row for row in rows if row.product not in staged.outcomes]
            return self._broken_off(staged, left, str(error))
        except JobError as error:
            if error.is_over:
                self._forget(staged.jobs)
            if is_first and error.is_gone:
                staged.add(self._stage(rows, is_first=False))
            elif is_first and error.is_refused and len(rows) > 1:
                middle = len(rows) // 2
                staged.add(self._stage(rows[:middle], is_first=False))
                staged.add(self._stage(rows[middle:], is_first=False))
            elif error.is_over:
                alone = error.is_refused and len(rows) == 1
                staged.settle(rows, "refused" if alone else "failed", str(error))
            else:
                return self._broken_off(staged, rows, str(error))
        return staged

    def _run(self, staged: _Staged, rows: Sequence[ManifestRow], links: Mapping[str, Link]) -> None:
        """Make a job, note it before it starts, and collect what it brings."""
        data_url = self.urls.casda_data
        job_id = create_job(self.web, data_url, [links[row.location].token for row in rows])
        staged.jobs[job_id] = [row.product for row in rows]
        ids = tuple(row.location for row in rows)
        note_job(self.folder, KnownJob(job_id, data_url, ids))
        self._collect(staged, rows, job_id, links)

    def _links(self, staged: _Staged, rows: Sequence[ManifestRow]) -> dict[str, Link]:
        """Rights to stage, by identifier; rows without are settled."""
        links = {}
        for row in rows:
            try:
                links[row.location] = link_of(
                    self.web, self.urls.casda_login, self.login, row.location
                )
            except LinkError as error:
                logger.warning("%s", error)
                staged.settle([row], "refused" if error.is_final else "failed", str(error))
        return links

    def _collect(
        self,
        staged: _Staged,
        rows: Sequence[ManifestRow],
        job_id: str,
        links: Mapping[str, Link],
    ) -> None:
        """Wait for a job and look up its files with their checksums."""
        job = wait_for_job(self.web, self.urls.casda_data, job_id)
        for row in rows:
            link = links.get(row.location)
            try:
                staged.remotes.append(self._remote(row, job, link.bytes if link else None))
            except LinkError as error:
                staged.stale[row.product] = str(error)

    def _remote(self, row: ManifestRow, job: Job, announced: int | None) -> Remote:
        where = f"CASDA, {row.location}"
        href = job.hrefs.get(row.location)
        if href is None:
            raise LinkError(
                f"{where}: the staging job brought {len(job.hrefs)} links, none for it", True
            )
        if fault := leads_inside(self.urls.casda_data, href):
            raise LinkError(f"{where}: the link of the staging job {fault}; not followed", True)
        checksum, size = "", announced
        sidecar = job.hrefs.get(row.location + CHECKSUM_SUFFIX)
        if sidecar is None or leads_inside(self.urls.casda_data, sidecar):
            logger.warning("%s: CASDA gave no checksum; its size is checked only", where)
        else:
            try:
                checksum, size = read_sidecar(self.web.text(sidecar, secret=True), where)
            except WebError as error:
                if not error.is_permanent:
                    raise
                raise LinkError(
                    f"{where}: its checksum file cannot be had ({error})", True
                ) from error
        content: Content = "fits.gz" if row.product.endswith(".gz") else "fits"
        return Remote(row.product, href, size, checksum, content, secret=True)

    def _broken_off(self, staged: _Staged, rows: Sequence[ManifestRow], reason: str) -> _Staged:
        self.outage = reason
        settled = staged.outcomes.keys() | staged.stale.keys()
        brought = {remote.name for remote in staged.remotes}
        left = [row for row in rows if row.product not in settled | brought]
        staged.settle(left, "failed", reason)
        return staged

    def _forget(self, job_ids: Iterable[str]) -> None:
        for job_id in job_ids:
            forget_job(self.folder, job_id)
