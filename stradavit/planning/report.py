"""The plan as text for people."""

import textwrap
from collections.abc import Iterator, Sequence

from stradavit.planning.known import Basis
from stradavit.planning.plan import Plan

WIDTH = 118
_STAGES = {
    "cut_part": "cutting",
    "cut_detection": "cutting of detection sets",
    "cut_chips": "cutting of chips",
    "features": "features",
    "finetune": "fine-tuning",
    "train_detector": "training of detectors",
    "detect": "detecting",
}
_DEVICES = {"cuda": "GPU", "cpu": "processor"}

Row = Sequence[str]


def as_text(plan: Plan) -> str:
    """All sections, each a table whose last column says where its numbers come from."""
    blocks = [_head(plan)]
    for title, rows in (
        ("Encoders", _encoders(plan)),
        ("Detectors", _detectors(plan)),
        ("Cells", _cells(plan)),
        ("Cutouts", _cutouts(plan)),
        ("Labelled images", _images(plan)),
        ("Detection sets", _detection_sets(plan)),
        ("Training that is left", _trainings(plan)),
        ("Other jobs that are left", _jobs(plan)),
        ("Disk", _disk(plan)),
        ("Downloads", _downloads(plan)),
    ):
        found = list(rows)
        if len(found) > 1:
            blocks.append(f"{title}\n" + "\n".join(_aligned(found)))
    blocks.append(f"Next: {plan.next}")
    return "\n\n".join(blocks)


def time_text(hours: float) -> str:
    """A time for people: seconds, minutes or hours."""
    if hours < 0.025:
        return f"{3600 * hours:.0f} s"
    if hours < 1.5:
        return f"{60 * hours:.2g} min"
    return f"{hours:,.1f} h" if hours < 100 else f"{hours:,.0f} h"


def size_text(n_bytes: float) -> str:
    """A size for people."""
    for unit, factor in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if n_bytes >= factor:
            return f"{n_bytes / factor:.3g} {unit}"
    return f"{n_bytes:.0f} B"


def _head(plan: Plan) -> str:
    speed, device = plan.speed, _DEVICES[plan.speed.device]
    if plan.speed.device == "cuda":
        total = f"{time_text(plan.device_hours)} of a GPU"
        total += f" and {time_text(plan.processor_hours)} of a processor"
    else:
        total = f"{time_text(plan.device_hours + plan.processor_hours)} of a processor"
    n_left = sum(row.left for row in plan.encoders if row.kind != "start")
    n_cells = sum(row.left for row in plan.cells)
    things = [f"{n_left:,} trainings"]
    if plan.detectors:
        things.append(f"{sum(row.wanted - row.scored for row in plan.detectors):,} detectors")
    text = (
        f"{', '.join(things)} and {n_cells:,} cells are left: {total}, one job after the other; "
        f"{size_text(plan.bytes_to_come)} of disk; {size_text(plan.bytes_to_fetch)} to fetch. "
        f"Where nothing was measured, a {device} is taken to do {speed} (--tflops)."
    )
    title = f"Plan of {' + '.join(plan.configfiles)}, results in {plan.results}"
    return "\n".join([title, *textwrap.wrap(text, WIDTH, break_on_hyphens=False)])


def _encoders(plan: Plan) -> Iterator[Row]:
    yield "", "wanted", "done", "left", ""
    for row in plan.encoders:
        note = f"{row.outdated} made by other settings" if row.outdated else ""
        yield row.title, f"{row.wanted:,}", f"{row.done:,}", f"{row.left:,}", note
    runs = [row for row in plan.encoders if row.kind != "start"]
    seeds = ", ".join(map(str, plan.seeds))
    yield (
        "all trainings",
        *(f"{sum(getattr(row, key) for row in runs):,}" for key in ("wanted", "done", "left")),
        f"seed{'s' * (len(plan.seeds) > 1)} {seeds}",
    )


def _detectors(plan: Plan) -> Iterator[Row]:
    yield "", "wanted", "trained", "scored", ""
    for row in plan.detectors:
        note = f"{row.outdated} made by other settings" if row.outdated else ""
        yield row.detection_set, f"{row.wanted:,}", f"{row.trained:,}", f"{row.scored:,}", note


