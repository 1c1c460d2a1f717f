"""From survey mosaics to the paper's tables: `snakemake --cores all results/tables`."""

from stradavit.settings import Settings


# The default lies beside this file, so that `--directory elsewhere` finds it too.
configfile: f"{workflow.basedir}/config.yaml"


# Everything the config says is checked here, before any work: a typo fails in one second.
SETTINGS = Settings.parse(config)


include: "workflow/common.smk"
include: "workflow/rules/acquire.smk"
include: "workflow/rules/cutouts.smk"
include: "workflow/rules/pretrain.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/detect.smk"
include: "workflow/rules/paper.smk"


report: "workflow/report/workflow.rst"


wildcard_constraints:
    survey=r"[A-Za-z0-9][A-Za-z0-9._-]*",
    benchmark=r"[A-Za-z0-9][A-Za-z0-9._-]*",
    corpus=r"[A-Za-z0-9][A-Za-z0-9._-]*",
    detection=r"[A-Za-z0-9][A-Za-z0-9._-]*",
    part=r"\d+",
    seed=r"\d+",
    encoder=r"[A-Za-z0-9][A-Za-z0-9._+-]*",
    protocol=r"[a-z_]+",


localrules:
    all,
    all_yardsticks,


rule all:
    """Tables and figures: everything the config asks for."""
    default_target: True
    input:
        rules.tables.output,
        rules.figures.output,


rule all_yardsticks:
    """What classical methods reach on every benchmark, to hold the encoders against."""
    input:
        expand(
            "results/metrics/yardstick/{name}/{benchmark}.json",
            name=YARDSTICKS,
            benchmark=SETTINGS.benchmarks,
        ),
