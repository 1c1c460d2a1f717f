"""Tables 16, 17 and 25: numbers in percent, over trainings, of equal boxes; nothing is claimed."""

import csv
import io
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from stradavit.cutouts.detection_images import write_detection_images
from stradavit.cutouts.hdf5 import seal_attributes
from stradavit.errors import DataError
from stradavit.paper.captions import guard_sentence
from stradavit.paper.cells import Results
from stradavit.paper.datasets import corpus_table
from stradavit.paper.detection_scores import compared, summary
from stradavit.paper.detection_set_table import detection_set_table
from stradavit.paper.detection_tables import detection_tables
from stradavit.paper.layout import Row, Spread, Table
from stradavit.paper.recipes import training_table
from stradavit.paper.render import to_csv, to_latex, to_markdown
from stradavit.paper.tables import write_tables
from stradavit.settings import Settings

from .fake_data import write_data
from .fake_detection import (
    CLASSES,
    IMAGES,
    detection_config,
    detection_content,
    detection_report,
    draw_scores,
    scenes,
    write_content,
    write_detection,
)
from .fake_results import small_config, write_all_metrics


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Settings, Path]:
    """Settings and results of the matrix with detection; no test changes them."""
    return write(detection_config(), tmp_path_factory.mktemp("results"))


def write(config: dict[str, Any], folder: Path) -> tuple[Settings, Path]:
    settings = Settings.parse(config)
    write_all_metrics(settings, folder)
    write_data(settings, folder)
    write_detection(settings, folder)
    return settings, folder


def of_encoder(table: Table, title: str) -> tuple[Row, dict[str, Any]]:
    (row,) = [row for row in table.rows if row.labels == (title,)]
    return row, dict(zip([c.key for c in table.columns], row.cells, strict=True))


def metrics_path(folder: Path, encoder: str, name: str, seed: int) -> Path:
    return folder / "metrics" / "detection" / encoder / name / f"s{seed}.json"


def test_summary() -> None:
    assert summary([None, None]) is None
    assert summary([0.25]) == 25.0
    spread = summary([0.2, 0.4])
    assert isinstance(spread, Spread)
    assert (spread.mean, spread.std) == pytest.approx((30.0, 10.0))
    assert summary([-3.5], factor=1.0) == -3.5


def test_numbers_are_percent_over_all_trainings(written: tuple[Settings, Path]) -> None:
    sar, radio = detection_tables(Results(*written))
    assert (sar.name, radio.name) == ("16_sar_detection", "17_radio_detection")
    assert [row.labels[0] for row in sar.rows] == [
        "tiny_net", "ImageNet", "SAR", "SAR from ImageNet",
    ]  # fmt: skip
    row, cells = of_encoder(sar, "SAR")
    encoders = [f"reconstruction_tiny_net_l2_r0_chips_s{seed}" for seed in (1, 2)]
    for key in ("map", "ap50", "ap75", "map_small", "map_medium"):
        drawn = [100 * draw_scores(e, "sar", seed)[key] for e in encoders for seed in (7, 8)]
        found = cells[f"{key} percent"]
        assert found.mean == pytest.approx(np.mean(drawn))
        assert found.std == pytest.approx(np.std(drawn))
        assert found.interval is None and found.mark == ""
    assert (cells["split"], cells["trainings"]) == ("test", 4)
    assert cells["map_large percent"] is None
    assert cells["map ship percent"] == cells["map percent"]
    assert cells["map tank & $5 percent"] is None
    assert row.files == tuple(
        f"detection/{e}/sar/s{seed}.json" for e in encoders for seed in (7, 8)
    )
    assert row.notes == ()
    assert of_encoder(sar, "ImageNet")[1]["trainings"] == 2, "published weights have one seed"


def test_radio_has_the_challenge_and_no_column_for_its_only_class(
    written: tuple[Settings, Path],
) -> None:
    _, radio = detection_tables(Results(*written))
    assert [c.key for c in radio.columns][-2:] == ["sdc1_score", "sdc1_percent"]
    assert not any("source" in c.key for c in radio.columns)
    _, cells = of_encoder(radio, "STRADAViT (selected model)")
    score = cells["sdc1_score"]
    assert (score.mean, score.std) == (17.5, 0.5)
    assert cells["sdc1_percent"].mean == 11.5
    assert "560 MHz" in radio.caption
    assert "not with the results of the challenge" in radio.caption


