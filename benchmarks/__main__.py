"""`python -m benchmarks`: measure, print, and rewrite docs/performance.json and .md."""

import argparse
import importlib
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks import paper_scale
from benchmarks.harness import Comparison
from benchmarks.machine import (
    REPOSITORY,
    describe_commit,
    describe_machine,
    describe_versions,
    n_cores,
)
from benchmarks.report import (
    JSON_NAME,
    PAGE_NAME,
    merge_entry,
    read_report,
    render,
    render_entry,
    render_targets,
    write_page,
)

# Module of each benchmark, in the order of the report; the longest comes last.
CATALOGUE = {
    "views": "the view engine beside torchvision's operators and lightly's transform",
    "shards": "reading cutouts beside plain reads, WebDataset and Zarr",
    "cutouts": "from a mosaic to cutouts beside a loop of astropy's Cutout2D",
    "training_step": "a training step beside transformers' model and the rate of matrix products",
    "probe": "the probe on cached features beside the backbone computed anew in every epoch",
    "scale": "an index of ten million cutouts: memory and time to open",
    "whole_run": "where the seconds of the default `make tables` go, and the start of the command",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmarks asked for; status 1 if one of them could not run."""
    asked = build_parser().parse_args(arguments)
    if asked.list:
        width = max(map(len, CATALOGUE))
        print("\n".join(f"{name:{width}}  {what}" for name, what in CATALOGUE.items()))
        return 0
    if asked.render:
        write_page(asked.out, render_all(read_report(asked.out)))
        print(f"{PAGE_NAME} rewritten from {JSON_NAME}")
        return 0
    if asked.device == "cuda" and not torch.cuda.is_available():
        print("benchmarks: --device cuda, but torch sees no GPU; use auto or cpu", file=sys.stderr)
        return 2
    on_gpu = asked.device != "cpu" and torch.cuda.is_available()
    # A name twice would be measured twice.
    names = list(dict.fromkeys(asked.names)) or list(CATALOGUE)
    started, failed = time.monotonic(), []
    for position, name in enumerate(names):
        before = read_report(asked.out)
        _announce(f"[{position + 1}/{len(names)}] {name}: {CATALOGUE[name]}")
        _announce(f"      {_expected(names[position:], before, asked.rounds)}")
        entry = measure(name, asked.work, torch.device("cuda" if on_gpu else "cpu"), asked.rounds)
        report = merge_entry(asked.out, name, entry)
        # Each one is kept as soon as it is there, so that stopping early loses nothing.
        write_page(asked.out, render_all(report))
        print(f"\n{render_entry(name, report[name])}\n", flush=True)
        failed += [name] if "failed" in entry else []
    print("=" * 80)
    print(render_targets(read_report(asked.out), names))
    print("=" * 80)
    print(f"{JSON_NAME} and {PAGE_NAME} rewritten after {time.monotonic() - started:.0f} s.")
    return 1 if failed else 0


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    listed = "\n".join(f"  {name:14} {what}" for name, what in CATALOGUE.items())
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Measure stradavit side by side with its peers on this machine.\n\n"
        "All sides of a comparison take turns in the same process, on the same inputs and with\n"
        "all cores. Ratios are taken within each round, so they hold where absolute rates drift.\n"
        "Keep the machine idle meanwhile; without NAME the whole set takes about 20 minutes.",
        epilog=f"benchmarks:\n{listed}\n\n"
        "examples:\n"
        "  make bench                                everything, in an environment of its own\n"
        "  python -m benchmarks probe --rounds 5     one benchmark; the others keep their numbers\n"
        "  python -m benchmarks --render             the page anew from the JSON, no measuring\n\n"
        "A missed target is said loudly and is no failure; status 1 means that a benchmark could\n"
        "not run.",
    )
    parser.add_argument(
        "names", nargs="*", metavar="NAME", type=_known, help="benchmarks to run; default all"
    )
    parser.add_argument(
        "--rounds", type=_positive, default=3, metavar="N", help="rounds that count (default 3)"
    )
    parser.add_argument(
        "--work",
        type=Path,
        metavar="DIR",
        help="folder for inputs, some GB; kept (default: a temporary one, removed afterwards)",
    )
    parser.add_argument(
        "--device",
        choices=("auto", "cpu", "cuda"),
        default="auto",
        help="where our side computes; auto takes a GPU if there is one",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=REPOSITORY / "docs",
        metavar="DIR",
        help=f"folder of {JSON_NAME} and {PAGE_NAME} (default: docs)",
    )
    parser.add_argument("--list", action="store_true", help="name the benchmarks and stop")
    parser.add_argument(
        "--render", action="store_true", help="rewrite the page from the JSON and stop"
    )
    return parser


def measure(name: str, work: Path | None, device: torch.device, rounds: int) -> dict[str, Any]:
    """The entry of one benchmark; a benchmark that raises gives an entry that says so."""
    entry: dict[str, Any] = {
        "machine": describe_machine(),
        "versions": describe_versions(),
        "commit": describe_commit(),
        "rounds": rounds,
    }
    # A benchmark may have left another number.
    torch.set_num_threads(n_cores())
    folder = Path(tempfile.mkdtemp(prefix="stradavit-bench-")) if work is None else work / name
    folder.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    try:
        # Here and not above: one that lacks a library must not stop the others.
        outcome = importlib.import_module(f"benchmarks.{name}").compare(folder, device, rounds)
        comparisons = [outcome] if isinstance(outcome, Comparison) else outcome
        entry["comparisons"] = [comparison.to_json() for comparison in comparisons]
    except Exception as error:
        traceback.print_exc()
        entry["failed"] = f"{type(error).__name__}: {error}"
    finally:
        if work is None:
            shutil.rmtree(folder, ignore_errors=True)
    entry["seconds"] = round(time.monotonic() - started, 1)
    return entry


def render_all(report: dict[str, Any]) -> str:
    """The generated part of the page: what was measured, then what follows for the paper's size."""
    return f"{render(report, CATALOGUE)}\n\n{paper_scale.render(report)}"


def _expected(names: Sequence[str], report: dict[str, Any], rounds: int) -> str:
    """How long the benchmarks that are left will take, by their last run."""
    # One round more is run than counted; the share that inputs take is not known.
    known = [
        report[name]["seconds"] * (rounds + 1) / (report[name]["rounds"] + 1)
        for name in names
        if "failed" not in report.get(name, {"failed": ""})
    ]
    if not known:
        return "never measured here, so no estimate"
    left = f"{len(names) - len(known)} without an estimate" if len(known) < len(names) else ""
    return (
        f"about {sum(known) / 60:.0f} min for what is left by the last runs{left and ', ' + left}"
    )


def _announce(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _known(text: str) -> str:
    # Not by `choices`, which refuses an empty list.
    if text not in CATALOGUE:
        raise argparse.ArgumentTypeError(
            f"no benchmark is called {text!r}; expected one of {', '.join(CATALOGUE)}"
        )
    return text


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("expected a number of rounds from 1")
    return value


if __name__ == "__main__":
    raise SystemExit(main())
