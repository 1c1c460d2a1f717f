"""`stradavit doctor`: one small request to each archive of a config, and what to do about it.

Nothing is fetched that a stage would need again, and nothing is written. The first day on a
connected machine so settles what documents left open: counts, sizes, digests, texts of refusals.
"""

import importlib.metadata
import json
import os
import shutil
import textwrap
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from stradavit.acquire.archives import kaggle
from stradavit.acquire.archives.contact import Questions, Said, State, size_text
from stradavit.acquire.archives.detection_contact import detection_visits
from stradavit.acquire.archives.hub_api import HubWeb
from stradavit.acquire.archives.source_contact import (
    horton_questions,
    hub_questions,
    mirabest_questions,
    rgz_questions,
)
from stradavit.acquire.archives.survey_contact import (
    casda_questions,
    lotss_questions,
    mgcls_questions,
    sdc1_questions,
)
from stradavit.errors import StradavitError
from stradavit.settings import Settings
from stradavit.settings.archives import ArchiveSettings
from stradavit.settings.encoders import HubEncoder
from stradavit.settings.matrix import EncoderNode
from stradavit.settings.sources import (
    CasdaSurvey,
    HortonBenchmark,
    LotssSurvey,
    MgclsSurvey,
    MiraBestBenchmark,
    RgzBenchmark,
    Sdc1Survey,
)

# All archives are asked at once; this bounds the whole, whatever any of them does.
DEADLINE_S = 180.0
ATTEMPTS = 2
TIMEOUT_S = 30.0
PACKAGES = ("httpx2", "astropy", "huggingface-hub", "safetensors", "h5py", "torch", "snakemake")
WIDTH = 118
MARKS: dict[State, str] = {"good": "ok", "note": "note", "fault": "FAULT"}


@dataclass(frozen=True)
class Finding:
    """One line of the report: who was asked what, and what came of it."""

    subject: str
    question: str
    state: State
    answer: str
    remedy: str = ""
    bytes: int | None = None


# Questions to one archive; they are asked one after the other, those of other archives meanwhile.
Visit = tuple[str, Callable[[HubWeb], Questions]]


def doctor(settings: Settings, as_json: bool = False) -> int:
    """Print what answered, what is missing and what to do about it.

    Parameters
    ----------
    settings : only what they configure is asked
    as_json : print JSON for programs instead of a table

    Returns
    -------
    0 if everything is ready, 1 if something has to be done first
    """
    findings = examine(settings)
    is_ready = not any(finding.state == "fault" for finding in findings)
    if as_json:
        report = {"is_ready": is_ready, "findings": [asdict(finding) for finding in findings]}
        print(json.dumps(report, indent=1, ensure_ascii=False))
    else:
        print(as_table(findings, is_ready))
    return 0 if is_ready else 1


def examine(settings: Settings) -> list[Finding]:
    """Every finding, in the order of the settings; first the archives, then this machine."""
    planned = visits(settings)
    findings = ask_all(planned, settings.archives)
    if not planned:
        said = "none is configured: everything is drawn, or on this disk"
        findings.append(Finding("archives", "which", "good", said))
    return [*findings, *this_machine(settings, findings)]


def visits(settings: Settings) -> list[Visit]:
    """Whom to ask, by the blocks of the settings."""
    urls = settings.archives.urls
    planned: list[Visit] = []
    for name, survey in settings.surveys.items():
        subject = f"surveys.{name}"
        match survey:
            case MgclsSurvey():
                planned.append((subject, partial(mgcls_questions, survey, urls=urls)))
            case CasdaSurvey():
                planned.append((subject, partial(casda_questions, survey, urls=urls)))
            case LotssSurvey():
                planned.append((subject, partial(lotss_questions, survey, urls=urls)))
            case Sdc1Survey():
                planned.append((subject, partial(sdc1_questions, survey, urls=urls)))
    for name, benchmark in settings.benchmarks.items():
        subject = f"benchmarks.{name}"
        match benchmark:
            case RgzBenchmark():
                planned.append((subject, partial(rgz_questions, benchmark, urls=urls)))
            case MiraBestBenchmark():
                planned.append((subject, partial(mirabest_questions, benchmark, urls=urls)))
            case HortonBenchmark():
                planned.append((subject, partial(horton_questions, benchmark, urls=urls)))
    for name, encoder in settings.encoders.items():
        if isinstance(encoder, HubEncoder):
            # Published weights: no seed, no registers of ours.
            node = EncoderNode("start", name, 0, None, None)
            kept = Path("results/encoders") / node.name / ".hub"
            questions = partial(hub_questions, encoder, hub=urls.hub, kept=kept)
            planned.append((f"encoders.{name}", questions))
    return [*planned, *detection_visits(settings)]


