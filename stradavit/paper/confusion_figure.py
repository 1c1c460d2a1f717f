"""Figure 4: recall-form confusion matrices of the selected model and its starting points."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from stradavit.paper.cells import Results
from stradavit.paper.deltas import reference, selected_configuration, strongest_dinov2
from stradavit.paper.names import benchmark_title, encoder_title
from stradavit.paper.render import ABSENT
from stradavit.paper.scores import Score
from stradavit.paper.style import SHARE_COLORS, new_figure
from stradavit.settings.evaluation import Protocol

CELL_IN = 0.42


def recall_form(confusion: NDArray[np.int64]) -> NDArray[np.float64]:
    """Each row in shares of its true class; NaN for a class without images."""
    totals = confusion.sum(axis=1, keepdims=True)
    shares = np.full(confusion.shape, np.nan)
    np.divide(confusion, totals, out=shares, where=totals > 0)
    return shares


def confusion_figure(results: Results, protocol: Protocol) -> Figure | None:
    """A row per benchmark; selected model, reference and strongest DINOv2 in columns.

    Confusion matrices are summed over folds and seeds (section 9.1, item 5). None if the config
    leaves out all of the models.
    """
    settings = results.settings
    chosen = selected_configuration(settings)
    ours = [
        results.score(protocol, chosen, benchmark) if chosen else None
        for benchmark in settings.benchmarks
    ]
    columns = [[("selected model", score) if score else None for score in ours]]
    for find in (reference, strongest_dinov2):
        rivals = [find(results, protocol, benchmark) for benchmark in settings.benchmarks]
        columns.append([(encoder_title(settings, r.start), r.score) if r else None for r in rivals])
    columns = [column for column in columns if any(column)]
    if not columns:
        return None

    sizes = [
        max(len(found[1].classes) for found in row if found) if any(row) else 1
        for row in zip(*columns, strict=True)
    ]
    heights = [CELL_IN * max(size, 3) + 1.2 for size in sizes]
    width = (CELL_IN * max(*sizes, 3) + 0.5) * len(columns) + 1.4
    figure = new_figure(width, sum(heights) + 0.2)
    axes = figure.subplots(
        len(sizes), len(columns), squeeze=False, gridspec_kw={"height_ratios": heights}
    )
    for row, benchmark in enumerate(settings.benchmarks):
        for column, axis in zip(columns, axes[row], strict=True):
            found = column[row]
            if found is None:
                axis.set_axis_off()
                axis.text(0.5, 0.5, ABSENT, ha="center", transform=axis.transAxes)
                continue
            title, score = found
            _draw(axis, score, with_names=column is columns[0])
            spread = score.spread("macro_f1")
            axis.set_title(f"{title}\nMacro-F1 {spread.mean:.3f} ± {spread.std:.3f}")
        axes[row, 0].set_ylabel(f"{benchmark_title(settings, benchmark)}\ntrue class")
    figure.align_ylabels(axes[:, 0])
    figure.supxlabel("predicted class; numbers are percent of the true class", fontsize=9.0)
    return figure


def _draw(axis: Axes, score: Score, with_names: bool) -> None:
    percent = 100.0 * recall_form(score.confusion)
    axis.imshow(percent, cmap=SHARE_COLORS, vmin=0.0, vmax=100.0)
    for (row, column), value in np.ndenumerate(percent):
        text = ABSENT if np.isnan(value) else f"{value:.0f}"
        # Cividis is light above its middle; a class without images is a white row.
        color = "black" if np.isnan(value) or value > 55.0 else "white"
        axis.text(column, row, text, ha="center", va="center", color=color, fontsize=8.5)
    ticks = range(len(score.classes))
    axis.set_xticks(ticks, score.classes, rotation=40, ha="right", rotation_mode="anchor")
    axis.set_yticks(ticks, score.classes if with_names else [""] * len(ticks))
    axis.tick_params(length=0)
