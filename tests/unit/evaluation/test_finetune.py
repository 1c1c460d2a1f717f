"""Fine-tuning: it can learn, it repeats, it goes on where it was, and it says when it fails."""

import json

import numpy as np
import pytest
import torch

from stradavit.cutouts.benchmark import LabelledCutouts
from stradavit.errors import TrainingError
from stradavit.evaluation import finetune as stage
from stradavit.evaluation.finetune import Material, finetune, train_fold
from stradavit.evaluation.folds import Split
from stradavit.evaluation.images import resized_images
from stradavit.evaluation.recipe import balanced_weights
from stradavit.models.hub import load_encoder, save_encoder
from stradavit.settings.evaluation import FinetuneSettings, FoldSettings
from stradavit.settings.training import LoaderSettings

LOADER = LoaderSettings(device="cpu")
SETTINGS = FinetuneSettings(epochs=2, batch_size=8, micro_batch_size=4, precision="fp32")
N = 24


@pytest.fixture(scope="module")
def benchmark_path(tmp_path_factory, write_benchmark):
    """Blobs (class 0) and rings (class 1, a third of the images) anywhere in noise."""
    draw, labels = np.random.default_rng(0), [i % 3 // 2 for i in range(N)]
    y, x = np.indices((20, 20))
    images = []
    for label in labels:
        cy, cx = draw.uniform(7, 13, 2)
        ring = np.exp(-(((np.hypot(y - cy, x - cx) - 5 * label) / 1.5) ** 2))
        images.append(np.clip(ring + 0.1 * draw.standard_normal((20, 20)), 0, 1))
    return write_benchmark(tmp_path_factory.mktemp("benchmarks") / "bench.h5", images, labels)


HALVES = [np.flatnonzero(np.arange(N) // 3 % 2 == half) for half in (0, 1)]
SPLITS = [Split(0, fold, fold, HALVES[1 - fold], HALVES[fold]) for fold in (0, 1)]


def _material(encoder_dir, benchmark_path):
    loaded, cutouts = load_encoder(encoder_dir), LabelledCutouts(benchmark_path)
    material = Material(
        pixels=resized_images(cutouts, range(N), loaded.preprocessing.image_px),
        labels=torch.from_numpy(cutouts.labels),
        preprocessing=loaded.preprocessing,
        channels=loaded.encoder.channels,
        device=torch.device("cpu"),
    )
    weights = balanced_weights(cutouts.labels, np.arange(N), 2, "whole_benchmark")
    return loaded, material, weights


def _run(encoder_dir, benchmark_path, out_path, settings=SETTINGS):
    finetune(
        encoder_dir,
        benchmark_path,
        FoldSettings(),
        "whole_benchmark",
        settings,
        ("tiny", "bench"),
        out_path,
        LOADER,
    )
    predictions = out_path.with_name(out_path.stem + ".predictions.csv")
    return json.loads(out_path.read_text()), predictions.read_text()


def test_a_tiny_set_is_fitted_to_the_end(encoder_dir, benchmark_path) -> None:
    loaded, material, weights = _material(encoder_dir, benchmark_path)
    before = {name: p.clone() for name, p in loaded.encoder.named_parameters()}
    settings = FinetuneSettings(
        epochs=60, learning_rate=3e-3, head_multiplier=1.0, layer_decay=1.0, precision="fp32"
    )
    outcome = train_fold(loaded, material, SPLITS[1], weights, settings)
    # ln 2 is what a guess costs.
    assert outcome.curves["loss"][0] == pytest.approx(np.log(2), abs=0.1)
    assert outcome.curves["loss"][-1] < 0.05
    np.testing.assert_array_equal(outcome.predicted, material.labels[outcome.test])
    unmoved = [
        name
        for name, parameter in loaded.encoder.named_parameters()
        if parameter.requires_grad and torch.equal(parameter, before[name])
    ]
    assert not unmoved, "the whole encoder is trained"


def test_cutting_a_batch_into_micro_batches_changes_nothing(encoder_dir, benchmark_path) -> None:
    outcomes = []
    for micro_batch_size in (16, 3):
        loaded, material, weights = _material(encoder_dir, benchmark_path)
        settings = FinetuneSettings(
            epochs=3, batch_size=8, micro_batch_size=micro_batch_size, precision="fp32"
        )
        outcomes.append(train_fold(loaded, material, SPLITS[1], weights, settings))
    # Sums in another order, through a few updates of AdamW.
    np.testing.assert_allclose(outcomes[0].probabilities, outcomes[1].probabilities, atol=2e-4)
    np.testing.assert_allclose(outcomes[0].curves["loss"], outcomes[1].curves["loss"], rtol=1e-4)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_twice_the_same_numbers(tmp_path, encoder_dir, benchmark_path, precision) -> None:
    settings = FinetuneSettings(**{**vars(SETTINGS), "precision": precision, "head_dropout": 0.2})
    runs = [_run(encoder_dir, benchmark_path, tmp_path / f"{i}.json", settings) for i in (0, 1)]
    assert runs[0] == runs[1]
    metrics, predictions = runs[0]
    assert metrics["protocol"] == "finetune"
    assert metrics["settings"]["finetune"]["precision"] == precision
    assert sum(fold["n_test"] for fold in metrics["folds"]) == N
    assert predictions.count("\n") == N + 1


def test_repeats_leave_the_first_as_it_was(tmp_path, encoder_dir, benchmark_path) -> None:
    settings = FinetuneSettings(**{**vars(SETTINGS), "repeats": 2, "head_dropout": 0.2})
    twice, rows_twice = _run(encoder_dir, benchmark_path, tmp_path / "twice.json", settings)
    settings = settings.model_copy(update={"repeats": 1})
    once, rows_once = _run(encoder_dir, benchmark_path, tmp_path / "once.json", settings)
    assert twice["folds"][:3] == once["folds"]
    assert [(fold["repeat"], fold["fold"]) for fold in twice["folds"]] == [
        (repeat, fold) for repeat in (0, 1) for fold in (0, 1, 2)
    ]
    assert rows_twice.startswith(rows_once)
    assert rows_twice.count("\n") == 2 * N + 1
    assert twice["folds"][3]["curves"] != twice["folds"][0]["curves"]


def test_dropout_depends_on_the_seed_and_leaves_the_global_stream_alone(
    encoder_dir, benchmark_path
) -> None:
    settings = FinetuneSettings(**{**vars(SETTINGS), "head_dropout": 0.5})
    outcomes = []
    for global_seed in (1, 2):
        loaded, material, weights = _material(encoder_dir, benchmark_path)
        torch.manual_seed(global_seed)
        outcomes.append(train_fold(loaded, material, SPLITS[0], weights, settings))
        drawn = torch.rand(3)
        torch.manual_seed(global_seed)
        assert torch.equal(drawn, torch.rand(3))
    np.testing.assert_array_equal(outcomes[0].probabilities, outcomes[1].probabilities)


def test_a_killed_job_goes_on_with_its_fold(
    tmp_path, encoder_dir, benchmark_path, monkeypatch
) -> None:
    settings = SETTINGS.model_copy(update={"repeats": 2})
    whole = _run(encoder_dir, benchmark_path, tmp_path / "whole" / "bench.json", settings)
    out_path = tmp_path / "killed" / "bench.json"
    trained: list[tuple[int, int]] = []

    def noted(loaded, material, split, *rest):
        trained.append((split.repeat, split.fold))
        return train_fold(loaded, material, split, *rest)

    def killed_in_the_second_repeat(loaded, material, split, *rest):
        if len(trained) == 4:
            raise KeyboardInterrupt
        return noted(loaded, material, split, *rest)

    monkeypatch.setattr(stage, "train_fold", killed_in_the_second_repeat)
    with pytest.raises(KeyboardInterrupt):
        _run(encoder_dir, benchmark_path, out_path, settings)
    assert not out_path.exists()
    monkeypatch.setattr(stage, "train_fold", noted)
    assert _run(encoder_dir, benchmark_path, out_path, settings) == whole
    assert trained == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]
    assert not list(out_path.parent.glob(".*"))


def test_folds_of_other_settings_are_not_taken(
    tmp_path, encoder_dir, benchmark_path, monkeypatch
) -> None:
    trained: list[int] = []

    def killed_in_fold_1(loaded, material, split, *rest):
        if split.fold == 1 and len(trained) == 1:
            raise KeyboardInterrupt
        trained.append(split.fold)
        return train_fold(loaded, material, split, *rest)

    monkeypatch.setattr(stage, "train_fold", killed_in_fold_1)
    with pytest.raises(KeyboardInterrupt):
        _run(encoder_dir, benchmark_path, tmp_path / "bench.json")
    other = FinetuneSettings(**{**vars(SETTINGS), "epochs": 1})
    _run(encoder_dir, benchmark_path, tmp_path / "bench.json", other)
    assert trained == [0, 0, 1, 2]


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path, encoder_dir, benchmark_path) -> None:
    settings = FinetuneSettings(**{**vars(SETTINGS), "learning_rate": 1e38})
    with pytest.raises(TrainingError, match=r"fold 0, epoch \d, update \d: the loss is nan"):
        _run(encoder_dir, benchmark_path, tmp_path / "bench.json", settings)


def test_a_gradient_that_is_not_finite_stops_the_run(
    tmp_path, encoder_dir, benchmark_path, monkeypatch
) -> None:
    # Without this, an overflow in the very last update would end in predictions that are NaN.
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", lambda *_: torch.tensor(float("inf")))
    with pytest.raises(TrainingError, match=r"update 0: .* gradient norm inf"):
        _run(encoder_dir, benchmark_path, tmp_path / "bench.json")


def test_dinov2_is_tuned_on_its_own_readout(tmp_path, benchmark_path) -> None:
    from transformers import Dinov2WithRegistersConfig, Dinov2WithRegistersModel

    from stradavit.models.dinov2 import Dinov2Encoder
    from stradavit.models.preprocessing import Preprocessing

    torch.manual_seed(0)
    config = Dinov2WithRegistersConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=28, patch_size=14
    )
    encoder = Dinov2Encoder(Dinov2WithRegistersModel(config))
    save_encoder(tmp_path / "dino", encoder, preprocessing=Preprocessing.identity(28, 3), card={})
    metrics, _ = _run(tmp_path / "dino", benchmark_path, tmp_path / "bench.json")
    assert np.array(metrics["confusion"]).sum() == N
