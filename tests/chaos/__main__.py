"""`python -m tests.chaos`: fifty random faults over the small workflow, a quarter of an hour."""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from tests.chaos.faults import draw
from tests.chaos.page import summary, table, write
from tests.chaos.runner import run_chaos


def main() -> int:
    """Run, print the table of outcomes and one line; status 1 if anything was not healed."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="what the faults are drawn from")
    parser.add_argument("--faults", type=int, default=50, help="how many")
    parser.add_argument("--keep", type=Path, help="work in this folder, empty or new")
    parser.add_argument("--write", type=Path, help="put the table between the marks of this page")
    given = parser.parse_args()
    folder = given.keep or Path(tempfile.mkdtemp(prefix="stradavit-chaos-"))
    try:
        result = run_chaos(draw(given.seed, given.faults), folder)
    except AssertionError as error:
        print(f"seed {given.seed}: {error}\nThe folder is kept: {folder}", file=sys.stderr)
        return 1
    if given.keep is None:
        shutil.rmtree(folder)
    print(table(result.outcomes))
    print(summary(result, given.seed))
    if given.write is not None:
        write(given.write, result, given.seed)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
