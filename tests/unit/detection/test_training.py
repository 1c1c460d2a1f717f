"""Training a detector: what an update is, resuming to the bit, and what goes wrong."""

import logging
import math
import threading
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import stradavit.detection.training as stage
from stradavit.detection.detector import build_detector, load_detector
from stradavit.detection.training import train_detector
from stradavit.errors import DataError, TrainingError
from stradavit.settings.training import OptimiserSettings
from stradavit.training.optimiser import is_decayed
from stradavit.training.record import Record
from tests.unit.detection.sets import (
    CLASSES,
    lines,
    loader,
    run_settings,
    scene,
    write_encoder,
    write_set,
)
from tests.unit.training.runs import checkpoints_now, child

NAMES = ("tiny", "drawn")


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def set_path(tmp_path_factory):
    return write_set(tmp_path_factory.mktemp("sets") / "drawn.h5")


@pytest.fixture(scope="module")
def encoder_dir(tmp_path_factory):
    return write_encoder(tmp_path_factory.mktemp("encoders") / "tiny")


class _PowerCutError(Exception):
    """The end of a process, as far as the files can tell."""


def cut_power(monkeypatch, kind, update):
    """Make the run die when it is about to record a line of some update."""
    whole = Record.write

    def write(self: Record, kind_: str, update_: int, *rest: Any) -> None:
        if (kind_, update_) == (kind, update):
            raise _PowerCutError
        whole(self, kind_, update_, *rest)

    monkeypatch.setattr(Record, "write", write)


def assert_same(out_dir, other_dir):
    for name in ("model.safetensors", "config.json"):
        assert (out_dir / name).read_bytes() == (other_dir / name).read_bytes(), name
    for kind in ("step", "epoch", "end"):
        assert lines(out_dir, kind) == lines(other_dir, kind)
    assert not (out_dir / "checkpoints").exists()


# Dropped paths, mirrors and both kinds of accumulation: all that is random is in it.
RUN = run_settings(batch_size=3, micro_batch_size=2, detector={"drop_path": 0.5})


@pytest.fixture(scope="module")
def whole(set_path, encoder_dir, tmp_path_factory):
    """A run nobody interrupted: two epochs of two updates, of 3 and 2 images."""
    out_dir = tmp_path_factory.mktemp("whole") / "run"
    train_detector(encoder_dir, set_path, RUN, NAMES, out_dir, loader())
    return out_dir


@pytest.mark.parametrize(
    ("kind", "update"), [("step", 1), ("step", 2), ("epoch", 2), ("step", 3), ("end", 4)]
)
def test_a_run_that_was_cut_ends_with_the_same_bits(
    kind, update, whole, set_path, encoder_dir, tmp_path, monkeypatch
):
    arguments = (encoder_dir, set_path, RUN, NAMES, tmp_path / "run", loader())
    with pytest.raises(_PowerCutError):
        cut_power(monkeypatch, kind, update)
        train_detector(*arguments)
    monkeypatch.undo()
    torch.manual_seed(update)  # whatever the global generator has seen meanwhile
    train_detector(*arguments)
    assert_same(tmp_path / "run", whole)


def test_a_killed_process_goes_on(whole, set_path, encoder_dir, tmp_path):
    out_dir = tmp_path / "run"
    arguments = (encoder_dir, set_path, RUN, NAMES, out_dir, loader())
    process = child(train_detector, *arguments)
    while process.is_alive() and not checkpoints_now(out_dir):
        process.join(0.01)
    process.kill()
    process.join()
    train_detector(*arguments)
    assert_same(out_dir, whole)


def test_sigterm_saves_and_exits_with_143(
    whole, set_path, encoder_dir, tmp_path, monkeypatch, caplog
):
    out_dir = tmp_path / "run"
    rarely = loader(checkpoint_every_s=1e9, checkpoint_every_epochs=100)
    arguments = (encoder_dir, set_path, RUN, NAMES, out_dir, rarely)
    with monkeypatch.context() as patch:
        asked = threading.Event()
        asked.set()
        patch.setattr(stage, "terminated", lambda: nullcontext(asked))
        with pytest.raises(SystemExit) as stopped:
            train_detector(*arguments)
    assert stopped.value.code == 143
    (checkpoint,) = out_dir.glob("checkpoints/*/*.pt")
    assert checkpoint.name[:9] == "000000001"
    assert "Terminated after update 1; start again to go on" in caplog.text
    train_detector(*arguments)
    assert_same(out_dir, whole)


def test_reader_threads_change_nothing(whole, set_path, encoder_dir, tmp_path):
    train_detector(encoder_dir, set_path, RUN, NAMES, tmp_path / "run", loader(workers=2))
    assert_same(tmp_path / "run", whole)


