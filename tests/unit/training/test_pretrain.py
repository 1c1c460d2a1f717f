"""What one run computes: against a plain loop, and across workers, devices and precisions."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from stradavit.cutouts.corpus import Corpus
from stradavit.errors import SettingsError, TrainingError
from stradavit.models.card import read_card
from stradavit.models.hub import load_encoder, load_mae
from stradavit.settings.training import OptimiserSettings
from stradavit.training.pretrain import pretrain
from stradavit.training.sampler import epoch_order
from stradavit.views.random import cutout_keys, fold, uniforms
from stradavit.views.recipes import reconstruction_views
from tests.unit.training.runs import (
    altered,
    contrastive,
    exploding,
    lines,
    loader,
    reconstruction,
    run_ranks,
    weights,
)

# With its usual eps of 1e-8 AdamW turns gradients that are rounding noise (those of key biases,
# whose true gradient is zero) into full steps; with this one, steps follow the gradient.
SMOOTH = OptimiserSettings(eps=1e-2, learning_rate=5e-3)


def test_one_update_equals_a_plain_loop(corpus_path: Path, start_dir: Path, tmp_path: Path) -> None:
    """One epoch of one update: cutout by cutout, AdamW as Loshchilov and Hutter write it."""
    rate, decay, eps, clip, seed = 0.01, 0.3, 1e-3, 0.05, 7
    optimiser = OptimiserSettings(learning_rate=rate, weight_decay=decay, eps=eps)
    settings = reconstruction(
        "l2_l1", epochs=1, effective_batch=22, optimiser=optimiser, clip_norm=clip
    )
    pretrain(settings, corpus_path, start_dir, tmp_path / "run", loader())

    mae, corpus = load_mae(start_dir, 0, seed), Corpus(corpus_path)
    losses = []
    for number in epoch_order(seed, 0, len(corpus)):
        one = torch.tensor([number])
        cutout = torch.from_numpy(corpus.read(np.array([number])) / np.float32(65535))[None]
        image = reconstruction_views(cutout, one, 0, seed, settings.views, 32).pixels[0]
        noise = uniforms(fold(cutout_keys(seed, 0, one), 1002), 16)
        prediction, mask = mae(image, noise)
        error = mae.unpatchify(prediction) - image
        squares, count = torch.tensor(0.0), 0
        for place in range(16):
            if mask[0, place]:
                y, x = place // 4 * 8, place % 4 * 8
                squares, count = squares + (error[..., y : y + 8, x : x + 8] ** 2).sum(), count + 64
        losses.append(squares / count + 0.1 * error.abs().mean())
    mean = torch.stack(losses).mean()
    mean.backward()
    loss = mean.item()
    norm = math.sqrt(sum(float((p.grad**2).sum()) for p in mae.parameters() if p.grad is not None))
    assert norm > clip
    updated = dict(mae.state_dict())
    for name, p in mae.named_parameters():
        assert p.grad is not None
        gradient = p.grad * clip / norm
        # After one step the bias-corrected moments are the gradient and its square.
        step = gradient / (gradient.abs() + eps)
        is_decayed = name.endswith("weight") and "norm" not in name
        updated[name] = p.detach() * (1 - rate * decay * is_decayed) - rate * step

    found = weights(tmp_path / "run")
    assert found.keys() == updated.keys()
    for name, tensor in found.items():
        # Another order of summation; a step is 0.01 at most.
        torch.testing.assert_close(tensor, updated[name], rtol=0, atol=2e-6, msg=name)
    (end,) = lines(tmp_path / "run", "end")
    assert end["loss"] == pytest.approx(loss, rel=1e-5)
    assert end["grad_norm"] == pytest.approx(norm, rel=1e-4)
    assert end["n_cutouts"] == 22


def test_readers_change_nothing(corpus_path: Path, start_dir: Path, tmp_path: Path) -> None:
    settings = contrastive(epochs=2)
    for workers in (0, 1, 2):
        out_dir = tmp_path / str(workers)
        pretrain(settings, corpus_path, start_dir, out_dir, loader(workers=workers, prefetch=3))
        assert lines(out_dir, "step") == lines(tmp_path / "0", "step")
        expected = weights(tmp_path / "0")
        assert all(tensor.equal(expected[name]) for name, tensor in weights(out_dir).items())


def assert_equal_runs(one_dir: Path, many_dir: Path, start_dir: Path) -> None:
    for one, many in zip(lines(one_dir, "step"), lines(many_dir, "step"), strict=True):
        assert one["loss"] == pytest.approx(many["loss"], rel=1e-4)
        assert one["grad_norm"] == pytest.approx(many["grad_norm"], rel=1e-3)
        assert one["n_cutouts"] == many["n_cutouts"]
    start, one, many = (weights(folder) for folder in (start_dir, one_dir, many_dir))
    for name in one:
        moved = (one[name] - start[name]).abs().max()
        apart = (one[name] - many[name]).abs().max()
        # What the sums of float32 leave, against the distance the run has gone.
        assert apart <= 1e-3 * moved + 1e-7, name


def test_three_devices_equal_one_also_when_two_run_out_of_cutouts(
    corpus_path: Path, start_dir: Path, tmp_path: Path
) -> None:
    # 22 cutouts in micro-batches of three: the last has one, so two of three devices have none.
    shared = {"epochs": 2, "effective_batch": 6, "optimiser": SMOOTH}
    one, many = reconstruction(batch_size=3, **shared), reconstruction(batch_size=1, **shared)
    pretrain(one, corpus_path, start_dir, tmp_path / "one", loader())
    run_ranks(3, many, corpus_path, start_dir, tmp_path / "many", loader())
    assert_equal_runs(tmp_path / "one", tmp_path / "many", start_dir)


def test_two_devices_contrast_like_one(corpus_path: Path, start_dir: Path, tmp_path: Path) -> None:
    # Gathered with gradient the two are one; with constant remote keys only the loss would agree.
    shared = {"epochs": 2, "effective_batch": 8, "optimiser": SMOOTH, "drop_last": False}
    shared |= {"remote_key_gradients": True}
    one, many = (
        contrastive("hcl", batch_size=8, **shared),
        contrastive("hcl", batch_size=4, **shared),
    )
    pretrain(one, corpus_path, start_dir, tmp_path / "one", loader())
    run_ranks(2, many, corpus_path, start_dir, tmp_path / "many", loader())
    assert_equal_runs(tmp_path / "one", tmp_path / "many", start_dir)


def test_constant_remote_keys_leave_the_first_loss_as_it_is(
    corpus_path: Path, start_dir: Path, tmp_path: Path
) -> None:
    shared = {"epochs": 1, "effective_batch": 8, "optimiser": SMOOTH}
    one, many = contrastive(batch_size=8, **shared), contrastive(batch_size=4, **shared)
    pretrain(one, corpus_path, start_dir, tmp_path / "one", loader())
    run_ranks(2, many, corpus_path, start_dir, tmp_path / "many", loader())
    first, second = lines(tmp_path / "one", "step"), lines(tmp_path / "many", "step")
    assert first[0]["loss"] == pytest.approx(second[0]["loss"], rel=1e-5)
    assert first[0]["grad_norm"] != pytest.approx(second[0]["grad_norm"], rel=1e-2)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_loss_falls(precision: str, corpus_path: Path, start_dir: Path, tmp_path: Path) -> None:
    optimiser = OptimiserSettings(learning_rate=3e-3)
    settings = reconstruction(
        "l2", epochs=12, batch_size=11, effective_batch=11, optimiser=optimiser, precision=precision
    )
    pretrain(settings, corpus_path, start_dir, tmp_path / "run", loader())
    losses = [line["loss"] for line in lines(tmp_path / "run", "epoch")]
    assert losses[-1] < 0.6 * losses[0]


def test_a_finished_run_is_an_encoder_with_a_card(
    corpus_path: Path, start_dir: Path, tmp_path: Path
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    pretrain(reconstruction(registers=2, epochs=1), corpus_path, start_dir, first, loader())
    pretrain(contrastive(registers=2, epochs=1), corpus_path, first, second, loader())
    encoder = load_encoder(second)
    assert weights(second)["vit.register_tokens"].shape == (1, 2, 32)
    assert encoder.preprocessing == load_encoder(start_dir).preprocessing
    assert any(name.startswith("decoder.") for name in weights(first))
    assert not any(name.startswith(("decoder.", "head.")) for name in weights(second))
    card, settings = read_card(second), contrastive(registers=2, epochs=1)
    assert card["start"] == "first"
    assert card["identity"]["settings"] == settings.model_dump(mode="json")
    counts = {"drawn": {"kept": 22}}
    assert card["corpus"] == {"name": "drawn", "cutouts": 22, "counts": counts}
    (end,) = lines(second, "end")
    assert card["result"]["loss"] == end["loss"]
    assert not card["result"]["collapsed"]
    assert any((second / "tensorboard").iterdir())


def test_empty_cutouts_are_replaced_and_counted(
    half_blank_corpus_path: Path, start_dir: Path, tmp_path: Path
) -> None:
    pretrain(reconstruction(), half_blank_corpus_path, start_dir, tmp_path / "run", loader())
    for line in lines(tmp_path / "run", "epoch"):
        assert line["n_cutouts"] == 22
        assert line["n_resampled"] >= 10
    # Six blank cutouts in a row are rare: 10 × (10 / 22)^5 = 0.2 an epoch.
    assert sum(line["n_still_empty"] for line in lines(tmp_path / "run", "epoch")) <= 4


def test_a_loss_that_is_not_finite_names_its_cutouts(
    corpus_path: Path, start_dir: Path, tmp_path: Path
) -> None:
    broken_dir = exploding(start_dir, tmp_path / "broken")
    expected = (
        r"epoch 1, step 3: loss nan, nan, nan with gradient norm \w+ on the cutouts "
        r"drawn/part \d/product field\d plane 0 y 0 x \d+; .*; and 4 more"
    )
    with pytest.raises(TrainingError, match=expected):
        pretrain(reconstruction(), corpus_path, broken_dir, tmp_path / "run", loader())
    assert not (tmp_path / "run" / "model.safetensors").exists()


def test_collapse_is_reported_everywhere(
    corpus_path: Path, start_dir: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    name = "vit.embeddings.patch_embeddings.projection.weight"
    blind_dir = altered(start_dir, tmp_path / "blind", lambda tensors: tensors[name].zero_())
    # All images look the same, and the output norm would only blow up the rounding.
    slow = OptimiserSettings(learning_rate=1e-9)
    settings = contrastive(head_output_norm=False, optimiser=slow, epochs=1)
    pretrain(settings, corpus_path, blind_dir, tmp_path / "run", loader())
    assert caplog.text.count("embeddings have collapsed") == 1
    (end,) = lines(tmp_path / "run", "end")
    assert end["collapsed"] is True
    assert read_card(tmp_path / "run")["result"]["collapsed"] is True


def test_a_loss_of_the_other_objective_is_an_error(
    corpus_path: Path, start_dir: Path, tmp_path: Path
) -> None:
    settings = reconstruction().model_copy(update={"loss": "hcl"})
    with pytest.raises(SettingsError, match="reconstruction does not go with the loss hcl"):
        pretrain(settings, corpus_path, start_dir, tmp_path / "run", loader())


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_missing_device_is_an_error(corpus_path: Path, start_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="finds no CUDA device"):
        pretrain(reconstruction(), corpus_path, start_dir, tmp_path, loader(device="cuda"))
