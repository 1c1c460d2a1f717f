"""What did not come, kept beside what did: one line each, with the reason."""

import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from stradavit.acquire.table import read_table, write_table
from stradavit.acquire.transfer.remote import Outcome
from stradavit.errors import DataError

MISSING_COLUMNS = ("name", "state", "reason")
logger = logging.getLogger(__name__)


def missing_path(table_path: Path) -> Path:
    """Where the missing of a ledger or a table of labels are listed."""
    return Path(table_path).with_suffix(".missing.csv")


def settle(what: str, outcomes: Sequence[Outcome], table_path: Path, allow_missing: int) -> None:
    """List what is missing beside `table_path`, and fail if that is more than is allowed.

    Parameters
    ----------
    what : survey and part, or benchmark, for messages
    outcomes : of everything that was wanted, after all of it was tried
    table_path : ledger or table of labels that is about to be written
    allow_missing : how many may have been refused; of failed ones, none

    Raises
    ------
    DataError
        If anything failed, or more was refused than is allowed.
    """
    missing = sorted(
        (outcome.name, outcome.state, outcome.reason)
        for outcome in outcomes
        if outcome.state != "fetched"
    )
    path = missing_path(table_path)
    if not missing:
        path.unlink(missing_ok=True)
        return
    write_table(path, MISSING_COLUMNS, missing)
    counts = Counter(state for _, state, _ in missing)
    n_failed, n_refused = counts["failed"], counts["refused"]
    told = f"{n_failed} failed and {n_refused} refused of {len(outcomes)} files, listed in {path}"
    # Of the state that is fatal, the first one tells most.
    state = "failed" if n_failed else "refused"
    name, _, reason = next(row for row in missing if row[1] == state)
    example = f"{name}: {reason}"
    if n_failed:
        raise DataError(
            f"{what}: {told}. The first that failed, {example}. Run it again: what is here stays, "
            "and only the rest is asked for."
        )
    if n_refused > allow_missing:
        raise DataError(
            f"{what}: {told}; {allow_missing} may be missing (allow_missing). The first, {example}."
            f" Look at the list, then repair the cause or set allow_missing to {n_refused}."
        )
    logger.warning("%s: %s; %d may be missing", what, told, allow_missing)


def read_missing(table_path: Path) -> list[tuple[str, str, str]]:
    """Name, state and reason of everything that is missing beside a ledger or table of labels."""
    path = missing_path(table_path)
    if not path.exists():
        return []
    rows = read_table(path, MISSING_COLUMNS, "Delete it and run the rule that makes it again.")
    return [(row["name"], row["state"], row["reason"]) for row in rows]