def test_what_is_left_and_recorded(whole):
    steps, epochs = lines(whole, "step"), lines(whole, "epoch")
    assert [line["update"] for line in steps] == [1, 2, 3, 4]
    assert [line["epoch"] for line in steps] == [1, 1, 2, 2]
    # Warm-up of two updates from 0.001, then a tenth from the second epoch on.
    assert [line["learning_rate"] for line in steps] == pytest.approx([1e-7, 0.5005e-4, 1e-5, 1e-5])
    parts = ("loss_objectness", "loss_rpn_box_reg", "loss_classifier", "loss_box_reg")
    for line in steps + epochs:
        assert line["loss"] == pytest.approx(sum(line[name] for name in parts))
    for epoch in range(2):
        of_epoch = steps[2 * epoch : 2 * epoch + 2]
        for name in ("loss", "grad_norm"):
            mean = sum(line[name] for line in of_epoch) / 2
            assert epochs[epoch][name] == pytest.approx(mean)
    (end,) = lines(whole, "end")
    assert end["loss"] == epochs[1]["loss"]
    model, meta = load_detector(whole)
    assert model.config.classes == CLASSES
    assert (meta["encoder"], meta["set"], meta["updates"]) == ("tiny", "drawn", 4)
    assert meta["settings"] == RUN.model_dump(mode="json")
    assert meta["result"]["loss"] == end["loss"]


