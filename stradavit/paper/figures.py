"""All figures of the paper and some of ours, each as PNG and PDF, and a list of them."""

import logging
from collections.abc import Iterator
from pathlib import Path

from matplotlib.figure import Figure

from stradavit.cutouts.benchmark import LabelledCutouts
from stradavit.cutouts.corpus import Corpus
from stradavit.paper.budget_figure import budget_figure
from stradavit.paper.budget_table import budget_spread_sentence
from stradavit.paper.captions import result_caption
from stradavit.paper.cells import Results
from stradavit.paper.confusion_figure import confusion_figure
from stradavit.paper.curve_figure import curve_figure
from stradavit.paper.deltas import selected_title
from stradavit.paper.detection_figure import detection_figures
from stradavit.paper.example_figure import example_figure
from stradavit.paper.folder import atomic_folder
from stradavit.paper.names import PROTOCOL_TITLES, benchmark_title
from stradavit.paper.reconstructed_figure import reconstructed_figures
from stradavit.paper.score_figure import score_figure
from stradavit.paper.style import house_style, save
from stradavit.paper.view_figures import contrastive_figure, reconstruction_figure, view_size
from stradavit.settings import Settings
from stradavit.settings.evaluation import PAPER_PROTOCOLS

log = logging.getLogger(__name__)

Captioned = tuple[str, str, Figure | None]


def write_figures(settings: Settings, results_dir: Path, out_dir: Path) -> None:
    """Draw the figures the config has something for into a folder of their own.

    A figure of runs or models the config leaves out is not drawn and `index.md` does not list it.

    Parameters
    ----------
    settings : the whole config
    results_dir : folder that holds `corpora/`, `benchmarks/`, `detection/`, `encoders/` and
        `metrics/`
    out_dir : replaced as a whole; other files in it are lost

    Raises
    ------
    DataError
        If a file the matrix asks for is missing or malformed.
    """
    results = Results(settings, results_dir)
    lines = ["# Figures", ""]
    with atomic_folder(out_dir) as folder, house_style():
        for name, caption, figure in _figures(results):
            if figure is None:
                log.info("%s: the config leaves out what it would show", name)
                continue
            save(figure, folder / name)
            lines += [f"- **{name}** ([png]({name}.png), [pdf]({name}.pdf)). {caption}"]
        (folder / "index.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _figures(results: Results) -> Iterator[Captioned]:
    settings, folder = results.settings, results.results_dir
    yield from _view_figures(results)
    for benchmark in settings.benchmarks:
        labelled = LabelledCutouts(folder / "benchmarks" / f"{benchmark}.h5")
        caption = (
            f"{benchmark_title(settings, benchmark)}: examples of each class, with the number of "
            "its images, after the stretch and before resizing."
        )
        yield f"fig3_examples_{benchmark}", caption, example_figure(labelled)
    for panel, protocol in zip("ab", PAPER_PROTOCOLS, strict=True):
        caption = result_caption(
            results,
            protocol,
            lead=f"{PROTOCOL_TITLES[protocol]}: confusion matrices, in percent of the true class, "
            f"summed over folds and seeds. Selected model: {selected_title(settings)}.",
        )
        yield f"fig4{panel}_confusion_{protocol}", caption, confusion_figure(results, protocol)
    yield (
        "fig5_pretraining_curves",
        "Loss, learning rate and effective rank of the embeddings over the epochs of each run.",
        curve_figure(results),
    )
    shown = [p for p in PAPER_PROTOCOLS if p in settings.evaluation.protocols]
    lead = "Macro-F1 of every encoder of the matrix; bars are 95 % intervals."
    yield "fig6_scores", result_caption(results, *shown, lead=lead), score_figure(results)
    caption = result_caption(
        results,
        "label_budget",
        lead="Macro-F1 over the number of labels per class, of the starting points, the selected "
        f"model ({selected_title(settings)}) and the best of the other runs by its mean over the "
        "benchmarks at the largest budget; bands are 95 % intervals.",
        spread=budget_spread_sentence(results),
    )
    yield "fig7_label_budget", caption, budget_figure(results)
    yield from reconstructed_figures(results)
    yield from detection_figures(results)


def _view_figures(results: Results) -> Iterator[Captioned]:
    settings = results.settings
    out_px = view_size(settings, results.results_dir)
    if out_px is None:
        return
    path = results.results_dir / "corpora" / f"{settings.matrix.corpora[0]}.h5"
    corpus = Corpus(path)
    setting = (
        f"Cutouts of {settings.cutouts.size_px} px, views of {out_px} px as the encoder gets them "
        f"before normalisation (seed {settings.training.seeds[0]}, first epoch)."
    )
    yield (
        "fig1_reconstruction_views",
        "Reconstruction views: a cutout with its anchor and crops, then both regimes, of which "
        f"training draws the wide-field one with p = {settings.views.crops.wide_probability:g}. "
        f"{setting}",
        reconstruction_figure(settings, corpus, out_px),
    )
    yield (
        "fig2_contrastive_pairs",
        "Contrastive pairs: a cutout with its anchor and both crops, the wide view, the "
        f"additional view. {setting}",
        contrastive_figure(settings, corpus, out_px),
    )
