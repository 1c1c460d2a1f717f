"""The paper's 590,654 cutouts of 512 px on one H100: arithmetic, nothing is run.

What the formulas need from a machine is taken from docs/performance.json where it was measured,
and called so; everything else is a plan.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.machine import NO_GPU
from benchmarks.report import number, table
from stradavit.cutouts.shards import ROW
from stradavit.models.config import EncoderConfig
from stradavit.models.cost import contrastive_flops, encoder_flops, reconstruction_flops
from stradavit.planning.published import TABLE_1, TABLE_1_PX
from stradavit.settings.training import ContrastiveSettings, ReconstructionSettings
from stradavit.training.throughput import published_peak

N_CUTOUTS, SIZE_PX = sum(TABLE_1.values()), TABLE_1_PX
EPOCHS = 35
PEAK_FLOPS = published_peak("H100") or math.nan
PCIE_BYTES_S = 63e9  # PCIe 5.0 x16, one direction
# Of the published run, four RTX 6000 Ada.
PUBLISHED_VIEWS_S, PUBLISHED_GPUS = 359.0, 4
READERS, PREFETCH = 8, 2  # threads, and micro-batches that each reads ahead
INDEX_BYTES = 16  # of a cutout in memory: shard, row, checksum
ORDER_BYTES = 8


@dataclass(frozen=True)
class Phase:
    """One phase of pretraining as it would run.

    Parameters
    ----------
    utilisation : share of the peak wanted end to end
    views : of each cutout
    view_flops : of one view, forward and backward
    micro_batch : cutouts in one pass
    """

    name: str
    utilisation: float
    views: int
    view_flops: float
    micro_batch: int

    @property
    def views_s(self) -> float:
        """Views per second at the wanted utilisation."""
        return self.utilisation * PEAK_FLOPS / self.view_flops

    @property
    def cutouts_s(self) -> float:
        """Cutouts per second that must arrive."""
        return self.views_s / self.views

    @property
    def hours(self) -> float:
        """Of all epochs."""
        return EPOCHS * N_CUTOUTS / self.cutouts_s / 3600


def phases(config: EncoderConfig) -> list[Phase]:
    """Both phases at the targets for a GPU."""
    reconstruction, contrastive = ReconstructionSettings(), ContrastiveSettings()
    hidden, output = contrastive.head_width, contrastive.head_output
    whole = contrastive_flops(encoder_flops(config), config.width, hidden, output, views=1)
    masked = reconstruction_flops(config, reconstruction.mask_ratio)
    return [
        Phase("reconstruction", 0.40, 1, masked, 256),
        Phase("contrastive", 0.45, 2, whole, 256),
    ]


def render(report: Mapping[str, Any]) -> str:
    """Markdown of the plan.

    Parameters
    ----------
    report : entries of docs/performance.json
    """
    config = EncoderConfig(registers=4)
    cutout_bytes = SIZE_PX**2 * 2
    planned = phases(config)
    hours = sum(phase.hours for phase in planned)
    blocks = [
        "### Plan for the paper's size",
        f"**Planned, not measured:** {N_CUTOUTS:,} cutouts of {SIZE_PX} px and "
        f"ViT-B/{config.patch_px} with {config.registers} registers at {config.image_px} px on "
        f"one H100 (SXM, {PEAK_FLOPS / 1e12:.0f} TFLOP/s dense in bf16), if it keeps the share of "
        f"its peak that is the target. Then {EPOCHS} epochs of reconstruction and {EPOCHS} of "
        f"contrastive learning take **{number(hours)} hours**.",
        _table_of(planned, cutout_bytes),
        _memory(planned, cutout_bytes),
        _published(planned),
        _reading(planned, report),
        _steps(planned, report),
    ]
    return "\n\n".join(blocks)


def _table_of(planned: list[Phase], cutout_bytes: int) -> str:
    def row(what: str, values: list[float]) -> list[str]:
        return [what, *map(number, values)]

    rows = [
        row("share of the peak (target), %", [100 * p.utilisation for p in planned]),
        row("views of a cutout", [p.views for p in planned]),
        row("GFLOP of a view, forward and backward", [p.view_flops / 1e9 for p in planned]),
        row("views/s", [p.views_s for p in planned]),
        row("cutouts/s", [p.cutouts_s for p in planned]),
        row("GB/s from disk to host to GPU", [p.cutouts_s * cutout_bytes / 1e9 for p in planned]),
        row(
            "share of PCIe 5.0 x16, %",
            [100 * p.cutouts_s * cutout_bytes / PCIE_BYTES_S for p in planned],
        ),
        row("reads/s of one cutout each", [p.cutouts_s for p in planned]),
        row("ms for a micro-batch of 256 cutouts", [1e3 * 256 / p.cutouts_s for p in planned]),
        row("minutes for an epoch", [60 * p.hours / EPOCHS for p in planned]),
        row(f"hours for {EPOCHS} epochs", [p.hours for p in planned]),
    ]
    return table(["Planned", *(p.name for p in planned)], rows, numeric=(1, 2))


def _memory(planned: list[Phase], cutout_bytes: int) -> str:
    rows_bytes, pixel_bytes = N_CUTOUTS * ROW.itemsize, N_CUTOUTS * cutout_bytes
    ahead = max(p.micro_batch for p in planned) * cutout_bytes * (READERS * PREFETCH + 1)
    rows = [
        ["disk: pixels as uint16", f"{number(pixel_bytes / 1e9)} GB"],
        [f"disk: row tables, {ROW.itemsize} bytes a cutout", f"{number(rows_bytes / 1e6)} MB"],
        ["host: index of the corpus", f"{number(N_CUTOUTS * INDEX_BYTES / 1e6)} MB"],
        ["host: order of an epoch", f"{number(N_CUTOUTS * ORDER_BYTES / 1e6)} MB"],
        [
            f"host: micro-batches read ahead ({READERS} threads, {PREFETCH} each), page-locked",
            f"{number(ahead / 1e9)} GB",
        ],
        [
            "host: page cache that spares the disk all epochs but the first",
            f"{number(pixel_bytes / 1e9)} GB",
        ],
    ]
    return table(["Space, by arithmetic", ""], rows, numeric=(1,))


def _published(planned: list[Phase]) -> str:
    contrastive = planned[1]
    rate = PUBLISHED_VIEWS_S * PUBLISHED_GPUS
    hours = EPOCHS * N_CUTOUTS * contrastive.views / rate / 3600
    return (
        f"The published run made {number(PUBLISHED_VIEWS_S)} views/s on each of "
        f"{PUBLISHED_GPUS} RTX 6000 Ada, which is {number(hours)} hours for its contrastive phase, "
        f"or {number(hours * PUBLISHED_GPUS)} GPU hours. One H100 as planned would make "
        f"{number(contrastive.views_s / PUBLISHED_VIEWS_S)} times the views of one of those, and "
        f"{number(contrastive.views_s / rate)} times the views of all four."
    )


def _reading(planned: list[Phase], report: Mapping[str, Any]) -> str:
    """What reading was measured to do, beside what is needed."""
    needed = max(planned, key=lambda phase: phase.cutouts_s)
    measured = _measured_reads(report)
    if measured is None:
        return (
            f"Reading at {number(needed.cutouts_s)} cutouts/s has not been measured: run "
            "`python -m benchmarks shards`."
        )
    rate, machine = measured
    threads = math.ceil(needed.cutouts_s / (rate / machine["cores"]))
    return (
        f"Measured on {machine['processor']} with {machine['cores']} cores: {number(rate)} "
        f"cutouts/s of {SIZE_PX} px from the page cache, every checksum compared. If threads add "
        f"up, {threads} of them feed the hungriest phase ({needed.name}, "
        f"{number(needed.cutouts_s)} cutouts/s); that they add up, and what a disk does instead of "
        "the page cache, is planned and not measured."
    )


def _measured_reads(report: Mapping[str, Any]) -> tuple[float, Mapping[str, Any]] | None:
    """Our cutouts/s at the paper's size, and the machine, if the report has them."""
    entry = report.get("shards", {})
    for comparison in entry.get("comparisons", ()):
        if f"{SIZE_PX} px" in comparison["name"]:
            return float(comparison["sides"][0]["rate"]["median"]), entry["machine"]
    return None


def _steps(planned: list[Phase], report: Mapping[str, Any]) -> str:
    """What steps were measured to do on a GPU, beside the plan."""
    entry = report.get("training_step", {})
    comparisons = entry.get("comparisons", ())
    if not comparisons or entry["machine"]["gpu"] == NO_GPU:
        return "The shares of the peak have not been measured: that needs a GPU."
    lines = [f"Measured on {entry['machine']['gpu']}, with the views in memory:", ""]
    for phase in planned:
        for comparison in comparisons:
            if comparison["name"].startswith(f"training step: {phase.name} ViT-B"):
                rate = comparison["sides"][0]["rate"]["median"]
                lines.append(
                    f"- {phase.name}: {number(rate)} cutouts/s of {number(phase.cutouts_s)} planned"
                )
    return "\n".join(lines)
