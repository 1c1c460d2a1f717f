"""Writes docs/faults.md: what each archive's tests found for each fault.

`python -m tests.archives.fault_table` runs the tests that record outcomes and writes the page;
with `--check` it says whether the page is what they give.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

from .faults import FAULTS, RECORD_VARIABLE

REPOSITORY = Path(__file__).parents[2]
PAGE = REPOSITORY / "docs" / "faults.md"
Record = dict[tuple[str, str], dict[str, set[str]]]

INTRODUCTION = """\
# What happens when an archive misbehaves

Written by `python -m tests.archives.fault_table` from the tests, which speak to local servers that
behave as the archives do; do not edit. Each fault is laid over each step of each archive.

- **right file**: whole, checked, under its name.
- **refused**: listed with its reason in `<part>.missing.csv`; asking again would not help. More of
  these than `allow_missing` fail the job, after all the rest was fetched.
- **failed**: listed in the same way; the job fails, and running it again asks only for the rest.
- **stops**: the job ends with this message; running it again goes on from there.

Where an archive publishes neither checksum nor size, wrong bytes of the right structure cannot be
told from right ones: only the structure of the file speaks then.
"""


def collect(record_path: Path) -> Record:
    """Outcomes by archive and step, then by fault."""
    found: Record = defaultdict(lambda: defaultdict(set))
    for line in record_path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        found[row["archive"], row["step"]][row["fault"]].add(row["outcome"])
    return found


def page(found: Record) -> str:
    """The page: an overview, then each archive's outcomes in its own words."""
    lines = [INTRODUCTION]
    steps = sorted(found)
    lines += ["## Overview", "", "| fault | what the server does |"]
    lines += ["|---|---|"]
    lines += [f"| {name} | {_cell(meaning)} |" for name, (meaning, _) in FAULTS.items()]
    for archive in sorted({archive for archive, _ in steps}):
        lines += ["", f"## {archive}"]
        for step in (step for name, step in steps if name == archive):
            outcomes = found[archive, step]
            known = [fault for fault in FAULTS if fault in outcomes]
            others = sorted(set(outcomes) - set(known))
            lines += ["", f"### {archive}: {step}", "", "| fault | outcome |", "|---|---|"]
            lines += [
                f"| {_cell(fault)} | {_cell(' / '.join(sorted(outcomes[fault])))} |"
                for fault in (*known, *others)
            ]
    return "\n".join(lines) + "\n"


def rows_of(text: str) -> list[str]:
    """Archive, step, fault and kind of outcome of each row.

    The words of an outcome may quote libraries, which change them; its kind is ours.
    """
    rows, heading = [], ""
    for line in text.splitlines():
        if line.startswith("### "):
            heading = line.removeprefix("### ")
        elif heading and line.startswith("| ") and line != "| fault | outcome |":
            fault, outcome = line.strip("| ").split(" | ", 1)
            kinds = sorted({one.split(":")[0] for one in outcome.split(" / ")})
            rows.append(f"{heading}: {fault}: {' / '.join(kinds)}")
    return rows


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def run_tests(record_path: Path) -> None:
    """Run the tests of this folder with recording on."""
    environment = os.environ | {
        RECORD_VARIABLE: str(record_path),
        "STRADAVIT_FAULT_PAGE": "writing",
    }
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-x",
        "--no-header",
        "-m",
        "not slow",  # whole runs of the workflow record nothing
        str(Path(__file__).parent),
    ]
    subprocess.run(command, cwd=REPOSITORY, env=environment, check=True)


def main(arguments: list[str]) -> int:
    """Write the page, or compare it."""
    with tempfile.TemporaryDirectory() as folder:
        record_path = Path(folder) / "record.jsonl"
        record_path.touch()
        run_tests(record_path)
        text = page(collect(record_path))
    if "--check" in arguments:
        is_same = PAGE.exists() and PAGE.read_text(encoding="utf-8") == text
        print(f"{PAGE}: {'as the tests give it' if is_same else 'differs from the tests'}")
        return 0 if is_same else 1
    PAGE.write_text(text, encoding="utf-8")
    print(f"wrote {PAGE}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
