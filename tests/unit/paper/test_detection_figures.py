"""Boxes have the colour of what they are; reconstructions show what the network predicts."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.patches import Rectangle
from numpy.typing import NDArray
from torch import Tensor

from stradavit.cutouts.detection_images import DetectionImages, write_detection_images
from stradavit.models.config import DecoderConfig, EncoderConfig
from stradavit.models.encoder import ViTEncoder
from stradavit.models.mae import MaskedAutoencoder, patchify, random_mask
from stradavit.models.preprocessing import Preprocessing
from stradavit.objectives.reconstruction import normalised_patches
from stradavit.paper.cells import Results
from stradavit.paper.curve_figure import curve_figure
from stradavit.paper.detection_figure import detection_figures, judge
from stradavit.paper.detection_files import Found
from stradavit.paper.detection_scores import compared
from stradavit.paper.figures import write_figures
from stradavit.paper.reconstructed_figure import reconstruct, reconstructed_figures
from stradavit.paper.style import GREEN, SKY, VERMILION, house_style
from stradavit.paper.view_figures import view_size
from stradavit.settings import Settings
from stradavit.settings.training import ReconstructionSettings

from .fake_detection import CLASSES, detection_config, scenes, write_detection_results

IMAGENET = Preprocessing(16, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Settings, Path]:
    """Settings and results of the matrix with detection and chips; no test changes them."""
    settings, folder = Settings.parse(detection_config()), tmp_path_factory.mktemp("results")
    write_detection_results(settings, folder)
    return settings, folder


# -- right and wrong ------------------------------------------------------------------------------


def found(*rows: tuple[list[float], int, float]) -> Found:
    boxes, labels, scores = zip(*rows, strict=True) if rows else ((), (), ())
    return Found(
        np.array(boxes, np.float64).reshape(-1, 4), np.array(labels, np.int64), np.array(scores)
    )


def truth(*rows: tuple[list[float], int, bool]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    boxes, labels, crowds = zip(*rows, strict=True) if rows else ((), (), ())
    return (
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(labels, np.int64),
        np.array(crowds, np.bool_),
    )


SQUARE = [10.0, 10.0, 20.0, 20.0]


def test_the_surest_detection_takes_the_box() -> None:
    judged = judge(*truth((SQUARE, 0, False)), found((SQUARE, 0, 0.6), ([10, 10, 20, 19], 0, 0.9)))
    assert (judged.right, judged.wrong, judged.missed.tolist()) == ([1], [0], [False])


def test_a_detection_takes_its_best_box() -> None:
    boxes = truth(([10, 10, 20, 16], 0, False), (SQUARE, 0, False))
    judged = judge(*boxes, found((SQUARE, 0, 0.9)))
    assert (judged.right, judged.wrong, judged.missed.tolist()) == ([0], [], [True, False])


@pytest.mark.parametrize(("width", "is_right"), [(20.0, True), (20.1, False)])
def test_half_an_overlap_is_enough(width: float, is_right: bool) -> None:
    wide = [10.0, 10.0, 10.0 + width, 20.0]
    judged = judge(*truth((SQUARE, 0, False)), found((wide, 0, 0.9)))
    assert judged.right == [0] * is_right
    assert judged.missed.tolist() == [not is_right]


def test_another_class_is_wrong() -> None:
    judged = judge(*truth((SQUARE, 0, False)), found((SQUARE, 1, 0.9)))
    assert (judged.right, judged.wrong, judged.missed.tolist()) == ([], [0], [True])


def test_regions_to_ignore_are_neither_found_nor_missed() -> None:
    region = ([0.0, 0.0, 50.0, 50.0], 0, True)
    judged = judge(*truth(region), found((SQUARE, 0, 0.9), ([45, 45, 70, 70], 0, 0.8)))
    assert (judged.right, judged.wrong, judged.missed.tolist()) == ([], [1], [False])
    judged = judge(*truth(region), found((SQUARE, 1, 0.9)))
    assert judged.wrong == [0], "the region is of another class"


def test_nothing_to_find_and_nothing_found() -> None:
    assert judge(*truth(), found((SQUARE, 0, 0.9))).wrong == [0]
    assert judge(*truth((SQUARE, 0, False)), found()).missed.tolist() == [True]
    flat = [10.0, 10.0, 10.0, 20.0]
    assert judge(*truth((SQUARE, 0, False)), found((flat, 0, 0.9))).wrong == [0]


# -- Figure 9 -------------------------------------------------------------------------------------


def rectangles(axis: Axes, color: str) -> list[tuple[float, float, float, float]]:
    patches = [p for p in axis.patches if isinstance(p, Rectangle)]
    chosen = [p for p in patches if p.get_edgecolor() == to_rgba(color)]
    return [(p.get_x(), p.get_y(), p.get_width(), p.get_height()) for p in chosen]


def test_boxes_are_drawn_where_they_are(written: tuple[Settings, Path]) -> None:
    with house_style():
        drawn = {
            name: (caption, figure)
            for name, caption, figure in detection_figures(Results(*written))
        }
    assert list(drawn) == ["fig9_detections_sar", "fig9_detections_radio"]
    caption, figure = drawn["fig9_detections_sar"]
    images = DetectionImages(written[1] / "detection" / "sar.h5")
    # The last of the scored images has three boxes, of which two are found.
    number = int(images.of_split("test")[-1])
    last = figure.axes[3]
    x0, y0, x1, y1 = images.boxes(number)[2]
    assert rectangles(last, SKY) == [(x0 - 0.5, y0 - 0.5, x1 - x0, y1 - y0)]
    assert rectangles(last, VERMILION) == [(59.5, 1.5, 20.0, 18.0)], "the ghost of score 0.6"
    assert len(rectangles(last, GREEN)) == len(rectangles(last, "white")) == 2
    assert [t.get_text() for t in last.texts] == ["ship 0.90", "tank & $5 0.90", "ship 0.60"]
    assert len(figure.axes) == 8, "two encoders, four images"
    assert last.yaxis_inverted(), "the first row of a photograph is on top"
    _, radio = drawn["fig9_detections_radio"]
    assert not radio.axes[0].yaxis_inverted()
    assert {t.get_text() for t in radio.axes[0].texts} == {"0.90", "0.60"}, (
        "one class needs no name"
    )
    assert "a score of 0.5 or more on images of the test split" in caption
    assert "IoU of 0.5" in caption


def test_the_best_of_the_others_is_shown(written: tuple[Settings, Path]) -> None:
    rows = compared(Results(*written), "sar")
    best = max(rows[1:], key=lambda row: row.mean_map)
    with house_style():
        _, caption, figure = next(detection_figures(Results(*written)))
    assert [figure.axes[i].get_ylabel() for i in (0, 4)] == ["tiny_net", best.title]
    assert f"{best.title}, {best.trainings[0].encoder}; detector seed 7" in caption


# -- Figure 8 -------------------------------------------------------------------------------------


class Knowing(MaskedAutoencoder):
    """Predicts the true patches, as they are or normalised."""

    def __init__(self, is_normalised: bool) -> None:
        decoder = DecoderConfig(width=16, layers=1, heads=2, mlp_width=32)
        super().__init__(
            ViTEncoder(
                EncoderConfig(
                    image_px=16, patch_px=4, channels=3, width=16, layers=1, heads=2,
                    mlp_width=32, decoder=decoder,
                )
            )
        )  # fmt: skip
        self.is_normalised = is_normalised

    def forward(
        self, pixels: Tensor, noise: Tensor, mask_ratio: float = 0.75
    ) -> tuple[Tensor, Tensor]:
        patches = patchify(pixels, 4)
        _, _, mask = random_mask(noise, mask_ratio)
        return (normalised_patches(patches) if self.is_normalised else patches) * 1.0, mask


@pytest.mark.parametrize("is_normalised", [False, True])
def test_what_the_network_knows_is_shown_as_it_is(is_normalised: bool) -> None:
    chips = torch.rand(3, 1, 16, 16, generator=torch.Generator().manual_seed(1))
    phase = ReconstructionSettings(normalise_patches=is_normalised)
    made = reconstruct(Knowing(is_normalised), IMAGENET, chips, phase, seed=5)
    # Normalising and back costs some bits of float32.
    np.testing.assert_allclose(made.pixels, chips[:, 0].numpy(), atol=1e-5)
    patches = patchify(torch.from_numpy(made.is_hidden)[:, None].float(), 4)
    assert ((patches == 0).all(-1) | (patches == 1).all(-1)).all(), "patches are hidden as a whole"
    assert patches.mean(dim=(1, 2)).tolist() == [0.75] * 3


def test_visible_patches_stay_and_hidden_ones_are_predicted() -> None:
    class Black(Knowing):
        def forward(
            self, pixels: Tensor, noise: Tensor, mask_ratio: float = 0.75
        ) -> tuple[Tensor, Tensor]:
            patches, mask = super().forward(pixels, noise, mask_ratio)
            return torch.full_like(patches, -9.0), mask

    chips = torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(1)) + 0.01
    made = reconstruct(Black(False), IMAGENET, chips, ReconstructionSettings(), seed=5)
    np.testing.assert_array_equal(made.pixels == 0, made.is_hidden)
    np.testing.assert_array_equal(
        made.pixels[~made.is_hidden], chips[:, 0].numpy()[~made.is_hidden]
    )
    again = reconstruct(Black(False), IMAGENET, chips, ReconstructionSettings(), seed=6)
    assert (again.is_hidden != made.is_hidden).any(), "the seed draws the mask"


def test_reconstructions_of_every_corpus_of_chips(written: tuple[Settings, Path]) -> None:
    with house_style():
        ((name, caption, figure),) = reconstructed_figures(Results(*written))
    assert name == "fig8_reconstruction_chips"
    # Five chips; the runs have the same patches, so the mask is shown once.
    titles = [axis.get_title() for axis in figure.axes[:4]]
    assert titles == ["chip", "visible", "from tiny_net", "from ImageNet"]
    assert len(figure.axes) == 5 * 4
    hidden = np.ma.getmaskarray(figure.axes[1].images[0].get_array())
    assert hidden.mean() == 0.75
    chip, filled = (np.asarray(figure.axes[i].images[0].get_array()) for i in (0, 2))
    assert chip.shape == (32, 32)
    np.testing.assert_array_equal(chip[~hidden], filled[~hidden])
    assert (chip[hidden] != filled[hidden]).mean() > 0.9
    for words in (
        "on SAR (seed 1)", "the val split of Scenes_1, which pretraining did not see",
        "75% of the patches hidden (mask seed 1)", "visible ones as they are",
        "the mean and standard deviation of the true patches, which the networks do not know",
    ):  # fmt: skip
        assert words in caption


def test_held_out_chips_come_first(written: tuple[Settings, Path]) -> None:
    config = detection_config()
    config["surveys"]["pictures"]["splits"] = ["train", "val"]
    config["training"]["chips"] = {"normalise_patches": False}
    results = Results(Settings.parse(config), written[1])
    with house_style():
        ((_, caption, _),) = reconstructed_figures(results)
    assert "the test split of Scenes_1, which pretraining did not see" in caption
    assert "unit variance" not in caption


def test_a_second_survey_of_chips_was_seen_too(written: tuple[Settings, Path]) -> None:
    config = detection_config()
    config["surveys"]["more"] = config["surveys"]["pictures"] | {"splits": ["val"]}
    (corpus,) = config["matrix"]["chips"]["corpora"]
    config["corpora"][corpus]["surveys"].append("more")
    with house_style():
        ((_, caption, _),) = reconstructed_figures(Results(Settings.parse(config), written[1]))
    assert "the test split of Scenes_1, which pretraining did not see" in caption


def test_without_held_out_chips_those_of_training_are_shown(tmp_path: Path) -> None:
    config = detection_config()
    config["matrix"]["detection"] = {}
    settings = Settings.parse(config)
    write_detection_results(settings, tmp_path)
    only = [scene for scene in scenes(CLASSES["sar"]) if scene.split == "train"]
    write_detection_images(tmp_path / "detection" / "sar.h5", CLASSES["sar"], only, {})
    with house_style():
        ((_, caption, _),) = reconstructed_figures(Results(settings, tmp_path))
    assert "the train split of Scenes_1, which pretraining saw" in caption


# -- all of them ----------------------------------------------------------------------------------


def test_detection_alone(tmp_path: Path) -> None:
    config = detection_config()
    config["benchmarks"] = {}
    config["evaluation"] = {"protocols": ["linear_probe", "label_budget"]}
    config["matrix"] = {
        "corpora": [],
        "chips": config["matrix"]["chips"],
        "detection": {"sar": config["matrix"]["detection"]["sar"]},
    }
    settings = Settings.parse(config)
    write_detection_results(settings, tmp_path)
    assert view_size(settings, tmp_path) is None, "chips are no views of the sky"
    for name in ("a", "b"):
        write_figures(settings, tmp_path, tmp_path / name)
    assert {path.stem for path in (tmp_path / "a").glob("*.png")} == {
        "fig5_pretraining_curves", "fig8_reconstruction_chips", "fig9_detections_sar",
    }  # fmt: skip
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes(), path.name


def test_runs_on_chips_have_curves_of_their_own(written: tuple[Settings, Path]) -> None:
    with house_style():
        figure = curve_figure(Results(*written))
    assert figure is not None
    assert [axis.get_title() for axis in figure.axes[:4]] == [
        "Reconstruction", "Reconstruction of chips", "Contrastive only",
        "Two-stage, contrastive phase",
    ]  # fmt: skip
    assert [len(axis.lines) for axis in figure.axes[:4]] == [4, 4, 4, 2]
