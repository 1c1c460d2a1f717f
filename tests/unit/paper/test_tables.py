"""The folder of tables: complete, replaced as a whole, equal for equal results."""

import csv
import re
from pathlib import Path

import pandas as pd
import pytest

from stradavit.errors import DataError
from stradavit.paper.datasets import benchmark_table, corpus_table
from stradavit.paper.folder import atomic_folder
from stradavit.paper.recipes import augmentation_table, contrastive_loss_table, training_table
from stradavit.paper.tables import write_tables
from stradavit.settings import Settings
from stradavit.settings.sources import MiraBestBenchmark

from .fake_data import CLASSES, CUTOUTS_PER_SURVEY, write_data
from .fake_results import fold_scores, full_config, small_config, write_all_metrics

NAMES = [
    "01_pretraining_sources", "02_benchmarks", "03_augmentations", "04_contrastive_losses",
    "05_training_settings", "06_baselines_probe", "07_baselines_finetune",
    "08_reconstruction_probe", "09_reconstruction_finetune", "10_contrastive_probe",
    "11_contrastive_finetune", "12_dinov2_init", "13_two_stage_probe", "14_two_stage_finetune",
    "15_deltas", "18_class_wise", "19_claims",
]  # fmt: skip
PAPERS = NAMES[:15]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[Settings, Path]:
    """Settings and results of the small matrix."""
    settings, folder = Settings.parse(small_config()), tmp_path_factory.mktemp("results")
    write_all_metrics(settings, folder)
    write_data(settings, folder)
    return settings, folder


def test_all_tables_in_all_formats_and_nothing_else(
    small: tuple[Settings, Path], tmp_path: Path
) -> None:
    out_dir = tmp_path / "tables"
    out_dir.mkdir()
    (out_dir / "leftover.md").touch()
    write_tables(*small, out_dir)
    wanted = {f"{name}{suffix}" for name in NAMES for suffix in (".csv", ".md", ".tex")}
    assert {path.name for path in out_dir.iterdir()} == wanted | {"index.md", "provenance.json"}
    assert list(tmp_path.iterdir()) == [out_dir]
    index = (out_dir / "index.md").read_text()
    assert all(f"({name}.csv)" in index for name in NAMES)

    for name in NAMES:
        with (out_dir / f"{name}.csv").open(newline="") as file:
            widths = {len(row) for row in csv.reader(file)}
        assert len(widths) == 1
        text = re.sub(r"(?<!\\)%.*|\\[{}]", "", (out_dir / f"{name}.tex").read_text())
        assert text.count("{") == text.count("}")
        assert not re.search(r"[^\x00-\x7f]", text)


def test_the_papers_tables_are_there_whatever_is_left_out(tmp_path: Path) -> None:
    config = small_config()
    config["matrix"] = {"baselines": ["mae"]}
    settings = Settings.parse(config)
    write_all_metrics(settings, tmp_path)
    write_data(settings, tmp_path)
    write_tables(settings, tmp_path, tmp_path / "tables")
    assert sorted(path.stem for path in (tmp_path / "tables").glob("*.csv")) == PAPERS


def test_our_tables_follow_their_protocols(tmp_path: Path) -> None:
    config = small_config()
    config["evaluation"] = {"protocols": ["linear_probe", "knn", "label_budget", "published_split"]}
    config["matrix"]["leave_out"] = ["lotss"]
    settings = Settings.parse(config)
    write_all_metrics(settings, tmp_path)
    write_data(settings, tmp_path)
    write_tables(settings, tmp_path, tmp_path / "tables")
    assert sorted(path.stem for path in (tmp_path / "tables").glob("*.csv")) == [
        *NAMES, "20_knn", "21_label_budget", "22_leave_one_survey_out", "23_published_split",
    ]  # fmt: skip
    for path in (tmp_path / "tables").glob("*.tex"):
        assert not re.search(r"[^\x00-\x7f]", path.read_text()), path.name


def test_csv_holds_the_cells_number(small: tuple[Settings, Path], tmp_path: Path) -> None:
    write_tables(*small, tmp_path / "tables")
    frame = pd.read_csv(tmp_path / "tables" / "06_baselines_probe.csv", index_col="model")
    scores = fold_scores("linear_probe", "start_dino-r", "rgz", "weighted_f1")
    found = frame.loc["DINOv2-Base(R)", "rgz weighted_f1 mean"]
    assert found == pytest.approx(sum(scores) / 3, rel=1e-15)
    assert frame.loc["DINOv2-Small"].isna().all()


