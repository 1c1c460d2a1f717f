"""From files to shards, benchmarks and corpora."""

import json
import logging
import multiprocessing
import pickle
from dataclasses import replace

import h5py
import numpy as np
import pytest
from astropy.visualization import ZScaleInterval
from PIL import Image

from stradavit.acquire.labels import LabelledImage, read_labels, write_labels
from stradavit.acquire.manifest import Acquired, write_ledger
from stradavit.cutouts.benchmark import LabelledCutouts
from stradavit.cutouts.corpus import Corpus
from stradavit.cutouts.shards import Shard
from stradavit.cutouts.stages import cut_benchmark, cut_corpus, cut_part
from stradavit.cutouts.zscale import stretch
from stradavit.errors import DataError, LabelError
from stradavit.files import sha256_of
from stradavit.settings import CutoutSettings
from stradavit.settings.sources import FolderBenchmark, LocalSurvey
from tests.unit.cutouts.fake_fits import noise, sky_header, write

SIZE = 16
CUTOUTS = CutoutSettings(size_px=SIZE)
LEVEL = 0.5 / 65535 + 1e-6


def survey(**changes):
    return LocalSurvey(source="local", files=("*.fits",), **changes)


def benchmark(**changes):
    return FolderBenchmark(source="folder", images=".", labels="labels.csv", **changes)


def ledger(path, *files):
    rows = [Acquired(f.stem, f, sha256_of(f), f.stat().st_size) for f in files]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_ledger(path, rows)
    return path


def shard_of(folder, *files, name="lotss", part=0, **changes):
    path = folder / "shards" / name / f"{part}.h5"
    ledger_path = ledger(folder / "raw" / name / f"{part}.csv", *files)
    cut_part(name, survey(**changes), CUTOUTS, ledger_path, path)
    return path


def mosaic(path, ra_deg=150.0, dec_deg=2.0, seed=0, planes=1, shape=(40, 60)):
    return write(path, noise(planes, *shape, seed=seed), sky_header(ra_deg, dec_deg, shape=shape))


def benchmark_at(folder, *positions, name="rgz"):
    """A benchmark with one image at each position."""
    rows = []
    for number, (ra_deg, dec_deg) in enumerate(positions):
        path = write(folder / f"{name}-{number}.fits", noise(20, 20, seed=100 + number))
        label = "ab"[number % 2]
        rows.append(LabelledImage(f"i{number}", path, None, label, f"s{number}", ra_deg, dec_deg))
    labels_path = folder / f"{name}.csv"
    write_labels(labels_path, rows)
    out_path = folder / f"{name}.h5"
    cut_benchmark(name, benchmark(), labels_path, out_path)
    return out_path


# -- cut_part -----------------------------------------------------------------------------------


def test_a_mosaic_becomes_its_stretched_tiles(tmp_path):
    path = mosaic(tmp_path / "a.fits", planes=2)
    shard = Shard(shard_of(tmp_path, path))
    data = noise(2, 40, 60)
    rows = shard.rows()
    assert len(rows) == 2 * 2 * 3
    pixels = shard.read(np.arange(12), rows["checksum"]) / 65535
    for row, found in zip(rows, pixels, strict=True):
        y0, x0 = row["y0"], row["x0"]
        tile = data[row["plane"], y0 : y0 + SIZE, x0 : x0 + SIZE]
        np.testing.assert_allclose(found, ZScaleInterval()(tile), atol=LEVEL)
    assert shard.products() == [("a", sha256_of(path))]
    assert rows["pixel_scale_arcsec"][0] == pytest.approx(2)
    assert rows["beam_major_arcsec"][0] == pytest.approx(10)
    assert rows["beam_minor_arcsec"][0] == pytest.approx(6)
    assert (rows["finite_fraction"] == 1).all() and (rows["low"] < rows["high"]).all()
    # The second tile of the first row is the one nearest to the middle of the 40 x 60 mosaic.
    assert abs(rows["ra_deg"][1] - 150) < 0.01 and abs(rows["dec_deg"][1] - 2) < 0.01
    assert shard.attribute("survey") == "lotss" and shard.attribute("part") == "0"
    assert shard.attribute("settings")["size_px"] == SIZE


