"""Detection in the configuration: what fits together, and what the matrix makes of it."""

from typing import Any

import pytest
import yaml

from stradavit.errors import SettingsError
from stradavit.settings import Settings
from stradavit.settings.base import merge
from stradavit.settings.detection import DetectorSettings
from stradavit.settings.views import CHIP_VIEWS, ViewSettings

CONFIG = """
surveys:
  sky: {source: simulated, like: sdc1}
  field: {source: simulated, like: sdc1, first: 5}
  chips: {source: chips, detection: sar}
benchmarks:
  mirabest: {source: simulated, like: mirabest}
corpora:
  all: {surveys: [sky]}
  sar: {surveys: [chips], title: SAR}
encoders:
  tiny: {source: scratch, title: Scratch}
  small: {source: scratch}
  photographs: {source: hub, repo: a/b, title: ImageNet}
matrix:
  baselines: [tiny]
  contrastive: {starts: [tiny], losses: [soft_hcl], registers: [4]}
  selected: {branch: contrastive, contrastive_loss: soft_hcl, registers: 4}
  chips: {starts: [small, photographs], corpora: [sar]}
  detection:
    sar: {baselines: [small, photographs], chips: true}
    radio: {baselines: [tiny], selected: true}
training: {seeds: [42, 43]}
detection:
  sets:
    sar: {source: simulated, table: sar}
    radio: {source: truth, table: radio, survey: field}
  training: {seeds: [1, 2]}
"""

COCO = {"source": "coco", "path": "/nowhere"}


def settings(**overlay: Any) -> Settings:
    return Settings.parse(merge(yaml.safe_load(CONFIG), overlay))


def test_rows_are_baselines_then_chips_then_the_selected_model() -> None:
    parsed = settings()
    sar = {row.title: [node.name for node in row.nodes] for row in parsed.detection_rows("sar")}
    assert sar == {
        "small": ["start_small_s42", "start_small_s43"],
        "ImageNet": ["start_photographs"],
        "SAR": ["reconstruction_small_l2_r0_sar_s42", "reconstruction_small_l2_r0_sar_s43"],
        "SAR from ImageNet": [
            "reconstruction_photographs_l2_r0_sar_s42",
            "reconstruction_photographs_l2_r0_sar_s43",
        ],
    }
    radio = {row.title: len(row.nodes) for row in parsed.detection_rows("radio")}
    assert radio == {"Scratch": 2, "STRADAViT (selected model)": 2}
    cells = parsed.detection_cells()
    assert len(cells) == len(set(cells)) == (2 + 1 + 2 + 2 + 2 + 2) * 2
    assert {encoder for encoder, _, _ in cells} <= set(parsed.nodes())


def test_runs_that_differ_in_their_start_are_rows_of_their_own() -> None:
    # Both are scratch starts: their runs are no repeats of one another.
    rows = settings(matrix={"chips": {"starts": ["small", "tiny"]}}).detection_rows("sar")
    assert [(row.title, [node.name for node in row.nodes]) for row in rows[2:]] == [
        (
            f"SAR from {title}",
            [f"reconstruction_{start}_l2_r0_sar_s{seed}" for seed in (42, 43)],
        )
        for start, title in (("small", "small"), ("tiny", "Scratch"))
    ]


def test_starts_of_chips_are_not_scored_on_benchmarks() -> None:
    scored = {encoder for _, encoder, _ in settings().cells()}
    assert scored == {
        f"{name}_s{seed}"
        for name in ("start_tiny", "contrastive_tiny_soft_hcl_r4_all")
        for seed in (42, 43)
    }


def test_runs_on_chips_have_their_own_schedule_and_views() -> None:
    parsed = settings(training={"chips": {"epochs": 7}})
    node = parsed.nodes()["reconstruction_small_l2_r0_sar_s42"]
    run = parsed.pretrain_settings(node)
    assert (run.phase.epochs, run.phase.effective_batch) == (7, 512)
    assert run.views.reconstruction == CHIP_VIEWS.reconstruction != ViewSettings().reconstruction
    assert run.views.crops.wide_probability == 1.0


def test_the_sky_of_held_out_tiles_is_guarded_and_chips_have_none() -> None:
    parsed = settings()
    assert parsed.detection_guards("all") == ("radio",)
    assert parsed.detection_guards("sar") == parsed.guards("sar") == ()
    assert parsed.guards("all") == ("mirabest",)


