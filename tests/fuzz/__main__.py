"""`python -m tests.fuzz`: thousands of broken files, none of which may do harm."""

import argparse
import sys
import time
from pathlib import Path

from tests.fuzz.cases import make_case
from tests.fuzz.originals import originals
from tests.fuzz.table import Summary, write_page
from tests.fuzz.workers import judge_all


def main() -> int:
    """Judge the cases of a seed; 1 if one of them failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="of all damage (1)")
    parser.add_argument("--files", type=int, default=2000, help="how many (2000)")
    parser.add_argument("--first", type=int, default=0, help="number of the first case (0)")
    parser.add_argument("--workers", type=int, default=2, help="processes (2)")
    parser.add_argument("--keep", type=Path, help="folder for the files that failed")
    parser.add_argument("--write", type=Path, help="page to put the table into")
    chosen = parser.parse_args()
    numbers = list(range(chosen.first, chosen.first + chosen.files))
    summary = Summary(chosen.seed, len(numbers))
    start = time.monotonic()
    for count, (number, outcome) in enumerate(
        judge_all(chosen.seed, numbers, chosen.workers), start=1
    ):
        case = make_case(chosen.seed, number, originals())
        summary.add(case, outcome)
        if outcome.faults:
            print(f"case {number}, {case.kind}, {case.original}: {'; '.join(outcome.faults)}")
            if chosen.keep is not None:
                chosen.keep.mkdir(parents=True, exist_ok=True)
                (chosen.keep / f"{chosen.seed}-{number}.fits").write_bytes(case.content)
        if count % 200 == 0:
            print(f"{count} of {len(numbers)} files, {time.monotonic() - start:.0f} s", flush=True)
    summary.wall_s = time.monotonic() - start
    print(summary.table())
    if chosen.write is not None:
        write_page(chosen.write, summary)
    return 1 if summary.n_failed else 0


if __name__ == "__main__":
    sys.exit(main())