def test_drops_and_skips_are_counted(tmp_path):
    data = noise(32, 80)
    data[3, 5] = np.nan
    data[:SIZE, 16:32] = 0
    data[:SIZE, 32:48] = 3
    files = [write(tmp_path / "mixed.fits", data, sky_header(shape=(32, 80)))]
    (tmp_path / "page.fits").write_bytes(b"<html>502 Bad Gateway</html>")
    files += [tmp_path / "page.fits", mosaic(tmp_path / "small.fits", shape=(10, 90))]
    files.append(mosaic(tmp_path / "short.fits", seed=5, planes=3))
    short = files[-1].read_bytes()
    files[-1].write_bytes(short[: len(short) // 2])
    shard = Shard(shard_of(tmp_path, *files))
    assert shard.attribute("dropped") == {"non_finite": 1, "all_zero": 1, "constant": 1}
    assert shard.attribute("skipped") == {"unknown_format": 1, "too_small": 1, "truncated": 1}
    assert len(shard) == 10 - 3 and len(shard.products()) == 4


def test_centre_grid_and_chosen_planes(tmp_path):
    path = mosaic(tmp_path / "a.fits", planes=3)
    shard = Shard(shard_of(tmp_path, path, grid="centre", planes=(2, 0)))
    rows = shard.rows()
    assert rows[["plane", "y0", "x0"]].tolist() == [(2, 12, 22), (0, 12, 22)]


def test_8_bit_pictures_want_minmax(tmp_path, caplog):
    picture = np.zeros((16, 16), np.uint8)
    picture[4:8, 5:9] = np.arange(16).reshape(4, 4) * 16
    Image.fromarray(picture).save(tmp_path / "a.png")
    shard_of(tmp_path, tmp_path / "a.png", name="first")
    assert "limits of 1 images coincide" in caplog.text and "stretch: minmax" in caplog.text
    caplog.clear()
    shard = Shard(shard_of(tmp_path, tmp_path / "a.png", name="second", stretch="minmax"))
    assert not caplog.text
    levels = shard.read(np.array([0]), shard.column("checksum"))
    np.testing.assert_allclose(levels[0] / 65535, picture / 240, atol=LEVEL)


def test_a_part_without_products_is_legal(tmp_path):
    assert len(Shard(shard_of(tmp_path))) == 0


def test_changed_or_missing_files_are_no_skips(tmp_path):
    path = mosaic(tmp_path / "a.fits")
    ledger_path = ledger(tmp_path / "raw" / "0.csv", path)
    path.write_bytes(path.read_bytes() + b"more")
    with pytest.raises(DataError, match=r"a.fits: has .* bytes, .*0.csv says .* acquire the part"):
        cut_part("lotss", survey(), CUTOUTS, ledger_path, tmp_path / "0.h5")
    path.unlink()
    with pytest.raises(DataError, match=r"a.fits: cannot be found .* acquire the part again"):
        cut_part("lotss", survey(), CUTOUTS, ledger_path, tmp_path / "0.h5")
    assert not (tmp_path / "0.h5").exists()


def test_the_shard_is_the_same_every_time(tmp_path):
    path = mosaic(tmp_path / "a.fits")
    first, second = (Shard(shard_of(tmp_path / name, path)) for name in "xy")
    np.testing.assert_array_equal(first.rows(), second.rows())


# -- cut_benchmark ------------------------------------------------------------------------------


def labels_of(folder, images, labels=None):
    rows = []
    for number, image in enumerate(images):
        path = folder / f"{number}.fits"
        if isinstance(image, bytes):
            path.write_bytes(image)
        else:
            write(path, image)
        label = labels[number] if labels else "ab"[number % 2]
        rows.append(LabelledImage(f"i{number}", path, None, label, f"s{number // 2}", number, 0.5))
    write_labels(folder / "labels.csv", rows)
    return folder / "labels.csv"


def test_images_of_different_sizes(tmp_path):
    images = [noise(20, 30, seed=1), noise(7, 9, seed=2), noise(200, 150, seed=3)]
    cut_benchmark("b", benchmark(), labels_of(tmp_path, images), tmp_path / "b.h5")
    found = LabelledCutouts(tmp_path / "b.h5")
    assert len(found) == 3 and found.classes == ["a", "b"]
    assert found.labels.tolist() == [0, 1, 0] and found.labels.dtype == np.int64
    assert found.images == ["i0", "i1", "i2"] and found.sources == ["s0", "s0", "s1"]
    np.testing.assert_array_equal(found.positions, [[0, 0.5], [1, 0.5], [2, 0.5]])
    for number, image in enumerate(images):
        assert found.read(number).dtype == np.float32
        np.testing.assert_allclose(found.read(number), ZScaleInterval()(image), atol=LEVEL)
    copy = pickle.loads(pickle.dumps(found))
    np.testing.assert_array_equal(copy.read(2), found.read(2))


def test_the_published_split_is_kept(tmp_path):
    path = labels_of(tmp_path, [noise(9, 9, seed=k) for k in range(3)] + [np.zeros((9, 9), "f4")])
    sides = ("test", "", "train", "test")
    rows = [replace(row, split=side) for row, side in zip(read_labels(path), sides, strict=True)]
    write_labels(path, rows)
    cut_benchmark("b", benchmark(), path, tmp_path / "b.h5")
    # The empty image is left out, and its side with it.
    assert LabelledCutouts(tmp_path / "b.h5").splits == ["test", "", "train"]


def test_blank_pixels_do_not_poison_the_image(tmp_path):
    image = noise(20, 30)
    image[:5] = np.nan
    cut_benchmark("b", benchmark(), labels_of(tmp_path, [image]), tmp_path / "b.h5")
    found = LabelledCutouts(tmp_path / "b.h5").read(0)
    assert not found[:5].any() and found[5:].mean() > 0.2
    np.testing.assert_allclose(found[5:], stretch(image, "zscale")[5:], atol=LEVEL)


def test_images_without_content_are_left_out_and_counted(tmp_path):
    nan = np.full((9, 9), np.nan, np.float32)
    half = np.where(np.arange(9) < 4, nan, np.float32(0))
    images = [noise(9, 9), np.zeros((9, 9), "f4"), nan, half, np.ones((9, 9), "f4"), b"<html>"]
    images += [noise(2, 9, 9), noise(9, 9)]
    labels = ["a"] * 7 + ["z"]
    path = labels_of(tmp_path, images, labels)
    cut_benchmark("b", benchmark(classes=("a",)), path, tmp_path / "b.h5")
    found = LabelledCutouts(tmp_path / "b.h5")
    assert found.images == ["i0"]
    assert found.excluded == {
        "other_class": 1,
        "all_zero": 2,
        "non_finite": 1,
        "constant": 1,
        "unknown_format": 1,
        "many_planes": 1,
    }


def test_central_crop_and_class_order(tmp_path):
    images = [noise(20, 31), noise(6, 30)]
    path = labels_of(tmp_path, images)
    settings = benchmark(crop_px=10, classes=("b", "a"), stretch="minmax")
    cut_benchmark("b", settings, path, tmp_path / "b.h5")
    found = LabelledCutouts(tmp_path / "b.h5")
    assert found.classes == ["b", "a"] and found.labels.tolist() == [1, 0]
    expected = stretch(images[0][5:15, 10:20], "minmax")
    np.testing.assert_allclose(found.read(0), expected, atol=LEVEL)
    assert found.read(1).shape == (6, 10)


def test_benchmark_errors(tmp_path):
    path = labels_of(tmp_path, [noise(9, 9)])
    with pytest.raises(LabelError, match=r"no image of the classes \['FRI'\].* has \['a'\]"):
        cut_benchmark("b", benchmark(classes=("a", "FRI")), path, tmp_path / "b.h5")
    (tmp_path / "0.fits").write_bytes(b"<html>")
    with pytest.raises(DataError, match=r"0\.fits: is not the file that was acquired.*Delete both"):
        cut_benchmark("b", benchmark(), path, tmp_path / "b.h5")
    write_labels(path, read_labels(path))  # acquired as it is now
    with pytest.raises(DataError, match=r'no image is left of the 1 .*"unknown_format": 1'):
        cut_benchmark("b", benchmark(), path, tmp_path / "b.h5")
    (tmp_path / "0.fits").unlink()
    with pytest.raises(DataError, match=r"0.fits: cannot be opened"):
        cut_benchmark("b", benchmark(), path, tmp_path / "b.h5")
    assert not (tmp_path / "b.h5").exists()


def test_a_flipped_byte_of_an_image_is_noticed(tmp_path):

    path = labels_of(tmp_path, [noise(200, 200), noise(200, 200, seed=1)])
    cut_benchmark("b", benchmark(), path, tmp_path / "b.h5")
    with h5py.File(tmp_path / "b.h5") as file:
        place = file["pixels"].id.get_chunk_info(0).byte_offset + 1000
    content = bytearray((tmp_path / "b.h5").read_bytes())
    content[place] ^= 1
    (tmp_path / "b.h5").write_bytes(content)
    found = LabelledCutouts(tmp_path / "b.h5")
    found.read(1)
    with pytest.raises(DataError, match=r"b.h5: image 0 \(i0\) .* Delete the file"):
        found.read(0)


# -- cut_corpus ---------------------------------------------------------------------------------


@pytest.fixture
def three_shards(tmp_path):
    """Two parts of one survey, one of another; 6 cutouts each."""
    files = [mosaic(tmp_path / f"{n}.fits", ra_deg=150 + n, seed=n) for n in range(3)]
    return {
        "lotss": [shard_of(tmp_path, files[n], part=n) for n in range(2)],
        "askap": [shard_of(tmp_path, files[2], name="askap")],
    }


def all_levels(shards):
    pixels = []
    for paths in shards.values():
        for path in paths:
            shard = Shard(path)
            pixels.append(shard.read(np.arange(len(shard)), shard.column("checksum")))
    return np.concatenate(pixels)


def test_a_corpus_is_its_shards_one_after_the_other(tmp_path, three_shards):
    cut_corpus("all", three_shards, {}, tmp_path / "corpora" / "all.h5")
    corpus = Corpus(tmp_path / "corpora" / "all.h5")
    expected = all_levels(three_shards)
    assert len(corpus) == 18 and corpus.size_px == SIZE
    numbers = np.random.default_rng(0).integers(0, 18, 50)
    found = corpus.read(numbers)
    assert found.dtype == np.uint16
    np.testing.assert_array_equal(found, expected[numbers])
    assert corpus.read(np.array([], np.int64)).shape == (0, SIZE, SIZE)
    assert corpus.describe(13) == "askap/part 0/product 2 plane 0 y 0 x 16"
    counts = corpus.counts()
    assert counts["lotss"]["kept"] == 12 and counts["askap"]["kept"] == 6
    assert counts["lotss"]["products"] == 2
    counts["lotss"]["kept"] = 0
    assert corpus.counts()["lotss"]["kept"] == 12


def test_the_folder_can_be_moved(tmp_path, three_shards):
    cut_corpus("all", three_shards, {}, tmp_path / "corpora" / "all.h5")
    expected = all_levels(three_shards)
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for name in ("shards", "corpora"):
        (tmp_path / name).rename(moved / name)
    np.testing.assert_array_equal(Corpus(moved / "corpora/all.h5").read(np.arange(18)), expected)


def test_guarded_sky_is_left_out_and_counted(tmp_path, three_shards):
    near_first = benchmark_at(tmp_path, (150.0, 2.0), (10.0, 10.0), name="rgz")
    near_last = benchmark_at(tmp_path, (152.0, 2.0), name="mirabest")
    guards = {"rgz": (near_first, 0.05), "mirabest": (near_last, 30.0)}
    cut_corpus("all", three_shards, guards, tmp_path / "all.h5")
    corpus = Corpus(tmp_path / "all.h5")
    counts = corpus.counts()
    # The middle of a 40 x 60 px mosaic, (19.5, 29.5), lies in the tile at (16, 16), and 3 arcsec
    # are 1.5 px: no other tile comes as near.
    assert counts["lotss"]["guard"] == {"rgz": 1, "mirabest": 0}
    assert counts["askap"]["guard"] == {"rgz": 0, "mirabest": 6}
    assert counts["lotss"]["kept"] == 11 and counts["askap"]["kept"] == 0
    expected = np.delete(all_levels(three_shards)[:12], 4, axis=0)
    np.testing.assert_array_equal(corpus.read(np.arange(11)), expected)


def test_unknown_sky_and_duplicates(tmp_path):
    header = sky_header(shape=(40, 60))
    first = write(tmp_path / "a.fits", noise(40, 60), header)
    copy = write(tmp_path / "copy.fits", noise(40, 60), header)
    blind = write(tmp_path / "blind.fits", noise(40, 60, seed=9))
    shards = {"lotss": [shard_of(tmp_path, first, copy, blind)]}
    cut_corpus("free", shards, {}, tmp_path / "free.h5")
    counts = Corpus(tmp_path / "free.h5").counts()["lotss"]
    assert (counts["cut"], counts["duplicate"], counts["no_sky"], counts["kept"]) == (18, 6, 0, 12)
    guards = {"rgz": (benchmark_at(tmp_path, (10.0, 10.0)), 2.0)}
    cut_corpus("safe", shards, guards, tmp_path / "safe.h5")
    counts = Corpus(tmp_path / "safe.h5").counts()["lotss"]
    assert (counts["cut"], counts["duplicate"], counts["no_sky"], counts["kept"]) == (18, 6, 6, 6)


def test_pictures_get_their_sky_from_the_positions(tmp_path):
    for number in range(2):
        pixels = np.random.default_rng(number).integers(0, 255, (16, 16)).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    (tmp_path / "positions.csv").write_text(
        "filename,ra_deg,dec_deg\n0.png,10.0,10.0\n1.png,359.99,-5\n"
    )
    files = [tmp_path / "0.png", tmp_path / "1.png"]
    shard = shard_of(tmp_path, *files, positions=str(tmp_path / "positions.csv"))
    guards = {"rgz": (benchmark_at(tmp_path, (10.0, 10.03)), 2.0)}
    cut_corpus("all", {"lotss": [shard]}, guards, tmp_path / "all.h5")
    corpus = Corpus(tmp_path / "all.h5")
    assert corpus.counts()["lotss"]["guard"] == {"rgz": 1}
    assert "product 1 " in corpus.describe(0) and len(corpus) == 1


def test_corpus_errors(tmp_path, three_shards):
    empty = shard_of(tmp_path, mosaic(tmp_path / "s.fits", shape=(9, 9)), name="empty")
    with pytest.raises(DataError, match=r'corpus all is empty.*"too_small": 1.*16 px'):
        cut_corpus("all", {"empty": [empty]}, {}, tmp_path / "all.h5")
    with pytest.raises(DataError, match="it has no shards"):
        cut_corpus("all", {"empty": []}, {}, tmp_path / "all.h5")
    with pytest.raises(DataError, match="belongs to the survey 'lotss', expected 'sdc1'"):
        cut_corpus("all", {"sdc1": three_shards["lotss"]}, {}, tmp_path / "all.h5")
    blind = benchmark_at(tmp_path, (np.nan, np.nan), name="frdeep")
    with pytest.raises(DataError, match="none of the 1 images of the benchmark frdeep has a pos"):
        cut_corpus("all", three_shards, {"frdeep": (blind, 2.0)}, tmp_path / "all.h5")
    assert not (tmp_path / "all.h5").exists()


def test_partly_unknown_benchmark_positions_are_told(tmp_path, three_shards, caplog):
    path = benchmark_at(tmp_path, (np.nan, np.nan), (10.0, 10.0))
    with caplog.at_level(logging.WARNING):
        cut_corpus("all", three_shards, {"rgz": (path, 2.0)}, tmp_path / "all.h5")
    assert "rgz: 1 of 2 images have no position" in caplog.text


def test_an_empty_part_beside_full_ones(tmp_path, three_shards):
    empty = shard_of(tmp_path, part=7)
    shards = {"lotss": [*three_shards["lotss"], empty], "askap": three_shards["askap"]}
    cut_corpus("all", shards, {}, tmp_path / "all.h5")
    assert len(Corpus(tmp_path / "all.h5")) == 18


def test_a_shard_made_anew_is_noticed(tmp_path, three_shards):
    cut_corpus("all", three_shards, {}, tmp_path / "all.h5")
    shard_of(tmp_path, mosaic(tmp_path / "new.fits", seed=77), part=0)
    with pytest.raises(DataError, match=r"0\.h5: cutout 2 of 6 .*its pixels have changed"):
        Corpus(tmp_path / "all.h5").read(np.array([2]))
    three_shards["lotss"][0].unlink()
    with pytest.raises(DataError, match=r"0.h5: FileNotFoundError"):
        Corpus(tmp_path / "all.h5").read(np.array([2]))


def _read_in_child(corpus, numbers, queue):
    queue.put(corpus.read(numbers).tobytes())


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_corpus_in_many_processes(tmp_path, three_shards):
    cut_corpus("all", three_shards, {}, tmp_path / "all.h5")
    corpus = Corpus(tmp_path / "all.h5")
    numbers = np.arange(17, -1, -1)
    expected = corpus.read(numbers).tobytes()  # opened before the fork
    assert pickle.loads(pickle.dumps(corpus)).read(numbers).tobytes() == expected
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_read_in_child, args=(corpus, numbers, queue))
    child.start()
    assert queue.get(timeout=30) == expected
    child.join()


def test_counts_are_json(tmp_path, three_shards):
    cut_corpus("all", three_shards, {}, tmp_path / "all.h5")
    assert json.dumps(Corpus(tmp_path / "all.h5").counts())
