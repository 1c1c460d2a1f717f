"""How figures look and how they are written: PNG and PDF, the same bytes for the same numbers."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patheffects import AbstractPathEffect, withStroke

DPI = 170
IMAGE_COLORS = "inferno"
# Of images that boxes are drawn on, and of what is hidden in them.
PHOTO_COLORS, HIDDEN_COLOR = "gray", "#34507e"
SHARE_COLORS = "cividis"

# Okabe and Ito's palette, which colour-blind readers can tell apart.
BLUE, VERMILION, GREEN = "#0072B2", "#D55E00", "#009E73"
SKY, ORANGE, PURPLE = "#56B4E9", "#E69F00", "#CC79A7"

# Any: the names matplotlib knows are part of its types and differ between its versions.
_RC: Any = {
    "font.family": "DejaVu Sans",  # comes with matplotlib, so every machine has it
    "font.size": 9.0,
    "axes.titlesize": 9.5,
    "axes.labelsize": 9.0,
    "xtick.labelsize": 8.0,
    "ytick.labelsize": 8.0,
    "legend.fontsize": 8.0,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "image.interpolation": "nearest",
    "pdf.fonttype": 42,  # text stays text
    "text.parse_math": False,  # a class name may hold a dollar sign
}


@contextmanager
def house_style() -> Iterator[None]:
    """Our settings of matplotlib, independent of the user's."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_RC)
        yield


def new_figure(width_in: float, height_in: float) -> Figure:
    """An empty figure that keeps its texts apart, bound to no window system."""
    figure = Figure(figsize=(width_in, height_in), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save(figure: Figure, path: Path) -> None:
    """Write `path` as `.png` and as `.pdf`, without a date in either."""
    figure.savefig(path.with_suffix(".png"), dpi=DPI)
    # The second file has the layout of the first.
    figure.set_layout_engine("none")
    figure.savefig(path.with_suffix(".pdf"), dpi=DPI, metadata={"CreationDate": None})


def outlined(width: float = 2.5) -> list[AbstractPathEffect]:
    """A dark rim that keeps a line or letter visible on any image."""
    return [withStroke(linewidth=width, foreground="black", alpha=0.75)]
