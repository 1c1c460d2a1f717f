"""Figures exist, show something, and say what the views really are."""

import json
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.patches import Rectangle
from PIL import Image

from stradavit.cutouts.corpus import Corpus
from stradavit.errors import DataError
from stradavit.paper.budget_figure import budget_figure
from stradavit.paper.cells import Configuration, Results
from stradavit.paper.confusion_figure import confusion_figure, recall_form
from stradavit.paper.curve_figure import curve_figure
from stradavit.paper.figures import write_figures
from stradavit.paper.score_figure import score_figure
from stradavit.paper.style import ORANGE, SKY, house_style
from stradavit.paper.view_figures import contrastive_figure, reconstruction_figure, view_size
from stradavit.settings import Settings

from .fake_data import SIZE_PX, write_data
from .fake_results import fold_scores, results_of, small_config, write_all_metrics

Small = tuple[Settings, Path]

NAMES = {
    "fig1_reconstruction_views", "fig2_contrastive_pairs", "fig3_examples_mirabest",
    "fig3_examples_rgz", "fig4a_confusion_linear_probe", "fig4b_confusion_finetune",
    "fig5_pretraining_curves", "fig6_scores",
}  # fmt: skip


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Small:
    """Settings and results of the small matrix."""
    settings, folder = Settings.parse(small_config()), tmp_path_factory.mktemp("results")
    write_all_metrics(settings, folder)
    write_data(settings, folder)
    return settings, folder