def test_what_starts_is_logged(set_path, encoder_dir, tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        run = run_settings(epochs=1, min_side_px=4.0)
        train_detector(encoder_dir, set_path, run, NAMES, tmp_path / "run", loader())
    assert (
        "tiny on drawn: cpu in fp32; 5 of 7 training images, 2 empty ones left out, 0 left out "
        "that other splits have too; 6 boxes of 2 classes, left out 1 under 4 px and 1 crowds; 2 "
        "an update (1 at once), learning rate 0.0001" in caplog.text
    )
    assert "1 epochs of 3 updates, 0 of 3 done" in caplog.text
    assert "warm-up" not in caplog.text


def test_a_warm_up_that_never_ends_is_told(set_path, encoder_dir, tmp_path, caplog):
    run = run_settings(epochs=1, warmup_updates=500)
    train_detector(encoder_dir, set_path, run, NAMES, tmp_path / "run", loader())
    assert "All 3 updates lie within the warm-up of 500" in caplog.text


def first_gradient(set_path, encoder_dir, folder, monkeypatch, **training):
    """Gradient of a run's first and only update."""
    found = {}

    def keep(parameters, clip_norm):
        found["gradient"] = torch.cat([p.grad.flatten() for p in parameters if p.grad is not None])
        return found["gradient"].norm()

    monkeypatch.setattr(stage.nn.utils, "clip_grad_norm_", keep)
    run = run_settings(epochs=1, flip_probability=0.0, detector={"drop_path": 0.0}, **training)
    train_detector(encoder_dir, set_path, run, NAMES, folder, loader())
    return found["gradient"]


@pytest.mark.parametrize("micro_batch", [1, 2, 4])
def test_an_update_is_the_mean_over_its_images_however_they_are_cut(
    micro_batch, encoder_dir, tmp_path, monkeypatch
):
    # torchvision's losses are means over what is sampled in a micro-batch. Of equal images, all
    # of whose anchors and boxes are taken, they are means over images, and nothing is random.
    images = [scene("a", boxes=[(10, 12, 30, 28)]) for _ in range(5)]
    images = [type(s)(**(vars(s) | {"name": f"train/{n}"})) for n, s in enumerate(images)]
    set_path = write_set(tmp_path / "same.h5", images)
    build = stage.build_detector

    def take_all(*arguments):
        model = build(*arguments)
        model.rpn.fg_bg_sampler.batch_size_per_image = 10**6
        model.roi_heads.fg_bg_sampler.batch_size_per_image = 10**6
        model.rpn.fg_bg_sampler.positive_fraction = 0.5
        return model

    monkeypatch.setattr(stage, "build_detector", take_all)
    arguments = (set_path, encoder_dir)
    at_once = first_gradient(
        *arguments, tmp_path / "5", monkeypatch, batch_size=5, micro_batch_size=5
    )
    in_parts = first_gradient(
        *arguments, tmp_path / "m", monkeypatch, batch_size=5, micro_batch_size=micro_batch
    )
    assert at_once.norm() > 0.1
    # Sums in another order in float32.
    assert (in_parts - at_once).norm() < 1e-4 * at_once.norm()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_grey_and_rgb_encoders_learn_images_of_any_size_and_empty_ones(
    channels, precision, set_path, tmp_path
):
    encoder_dir = write_encoder(tmp_path / "encoder", channels=channels)
    run = run_settings(epochs=1, skip_empty=False, batch_size=7, precision=precision)
    before = build_detector(encoder_dir, CLASSES, run.detector, run.seed).state_dict()
    train_detector(encoder_dir, set_path, run, NAMES, tmp_path / "run", loader())
    after = load_file(tmp_path / "run" / "model.safetensors")
    assert all(tensor.isfinite().all() for tensor in after.values())
    assert sum(not after[name].equal(tensor) for name, tensor in before.items()) > 0.9 * len(after)


@pytest.mark.parametrize("boxes", [[], [(10, 12, 30, 28)]])
def test_losses_of_an_empty_image_and_of_one_box_are_finite(boxes, encoder_dir):
    run = run_settings()
    model = build_detector(encoder_dir, CLASSES, run.detector, run.seed)
    target = {
        "boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        "labels": torch.ones(len(boxes), dtype=torch.int64),
    }
    losses = model([torch.rand(1, 50, 71)], [target])
    assert len(losses) == 4 and all(bool(loss.isfinite()) for loss in losses.values())
    assert (losses["loss_box_reg"].item() == 0.0) == (not boxes)
    sum(losses.values()).backward()
    grads = [p.grad for p in model.parameters() if p.grad is not None]
    assert grads and all(grad.isfinite().all() for grad in grads)


def test_another_seed_is_another_detector(whole, set_path, encoder_dir, tmp_path):
    other = RUN.model_copy(update={"seed": 8})
    train_detector(encoder_dir, set_path, other, NAMES, tmp_path / "run", loader())
    ours, theirs = (load_file(d / "model.safetensors") for d in (whole, tmp_path / "run"))
    assert not ours["roi_heads.box_head.fc6.weight"].equal(theirs["roi_heads.box_head.fc6.weight"])


def test_what_is_not_decayed(encoder_dir):
    run = run_settings()
    model = build_detector(encoder_dir, CLASSES, run.detector, run.seed)
    plain = {n for n, p in model.named_parameters() if p.ndim > 1 and not is_decayed(n, p)}
    vit = "backbone.vit"
    assert plain == {
        f"{vit}.embeddings.cls_token",
        *(f"{vit}.blocks.{k}.relative.{a}" for k in (0, 1) for a in ("rows", "columns")),
    }
    decayed = {n for n, p in model.named_parameters() if is_decayed(n, p)}
    assert "roi_heads.box_head.fc6.weight" in decayed and "rpn.head.cls_logits.weight" in decayed
    assert not any(n.endswith("bias") for n in decayed)


def test_a_loss_that_is_not_finite_names_update_and_images(
    set_path, encoder_dir, tmp_path, monkeypatch
):
    build = stage.build_detector

    def broken(*arguments):
        model = build(*arguments)
        with torch.no_grad():
            model.roi_heads.box_predictor.cls_score.bias.fill_(math.nan)
        return model

    monkeypatch.setattr(stage, "build_detector", broken)
    out_dir = tmp_path / "run"
    with pytest.raises(
        TrainingError, match=r"epoch 1, update 1: loss nan.*loss_classifier nan"
    ) as e:
        train_detector(encoder_dir, set_path, run_settings(), NAMES, out_dir, loader())
    assert "train/" in str(e.value) and "detection.training.precision to fp32" in str(e.value)
    assert not list(out_dir.glob("checkpoints/*/*.pt"))


def test_only_the_images_at_fault_are_named(set_path, encoder_dir, tmp_path, monkeypatch):
    build, calls = stage.build_detector, []

    def broken(*arguments):
        model = build(*arguments)
        forward = model.forward

        def explode_once(inputs, targets):
            losses = forward(inputs, targets)
            calls.append(targets)
            return {n: loss * (math.inf if len(calls) == 2 else 1) for n, loss in losses.items()}

        monkeypatch.setattr(model, "forward", explode_once)
        return model

    monkeypatch.setattr(stage, "build_detector", broken)
    run = run_settings(batch_size=3)
    with pytest.raises(TrainingError) as error:
        train_detector(encoder_dir, set_path, run, NAMES, tmp_path / "run", loader())
    assert str(error.value).count("train/") == 1
    assert " more" not in str(error.value)


def test_a_set_with_nothing_to_learn_is_refused(set_path, encoder_dir, tmp_path):
    run = run_settings(min_side_px=60.0, skip_empty=False)
    with pytest.raises(
        DataError, match=r"drawn\.h5: no box is left to learn in the 7 images.*7 are smaller"
    ):
        train_detector(encoder_dir, set_path, run, NAMES, tmp_path / "run", loader())


def test_a_gpu_that_is_not_there_is_told(set_path, encoder_dir, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(TrainingError, match=r"loader\.device is cuda"):
        train_detector(encoder_dir, set_path, RUN, NAMES, tmp_path / "run", loader(device="cuda"))


def test_a_large_rate_learns_the_training_images(set_path, encoder_dir, tmp_path):
    run = run_settings(
        epochs=6, decay_epochs=(100,), optimiser=OptimiserSettings(learning_rate=1e-3)
    )
    train_detector(encoder_dir, set_path, run, NAMES, tmp_path / "run", loader())
    losses = [line["loss"] for line in lines(tmp_path / "run", "epoch")]
    assert losses[-1] < 0.7 * losses[0]