def _cells(plan: Plan) -> Iterator[Row]:
    benchmarks = list(dict.fromkeys(row.benchmark for row in plan.cells))
    yield "done of wanted", *benchmarks, "left", ""
    for protocol in dict.fromkeys(row.protocol for row in plan.cells):
        of_it = {row.benchmark: row for row in plan.cells if row.protocol == protocol}
        shown = [
            f"{of_it[name].done} of {of_it[name].wanted}" if name in of_it else "–"
            for name in benchmarks
        ]
        yield protocol, *shown, f"{sum(row.left for row in of_it.values()):,}", ""


def _cutouts(plan: Plan) -> Iterator[Row]:
    yield "", "products", "cutouts", ""
    for survey in plan.surveys:
        source = _from(survey.cutouts.basis, survey.cutouts.source)
        yield survey.name, f"{survey.products.value:,.0f}", f"{survey.cutouts.value:,.0f}", source
    for corpus in plan.corpora:
        source = _from(corpus.cutouts.basis, corpus.cutouts.source)
        yield f"corpus {corpus.name}", "", f"{corpus.cutouts.value:,.0f}", source


def _images(plan: Plan) -> Iterator[Row]:
    yield "", "images", ""
    for sample in plan.benchmarks:
        known = sample.images
        yield sample.name, f"{known.value:,.0f}", _from(known.basis, known.source)


def _detection_sets(plan: Plan) -> Iterator[Row]:
    yield "", "train", "val", "test", ""
    for found in plan.detection_sets:
        counts = (f"{n:,}" for n in (found.train, found.val, found.test))
        yield found.name, *counts, _from(found.basis, found.source)


def _trainings(plan: Plan) -> Iterator[Row]:
    yield "", "runs", "updates a run", "cutouts a run", "time", "speed from"
    corpora = {(work.kind == "chips", work.corpus) for work in plan.trainings}
    for work in plan.trainings:
        several = sum(of_chips == (work.kind == "chips") for of_chips, _ in corpora) > 1
        name = f"{work.title}, {work.corpus}" if several else work.title
        source = _from(work.basis, work.source)
        if work.resumed:
            source = f"{work.resumed} from a checkpoint; {source}"
        yield (
            name,
            f"{work.runs:,}",
            f"{work.updates:,}",
            f"{work.cutouts:,}",
            time_text(work.device_hours),
            source,
        )


def _jobs(plan: Plan) -> Iterator[Row]:
    yield "", "jobs", "time", "of a", "speed from"
    for job in plan.jobs:
        source = _from(job.basis, job.source)
        name = _STAGES.get(job.stage, job.stage)
        yield name, f"{job.jobs:,}", time_text(job.hours), _DEVICES[job.device], source


def _disk(plan: Plan) -> Iterator[Row]:
    yield "", "here", "to come", ""
    for space in plan.disk:
        source = _from(space.basis, space.source)
        yield space.title, size_text(space.here), size_text(space.to_come), source
    free = f"{size_text(plan.bytes_free)} are free"
    if plan.is_short_of_disk:
        free += ": TOO LITTLE; use a larger disk (snakemake --directory)"
    yield "together", size_text(plan.bytes_here), size_text(plan.bytes_to_come), free


def _downloads(plan: Plan) -> Iterator[Row]:
    yield "", "files", "size", ""
    for item in plan.raw:
        if item.is_fetched:
            source = _from(item.basis, item.source)
            if item.files_here:
                source = f"{item.files_here:,} are here; {source}"
            yield item.name, f"{item.files_left:,}", size_text(item.bytes_left), source
    if plan.files_to_fetch:
        yield "together", f"{plan.files_to_fetch:,}", size_text(plan.bytes_to_fetch), ""


def _from(basis: Basis, source: str) -> str:
    return f"{basis}: {source}"


def _aligned(rows: list[Row]) -> list[str]:
    """Columns side by side; the first and the last lean left, and the last is wrapped."""
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]) - 1)]
    lines = []
    for row in rows:
        cells = [f"{row[0]:<{widths[0]}}"]
        cells += [f"{cell:>{width}}" for cell, width in zip(row[1:-1], widths[1:], strict=True)]
        lead = "  " + "  ".join(cells) + "  "
        text = textwrap.wrap(
            row[-1], max(40, WIDTH - len(lead)), break_on_hyphens=False, break_long_words=False
        )
        lines.append((lead + (text[0] if text else "")).rstrip())
        lines += [" " * len(lead) + line for line in text[1:]]
    return lines
