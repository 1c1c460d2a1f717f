"""Figure 3: labelled images of a benchmark as the models get them, before resizing."""

import numpy as np
from matplotlib.figure import Figure

from stradavit.cutouts.benchmark import LabelledCutouts
from stradavit.paper.style import new_figure
from stradavit.paper.view_figures import show

PER_CLASS = 6
PANEL_IN = 1.25


def example_figure(benchmark: LabelledCutouts) -> Figure:
    """A row of images per class, spread evenly over the images of the class."""
    labels = np.asarray(benchmark.labels)
    rows = len(benchmark.classes)
    figure = new_figure(PANEL_IN * PER_CLASS + 1.0, PANEL_IN * rows + 0.1)
    axes = figure.subplots(rows, PER_CLASS, squeeze=False)
    for label, name in enumerate(benchmark.classes):
        members = np.flatnonzero(labels == label)
        chosen = np.unique(np.linspace(0, len(members) - 1, PER_CLASS).round().astype(np.int64))
        for column, axis in enumerate(axes[label]):
            if column < min(len(chosen), len(members)):
                show(axis, benchmark.read(int(members[chosen[column]])))
            else:
                axis.set_xticks([])
                axis.set_yticks([])
            for spine in axis.spines.values():
                spine.set_visible(False)
        axes[label, 0].set_ylabel(f"{name}\n({len(members)})")
    return figure
