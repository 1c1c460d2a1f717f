"""Cutouts and labelled images: of the paper, of what is drawn, and of files that are here."""

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from astropy.io import fits
from PIL import Image

from stradavit.acquire.manifest import ManifestRow, write_manifest
from stradavit.acquire.simulated.benchmarks import KINDS, class_counts
from stradavit.acquire.simulated.instrument import INSTRUMENTS
from stradavit.cutouts.benchmark import FORMAT, VERSION
from stradavit.cutouts.corpus import write_corpus
from stradavit.cutouts.shards import ROW, Shard, new_shard
from stradavit.errors import TrainingError
from stradavit.planning import cutouts, samples
from stradavit.planning.cutouts import corpus_plans
from stradavit.planning.headers import image_axes
from stradavit.planning.plan import Plan
from stradavit.settings import Settings

Read = Callable[..., Settings]
MakePlan = Callable[..., Plan]


def test_the_paper_has_the_cutouts_of_its_table(paper: Settings, plan: MakePlan) -> None:
    found = plan(paper)
    assert {s.name: s.cutouts.value for s in found.surveys} == {
        "mgcls": 139_500,
        "askap": 261_390,
        "lotss": 177_476,
        "sdc1": 3 * (32768 // 512) ** 2,
    }
    assert found.corpora[0].cutouts.value == 590_654
    assert {s.cutouts.basis for s in found.surveys} == {"published"}


def test_smaller_cutouts_of_the_same_archives_are_more(
    repository: Path, tmp_path: Path, plan: MakePlan
) -> None:
    overlay = tmp_path / "small.yaml"
    overlay.write_text(
        "cutouts: {size_px: 256}\nsurveys: {lotss: {fields: [P12*, P124+62]}, sdc1: {parts: 2}}"
    )
    paths = [repository / "config.yaml", repository / "workflow/config/paper.yaml", overlay]
    found = {s.name: s.cutouts.value for s in plan(Settings.read(*paths)).surveys}
    assert found["sdc1"] == 3 * (32768 // 256) ** 2
    # Four times as many, and a little more at the edges.
    assert 4 * 139_500 <= found["mgcls"] < 4.8 * 139_500
    assert 4 * 261_390 <= found["askap"] < 4.8 * 261_390


def write_shard(path: Path, size_px: int, n_cutouts: int) -> Shard:
    """A shard of blank cutouts."""
    about = {"survey": path.parent.name, "part": path.stem, "settings": "{}", "ledger_sha256": ""}
    row = {name: np.zeros((), ROW[name]) for name in ROW.names or ()}
    given = {name: value for name, value in row.items() if name not in ("product", "checksum")}
    with new_shard(path, size_px, about) as shard, shard.product("one", ""):
        for _ in range(n_cutouts):
            shard.append(np.zeros((size_px, size_px), np.uint16), **given)
    return Shard(path)


def test_shards_and_corpora_that_are_here_are_counted(
    read: Read, plan: MakePlan, tmp_path: Path
) -> None:
    settings = read({"surveys": {"askap": {"parts": 4}}, "cutouts": {"size_px": 64}})
    results = tmp_path / "results"
    expected = {s.name: s for s in plan(settings).surveys}
    # Six products of 1024 px.
    assert expected["askap"].cutouts.value == 6 * (1024 // 64) ** 2

    shards = [write_shard(results / "shards" / "lotss" / "0.h5", 64, 9)]
    rows = [ManifestRow(f"p{number}", number % 4, str(number)) for number in range(6)]
    write_manifest(results / "manifests" / "askap.csv", rows)
    # Parts 0 and 2 have three of the six products.
    shards.append(write_shard(results / "shards" / "askap" / "0.h5", 64, 5))
    shards.append(write_shard(results / "shards" / "askap" / "2.h5", 64, 2))
    found = {s.name: s for s in plan(settings).surveys}
    assert (found["lotss"].cutouts.value, found["lotss"].cutouts.basis) == (9, "counted")
    assert found["askap"].cutouts.value == 7 * 6 / 3
    assert "2 of 4 shards" in found["askap"].cutouts.source
    assert (found["askap"].parts_cut, found["askap"].cutouts_here) == (2, 7)


def test_a_corpus_that_is_here_is_counted(read: Read, plan: MakePlan, tmp_path: Path) -> None:
    settings = read({"cutouts": {"size_px": 64}})
    results = tmp_path / "results"
    surveys = {survey.name: survey for survey in plan(settings).surveys}
    shard = write_shard(results / "shards" / "lotss" / "0.h5", 64, 9)
    path = results / "corpora" / "all.h5"
    names = settings.corpora["all"].surveys
    write_corpus(path, [shard], [np.arange(7)], {name: {"kept": 1} for name in names[1:]})
    corpora = corpus_plans(settings, surveys, results)
    assert list(corpora) == ["all", "chips"]
    assert not corpora["all"].is_here  # of other surveys
    write_corpus(path, [shard], [np.arange(7)], {name: {"kept": 1} for name in names})
    corpus = corpus_plans(settings, surveys, results)["all"]
    assert corpus.is_here
    assert (corpus.cutouts.value, corpus.cutouts.basis) == (7, "counted")
    # The plan says before anything starts what training would say after cutting.
    with pytest.raises(TrainingError, match="7 cutouts, not enough for one micro-batch of 64"):
        plan(settings)


def test_what_is_said_of_simulated_sources_is_what_is_drawn() -> None:
    for like, planes in cutouts.SIMULATED_PLANES.items():
        assert planes == INSTRUMENTS[like].n_planes
        value_bytes = np.dtype(INSTRUMENTS[like].dtype).itemsize
        assert cutouts.SIMULATED_VALUE_BYTES[like] == value_bytes
    for like, kind in KINDS.items():
        assert samples.SIMULATED_CLASSES[like] * 60 == sum(class_counts(like, 60).values())
        dtype = INSTRUMENTS[kind.instrument].dtype
        assert samples.SIMULATED_VALUE_BYTES[like] == np.dtype(dtype).itemsize
        # Sides are log-uniform.
        low, high = kind.side_px
        mean = low**2 if low == high else (high**2 - low**2) / (2 * np.log(high / low))
        assert samples.SIMULATED_PIXELS[like] == pytest.approx(mean, rel=0.01)


# -- local files ----------------------------------------------------------------------------------


def test_axes_are_those_astropy_writes(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    cube = rng.normal(size=(1, 3, 40, 50)).astype(np.float32)
    image = rng.integers(0, 99, (30, 70)).astype(np.int16)
    fits.PrimaryHDU(cube).writeto(tmp_path / "cube.fits")
    fits.PrimaryHDU(cube).writeto(tmp_path / "cube.fits.gz")
    table = fits.BinTableHDU.from_columns([fits.Column("a", "J", array=np.arange(9))])
    fits.HDUList([fits.PrimaryHDU(), table, fits.ImageHDU(image)]).writeto(tmp_path / "ext.fits")
    fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(image)]).writeto(tmp_path / "packed.fits")
    fits.HDUList([fits.PrimaryHDU(), table]).writeto(tmp_path / "table.fits")
    Image.fromarray(image.astype(np.uint8)).save(tmp_path / "image.png")
    (tmp_path / "page.fits").write_text("<html>")
    (tmp_path / "short.fits").write_bytes((tmp_path / "cube.fits").read_bytes()[:1000])
    found = {path.name: image_axes(path) for path in tmp_path.iterdir() if path.is_file()}
    assert found == {
        "cube.fits": (3, 40, 50),
        "cube.fits.gz": (3, 40, 50),
        "ext.fits": (1, 30, 70),
        "packed.fits": (1, 30, 70),
        "table.fits": None,
        "image.png": (1, 30, 70),
        "page.fits": None,
        "short.fits": None,
    }


def test_local_surveys_and_tables_are_counted(read: Read, plan: MakePlan, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for number, shape in enumerate([(2, 300, 260), (128, 128), (100, 500)]):
        fits.PrimaryHDU(np.zeros(shape, np.float32)).writeto(data / f"{number}.fits")
    labels = data / "labels.csv"
    labels.write_text("filename,label\n" + "a,FR I\n" * 5 + "b,FR II\n" * 3 + "c,other\n")
    removed = {"like": None, "side_px": None, "products": None}
    local = {"source": "local", "files": [f"{data}/*.fits"]} | removed
    folder = {"source": "folder", "images": str(data), "labels": str(labels)}
    overlay = {
        "surveys": {"lotss": local, "sdc1": local | {"grid": "centre"}},
        "benchmarks": {"mirabest": folder | {"like": None, "images_per_class": None}},
    }
    found = plan(read(overlay))
    assert {survey.products.value for survey in found.surveys if survey.name == "lotss"} == {3}
    known = {survey.name: survey.cutouts.value for survey in found.surveys}
    # 128 px: two planes of 2 × 2, one of 1, none.
    assert known["lotss"] == 9
    # Two planes and one; the third image is too small.
    assert known["sdc1"] == 3
    assert {b.name: b.images.value for b in found.benchmarks}["mirabest"] == 8
    # Nothing of theirs is copied.
    assert {item.name for item in found.raw} == {
        "surveys.mgcls",
        "surveys.askap",
        "surveys.sdc1_field",
        "benchmarks.lotss_dr2",
        "benchmarks.rgz_dr1",
        "detection.sets.sar",
    }


def test_labelled_cutouts_that_are_here_are_counted(
    read: Read, plan: MakePlan, tmp_path: Path
) -> None:
    path = tmp_path / "results" / "benchmarks" / "mirabest.h5"
    path.parent.mkdir(parents=True)
    with h5py.File(path, "w") as file:
        file.attrs.update({"format": FORMAT, "version": VERSION})
        file["label"] = np.zeros(17, np.int64)
    table = tmp_path / "results" / "raw" / "rgz_dr1" / "labels.csv"
    table.parent.mkdir(parents=True)
    table.write_text("image\n" + "x\n" * 23)
    found = {b.name: (b.images.value, b.is_acquired, b.is_cut) for b in plan(read()).benchmarks}
    assert found == {
        "mirabest": (17, True, True),
        "rgz_dr1": (23, True, False),
        "lotss_dr2": (300, False, False),
    }
