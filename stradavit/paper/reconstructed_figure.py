"""Figure 8: what masked autoencoders of chips make of chips most of which is hidden."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from stradavit.cutouts.chips import resized
from stradavit.cutouts.detection_images import DetectionImages
from stradavit.evaluation.images import resize
from stradavit.models.hub import load_mae, read_json_object
from stradavit.models.mae import MaskedAutoencoder
from stradavit.models.preprocessing import Preprocessing
from stradavit.paper.cells import Results
from stradavit.paper.names import LOSS_TITLES, detection_title, encoder_title
from stradavit.paper.style import HIDDEN_COLOR, PHOTO_COLORS, new_figure
from stradavit.settings import Settings
from stradavit.settings.detection import Split
from stradavit.settings.matrix import EncoderNode
from stradavit.settings.sources import ChipsSurvey
from stradavit.settings.training import ReconstructionSettings

CHIPS, MOST_RUNS = 5, 4
PANEL_IN = 1.75
# Floor of the variance in normalised targets, as in `stradavit.objectives.reconstruction`.
PATCH_EPS = 1e-6
# Chips that no run of the corpus has seen are shown where there are any, in this order.
SPLITS: tuple[Split, ...] = ("val", "test", "train")


@dataclass(frozen=True)
class Reconstruction:
    """What a run makes of some chips.

    Attributes
    ----------
    pixels : (n, side, side) float32, visible patches as they are, hidden ones as predicted
    is_hidden : (n, side, side) bool
    """

    pixels: NDArray[np.float32]
    is_hidden: NDArray[np.bool_]


@dataclass(frozen=True)
class Block:
    """A run by its title, the chips at the size of its input, and what it makes of them."""

    title: str
    chips: NDArray[np.float32]
    found: Reconstruction


def reconstructed_figures(results: Results) -> Iterator[tuple[str, str, Figure]]:
    """Name, caption and figure for every corpus of chips that runs are trained on."""
    for corpus in results.settings.matrix.chips.corpora:
        runs = _runs(results.settings, corpus)
        if runs:
            yield f"fig8_reconstruction_{corpus}", *_figure(results, corpus, runs)


def reconstruct(
    mae: MaskedAutoencoder,
    preprocessing: Preprocessing,
    chips: Tensor,
    phase: ReconstructionSettings,
    seed: int,
) -> Reconstruction:
    """Hide patches of chips and fill them in.

    A run with `normalise_patches` predicts patches of zero mean and unit variance. As in the
    figures of He et al. 2022, these are multiplied by the standard deviation of the true patch,
    and its mean is added.

    Parameters
    ----------
    mae : the autoencoder of the run
    preprocessing : what its images are normalised with
    chips : (n, 1, side, side) float32 in [0, 1]
    phase : settings it was trained with
    seed : of the mask
    """
    channels = mae.config.channels
    # Of numpy, whose streams are the same in every version.
    noise = np.random.default_rng(seed).random((len(chips), mae.config.patches), np.float32)
    with torch.inference_mode():
        pixels = preprocessing.normalise(chips, channels)
        predicted, mask = mae.eval()(pixels, torch.from_numpy(noise), phase.mask_ratio)
        if phase.normalise_patches:
            variance, mean = torch.var_mean(mae.patchify(pixels), dim=-1, keepdim=True)
            predicted = predicted * (variance + PATCH_EPS).sqrt() + mean
        to_unit = preprocessing.normalise(torch.zeros_like(chips), channels)
        slope = preprocessing.normalise(torch.ones_like(chips), channels) - to_unit
        images = ((mae.unpatchify(predicted) - to_unit) / slope).mean(dim=1)
        hidden = mask[..., None].expand(-1, -1, mae.config.patch_px**2 * channels)
        is_hidden = mae.unpatchify(hidden)[:, 0] > 0
        filled = torch.where(is_hidden, images.clamp(0.0, 1.0), chips[:, 0])
    return Reconstruction(filled.numpy(), is_hidden.numpy())


def _figure(results: Results, corpus: str, runs: list[EncoderNode]) -> tuple[str, Figure]:
    settings = results.settings
    survey = _survey(settings, corpus)
    images = DetectionImages(results.results_dir / "detection" / f"{survey.detection}.h5")
    seen = _seen_splits(settings, corpus, survey.detection)
    split = _shown_split(images, seen)
    available = images.of_split(split)
    spread = np.unique(np.linspace(0, len(available) - 1, CHIPS).round().astype(np.int64))
    cut = [resized(images.image(n), settings.cutouts.size_px) for n in available[spread].tolist()]
    seed = settings.training.seeds[0]
    phase = settings.pretrain_settings(runs[0]).phase
    assert isinstance(phase, ReconstructionSettings), "chips are only ever reconstructed"

    blocks = []
    for run in runs[:MOST_RUNS]:
        mae, preprocessing = _load(results.results_dir / "encoders" / run.name, run)
        # Networks differ in the size of their input, so each has its own chips and masks.
        side_px = mae.config.image_px
        chips = torch.stack([resize(chip, side_px) for chip in cut]).clamp(0.0, 1.0)
        found = reconstruct(mae, preprocessing, chips, phase, seed)
        blocks.append(Block(_title(settings, run, runs), chips[:, 0].numpy(), found))
    return _caption(settings, corpus, survey, split, split in seen, phase), _draw(blocks)


def _caption(
    settings: Settings,
    corpus: str,
    survey: ChipsSurvey,
    split: Split,
    is_seen: bool,
    phase: ReconstructionSettings,
) -> str:
    seed = settings.training.seeds[0]
    known = "which pretraining saw" if is_seen else "which pretraining did not see"
    sentences = [
        f"Masked reconstruction after pretraining on {settings.corpora[corpus].title or corpus} "
        f"(seed {seed}): images of the {split} split of "
        f"{detection_title(settings, survey.detection)}, {known}, resized to the input of the "
        f"network; the same with {phase.mask_ratio:.0%} of the patches hidden (mask seed {seed}); "
        "hidden patches as predicted, visible ones as they are."
    ]
    if phase.normalise_patches:
        sentences.append(
            "The networks predict patches of zero mean and unit variance; for display these have "
            "the mean and standard deviation of the true patches, which the networks do not know."
        )
    return " ".join(sentences)


def _draw(blocks: list[Block]) -> Figure:
    """A row per chip: itself and, for each run, what is visible and what the run makes of it."""
    shown = [("chip", blocks[0].chips)]
    for block in blocks:
        visible = np.where(block.found.is_hidden, np.nan, block.chips)
        # Networks with the same patches have the same masks, which need not be shown twice.
        if not any(_is_same(visible, images) for _, images in shown):
            shown.append(("visible", visible))
        shown.append((block.title, block.found.pixels))
    n_chips = len(blocks[0].chips)
    figure = new_figure(PANEL_IN * len(shown) + 0.2, PANEL_IN * n_chips + 0.5)
    axes = figure.subplots(n_chips, len(shown), squeeze=False)
    for column, (title, images) in zip(axes.T, shown, strict=True):
        column[0].set_title(title, fontsize=8.0)
        for axis, image in zip(column, images, strict=True):
            _show(axis, image)
    return figure


def _is_same(one: NDArray[np.float32], other: NDArray[np.float32]) -> bool:
    return one.shape == other.shape and np.array_equal(one, other, equal_nan=True)


def _show(axis: Axes, image: NDArray[np.float32]) -> None:
    """An image in [0, 1], first row on top as in a photograph; NaN is hidden."""
    colors = matplotlib.colormaps[PHOTO_COLORS].with_extremes(bad=HIDDEN_COLOR)
    axis.imshow(image, cmap=colors, vmin=0.0, vmax=1.0)
    axis.set_xticks([])
    axis.set_yticks([])


def _runs(settings: Settings, corpus: str) -> list[EncoderNode]:
    """Runs on a corpus, of the first seed only."""
    seed = settings.training.seeds[0]
    return [n for n in settings.nodes().values() if n.corpus == corpus and n.seed == seed]


def _survey(settings: Settings, corpus: str) -> ChipsSurvey:
    survey = settings.surveys[settings.corpora[corpus].surveys[0]]
    assert isinstance(survey, ChipsSurvey), "the settings check this"
    return survey


def _seen_splits(settings: Settings, corpus: str, detection: str) -> set[Split]:
    """Splits of a detection set that any of the surveys of a corpus takes."""
    surveys = [settings.surveys[name] for name in settings.corpora[corpus].surveys]
    return {
        split
        for survey in surveys
        if isinstance(survey, ChipsSurvey) and survey.detection == detection
        for split in survey.splits
    }


def _shown_split(images: DetectionImages, seen: set[Split]) -> Split:
    present = [split for split in SPLITS if len(images.of_split(split))]
    return next((split for split in present if split not in seen), present[0])


def _load(folder: Path, run: EncoderNode) -> tuple[MaskedAutoencoder, Preprocessing]:
    mae = load_mae(folder, run.registers, run.seed or 0)
    path = folder / "preprocessor_config.json"
    values = read_json_object(path)
    return mae, Preprocessing.from_hf(values, mae.config.image_px, mae.config.channels, str(path))


def _title(settings: Settings, run: EncoderNode, runs: list[EncoderNode]) -> str:
    """What the run started from, and what else tells it from the others."""
    words = [f"from {encoder_title(settings, run.start)}"]
    if len({other.reconstruction_loss for other in runs}) > 1:
        words.append(LOSS_TITLES[str(run.reconstruction_loss)])
    if len({other.registers for other in runs}) > 1:
        words.append(f"R = {run.registers}")
    return ", ".join(words)