def test_printed_with_one_decimal(written: tuple[Settings, Path]) -> None:
    sar, _ = detection_tables(Results(*written))
    cells = of_encoder(sar, "SAR")[1]
    printed = f"{cells['map percent'].mean:.1f} ± {cells['map percent'].std:.1f}"
    assert f"| SAR | test | 4 | {printed} | " in to_markdown(sar)
    assert printed.replace(" ± ", r" \pm ") in to_latex(sar)
    header, first, *_ = csv.reader(io.StringIO(to_csv(sar)))
    assert header[:8] == [
        "set", "encoder", "split", "trainings", "map percent mean", "map percent std",
        "ap50 percent mean", "ap50 percent std",
    ]  # fmt: skip
    assert not any(name.endswith((" low", " high")) for name in header)
    assert first[:2] == ["Scenes_1", "tiny_net"]
    mean = of_encoder(sar, "tiny_net")[1]["map percent"].mean
    assert float(first[4]) == mean


def test_caption_says_what_was_done(written: tuple[Settings, Path]) -> None:
    sar, _ = detection_tables(Results(*written))
    for words in (
        "ViTDet with Faster R-CNN heads", "800 × 800 px", "12 epochs", "batch 16",
        "Scenes_1: scored on the 7 images of the test split with 1,500 boxes (1,400 small, 100 "
        "medium, 0 large).",
        "less than 32 × 32 px of the stored image, large ones 96 × 96 px or more",
        "(pretraining seeds 1, 2; published weights have one)", "seed of the detector (7, 8)",
        "Differences between rows are not tested.",
    ):  # fmt: skip
        assert words in sar.caption
    assert "side below" not in sar.caption
    assert "without ±" not in sar.caption


def test_a_single_training_has_no_spread_and_claims_nothing(tmp_path: Path) -> None:
    config = detection_config()
    config["training"] = {"seeds": [1]}
    config["detection"]["training"] = {"seeds": [7], "min_side_px": 16}
    sar, _ = detection_tables(Results(*write(config, tmp_path)))
    _, cells = of_encoder(sar, "tiny_net")
    assert cells["map percent"] == 100 * draw_scores("start_tiny_net_s1", "sar", 7)["map"]
    assert "±" not in to_markdown(sar)
    assert "One training of each detector (seed 7; pretraining seed 1): nothing is" in sar.caption
    assert "no training boxes with a side below 16 px" in sar.caption
    lines = list(csv.reader(io.StringIO(to_csv(sar))))
    assert {len(line) for line in lines} == {len(lines[0])}
    assert lines[1][5] == "", "no spread beside the mean"


def test_single_trainings_among_others(tmp_path: Path) -> None:
    config = detection_config()
    config["detection"]["training"] = {"seeds": [7]}
    sar, _ = detection_tables(Results(*write(config, tmp_path)))
    assert isinstance(of_encoder(sar, "tiny_net")[1]["map percent"], Spread)
    assert isinstance(of_encoder(sar, "ImageNet")[1]["map percent"], float)
    assert sar.caption.endswith("A number without ± is of a single training.")


def test_sets_of_one_table_are_groups_with_common_classes(tmp_path: Path) -> None:
    config = detection_config()
    config["detection"]["sets"]["radio"] |= {"table": "sar", "scored": "val"}
    (table,) = detection_tables(Results(*write(config, tmp_path)))
    assert [group.title for group in table.groups] == ["Scenes_1", "SDC1"]
    assert [c.title for c in table.columns if c.group == "mAP of class"] == [
        "ship", "tank & $5", "source",
    ]  # fmt: skip
    keys = [c.key for c in table.columns]
    last = dict(zip(keys, table.groups[1].rows[0].cells, strict=True))
    assert last["split"] == "val"
    assert last["map ship percent"] is None
    assert last["map source percent"] == last["map percent"]
    assert "SDC1: scored on the 7 images of the val split" not in table.caption
    assert f"SDC1: scored on the {IMAGES['val']} images of the val split" in table.caption


