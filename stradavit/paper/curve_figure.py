"""Figure 5 (ours): how each pretraining run went."""

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from stradavit.errors import DataError
from stradavit.paper.cells import Results
from stradavit.paper.names import LOSS_TITLES
from stradavit.paper.style import BLUE, GREEN, ORANGE, PURPLE, SKY, VERMILION, new_figure
from stradavit.settings import Settings
from stradavit.settings.matrix import Branch, EncoderNode

log = logging.getLogger(__name__)

QUANTITIES = {
    "loss": "loss",
    "learning_rate": "learning rate",
    "effective_rank": "effective rank",
}
Phase = Branch | Literal["chips"]

PHASES: dict[Phase, str] = {
    "reconstruction": "Reconstruction",
    "chips": "Reconstruction of chips",
    "contrastive": "Contrastive only",
    "two_stage": "Two-stage, contrastive phase",
}
LOSS_COLORS = {
    "l2": BLUE,
    "l2_l1": VERMILION,
    "l2_bl1": GREEN,
    "info_nce": SKY,
    "soft_hcl": ORANGE,
    "hcl": PURPLE,
}
REGISTER_LINES: dict[int, Literal["-", "--"]] = {0: "-", 4: "--"}


@dataclass(frozen=True)
class Curve:
    """Epochs, counted from 1, and what was measured at the end of each, for one run."""

    node: EncoderNode
    epochs: list[int]
    values: dict[str, list[float]]

    def phase(self, settings: Settings) -> Phase:
        """The column it is drawn in."""
        is_of_chips = self.node.corpus is not None and settings.is_of_chips(self.node.corpus)
        return "chips" if is_of_chips else self.node.branch


def read_curve(node: EncoderNode, path: Path) -> Curve:
    """The epoch lines of a run's `metrics.jsonl`.

    Raises
    ------
    DataError
        If the file is not what `pretrain` writes.
    """
    try:
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        lines = [line for line in lines if line["kind"] == "epoch"]
        epochs = [int(line["epoch"]) for line in lines]
        values = {
            name: [float(line[name]) for line in lines]
            for name in QUANTITIES
            if all(name in line for line in lines)
        }
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DataError(
            f"{path}: not the record of a run ({type(error).__name__}: {error}). Delete the folder "
            "and pretrain again, or delete this file to do without its curve."
        ) from error
    return Curve(node, epochs, values)


def curve_figure(results: Results) -> Figure | None:
    """A column per branch and one for chips, a row per quantity; None if no run left a record."""
    curves = []
    for node in results.settings.nodes().values():
        path = results.results_dir / "encoders" / node.name / "metrics.jsonl"
        if node.branch == "start":
            continue
        if path.is_file():
            curves.append(read_curve(node, path))
        else:
            log.warning("%s is missing: its run has no curve in the figure", path)
    columns: dict[Phase, list[Curve]] = {phase: [] for phase in PHASES}
    for curve in curves:
        columns[curve.phase(results.settings)].append(curve)
    phases = [phase for phase, shown in columns.items() if shown]
    if not phases:
        return None
    figure = new_figure(3.4 * len(phases) + 0.4, 6.6)
    axes = figure.subplots(len(QUANTITIES), len(phases), squeeze=False, sharex="col")
    for column, phase in enumerate(phases):
        drawn = [
            axis
            for axis, quantity in zip(axes[:, column], QUANTITIES, strict=True)
            if _draw(axis, quantity, columns[phase])
        ]
        drawn[0].set_title(PHASES[phase])
        drawn[-1].set_xlabel("epoch")
        drawn[-1].tick_params(labelbottom=True)
    for row, title in zip(axes, QUANTITIES.values(), strict=True):
        if visible := [axis for axis in row if axis.axison]:
            visible[0].set_ylabel(title)
    handles = _legend(curves)
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 4))
    return figure


def _draw(axis: Axes, quantity: str, curves: list[Curve]) -> bool:
    """Draw a quantity of the runs of a branch; whether any of them has it."""
    drawn = [curve for curve in curves if quantity in curve.values]
    if not drawn:
        # Reconstruction has no embeddings; an empty panel would look like a fault.
        axis.set_axis_off()
        return False
    for curve in drawn:
        axis.plot(
            curve.epochs,
            curve.values[quantity],
            color=LOSS_COLORS[_loss(curve.node)],
            linestyle=REGISTER_LINES.get(curve.node.registers, ":"),
            linewidth=1.2,
            alpha=0.8,
            marker="o" if len(curve.epochs) < 4 else None,
            markersize=3.0,
        )
    axis.grid()
    axis.locator_params(axis="x", integer=True)
    axis.ticklabel_format(axis="y", scilimits=(-2, 4))
    if quantity != "loss":
        axis.set_ylim(bottom=0.0)
    return True


def _loss(node: EncoderNode) -> str:
    """The loss of the run's own phase."""
    loss = node.contrastive_loss or node.reconstruction_loss
    assert loss is not None
    return loss


def _legend(curves: list[Curve]) -> list[Line2D]:
    losses = {_loss(curve.node) for curve in curves}
    registers = sorted({curve.node.registers for curve in curves})
    return [
        Line2D([], [], color=color, label=LOSS_TITLES[loss])
        for loss, color in LOSS_COLORS.items()
        if loss in losses
    ] + [
        Line2D(
            [], [], color="#444444", linestyle=REGISTER_LINES.get(count, ":"), label=f"R = {count}"
        )
        for count in registers
    ]
