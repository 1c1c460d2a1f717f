"""The linear probe against a loop written from the paper, and on data with known answers."""

import csv
import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from stradavit.errors import DataError
from stradavit.evaluation.feature_file import Features, read_features, write_features
from stradavit.evaluation.folds import make_folds
from stradavit.evaluation.probe import probe, train_probe
from stradavit.evaluation.recipe import (
    balanced_weights,
    head_weights,
    training_order,
    training_orientations,
)
from stradavit.settings.evaluation import FoldSettings, ProbeSettings
from tests.reference import probe as reference


def _features(labels: np.ndarray, values: np.ndarray) -> Features:
    n = len(labels)
    return Features(
        values=values.astype(np.float32),
        labels=labels.astype(np.int64),
        classes=[f"class {c}" for c in range(labels.max() + 1)],
        sources=[f"source {i}" for i in range(n)],
        images=[f"image {i}" for i in range(n)],
        splits=[""] * n,
        provenance={"encoder_sha256": "e", "benchmark_sha256": "b"},
    )


def _clusters(labels: np.ndarray, separation: float, seed: int = 0) -> np.ndarray:
    """(n, 8, 10): a centre per class, noise per image and orientation."""
    draw = np.random.default_rng(seed)
    centres = separation * draw.standard_normal((labels.max() + 1, 1, 10))
    return centres[labels] + draw.standard_normal((len(labels), 8, 10))


DRAW = np.random.default_rng(1)
LABELS = DRAW.permutation(np.repeat([0, 1, 2], [20, 12, 7]))
# Large, so that the gradient is clipped in some updates and not in others.
VALUES = 1.5 * DRAW.standard_normal((39, 8, 6))
FOLD_OF, FOLD = DRAW.integers(0, 3, 39), 1
TRAIN, TEST = np.flatnonzero(FOLD_OF != FOLD), np.flatnonzero(FOLD_OF == FOLD)
WEIGHTS = balanced_weights(LABELS, TRAIN, 3, "whole_benchmark")
SETTINGS = ProbeSettings(epochs=5, batch_size=8, warmup_fraction=0.2, seed=3)
ORDERS = [training_order(3, FOLD, epoch, TRAIN) for epoch in range(5)]
TURNS = [training_orientations(3, FOLD, epoch, 39) for epoch in range(5)]


def test_equals_the_reference_loop() -> None:
    outcome = train_probe(VALUES, LABELS, TRAIN, TEST, FOLD, WEIGHTS, SETTINGS)
    weight, bias = reference.train(
        VALUES,
        LABELS,
        head_weights(6, 3, SETTINGS.seed, FOLD),
        np.zeros(3),
        WEIGHTS,
        ORDERS,
        TURNS,
        batch_size=8,
        learning_rate=SETTINGS.learning_rate,
        weight_decay=SETTINGS.weight_decay,
        warmup_fraction=SETTINGS.warmup_fraction,
        clip_norm=SETTINGS.clip_norm,
    )
    logits = VALUES[TEST, 0] @ weight.T + bias
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    # Both in float64; they differ by the order of sums.
    np.testing.assert_allclose(outcome.probabilities, expected, rtol=1e-10, atol=1e-12)
    np.testing.assert_array_equal(outcome.test, TEST)
    assert (outcome.fold, outcome.n_train) == (FOLD, len(TRAIN))

    # float32, which is what the stage computes in, tells the same story.
    single = train_probe(VALUES.astype(np.float32), LABELS, TRAIN, TEST, FOLD, WEIGHTS, SETTINGS)
    assert single.probabilities.dtype == np.float32
    np.testing.assert_allclose(single.probabilities, expected, atol=1e-5)


