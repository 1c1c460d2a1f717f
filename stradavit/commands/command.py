"""What a subcommand is: its words, its options, and the one function it calls."""

import argparse
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Namespace = argparse.Namespace
Option = dict[str, Any]
Run = Callable[[Namespace], str | int]


@dataclass(frozen=True)
class Command:
    """A subcommand.

    Parameters
    ----------
    word : what is typed
    help_text : one or two sentences
    options : what argparse is told of each option, by its name with underscores; one that says
        `positional` is given without its name
    run : parses, calls one function, returns the line to print, or an exit status
    """

    word: str
    help_text: str
    options: dict[str, Option]
    run: Run


def command(word: str, help_text: str, /, **options: Option) -> Callable[[Run], Command]:
    """Make a subcommand of the function below it."""
    return lambda run: Command(word, help_text, options, run)


def read_argument(text: str) -> str:
    """JSON as given, or the text of the file behind @FILE."""
    if not text.startswith("@"):
        return text
    try:
        return Path(text[1:]).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise argparse.ArgumentTypeError(
            f"{text[1:]}: cannot be read as text ({error}); expected a file of settings in JSON"
        ) from error


def read_radii(text: str) -> dict[str, float]:
    """Guard radii in arcmin by benchmark, from JSON."""
    try:
        radii = json.loads(text)
        return {str(name): float(radius) for name, radius in radii.items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise argparse.ArgumentTypeError(
            f'{text!r} gives no radii; expected JSON such as {{"mirabest": 2.0}}'
        ) from error


def source_block(kind: Any, text: str, what: str) -> Any:
    """A block of the config by its `source`.

    Raises
    ------
    SettingsError
        If it is none, naming the option.
    """
    from pydantic import TypeAdapter, ValidationError

    from stradavit.errors import SettingsError
    from stradavit.settings.base import describe_faults

    try:
        return TypeAdapter(kind).validate_json(text)
    except ValidationError as error:
        raise SettingsError(f"--{what}: {describe_faults(error)}") from None


def loader_settings(text: str) -> Any:
    """What decides speed; also sets how many threads libraries may use."""
    from stradavit.settings.training import LoaderSettings

    loader = LoaderSettings.parse(text)
    # Before torch is loaded: the thread pools of the libraries below it read these once.
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(variable, str(loader.threads))
    return loader


def job_of(a: Namespace) -> str:
    """What others on this machine are told of this job."""
    return f"stradavit {a.command} --out {a.out}"


def lease_gpu(a: Namespace, loader: Any) -> None:
    """A free GPU for this job alone, where there are any; before torch looks for them."""
    from stradavit.training.lease import lease

    lease(loader.device, 1, job_of(a))


def one_thread() -> None:
    """For stages of many small products, on which several threads only wait for each other."""
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(variable, "1")


def archive_settings(text: str) -> Any:
    """Addresses, patience and manners."""
    from stradavit.settings.archives import ArchiveSettings

    return ArchiveSettings.parse(text)


PATH: Option = {"type": Path, "metavar": "FILE"}
PATHS: Option = {"type": Path, "metavar": "FILE", "nargs": "*"}
NAME: Option = {"metavar": "NAME"}
BLOCK: Option = {"type": read_argument, "metavar": "JSON"}
LOADER: Option = BLOCK | {
    "default": "{}",
    "help": "What decides speed: workers, threads, device.",
}
ARCHIVES: Option = BLOCK | {
    "default": "{}",
    "help": "The block `archives` of the config: addresses, patience, manners.",
}