def test_the_same_results_give_the_same_bytes(small: tuple[Settings, Path], tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_tables(*small, tmp_path / name)
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


def test_failure_leaves_the_old_folder(small: tuple[Settings, Path], tmp_path: Path) -> None:
    write_tables(*small, tmp_path / "tables")
    before = {path.name: path.read_bytes() for path in (tmp_path / "tables").iterdir()}
    with pytest.raises(DataError):
        write_tables(small[0], tmp_path / "nowhere", tmp_path / "tables")
    with pytest.raises(OSError, match="stop"), atomic_folder(tmp_path / "tables") as folder:
        (folder / "half").touch()
        raise OSError("stop")
    assert {p.name: p.read_bytes() for p in (tmp_path / "tables").iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["tables"]


def test_table_1_counts(small: tuple[Settings, Path]) -> None:
    table = corpus_table(*small)
    keys = [column.key for column in table.columns]
    rows = {row.labels[0]: dict(zip(keys, row.cells, strict=True)) for row in table.rows}
    assert list(rows) == ["MGCLS (MeerKAT), DR1", "lotss", "Total"]
    assert keys == [
        "cutouts", "ratio", "products", "skipped truncated", "dropped all_zero",
        "dropped not_finite", "guard mirabest", "guard rgz",
    ]  # fmt: skip
    n = CUTOUTS_PER_SURVEY
    assert [row["cutouts"] for row in rows.values()] == [n, 2 * n, 3 * n]
    assert [row["ratio"] for row in rows.values()] == [1 / 3, 2 / 3, 1.0]
    assert [row["products"] for row in rows.values()] == [5, 6, 11]
    assert [row["skipped truncated"] for row in rows.values()] == [0, 2, 2]
    assert [row["dropped all_zero"] for row in rows.values()] == [1, 2, 3]
    assert [row["guard rgz"] for row in rows.values()] == [0, 3, 3]


def test_table_2_counts(small: tuple[Settings, Path]) -> None:
    table = benchmark_table(*small)
    assert [row.labels for row in table.rows] == [("MiraBest",), ("RGZ DR1",)]
    counts = f"{CLASSES[0]} 4, {CLASSES[1]} 5"
    assert table.rows[0].cells == (9, 7, 2, counts, "not finite 2, other class 9")


def test_table_2_says_that_mirabest_is_pooled(small: tuple[Settings, Path]) -> None:
    settings, results_dir = small
    assert "pools" not in benchmark_table(settings, results_dir).caption
    pooled = MiraBestBenchmark(source="mirabest", title="MiraBest", pooled_as_in_paper=True)
    benchmarks = settings.benchmarks | {"mirabest": pooled}
    settings = settings.model_copy(update={"benchmarks": benchmarks})
    caption = benchmark_table(settings, results_dir).caption
    assert "MiraBest pools the releases F and N, which show the same sources; images" in caption


def test_table_3_has_the_papers_numbers() -> None:
    rows = {
        row.labels[0]: row.cells for row in augmentation_table(Settings.parse(small_config())).rows
    }
    assert list(rows) == [
        "Dihedral transforms", "Asinh stretch", "Affine jitter", "Gaussian noise", "Banding",
        "Flux/background perturbation",
    ]  # fmt: skip
    assert rows["Asinh stretch"] == ("p = 0.35, a in [3, 12]", "p = 0.5, a in [3, 20]")
    assert rows["Gaussian noise"] == ("σ = 0.02", "σ = 0.04")
    mild, strong = rows["Banding"]
    assert str(mild).startswith("reconstruction: 1 to 2 bands, offset ± 0.3")
    assert str(mild).endswith("contrastive wide view: off")
    assert str(strong).startswith("1 to 3 bands")


def test_table_4_has_the_papers_numbers() -> None:
    rows = {
        row.labels[0]: str(row.cells[0])
        for row in contrastive_loss_table(Settings.parse(small_config())).rows
    }
    assert "0.2 → 0.1 (linear, first 15% of the epochs)" in rows["InfoNCE"]
    assert "β = 1" in rows["HCL"]
    assert "α = 0.5, hardness temperature 0.15" in rows["Soft-HCL"]


def test_table_5_has_the_papers_numbers() -> None:
    config = full_config()
    rows = {row.labels[0]: row.cells for row in training_table(Settings.parse(config)).rows}
    assert rows["Epochs"] == ("35", "35", "35")
    assert rows["Per-device batch size"] == ("256", "64", "20")
    assert rows["Masking"][:2] == ("mask ratio 0.75", "unmasked encoder")
    assert rows["Gradient clipping"] == ("1", "3", "3")
    assert rows["Temperature"][0] == "n/a"
    assert "base 0.0005" in str(rows["Learning-rate schedule"][1])
    assert "base 0.0001" in str(rows["Learning-rate schedule"][2])
    config["matrix"]["dinov2"] = {}
    assert len(training_table(Settings.parse(config)).columns) == 2
