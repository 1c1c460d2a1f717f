"""Tables and figures, and what helps before there are any."""

from pathlib import Path

from stradavit.commands.command import (
    BLOCK,
    PATH,
    Namespace,
    command,
)


@command(
    "tables",
    "Write the paper's tables from the results.",
    settings=BLOCK | {"help": "The whole config."},
    results=PATH | {"help": "Folder of the results.", "metavar": "DIR"},
    out=PATH | {"help": "Folder to write the tables into.", "metavar": "DIR"},
)
def tables(a: Namespace) -> str:
    """Write the tables."""
    from stradavit.paper.tables import write_tables
    from stradavit.settings import Settings

    write_tables(Settings.parse(a.settings), a.results, a.out)
    return f"tables: {a.out}"


@command(
    "figures",
    "Write the paper's figures from the results.",
    settings=BLOCK | {"help": "The whole config."},
    results=PATH | {"help": "Folder of the results.", "metavar": "DIR"},
    out=PATH | {"help": "Folder to write the figures into.", "metavar": "DIR"},
)
def figures(a: Namespace) -> str:
    """Draw the figures."""
    from stradavit.paper.figures import write_figures
    from stradavit.settings import Settings

    write_figures(Settings.parse(a.settings), a.results, a.out)
    return f"figures: {a.out}"


@command(
    "settings",
    "Every key of the config with its default and meaning.",
    config=PATH | {"default": None, "help": "Also check this file."},
)
def describe_settings(a: Namespace) -> str:
    """Print every key; check a config if one is given."""
    from stradavit.settings import Settings
    from stradavit.settings.describe import describe

    if a.config is not None:
        settings = Settings.read(a.config)
        return f"{a.config}: valid; {len(settings.nodes())} encoders, {len(settings.cells())} cells"
    return describe(Settings)


@command(
    "doctor",
    "Ask each archive of a config one small question, look at logins, disk space and packages, "
    "and say what to put right before anything large is fetched. Nothing is written. Ends with "
    "status 1 if something must be put right.",
    configfile=PATH
    | {
        "nargs": "+",
        "default": [Path("config.yaml")],
        "help": "The config and what is laid over it, in this order, such as config.yaml "
        "workflow/config/paper.yaml; config.yaml if absent.",
    },
    json={"action": "store_true", "default": False, "help": "Findings as JSON, for programs."},
)
def see_doctor(a: Namespace) -> int:
    """Ask the archives of a config whether they are ready; prints what it found."""
    from stradavit.acquire.archives.doctor import doctor
    from stradavit.settings import Settings

    return doctor(Settings.read(*a.configfile), a.json)


@command(
    "plan",
    "What a config is going to cost, of what is not there already: trainings and cells, hours, "
    "disk and downloads. Hours follow from earlier runs where there are any. Nothing is "
    "written, and no archive is asked.",
    configfile=PATH
    | {
        "nargs": "+",
        "default": [Path("config.yaml")],
        "help": "As for doctor.",
    },
    results=PATH | {"default": Path("results"), "metavar": "DIR", "help": "Folder of the results."},
    device={
        "choices": ("cuda", "cpu"),
        "default": None,
        "help": "Plan for a GPU or a processor; for what jobs would get here if absent.",
    },
    tflops={
        "type": float,
        "default": None,
        "metavar": "X",
        "help": "TFLOP/s the device sustains, where nothing was measured; 400 for a GPU and "
        "0.04 for each thread of a processor if absent, which is assumed and not measured.",
    },
    json={"action": "store_true", "default": False, "help": "The plan as JSON, for programs."},
)
def see_plan(a: Namespace) -> str:
    """Say what a config is going to cost."""
    from stradavit.planning.plan import make_plan
    from stradavit.planning.report import as_text
    from stradavit.settings import Settings

    settings = Settings.read(*a.configfile)
    plan = make_plan(settings, a.configfile, a.results, a.device, a.tflops)
    return plan.to_json() if a.json else as_text(plan)