@pytest.fixture(scope="module")
def drawn(small: Small, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All figures of the small matrix."""
    folder = tmp_path_factory.mktemp("drawn") / "figures"
    write_figures(*small, folder)
    return folder


def test_every_figure_is_written_and_not_blank(drawn: Path) -> None:
    found = {path.name for path in drawn.iterdir()}
    assert found == {f"{n}{s}" for n in NAMES for s in (".png", ".pdf")} | {"index.md"}
    for name in NAMES:
        pixels = np.asarray(Image.open(drawn / f"{name}.png").convert("L"))
        assert min(pixels.shape) > 300 and max(pixels.shape) < 4000, name
        assert pixels.std() > 10, name
        pdf = (drawn / f"{name}.pdf").read_bytes()
        assert pdf.startswith(b"%PDF") and 5_000 < len(pdf) < 3_000_000, name
        assert b"CreationDate" not in pdf
    index = (drawn / "index.md").read_text()
    assert all(f"({name}.png)" in index for name in NAMES)
    assert "3 folds" in index


def test_the_same_results_give_the_same_bytes(small: Small, drawn: Path, tmp_path: Path) -> None:
    write_figures(*small, tmp_path / "again")
    for path in drawn.iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes(), path.name


def test_without_runs_their_figures_are_left_out(tmp_path: Path) -> None:
    config = small_config()
    config["matrix"] = {"baselines": ["mae"]}
    settings = Settings.parse(config)
    write_all_metrics(settings, tmp_path)
    write_data(settings, tmp_path)
    write_figures(settings, tmp_path, tmp_path / "figures")
    found = {path.stem for path in (tmp_path / "figures").glob("*.png")}
    assert found == {"fig3_examples_mirabest", "fig3_examples_rgz", "fig6_scores"}


def boxes_of(axis: Axes, color: str) -> list[tuple[float, float, float, float]]:
    from matplotlib.colors import to_rgba

    patches = [p for p in axis.patches if isinstance(p, Rectangle)]
    return [
        (p.get_x(), p.get_y(), p.get_width(), p.get_height())
        for p in patches
        if p.get_edgecolor() == to_rgba(color)
    ]


def test_boxes_frame_the_crops(small: Small) -> None:
    settings, folder = small
    with house_style():
        figure = contrastive_figure(settings, Corpus(folder / "corpora" / "all.h5"), 64)
    cutouts = [axis for axis in figure.axes if boxes_of(axis, SKY)]
    assert len(cutouts) == 6
    crops = settings.views.crops
    for axis in cutouts:
        (wide,), (additional,) = boxes_of(axis, SKY), boxes_of(axis, ORANGE)
        assert wide[2] == wide[3] <= crops.roi_side[1] * crops.wide_side[1] * SIZE_PX + 1
        assert additional[2] < wide[2]
        for x, y, width, height in (wide, additional):
            # Edges lie between pixels, inside the image.
            assert x % 1 == y % 1 == 0.5
            assert min(x, y) >= -0.5 and max(x + width, y + height) <= SIZE_PX - 0.5
        # The anchor lies inside both.
        (marker,) = [line for line in axis.lines if line.get_marker() == "+"]
        ax, ay = float(marker.get_xdata()[0]), float(marker.get_ydata()[0])  # type: ignore[index]
        for x, y, width, height in (wide, additional):
            assert x < ax < x + width and y < ay < y + height


def test_reconstruction_figure_shows_both_regimes(small: Small) -> None:
    settings, folder = small
    with house_style():
        figure = reconstruction_figure(settings, Corpus(folder / "corpora" / "all.h5"), 64)
    crops = settings.views.crops
    for axis in figure.axes:
        for box in boxes_of(axis, SKY):
            assert box[2] >= np.sqrt(crops.wide_area[0]) * SIZE_PX - 1
        for box in boxes_of(axis, ORANGE):
            assert box[2] <= crops.roi_side[1] * crops.tight_side[1] * SIZE_PX + 1


def test_view_size_is_the_starts(small: Small, tmp_path: Path) -> None:
    settings, folder = small
    assert view_size(settings, folder) == 64
    with pytest.raises(DataError, match=r"config\.json: cannot read image_size"):
        view_size(settings, tmp_path)
    path = tmp_path / "encoders" / "start_mae" / "config.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"image_size": "big"}))
    with pytest.raises(DataError, match="image_size is 'big'"):
        view_size(settings, tmp_path)


def test_recall_form() -> None:
    shares = recall_form(np.array([[3, 1, 0], [0, 0, 0], [1, 1, 2]]))
    np.testing.assert_array_equal(shares[[0, 2]], [[0.75, 0.25, 0], [0.25, 0.25, 0.5]])
    assert np.isnan(shares[1]).all()


def test_confusion_figure_prints_recall_and_score(small: Small) -> None:
    results = Results(*small)
    with house_style():
        figure = confusion_figure(results, "finetune")
    assert figure is not None
    assert len(figure.axes) == 6
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts == ["80", "20", "10", "90"]
    assert figure.axes[4].get_title().startswith("ViT-MAE-Base\nMacro-F1 ")
    mean = np.mean(fold_scores("finetune", "start_mae", "rgz", "macro_f1"))
    assert f"{mean:.3f}" in figure.axes[4].get_title()


def test_score_figure_has_a_line_per_configuration(small: Small) -> None:
    with house_style():
        figure = score_figure(Results(*small))
    assert figure is not None
    labels = [tick.get_text() for tick in figure.axes[0].get_yticklabels()]
    assert labels == [
        "Starting points", "ViT-MAE-Base", "DINOv2-Base(R)", "DINOv2-Base", "tiny_net",
        "Reconstruction only", "L2, R = 0", "L2+BL1, R = 0",
        "Contrastive only", "HCL, R = 0", "HCL, R = 8",
        "Two-stage", "L2 → Soft-HCL, R = 0",
    ]  # fmt: skip


def test_bars_are_the_intervals(small: Small) -> None:
    results = Results(*small)
    with house_style():
        figure = score_figure(results)
    assert figure is not None
    score = results.score("finetune", Configuration("start", "dino-r"), "rgz")
    assert score is not None
    interval = score.spread("macro_f1").interval
    # Line 2 of the second panel, below its heading and ViT-MAE; fine-tuning is the lower mark.
    bars = [
        segment
        for collection in figure.axes[1].collections
        if isinstance(collection, LineCollection)
        for segment in collection.get_segments()
    ]
    (bar,) = [bar for bar in bars if 2.0 < bar[0][1] < 2.5]
    assert tuple(bar[:, 0]) == pytest.approx(interval)


def test_label_budget_figure(tmp_path: Path) -> None:
    config = small_config()
    config["evaluation"] = {
        "protocols": ["label_budget"],
        "label_budget": {"per_class": [5, 20, 50], "draws": 2},
    }
    results = results_of(config, tmp_path)
    with house_style():
        figure = budget_figure(results)
    assert figure is not None
    assert [axis.get_title() for axis in figure.axes] == ["MiraBest", "RGZ DR1"]
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels[:4] == ["ViT-MAE-Base", "DINOv2-Base(R)", "DINOv2-Base", "tiny_net"]
    assert labels[4].startswith("best other run: ")
    assert labels[5] == "selected: two-stage L2 → Soft-HCL, R = 0"
    line = next(line for line in figure.axes[1].lines if line.get_label() == "DINOv2-Base(R)")
    np.testing.assert_array_equal(line.get_xdata(), [5, 20, 50])
    expected = [
        np.mean(fold_scores(f"label_budget {n}", "start_dino-r", "rgz", "macro_f1", 6))
        for n in (5, 20, 50)
    ]
    np.testing.assert_allclose(np.asarray(line.get_ydata()), expected)
    assert len(figure.axes[0].collections) == 6, "a band for each curve"


def test_without_budgets_there_is_no_curve(small: Small) -> None:
    assert budget_figure(Results(*small)) is None


def test_texts_keep_apart(small: Small) -> None:
    """No tick label, title or axis label of a figure covers another one."""
    results = Results(*small)
    with house_style():
        for figure in (confusion_figure(results, "finetune"), score_figure(results)):
            assert figure is not None
            figure.draw_without_rendering()
            for axis in figure.axes:
                ticks = [t for t in axis.get_yticklabels() if t.get_text()]
                boxes = [t.get_window_extent() for t in [*ticks, axis.title, axis.yaxis.label]]
                boxes = [box for box in boxes if box.width]
                for i, box in enumerate(boxes):
                    assert not any(box.overlaps(other) for other in boxes[i + 1 :])


def test_curves_are_the_records(small: Small) -> None:
    with house_style():
        figure = curve_figure(Results(*small))
    assert figure is not None
    reconstruction, contrastive = figure.axes[0], figure.axes[1]
    # Two losses and two numbers of registers, with two seeds each.
    assert (len(reconstruction.lines), len(contrastive.lines)) == (4, 4)
    np.testing.assert_array_equal(reconstruction.lines[0].get_xdata(), range(1, 8))
    np.testing.assert_allclose(
        np.asarray(reconstruction.lines[0].get_ydata()), [5 / epoch for epoch in range(1, 8)]
    )
    # A reconstruction run has no embeddings.
    assert not figure.axes[6].axison
    assert figure.axes[7].axison


def test_malformed_record(small: Small, tmp_path: Path) -> None:
    settings, _ = small
    write_all_metrics(settings, tmp_path)
    write_data(settings, tmp_path)
    name = "two_stage_mae_l2_soft_hcl_r0_all_s1"
    (tmp_path / "encoders" / name / "metrics.jsonl").write_text('{"kind": "epo')
    with pytest.raises(DataError, match=f"{name}/metrics.jsonl: not the record of a run"):
        curve_figure(Results(settings, tmp_path))
