"""Figure 7 (ours): Macro-F1 over the number of labels per class."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from stradavit.paper.budget_table import budget_scores, budgets_shown
from stradavit.paper.cells import Configuration, Results
from stradavit.paper.deltas import selected_configuration
from stradavit.paper.encoder_rows import configurations, full_label
from stradavit.paper.names import benchmark_title
from stradavit.paper.scores import Score
from stradavit.paper.style import BLUE, GREEN, ORANGE, PURPLE, SKY, VERMILION, new_figure

PANEL_IN = 3.2
START_COLORS = (BLUE, SKY, GREEN, ORANGE, PURPLE, "#999999")
START_MARKERS = ("o", "s", "^", "D", "v", "P")
Scores = dict[int, Score]


def budget_figure(results: Results) -> Figure | None:
    """A panel per benchmark: the starts, the selected model, and the best of the other runs.

    All encoders are in Table 21; so many lines would hide each other. None if the config leaves
    label budgets out.
    """
    settings = results.settings
    if "label_budget" not in settings.evaluation.protocols or not settings.benchmarks:
        return None
    starts = configurations(results, "start")
    chosen, other = selected_configuration(settings), best_other_run(results)
    figure = new_figure(PANEL_IN * len(settings.benchmarks) + 0.3, 3.9)
    axes = figure.subplots(1, len(settings.benchmarks), squeeze=False)[0]
    for axis, benchmark in zip(axes, settings.benchmarks, strict=True):
        for number, start in enumerate(starts):
            style = number % len(START_COLORS)
            scores = budget_scores(results, start, benchmark)
            label = full_label(results, start)
            _draw(axis, scores, label, START_COLORS[style], START_MARKERS[style], width=1.1)
        for configuration, color, words in (
            (other, "#444444", "best other run: "),
            (chosen, VERMILION, "selected: "),
        ):
            if configuration is not None:
                scores = budget_scores(results, configuration, benchmark)
                label = words + full_label(results, configuration)
                _draw(axis, scores, label, color, "*", width=2.0)
        _finish(axis, budgets_shown(settings))
        axis.set_title(benchmark_title(settings, benchmark))
    axes[0].set_ylabel("Macro-F1")
    lines = {
        str(line.get_label()): line
        for axis in axes
        for line in axis.lines
        if not str(line.get_label()).startswith("_")
    }
    if not lines:
        return None
    figure.legend(handles=list(lines.values()), loc="outside lower center", ncols=2)
    return figure


def best_other_run(results: Results) -> Configuration | None:
    """The run other than the selected with the highest mean Macro-F1 at the largest budget.

    Only runs that are scored on as many benchmarks as any are compared, so that an easy benchmark
    decides nothing.
    """
    settings = results.settings
    largest = budgets_shown(settings)[-1]
    means: dict[Configuration, list[float]] = {}
    for branch in ("reconstruction", "contrastive", "two_stage"):
        for run in configurations(results, branch):
            found = [budget_scores(results, run, b).get(largest) for b in settings.benchmarks]
            means[run] = [float(score.macro_f1.mean()) for score in found if score]
    if chosen := selected_configuration(settings):
        means.pop(chosen, None)
    most = max((len(scores) for scores in means.values()), default=0)
    if most == 0:
        return None
    return max(
        (run for run, scores in means.items() if len(scores) == most),
        key=lambda run: float(np.mean(means[run])),
    )


def _draw(axis: Axes, scores: Scores, label: str, color: str, marker: str, width: float) -> None:
    """A curve with the 95 % interval of its means as a band."""
    if not scores:
        return
    budgets = list(scores)
    spreads = [score.spread("macro_f1") for score in scores.values()]
    axis.plot(
        budgets,
        [spread.mean for spread in spreads],
        color=color,
        marker=marker,
        markersize=4.5 if width < 2 else 7.0,
        linewidth=width,
        markeredgecolor="white",
        markeredgewidth=0.5,
        label=label,
    )
    bounds = np.array([spread.interval for spread in spreads])
    axis.fill_between(budgets, bounds[:, 0], bounds[:, 1], color=color, alpha=0.1, linewidth=0)


def _finish(axis: Axes, budgets: list[int]) -> None:
    axis.set_xscale("log")
    axis.xaxis.set_major_locator(FixedLocator(budgets))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.set_xticks(budgets, [str(n) for n in budgets])
    axis.set_xlabel("labels per class")
    axis.grid()
