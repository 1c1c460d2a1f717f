"""Figures 1 and 2: what the view generator makes of cutouts of the corpus."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from numpy.typing import NDArray
from torch import Tensor

from stradavit.cutouts.corpus import Corpus
from stradavit.cutouts.quantise import restore
from stradavit.errors import DataError
from stradavit.files import read_json
from stradavit.paper.names import survey_title
from stradavit.paper.style import IMAGE_COLORS, ORANGE, SKY, new_figure, outlined
from stradavit.settings import Settings
from stradavit.settings.encoders import Scratch
from stradavit.views.recipes import Views, contrastive_views, reconstruction_views

ROWS, BLOCKS = 3, 2
CANDIDATES = 32
PANEL_IN = 1.75

# Title and colour of a panel, the views it is from, and which of them it shows.
Shown = tuple[str, str, Views, int]
Draw = Callable[[Tensor, Tensor], list[Shown]]


@dataclass(frozen=True)
class Panel:
    """One view of a cutout, (out_px, out_px) in [0, 1], and its crop box in cutout pixels."""

    title: str
    color: str
    pixels: NDArray[np.float32]
    box: NDArray[np.float32]


@dataclass(frozen=True)
class Example:
    """A cutout, (size, size) in [0, 1], the survey it is from, its anchor (x, y), its views."""

    survey: str
    cutout: NDArray[np.float32]
    anchor: NDArray[np.float32]
    panels: tuple[Panel, ...]


def reconstruction_figure(settings: Settings, corpus: Corpus, out_px: int) -> Figure:
    """Figure 1: both regimes of the reconstruction view, each drawn on the same cutouts.

    Training draws one of them per cutout and epoch, with `views.crops.wide_probability`.
    """
    seed = settings.training.seeds[0]

    def draw(cutouts: Tensor, numbers: Tensor) -> list[Shown]:
        shown = []
        for title, color, probability in (
            ("wide-field view", SKY, 1.0),
            ("ROI-aligned view", ORANGE, 0.0),
        ):
            crops = settings.views.crops.model_copy(update={"wide_probability": probability})
            forced = settings.views.model_copy(update={"crops": crops})
            views = reconstruction_views(cutouts, numbers, 0, seed, forced, out_px)
            shown.append((title, color, views, 0))
        return shown

    return _draw(_examples(settings, corpus, draw))


def contrastive_figure(settings: Settings, corpus: Corpus, out_px: int) -> Figure:
    """Figure 2: the wide and the additional view of a pair."""
    seed = settings.training.seeds[0]

    def draw(cutouts: Tensor, numbers: Tensor) -> list[Shown]:
        views = contrastive_views(cutouts, numbers, 0, seed, settings.views, out_px)
        return [("wide view", SKY, views, 0), ("additional view", ORANGE, views, 1)]

    return _draw(_examples(settings, corpus, draw))


def view_size(settings: Settings, results_dir: Path) -> int | None:
    """Side of the views the first run of the matrix sees, px; None if there is no run.

    Runs on chips see no view of the sky and do not count.

    Raises
    ------
    DataError
        If the start is published and its `config.json` does not say.
    """
    runs = (n for n in settings.nodes().values() if n.corpus and not settings.is_of_chips(n.corpus))
    run = next(runs, None)
    if run is None:
        return None
    start = settings.encoders[run.start]
    if isinstance(start, Scratch):
        return start.architecture.image_px
    while (parent := settings.parent(run)) is not None:
        run = parent
    path = results_dir / "encoders" / run.name / "config.json"
    try:
        size = read_json(path)["image_size"]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DataError(
            f"{path}: cannot read image_size, the side of the views ({error}). Run "
            f"`snakemake --forcerun {path.with_name('model.safetensors')}`."
        ) from error
    if not isinstance(size, int) or size < 1:
        raise DataError(f"{path}: image_size is {size!r}; expected a number of pixels.")
    return size


def _examples(settings: Settings, corpus: Corpus, draw: Draw) -> list[Example]:
    """Cutouts spread evenly over the corpus whose views are all informative."""
    numbers = _spread(len(corpus), CANDIDATES)
    levels = corpus.read(numbers)
    shown = draw(torch.from_numpy(levels)[:, None], torch.from_numpy(numbers))
    is_empty = torch.stack([views.is_empty for _, _, views, _ in shown]).any(dim=0).numpy()
    # Where all are blank, blank ones are what there is to see.
    usable = np.flatnonzero(~is_empty) if not is_empty.all() else np.arange(len(numbers))
    return [
        Example(
            survey=survey_title(settings, corpus.describe(int(numbers[i])).split("/")[0]),
            cutout=restore(levels[i]),
            anchor=shown[-1][2].anchors[i].numpy(),
            panels=tuple(
                Panel(title, color, views.pixels[v, i, 0].numpy(), views.boxes[v, i].numpy())
                for title, color, views, v in shown
            ),
        )
        for i in usable[_spread(len(usable), ROWS * BLOCKS)]
    ]


def _spread(length: int, count: int) -> NDArray[np.int64]:
    """`count` numbers below `length`, or all, at even distances."""
    return np.unique(np.linspace(0, length - 1, count).round().astype(np.int64))


def _draw(examples: list[Example]) -> Figure:
    """Blocks of cutout and views, read row by row."""
    per_block = 1 + len(examples[0].panels)
    blocks = min(BLOCKS, len(examples))
    rows = -(-len(examples) // blocks)
    figure = new_figure(PANEL_IN * per_block * blocks + 0.3, (PANEL_IN + 0.22) * rows + 0.4)
    halves = figure.subfigures(1, blocks, squeeze=False, wspace=0.03)[0]
    for b, half in enumerate(halves):
        axes = half.subplots(rows, per_block, squeeze=False)
        for row in range(rows):
            number = row * blocks + b
            if number < len(examples):
                _draw_example(axes[row], examples[number], with_titles=row == 0)
            else:
                for axis in axes[row]:
                    axis.set_axis_off()
    handles = [
        Line2D([], [], marker="+", color="white", linestyle="none", markersize=9,
               path_effects=outlined(), label="anchor"),
        *(
            Rectangle((0, 0), 1, 1, fill=False, edgecolor=panel.color, linewidth=1.6,
                      label=f"crop of the {panel.title}")
            for panel in examples[0].panels
        ),
    ]  # fmt: skip
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    return figure


def _draw_example(axes: NDArray[np.object_], example: Example, with_titles: bool) -> None:
    show(axes[0], example.cutout)
    axes[0].set_ylabel(example.survey)
    if with_titles:
        axes[0].set_title("cutout")
    for axis, panel in zip(axes[1:], example.panels, strict=True):
        x0, y0, x1, y1 = panel.box
        # Pixel i covers i − ½ to i + ½ on the axes of imshow.
        axes[0].add_patch(
            Rectangle(
                (x0 - 0.5, y0 - 0.5), x1 - x0, y1 - y0, fill=False, edgecolor=panel.color,
                linewidth=1.6, path_effects=outlined(),
            )
        )  # fmt: skip
        show(axis, panel.pixels)
        for spine in axis.spines.values():
            spine.set(visible=True, edgecolor=panel.color, linewidth=1.6)
        if with_titles:
            axis.set_title(panel.title)
    axes[0].plot(*example.anchor, "+", color="white", markersize=9, path_effects=outlined())


def show(axis: Axes, image: NDArray[np.float32]) -> None:
    """An image in [0, 1], first row below as on the sky, without ticks."""
    axis.imshow(image, cmap=IMAGE_COLORS, vmin=0.0, vmax=1.0, origin="lower")
    axis.set_xticks([])
    axis.set_yticks([])
