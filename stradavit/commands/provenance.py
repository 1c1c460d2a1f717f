"""Where a number comes from."""

import os
import sys
from pathlib import Path

from stradavit.commands.command import PATH, Namespace, command


@command(
    "provenance",
    "Where a number of a table comes from: metrics, features, encoders and their starts, corpus, "
    "shards, FITS files; with settings, seeds, code and machine. Nothing is written.",
    # No option, so it is given without a name.
    cell={
        "positional": True,
        "metavar": "CELL",
        "help": "TABLE:ROW:COLUMN, such as '13_two_stage_probe:3:RGZ DR1 Macro-F1'; ROW is a "
        "number counted from 1, or the beginning of its labels. Or PROTOCOL/ENCODER/BENCHMARK, "
        "detection/ENCODER/SET/sSEED, or a file below the results.",
    },
    results=PATH | {"default": Path("results"), "metavar": "DIR", "help": "Folder of the results."},
    verify={
        "action": "store_true",
        "default": False,
        "help": "Read every file of the chain and compare its SHA-256 with what was recorded when "
        "it was used; ends with status 1 if one differs.",
    },
    files={
        "choices": ("few", "all"),
        "default": "few",
        "help": "List a few raw files of each part, or all.",
    },
    json={"action": "store_true", "default": False, "help": "The chain as JSON, for programs."},
)
def provenance(a: Namespace) -> int:
    """Print the chain behind a cell."""
    from stradavit.tracing.text import as_json, as_text
    from stradavit.tracing.trace import trace

    found = trace(a.cell, a.results, a.verify)
    try:
        print(as_json(found) if a.json else as_text(found, a.files == "all"), flush=True)
    except BrokenPipeError:
        # Whoever reads has seen enough, as `head` has; Python would complain when it leaves.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return int(a.verify and bool(found.all_findings()))