def test_too_many_classes_have_no_columns(tmp_path: Path) -> None:
    settings, _ = write(detection_config(), tmp_path)
    names = [f"kind {i}" for i in range(9)]
    for encoder, name, seed in settings.detection_cells():
        content = detection_content(settings, encoder, name, seed)
        content |= {"classes": names, "per_class": dict.fromkeys(names)}
        write_content(metrics_path(tmp_path, encoder, name, seed), content)
    for table in detection_tables(Results(settings, tmp_path)):
        assert not any("kind" in column.key for column in table.columns)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"split": "val"}, "split is val, but test in"),
        ({"n_images": 8}, "images are 8, but 7 in"),
        ({"n_boxes": {"all": 9, "small": 9, "medium": 0, "large": 0}}, "boxes are"),
        ({"size_limits_px": [16, 48]}, r"size limits are \(16\.0, 48\.0\), but \(32\.0, 96\.0\)"),
        ({"per_class": {"ship": None, "tank & $5": None}}, "classes without boxes are"),
    ],
)
def test_only_equal_boxes_are_compared(
    written: tuple[Settings, Path], tmp_path: Path, change: dict[str, Any], match: str
) -> None:
    settings = written[0]
    for encoder, name, seed in settings.detection_cells():
        content = detection_content(settings, encoder, name, seed)
        if (encoder, seed) == ("start_photographs", 8):
            content |= change
        write_content(metrics_path(tmp_path, encoder, name, seed), content)
    write_all_metrics(settings, tmp_path)
    with pytest.raises(DataError, match=rf"start_photographs/sar/s8\.json: {match}"):
        compared(Results(settings, tmp_path), "sar")


def test_what_is_out_of_date_is_said(tmp_path: Path) -> None:
    settings, folder = write(detection_config(), tmp_path)
    path = metrics_path(folder, "start_photographs", "sar", 8)
    content = json.loads(path.read_text())
    content["settings"]["detector"]["image_px"] = 512
    content["code"] = "0" * 64
    content["provenance"]["detector_code"] = "1" * 64
    path.write_text(json.dumps(content))
    card = folder / "encoders" / "reconstruction_tiny_net_l2_r0_chips_s2" / "README.md"
    card.write_text('```json\n{"code": "old"}\n```\n')
    sar, _ = detection_tables(Results(settings, folder))
    assert of_encoder(sar, "ImageNet")[0].notes == (
        "Scenes_1: a detector was trained with detector.image_px = 512; the config says 800.",
        "Scenes_1 was scored by another version of the code.",
        "Scenes_1: a detector was trained by another version of the code.",
    )
    assert of_encoder(sar, "SAR")[0].notes == (
        "The encoder was trained by another version of the code.",
    )
    assert of_encoder(sar, "tiny_net")[0].notes == ()


def test_missing_metrics_are_named_with_their_remedy(tmp_path: Path) -> None:
    settings, folder = write(detection_config(), tmp_path)
    path = metrics_path(folder, "start_photographs", "sar", 8)
    path.unlink()
    match = rf"1 metrics file is missing that the matrix asks for: {path}\."
    with pytest.raises(DataError, match=match):
        Results(settings, folder)


def test_without_detection_there_are_no_such_tables(tmp_path: Path) -> None:
    results = Results(*write(small_config(), tmp_path))
    assert detection_tables(results) == []
    assert detection_set_table(results) is None


# -- Table 25 and those of the paper --------------------------------------------------------------


def test_detection_sets(written: tuple[Settings, Path]) -> None:
    table = detection_set_table(Results(*written))
    assert table is not None
    keys = [column.key for column in table.columns]
    rows = {row.labels: dict(zip(keys, row.cells, strict=True)) for row in table.rows}
    assert list(rows) == [
        (title, split) for title in ("Scenes_1", "SDC1") for split in ("train", "val", "test")
    ]
    assert rows["Scenes_1", "test"] == {
        "images": 7, "empty": 1, "repeated": 0, "boxes": 15, "ignored": 0,
        "classes": "ship 10, tank & $5 5", "left_out no_area": 0, "left_out outside": 0,
        "left_out other_class": 7, "clipped": 1,
    }  # fmt: skip
    val = rows["Scenes_1", "val"]
    assert (val["left_out no_area"], val["left_out outside"]) == (1, 2)
    assert rows["SDC1", "test"]["left_out no_area"] is None
    assert table.notes[0] == "Scenes_1: 12 sources have boxes in two splits."


