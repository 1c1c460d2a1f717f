"""The command line: one subcommand per stage; each parses, calls one function, prints one line.

Stages are imported inside their subcommand, so `--help` costs nothing and a stage that needs no
torch never loads it.
"""

import argparse
import logging
import sys
from collections.abc import Sequence

from stradavit import __version__
from stradavit.commands import (
    data,
    detection,
    detection_data,
    evaluation,
    provenance,
    reporting,
    training,
)
from stradavit.commands.command import Command
from stradavit.disk import disk_error
from stradavit.errors import StradavitError
from stradavit.training.signals import ignore, leaves_when_told

# As in the help: in the order of the work.
COMMANDS: tuple[Command, ...] = (
    data.acquire_manifest,
    data.acquire_part,
    data.acquire_benchmark,
    detection_data.acquire_detection,
    training.acquire_encoder,
    data.cut_part,
    data.cut_benchmark,
    detection_data.check_detection,
    detection_data.cut_detection,
    detection_data.cut_chips,
    data.cut_corpus,
    training.pretrain,
    evaluation.features,
    evaluation.probe,
    evaluation.knn,
    evaluation.label_budget,
    evaluation.published_split,
    evaluation.finetune,
    evaluation.yardsticks,
    evaluation.leakage,
    detection.train_detector,
    detection.detect,
    reporting.tables,
    reporting.figures,
    reporting.describe_settings,
    reporting.see_doctor,
    reporting.see_plan,
    provenance.provenance,
)


def program() -> int:
    """`main` as a process of its own.

    Told to stop when all is done, it ends well all the same: Snakemake deletes what a job has made
    that ends badly, and shutting down takes seconds once torch is there.
    """
    status = main()
    if status == 0:
        ignore()
    return status


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand; a user's mistake, or a disk's, ends in one message and status 1."""
    parsed = build_parser().parse_args(arguments)
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr
    )
    try:
        with leaves_when_told():
            done = parsed.run(parsed)
    except StradavitError as error:
        print(f"stradavit {parsed.command}: {error}", file=sys.stderr)
        return 1
    except Exception as error:
        # An error while writing does not name its file: what the stage makes is on that disk.
        named = getattr(error, "filename", None)
        refusal = disk_error(error, None if named else getattr(parsed, "out", None))
        if refusal is None:
            raise
        logging.debug("where it was met:", exc_info=error)
        print(f"stradavit {parsed.command}: {refusal}", file=sys.stderr)
        return 1
    if isinstance(done, int):
        return done
    print(done)
    return 0


def build_parser() -> argparse.ArgumentParser:
    """All subcommands with their arguments."""
    parser = argparse.ArgumentParser(
        prog="stradavit",
        description="Radio-astronomy foundation models: from survey mosaics to the paper's tables. "
        "The workflow (`snakemake --cores all results/tables`) runs these stages for you; each can "
        "be run by hand as well. Settings are JSON, or @FILE to read them from a file.",
    )
    parser.add_argument("--version", action="version", version=f"stradavit {__version__}")
    stages = parser.add_subparsers(dest="command", required=True, metavar="STAGE")
    for command in COMMANDS:
        sub = stages.add_parser(command.word, help=command.help_text, description=command.help_text)
        for option, details in command.options.items():
            if "positional" in details:
                sub.add_argument(option, **{k: v for k, v in details.items() if k != "positional"})
                continue
            sub.add_argument(
                "--" + option.replace("_", "-"), required="default" not in details, **details
            )
        sub.set_defaults(run=command.run)
    return parser


if __name__ == "__main__":
    raise SystemExit(program())
