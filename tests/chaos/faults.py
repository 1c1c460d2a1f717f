"""Which faults a run is given: drawn from a seed, every kind and every rule at least once in 50."""

import random
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from tests.chaos.small_workflow import RULES

# Sent to a job, or to Snakemake with all its jobs, while a rule runs.
SIGTERM_RULES = ("pretrain_contrastive", "train_detector")
WHILE_RUNNING = (
    "sigkill-stage",
    "sigterm-stage",
    "sigkill-workflow",
    "sigint-workflow",
    "two-workflows",
    "vanishing-input",
)
# Done to what is finished, while nothing runs.
SILENT = ("flip-byte", "truncate", "delete")
AT_REST = (*SILENT, "clock-jump", "full-disk", "read-only")


@dataclass(frozen=True)
class Damage:
    """A kind of finished file, and what has to read it.

    Parameters
    ----------
    files : glob below results/ of the files that may be hit
    reader : glob below results/ of what is made from them; `{parent}` and `{stem}` are those of
        the file that is hit, `{part}` is the part of the survey it belongs to
    """

    files: str
    reader: str


DAMAGES = {
    "manifest": Damage("manifests/*.csv", "raw/{stem}/0.csv"),
    "ledger": Damage("raw/lotss/[0-9].csv", "shards/lotss/{stem}.h5"),
    "labels": Damage("raw/*/labels.csv", "benchmarks/{parent}.h5"),
    "sources": Damage("raw/sar/sources.json", "detection/{parent}.h5"),
    "raw FITS": Damage("raw/lotss/files/*.fits", "shards/lotss/{part}.h5"),
    "raw image": Damage("raw/mirabest/files/*.fits", "benchmarks/mirabest.h5"),
    "shard": Damage("shards/lotss/*.h5", "encoders/reconstruction_*_all_*/model.safetensors"),
    "corpus": Damage("corpora/all.h5", "encoders/reconstruction_*_all_*/model.safetensors"),
    "benchmark": Damage("benchmarks/*.h5", "features/start_*/{stem}.h5"),
    "detection set": Damage("detection/sar.h5", "shards/sar_chips/0.h5"),
    "encoder": Damage("encoders/two_stage_*/model.safetensors", "features/{parent}/mirabest.h5"),
    "checkpoint": Damage("encoders/two_stage_*/model.safetensors", ""),
    "detector": Damage("detectors/*/sar/s42/model.safetensors", "metrics/detection/*/sar/s42.json"),
    "features": Damage("features/*/*.h5", "metrics/linear_probe/{parent}/{stem}.json"),
    "metrics": Damage("metrics/[dfkl]*/**/*[a-z2].json", "tables"),
    "leakage": Damage("leakage/*.json", "tables"),
}


@dataclass(frozen=True)
class Fault:
    """One fault.

    Parameters
    ----------
    kind : of `WHILE_RUNNING` or `AT_REST`
    where : a rule, or a kind of file of `DAMAGES`, or what the kind says
    moment : in [0, 1): of the duration of the job, or of the length of the file
    choice : in [0, 1): which of several files
    """

    kind: str
    where: str
    moment: float
    choice: float


def draw(seed: int, n: int, left_out: Collection[str] = ()) -> list[Fault]:
    """`n` faults in the order they are tried; those while running come first.

    The first 50 hold every kind, every rule as a killed job, and every kind of file; more are
    drawn from these. Fewer are a sample of them.

    Parameters
    ----------
    left_out : rules that have no job to strike
    """
    drawn = random.Random(seed)
    rules = [rule for rule in RULES if rule not in left_out]
    running = [("sigkill-stage", rule) for rule in rules if rule not in SIGTERM_RULES]
    running += [("sigterm-stage", rule) for rule in SIGTERM_RULES]
    running += [(f"sig{name}-workflow", drawn.choice(rules[4:])) for name in ("kill", "int")]
    # A second Snakemake takes seconds to start, so the job must be long.
    running += [("two-workflows", "pretrain_contrastive"), ("vanishing-input", "cut_part")]
    resting = [("flip-byte", what) for what in DAMAGES]
    resting += [("truncate", drawn.choice(list(DAMAGES))), ("delete", drawn.choice(list(DAMAGES)))]
    resting += [("clock-jump", "future"), ("clock-jump", "past")]
    resting += [("full-disk", "pretrain_reconstruction"), ("read-only", "results")]
    every = running + resting
    if n < len(every):
        chosen = _sample(drawn, running, resting, n)
    else:
        more = [one for one in every if one[0] in ("sigkill-stage", *SILENT)]
        chosen = every + [drawn.choice(more) for _ in range(n - len(every))]
    order = {kind: place for place, kind in enumerate(WHILE_RUNNING)}
    chosen.sort(key=lambda one: order.get(one[0], len(order)))
    return [Fault(kind, where, drawn.random(), drawn.random()) for kind, where in chosen]


def _sample(
    drawn: random.Random, running: list[tuple[str, str]], resting: list[tuple[str, str]], n: int
) -> list[tuple[str, str]]:
    """Some of each group, and of each kind one before any gets a second."""
    chosen: list[tuple[str, str]] = []
    for group, many in ((running, n - n // 2), (resting, n // 2)):
        shuffled = drawn.sample(group, len(group))
        kinds = [kind for kind, _ in shuffled]
        earlier = [kinds[:place].count(kind) for place, kind in enumerate(kinds)]
        chosen += [shuffled[place] for place in np.argsort(earlier, kind="stable")[:many]]
    return chosen