def test_repeated_images_are_counted_in_both_splits(tmp_path: Path) -> None:
    settings, folder = write(detection_config(), tmp_path)
    made = scenes(CLASSES["sar"])
    twin = replace(made[0], name="test/twin", split="test")
    report = detection_report(CLASSES["sar"], True)
    report["counts"] = {"sources": {"boxes": 1200, "faint": 3, "clipped": 5}}
    path = folder / "detection" / "sar.h5"
    write_detection_images(path, CLASSES["sar"], [*made, twin], {"report": report})
    table = detection_set_table(Results(settings, folder))
    assert table is not None
    repeated = [row.cells[2] for row in table.rows if row.labels[0] == "Scenes_1"]
    assert repeated == [1, 0, 1]
    assert (
        "Scenes_1: of the sources of the truth catalogue 1,200 have a box, 3 are too faint."
        in table.notes
    )


def test_a_report_of_something_else(tmp_path: Path) -> None:
    settings, folder = write(detection_config(), tmp_path)
    with h5py.File(folder / "detection" / "sar.h5", "r+") as file:
        file.attrs["report"] = json.dumps({"splits": {"train": {}}})
        seal_attributes(file)
    with pytest.raises(DataError, match=r"sar\.h5: its report is not what cut-detection writes"):
        detection_set_table(Results(settings, folder))


def test_sets_of_chips_are_shown_though_nothing_is_compared_on_them() -> None:
    config = detection_config()
    del config["matrix"]["detection"]["sar"]
    assert Settings.parse(config).used_detection_sets() == ["sar", "radio"]
    config["matrix"]["chips"] = {}
    assert Settings.parse(config).used_detection_sets() == ["radio"]


def test_tables_of_the_paper_do_not_change(written: tuple[Settings, Path], tmp_path: Path) -> None:
    """Chips and starts of detection are no rows of benchmarks."""
    plain = write(small_config(), tmp_path / "plain")
    write_tables(*plain, tmp_path / "without")
    write_tables(*written, tmp_path / "with")
    extra = {path.stem for path in (tmp_path / "with").glob("*.csv")}
    assert extra - {path.stem for path in (tmp_path / "without").glob("*.csv")} == {
        "16_sar_detection", "17_radio_detection", "25_detection_sets",
    }  # fmt: skip
    for path in (tmp_path / "without").glob("*.csv"):
        if path.stem not in ("01_pretraining_sources", "05_training_settings"):
            assert (tmp_path / "with" / path.name).read_text() == path.read_text(), path.name
    for path in (tmp_path / "with").glob("*.tex"):
        assert not re.search(r"[^\x00-\x7f]", path.read_text()), path.name


def test_table_1_has_the_chips(written: tuple[Settings, Path]) -> None:
    table = corpus_table(*written)
    assert [group.title for group in table.groups] == ["Corpus all", "Corpus SAR"]
    assert [row.labels[0] for row in table.groups[1].rows] == ["chips of Scenes_1 (train)", "Total"]
    titles = {column.key: column.title for column in table.columns}
    assert titles["guard radio"] == "SDC1"
    assert "held-out images of a detection set" in table.caption
    assert "Chips are whole pictures" in table.caption


def test_table_5_has_the_chips(written: tuple[Settings, Path]) -> None:
    table = training_table(written[0])
    assert [column.key for column in table.columns] == ["reconstruction", "contrastive", "chips"]
    cells = {row.labels[0]: row.cells[-1] for row in table.rows}
    assert cells["Epochs"] == "400"
    assert cells["Masking"] == "mask ratio 0.75, targets normalised by patch"


def test_detection_alone(tmp_path: Path) -> None:
    """A config without benchmarks has no tables of them."""
    config = detection_config()
    config["benchmarks"] = {}
    config["matrix"] = {
        "corpora": [],
        "chips": config["matrix"]["chips"],
        "detection": {"sar": config["matrix"]["detection"]["sar"]},
    }
    write_tables(*write(config, tmp_path), tmp_path / "tables")
    assert sorted(path.stem for path in (tmp_path / "tables").glob("*.csv")) == [
        "01_pretraining_sources", "05_training_settings", "16_sar_detection", "25_detection_sets",
    ]  # fmt: skip
    lines = (tmp_path / "tables" / "05_training_settings.csv").read_text().splitlines()
    assert lines[0] == "setting,chips"


def test_captions_tell_what_was_dropped_for_detection(written: tuple[Settings, Path]) -> None:
    sentence = guard_sentence(Results(*written))
    assert sentence == (
        "9 of 30 pretraining cutouts were dropped because they contain benchmark positions or "
        "held-out images of detection sets (MiraBest 3, RGZ DR1 3, SDC1 3)."
    )
