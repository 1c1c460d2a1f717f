"""Notes about staging jobs that run, so that a later call takes them up instead of making others.

One small file for each job, since parts of a survey may stage at the same time. It holds the id of
the job, with which its files can be downloaded: only its owner can read it.
"""

import hashlib
import json
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from stradavit.acquire.archives.casda_jobs import JOB_ID
from stradavit.files import atomic_path

logger = logging.getLogger(__name__)

NOTES = ".casda-jobs"
# Staged files lie at the archive for three days.
KEPT_S = 30 * 86400.0


@dataclass(frozen=True)
class KnownJob:
    """A job made earlier, at which address, and for which files."""

    job_id: str
    data_url: str
    ids: tuple[str, ...]


def known_jobs(folder: Path, data_url: str) -> list[KnownJob]:
    """Jobs noted below `folder` for this address.

    Notes that cannot be read are passed over; those of jobs long gone are deleted.
    """
    found = []
    for path in sorted((folder / NOTES).glob("*.json")):
        try:
            if time.time() - path.stat().st_mtime > KEPT_S:
                path.unlink(missing_ok=True)
                continue
            note = json.loads(path.read_text(encoding="utf-8"))
            job = KnownJob(str(note["job"]), str(note["data_url"]), tuple(map(str, note["ids"])))
        except (OSError, ValueError, KeyError, TypeError) as error:
            logger.warning("%s: is no note of a staging job (%s)", path, type(error).__name__)
            continue
        if job.data_url == data_url and JOB_ID.fullmatch(job.job_id):
            found.append(job)
    return found


def note_job(folder: Path, job: KnownJob) -> None:
    """Remember a job."""
    text = json.dumps({"job": job.job_id, "data_url": job.data_url, "ids": job.ids})
    with atomic_path(_path(folder, job.job_id)) as temporary:
        temporary.touch(mode=0o600)
        temporary.write_text(text, encoding="utf-8")


def forget_job(folder: Path, job_id: str) -> None:
    """Forget a job: its files are here, or it will bring none."""
    _path(folder, job_id).unlink(missing_ok=True)


def jobs_for(known: Sequence[KnownJob], ids: Sequence[str]) -> list[tuple[KnownJob, list[str]]]:
    """The jobs that hold some of `ids`, each with those; an id that two jobs hold goes to one."""
    left = dict.fromkeys(ids)
    chosen = []
    for job in known:
        held = [identifier for identifier in job.ids if identifier in left]
        if held:
            chosen.append((job, held))
        for identifier in held:
            del left[identifier]
    return chosen


def _path(folder: Path, job_id: str) -> Path:
    # Not under the id itself: folders are listed in many places.
    name = hashlib.sha256(job_id.encode()).hexdigest()[:16]
    return folder / NOTES / f"{name}.json"