def ask_all(planned: Sequence[Visit], archives: ArchiveSettings) -> list[Finding]:
    """Ask all archives at once; whoever has not answered by the deadline is a finding too."""
    patience = {
        "attempts": min(archives.attempts, ATTEMPTS),
        "timeout_s": min(archives.timeout_s, TIMEOUT_S),
        "backoff_max_s": min(archives.backoff_max_s, 2.0),
    }
    found: list[list[Finding]] = [[] for _ in planned]
    with HubWeb(archives.model_copy(update=patience)) as web:
        threads = [
            # Daemons: a server that never ends its answer must not keep the program.
            threading.Thread(target=_visit, args=(web, visit, into), daemon=True)
            for visit, into in zip(planned, found, strict=True)
        ]
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + DEADLINE_S
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        late = [thread.is_alive() for thread in threads]
    findings = []
    for (subject, _), into, is_late in zip(planned, found, late, strict=True):
        findings += into
        if is_late:
            said = f"not all was answered in {DEADLINE_S:.0f} s"
            findings.append(
                Finding(subject, "in time", "fault", said, "Ask again later; see archives.urls.")
            )
    return findings


def _visit(web: HubWeb, visit: Visit, into: list[Finding]) -> None:
    subject, questions = visit
    question = "settings"
    try:
        for question, ask in questions(web):
            try:
                said = ask()
            except StradavitError as error:
                said = Said(str(error), "fault")
            into.append(
                Finding(subject, question, said.state, said.answer, said.remedy, said.bytes)
            )
    except StradavitError as error:
        into.append(Finding(subject, "settings", "fault", str(error)))
    except Exception as error:
        # One archive that has changed beyond recognition must not silence the others.
        said = Said(
            f"answered what the project does not understand ({type(error).__name__}: {error})",
            "fault",
            "Report this to the project.",
        )
        into.append(Finding(subject, question, said.state, said.answer, said.remedy))


# -- this machine ---------------------------------------------------------------------------------


def this_machine(settings: Settings, findings: Sequence[Finding]) -> Iterator[Finding]:
    """Disk space, credentials (never their values) and packages."""
    yield _disk(findings)
    yield from _credentials(settings)
    yield from _packages()


def _disk(findings: Sequence[Finding]) -> Finding:
    known = [finding.bytes for finding in findings if finding.bytes is not None]
    free = shutil.disk_usage(Path.cwd()).free
    answer = f"{size_text(sum(known))} are known to be fetched; {size_text(free)} are free here"
    if sum(known) > free:
        return Finding(
            "this machine",
            "disk space",
            "fault",
            answer,
            "Run in a folder on a larger disk (snakemake --directory), or choose fewer products.",
        )
    return Finding("this machine", "disk space", "good", answer)


def _credentials(settings: Settings) -> Iterator[Finding]:
    has_hub = any(isinstance(encoder, HubEncoder) for encoder in settings.encoders.values())
    if has_hub:
        is_there = bool(os.environ.get("HF_TOKEN"))
        answer = "HF_TOKEN is set" if is_there else "HF_TOKEN is not set; public models need none"
        yield Finding("this machine", "login of the hub", "good", answer)
    try:
        has_kaggle = kaggle.read_credentials() is not None
    except StradavitError as error:
        yield Finding("this machine", "login of Kaggle", "note", str(error))
    else:
        if has_kaggle:
            yield Finding("this machine", "login of Kaggle", "good", "credentials are there")


def _packages() -> Iterator[Finding]:
    versions, absent = [], []
    for name in PACKAGES:
        try:
            versions.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            absent.append(name)
    if absent:
        yield Finding(
            "this machine",
            "packages",
            "fault",
            f"{', '.join(absent)} not installed",
            "Install the project's requirements again (README, Install).",
        )
    else:
        yield Finding("this machine", "packages", "good", ", ".join(versions))


# -- the report -----------------------------------------------------------------------------------


def as_table(findings: Sequence[Finding], is_ready: bool) -> str:
    """The findings as a table for people, wrapped to the width of a terminal."""
    subject_width = max(len(finding.subject) for finding in findings)
    question_width = max(len(finding.question) for finding in findings)
    lines = []
    previous = ""
    for finding in findings:
        subject = "" if finding.subject == previous else finding.subject
        previous = finding.subject
        lead = f"{subject:<{subject_width}}  {finding.question:<{question_width}}"
        lead += f"  {MARKS[finding.state]:<5}  "
        width = max(40, WIDTH - len(lead))
        text: list[str] = []
        for words in (finding.answer, f"→ {finding.remedy}" if finding.remedy else ""):
            # Addresses stay whole, to be copied.
            text += textwrap.wrap(words, width, break_on_hyphens=False, break_long_words=False)
        lines.append(lead + (text[0] if text else ""))
        lines += [" " * len(lead) + line for line in text[1:]]
    n_faults = sum(finding.state == "fault" for finding in findings)
    lines.append("")
    lines.append("Everything is ready." if is_ready else f"{n_faults} to be put right first.")
    return "\n".join(lines)