def test_other_seeds_do_not_touch_a_training() -> None:
    assert settings().detector_run(1) == settings(
        detection={"training": {"seeds": [1, 2, 3]}}
    ).detector_run(1)


@pytest.mark.parametrize(
    ("overlay", "message"),
    [
        ({"corpora": {"all": {"surveys": ["sky", "chips"]}}}, "mixes chips with mosaics"),
        ({"corpora": {"sar": {"guards": ["mirabest"]}}}, "chips have no known sky"),
        ({"matrix": {"corpora": ["sar"]}}, "belongs into matrix.chips.corpora"),
        ({"matrix": {"chips": {"corpora": ["all"]}}}, "belongs into matrix.corpora"),
        ({"matrix": {"chips": {"starts": ["none"]}}}, "matrix.chips.starts names 'none'"),
        ({"matrix": {"detection": {"other": {}}}}, "matrix.detection names 'other'"),
        ({"matrix": {"detection": {"sar": {"baselines": ["no"]}}}}, "sar.baselines names 'no'"),
        ({"matrix": {"selected": None}}, "matrix.detection.radio.selected"),
        ({"surveys": {"chips": {"detection": "no"}}}, "surveys.chips.detection names 'no'"),
        ({"surveys": {"chips": {"splits": ["train", "test"]}}}, "'test', on which detection.sets"),
        ({"detection": {"sets": {"radio": {"survey": "chips"}}}}, "radio.survey names 'chips'"),
        ({"detection": {"sets": {"sar": {"oops": 1}}}}, "detection.sets.sar.oops: unknown key"),
        (
            {"detection": {"training": {"optimiser": {"oops": 1}}}},
            "detection.training.optimiser.oops: unknown key",
        ),
        (
            {"detection": {"sets": {"sky": {"source": "simulated", "table": "sar"}}}},
            "has a name of surveys",
        ),
        (
            {"detection": {"sets": {"radio": {"test_fraction": 0.5, "val_fraction": 0.5}}}},
            "nothing would be left",
        ),
        (
            {"detection": {"sets": {"radio": {"scored": "val", "val_fraction": 0.0}}}},
            "radio.scored is 'val', of which a val_fraction of 0 leaves no images",
        ),
        (
            {"detection": {"sets": {"sar": COCO | {"splits": ["train", "val"]}}}},
            "sar.splits has no 'test', on which detectors are scored",
        ),
        (
            {"detection": {"sets": {"sar": COCO | {"splits": ["val", "test"]}}}},
            "sar.splits has no 'train', on which detectors are trained",
        ),
        (
            {"detection": {"sets": {"sar": {"classes": ["ship", "ship"]}}}},
            "detection.sets.sar.classes names 'ship' more than once",
        ),
        ({"detection": {"sets": {"sar": {"classes": []}}}}, "at least 1 item"),
        (
            {"detection": {"training": {"seeds": [1, 1]}}},
            "detection.training.seeds names 1 more than once",
        ),
        ({"training": {"seeds": [42, 42]}}, "training.seeds names 42 more than once"),
        (
            {"matrix": {"corpora": [], "leave_out": ["sky"]}},
            "matrix.leave_out: matrix.corpora is empty",
        ),
        ({"matrix": {"corpora": []}}, "radio.selected: .* matrix.corpora is empty"),
    ],
)
def test_what_does_not_fit_is_refused(overlay: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        settings(**overlay)


def test_null_takes_a_set_out_again() -> None:
    parsed = settings(detection={"sets": {"radio": None}}, matrix={"detection": {"radio": None}})
    assert list(parsed.detection.sets) == ["sar"]


def test_the_defaults_are_the_papers() -> None:
    detector = DetectorSettings()
    assert (detector.image_px, detector.window, detector.pyramid_width) == (800, 14, 256)
    chips = settings().training.chips
    assert (chips.epochs, chips.batch_size, chips.mask_ratio) == (400, 256, 0.75)
    assert chips.epochs * chips.warmup_fraction == 40
    assert chips.optimiser.learning_rate == pytest.approx(1.5e-4 * chips.effective_batch / 256)