def test_equals_torch() -> None:
    """Cross-entropy, AdamW, clipping as torch has them, the schedule as transformers has it."""
    from transformers import get_cosine_schedule_with_warmup

    head = torch.nn.Linear(6, 3, dtype=torch.float64)
    with torch.no_grad():
        head.weight.copy_(torch.from_numpy(head_weights(6, 3, SETTINGS.seed, FOLD)))
        head.bias.zero_()
    groups = [
        {"params": [head.weight], "weight_decay": SETTINGS.weight_decay},
        {"params": [head.bias], "weight_decay": 0.0},
    ]
    optimiser = torch.optim.AdamW(groups, lr=SETTINGS.learning_rate, betas=SETTINGS.betas)
    n_steps = 5 * -(-len(TRAIN) // 8)
    scheduler = get_cosine_schedule_with_warmup(optimiser, -(-n_steps // 5), n_steps)
    weights, norms, mean_losses = torch.from_numpy(WEIGHTS), [], []
    for order, turns in zip(ORDERS, TURNS, strict=True):
        losses = []
        for start in range(0, len(order), 8):
            batch = order[start : start + 8]
            optimiser.zero_grad()
            logits = head(torch.from_numpy(VALUES[batch, turns[batch]]))
            loss = torch.nn.functional.cross_entropy(
                logits, torch.from_numpy(LABELS[batch]), weights
            )
            loss.backward()
            norms.append(torch.nn.utils.clip_grad_norm_(head.parameters(), SETTINGS.clip_norm))
            optimiser.step()
            scheduler.step()
            losses.append(loss.item())
        mean_losses.append(np.mean(losses))
    assert min(norms) < SETTINGS.clip_norm < max(norms), "the test means to see both"
    expected = head(torch.from_numpy(VALUES[TEST, 0])).softmax(dim=1).detach().numpy()

    outcome = train_probe(VALUES, LABELS, TRAIN, TEST, FOLD, WEIGHTS, SETTINGS)
    np.testing.assert_allclose(outcome.probabilities, expected, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(outcome.curves["loss"], mean_losses, rtol=1e-10)


def _run(tmp_path, features: Features, name: str = "out", **settings):
    path = tmp_path / "features.h5"
    write_features(path, features)
    out_path = tmp_path / f"{name}.json"
    probe(
        path,
        FoldSettings(),
        "whole_benchmark",
        ProbeSettings(**settings),
        ("vit", "bench"),
        out_path,
    )
    return out_path


def test_separable_classes_are_told_apart(tmp_path) -> None:
    labels = np.arange(90) % 3
    features = _features(labels, _clusters(labels, separation=8.0))
    written = json.loads(_run(tmp_path, features, epochs=60).read_text())
    assert written["macro_f1"] == {"mean": 1.0, "std": 0.0}
    assert written["confusion"] == np.diag([30, 30, 30]).tolist()
    assert (written["encoder"], written["benchmark"], written["protocol"]) == (
        "vit",
        "bench",
        "linear_probe",
    )
    assert written["settings"]["probe"]["epochs"] == 60
    assert written["provenance"]["encoder_sha256"] == "e"
    for fold in written["folds"]:
        assert len(fold["curves"]["macro_f1"]) == 60
        assert fold["curves"]["macro_f1"][-1] == fold["macro_f1"]


def test_labels_without_meaning_score_like_chance(tmp_path) -> None:
    draw = np.random.default_rng(2)
    labels = draw.permutation(np.arange(600) % 3)
    features = _features(labels, draw.standard_normal((600, 8, 10)))
    written = json.loads(_run(tmp_path, features).read_text())
    # A guess is right with probability 1/3: four standard deviations of 600 guesses are 0.077.
    assert abs(written["macro_f1"]["mean"] - 1 / 3) < 0.08


def test_twice_the_same_bytes(tmp_path) -> None:
    labels = np.arange(60) % 3
    features = _features(labels, _clusters(labels, separation=0.5))
    first, second = (_run(tmp_path, features, name, epochs=3) for name in "ab")
    assert first.read_bytes() == second.read_bytes()
    csvs = [path.with_name(path.stem + ".predictions.csv") for path in (first, second)]
    assert csvs[0].read_bytes() == csvs[1].read_bytes()


def test_held_out_images_do_not_reach_the_training() -> None:
    tampered = VALUES.copy()
    # Only the orientation that is tested stays as it was.
    tampered[TEST, 1:] = np.nan
    plain, other = (
        train_probe(values, LABELS, TRAIN, TEST, FOLD, WEIGHTS, SETTINGS)
        for values in (VALUES, tampered)
    )
    np.testing.assert_array_equal(plain.probabilities, other.probabilities)


def test_a_part_of_the_training_images_is_all_that_is_seen() -> None:
    few = TRAIN[::3]
    others = np.setdiff1d(np.arange(len(LABELS)), np.concatenate([few, TEST]))
    tampered = VALUES.copy()
    tampered[others] = np.nan
    plain, other = (
        train_probe(values, LABELS, few, TEST, FOLD, WEIGHTS, SETTINGS)
        for values in (VALUES, tampered)
    )
    np.testing.assert_array_equal(plain.probabilities, other.probabilities)
    assert plain.n_train == len(few)


def test_epochs_can_be_told_apart_from_the_settings() -> None:
    shorter = SETTINGS.model_copy(update={"epochs": 2})
    told = train_probe(VALUES, LABELS, TRAIN, TEST, FOLD, WEIGHTS, SETTINGS, epochs=2)
    expected = train_probe(VALUES, LABELS, TRAIN, TEST, FOLD, WEIGHTS, shorter)
    np.testing.assert_array_equal(told.probabilities, expected.probabilities)
    assert told.curves == expected.curves


def test_fewer_images_than_a_batch_are_one_batch() -> None:
    outcomes = [
        train_probe(
            VALUES,
            LABELS,
            TRAIN,
            TEST,
            FOLD,
            WEIGHTS,
            SETTINGS.model_copy(update={"batch_size": size}),
        )
        for size in (len(TRAIN), 10 * len(TRAIN))
    ]
    np.testing.assert_array_equal(outcomes[0].probabilities, outcomes[1].probabilities)


def test_repeats_draw_everything_anew_and_leave_the_first_as_it_was(tmp_path) -> None:
    labels = np.arange(60) % 3
    features = _features(labels, _clusters(labels, separation=0.5))
    once = _run(tmp_path, features, "once", epochs=3, repeats=1)
    thrice = _run(tmp_path, features, "thrice", epochs=3, repeats=3)
    first, written = (json.loads(path.read_text()) for path in (once, thrice))
    assert written["folds"][:3] == first["folds"]
    assert [(fold["repeat"], fold["fold"]) for fold in written["folds"]] == [
        (repeat, fold) for repeat in range(3) for fold in range(3)
    ]
    scores = [fold["macro_f1"] for fold in written["folds"]]
    assert written["macro_f1"] == {"mean": np.mean(scores), "std": np.std(scores)}
    assert np.sum(written["confusion"]) == 3 * 60

    with thrice.with_name("thrice.predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    with once.with_name("once.predictions.csv").open() as file:
        assert rows[:60] == list(csv.DictReader(file))
    for repeat in range(3):
        mine = [row for row in rows if int(row["repeat"]) == repeat]
        assert [row["image"] for row in mine] == features.images
        fold_of = make_folds(features, FoldSettings(), repeat)
        assert [int(row["fold"]) for row in mine] == fold_of.tolist()

    # The draws of a repeat are its own too: fold 1 of repeat 2 is number 7 of all.
    fold_of = make_folds(features, FoldSettings(), repeat=2)
    alone = train_probe(
        features.values,
        labels,
        np.flatnonzero(fold_of != 1),
        np.flatnonzero(fold_of == 1),
        7,
        np.ones(3),
        ProbeSettings(epochs=3),
    )
    assert written["folds"][7]["curves"]["loss"] == alone.curves["loss"]


def test_starts_without_torch_and_scikit_learn() -> None:
    """A table needs dozens of probes, each faster than the import of either library."""
    code = (
        "import sys, stradavit.evaluation.probe;"
        "print({'torch', 'sklearn', 'pandas', 'transformers'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_features_survive_the_file(tmp_path) -> None:
    labels = np.arange(12) % 3
    features = _features(labels, _clusters(labels, 1.0))
    write_features(tmp_path / "f.h5", features)
    read = read_features(tmp_path / "f.h5")
    np.testing.assert_array_equal(read.values, features.values)
    np.testing.assert_array_equal(read.labels, features.labels)
    assert (read.classes, read.sources, read.images, read.provenance) == (
        features.classes,
        features.sources,
        features.images,
        features.provenance,
    )


@pytest.mark.parametrize("what", ["features", "labels"])
def test_a_flipped_byte_is_noticed(tmp_path, what) -> None:
    import h5py

    labels = np.arange(12) % 3
    path = tmp_path / "f.h5"
    write_features(path, _features(labels, _clusters(labels, 1.0)))
    with h5py.File(path) as file:
        offset = file[what].id.get_offset()
    content = bytearray(path.read_bytes())
    content[offset + 5] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"damaged; .* Delete it and run the stage `features`"):
        read_features(path)


def test_another_file_is_refused(tmp_path) -> None:
    path = tmp_path / "f.h5"
    path.write_text("<html>not found</html>")
    with pytest.raises(DataError, match="not a readable features file"):
        read_features(path)
