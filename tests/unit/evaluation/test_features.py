"""Cached orientations are what the encoder would have said; images are resized as PIL does."""

import numpy as np
import pytest
import torch
from PIL import Image

from stradavit.cutouts.benchmark import LabelledCutouts
from stradavit.errors import DataError, SettingsError
from stradavit.evaluation.dihedral import orient_each
from stradavit.evaluation.feature_file import read_features
from stradavit.evaluation.features import extract_features
from stradavit.evaluation.images import resize, resized_images
from stradavit.evaluation.recipe import training_orientations
from stradavit.files import sha256_of
from stradavit.models.hub import load_encoder, save_encoder
from stradavit.settings.training import LoaderSettings

LOADER = LoaderSettings(device="cpu")
# More than one batch of the stage, of several sizes, one of them not square.
SHAPES = [(20, 20), (16, 16), (40, 40), (30, 24)] * 17


@pytest.fixture(scope="module")
def benchmark_path(tmp_path_factory, write_benchmark):
    draw = np.random.default_rng(0)
    images = [draw.random(shape) for shape in SHAPES]
    path = tmp_path_factory.mktemp("benchmarks") / "bench.h5"
    return write_benchmark(path, images, [i % 3 for i in range(len(images))])


@pytest.fixture(scope="module")
def features_path(tmp_path_factory, encoder_dir, benchmark_path):
    path = tmp_path_factory.mktemp("features") / "bench.h5"
    extract_features(encoder_dir, benchmark_path, path, LOADER)
    return path


def test_augmented_features_are_features_of_augmented_images(
    encoder_dir, benchmark_path, features_path
) -> None:
    loaded, features = load_encoder(encoder_dir), read_features(features_path)
    numbers = np.arange(len(SHAPES))
    turns = training_orientations(seed=0, fold=1, epoch=2, n_images=len(numbers))
    pixels = resized_images(LabelledCutouts(benchmark_path), numbers, 16)
    with torch.no_grad():
        recomputed = loaded.embed(orient_each(pixels, torch.from_numpy(turns))).numpy()
    assert features.values.dtype == np.float32
    # Another batch composition sums in another order.
    np.testing.assert_allclose(features.values[numbers, turns], recomputed, atol=1e-5)
    # The comparison means something only if orientations differ by more than that.
    spread = np.ptp(features.values, axis=1).max(axis=1)
    assert spread.min() > 1e-3


def test_the_number_of_threads_changes_no_bit(
    tmp_path, encoder_dir, benchmark_path, features_path
) -> None:
    before = torch.get_num_threads()
    try:
        for threads in (2, 3):
            path = tmp_path / f"{threads}.h5"
            loader = LoaderSettings(device="cpu", threads=threads)
            extract_features(encoder_dir, benchmark_path, path, loader)
            assert torch.get_num_threads() == threads, "as before the stage took over"
            again = read_features(path).values
            np.testing.assert_array_equal(again, read_features(features_path).values)
    finally:
        torch.set_num_threads(before)


def test_the_file_says_what_it_was_made_from(encoder_dir, benchmark_path, features_path) -> None:
    features, cutouts = read_features(features_path), LabelledCutouts(benchmark_path)
    np.testing.assert_array_equal(features.labels, cutouts.labels)
    assert (features.classes, features.images) == (cutouts.classes, cutouts.images)
    assert (features.sources, features.splits) == (cutouts.sources, cutouts.splits)
    found = features.provenance
    assert found["encoder_sha256"] == sha256_of(encoder_dir / "model.safetensors")
    assert found["benchmark_sha256"] == sha256_of(benchmark_path)
    assert (found["device"], found["precision"]) == ("cpu", "fp32")


def test_a_diverged_encoder_is_refused(tmp_path, encoder_dir, benchmark_path) -> None:
    loaded = load_encoder(encoder_dir)
    with torch.no_grad():
        loaded.encoder.layernorm.weight[3] = 3e38  # finite, but no product of it is
    save_encoder(tmp_path / "bad", **vars(loaded))
    with pytest.raises(DataError, match=r"\d+ of the 68 images .* not finite, first .image \d"):
        extract_features(tmp_path / "bad", benchmark_path, tmp_path / "f.h5", LOADER)
    assert not (tmp_path / "f.h5").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_named(tmp_path, encoder_dir, benchmark_path) -> None:
    loader = LoaderSettings(device="cuda")
    with pytest.raises(SettingsError, match=r"loader\.device is cuda"):
        extract_features(encoder_dir, benchmark_path, tmp_path / "f.h5", loader)


@pytest.mark.parametrize(("shape", "side_px"), [((40, 40), 16), ((12, 12), 32), ((30, 24), 16)])
def test_resize_is_pillow_s_bicubic(shape, side_px) -> None:
    image = np.random.default_rng(3).random(shape, np.float32)
    expected = Image.fromarray(image).resize((side_px, side_px), Image.Resampling.BICUBIC)
    np.testing.assert_allclose(resize(image, side_px)[0], np.asarray(expected), atol=1e-5)


def test_overshoot_is_not_clamped_and_native_size_is_untouched() -> None:
    edge = np.zeros((16, 16), np.float32)
    edge[:, 8:] = 1.0
    assert resize(edge, 64).max() > 1.0 > 0.0 > resize(edge, 64).min()
    np.testing.assert_array_equal(resize(edge, 16)[0], edge)
