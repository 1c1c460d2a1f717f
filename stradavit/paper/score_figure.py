"""Figure 6 (ours): Macro-F1 of every encoder at a glance, with its folds and its interval."""

from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from stradavit.paper.cells import Configuration, Results, Role
from stradavit.paper.encoder_rows import HEADINGS, configurations, row_label
from stradavit.paper.names import PROTOCOL_TITLES, benchmark_title
from stradavit.paper.scores import Score
from stradavit.paper.style import BLUE, VERMILION, new_figure
from stradavit.settings.evaluation import Protocol

ROW_IN, PANEL_IN, LABELS_IN = 0.27, 2.5, 2.6
SHIFT = 0.17
MARKS: dict[Protocol, tuple[str, str, float]] = {
    "linear_probe": (BLUE, "o", -SHIFT),
    "finetune": (VERMILION, "s", SHIFT),
}


@dataclass(frozen=True)
class Line:
    """A line of the plot: a heading without scores, or an encoder with those of each panel."""

    label: str
    scores: tuple[dict[Protocol, Score], ...] = ()


def score_figure(results: Results) -> Figure | None:
    """A panel per benchmark, a line per configuration; None if there is nothing to show."""
    settings = results.settings
    lines = _lines(results)
    protocols = [p for p in MARKS if p in settings.evaluation.protocols]
    if not lines or not protocols:
        return None
    figure = new_figure(LABELS_IN + PANEL_IN * len(settings.benchmarks), ROW_IN * len(lines) + 1.1)
    axes = figure.subplots(1, len(settings.benchmarks), sharey=True, squeeze=False)[0]
    for panel, (axis, benchmark) in enumerate(zip(axes, settings.benchmarks, strict=True)):
        for row, line in enumerate(lines):
            if not line.scores:
                axis.axhline(row, color="#eeeeee", linewidth=11.0, zorder=0)
                continue
            for protocol, score in line.scores[panel].items():
                _draw(axis, row, protocol, score)
        axis.set_title(benchmark_title(settings, benchmark))
        axis.set_xlabel("Macro-F1")
        axis.grid(axis="x")
        axis.locator_params(axis="x", nbins=5)
        axis.tick_params(axis="y", length=0)
    axes[0].set_yticks(range(len(lines)), [line.label for line in lines])
    axes[0].set_ylim(len(lines) - 0.4, -0.6)
    for tick, line in zip(axes[0].get_yticklabels(), lines, strict=True):
        tick.set_fontweight("normal" if line.scores else "bold")
    handles = [
        Line2D([], [], color=color, marker=marker, linestyle="none", label=PROTOCOL_TITLES[p])
        for p, (color, marker, _) in MARKS.items()
        if p in protocols
    ]
    bars = Line2D([], [], color="grey", linewidth=1.2, label="95 % interval of the mean")
    dots = Line2D([], [], color="grey", marker="o", markersize=3.5, linestyle="none", alpha=0.5)
    dots.set_label("single folds")
    figure.legend(handles=[*handles, bars, dots], loc="outside lower center", ncols=4)
    return figure


def _lines(results: Results) -> list[Line]:
    lines: list[Line] = []
    for branch, heading in HEADINGS.items():
        encoders = [
            line
            for configuration in configurations(results, branch)
            for role in ("inductive", "transductive")
            if (line := _line(results, configuration, role))
        ]
        if encoders:
            lines += [Line(heading), *encoders]
    return lines


def _line(results: Results, configuration: Configuration, role: Role) -> Line | None:
    scores = tuple(
        {
            protocol: score
            for protocol in MARKS
            if (score := results.score(protocol, configuration, benchmark, role))
        }
        for benchmark in results.settings.benchmarks
    )
    if not any(scores):
        return None
    suffix = " (transductive)" if role == "transductive" else ""
    return Line(row_label(results, configuration) + suffix, scores)


def _draw(axis: Axes, row: int, protocol: Protocol, score: Score) -> None:
    color, marker, shift = MARKS[protocol]
    folds = score.macro_f1.ravel()
    heights = np.full(folds.shape, row + shift)
    axis.plot(folds, heights, ".", color=color, markersize=5.0, alpha=0.4, markeredgewidth=0)
    spread = score.spread("macro_f1")
    if spread.interval is not None:
        axis.hlines(row + shift, *spread.interval, color=color, linewidth=1.2, alpha=0.7)
    axis.plot(
        spread.mean, row + shift, marker, color=color, markersize=5.0, markeredgecolor="white"
    )
