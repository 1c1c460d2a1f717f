"""Eight real SAR images are learned by heart: the whole chain from pixels to average precision."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from stradavit.cutouts.detection_images import Scene, write_detection_images
from stradavit.cutouts.quantise import quantise
from stradavit.detection.detect import detect
from stradavit.detection.training import train_detector
from stradavit.files import read_json, write_json
from stradavit.settings.training import OptimiserSettings
from tests.unit.detection.sets import loader, run_settings, write_encoder

N_IMAGES = 8
SEED, EPOCHS = 0, 60


@pytest.fixture
def ssdd_path(shared_data, tmp_path):
    """Eight images of SSDD, evenly spaced in its training split, as a detection set."""
    folder = shared_data / "sar" / "ssdd"
    if not folder.is_dir():
        pytest.skip(f"no SAR images in {folder}")
    coco = json.loads((folder / "Annotations" / "train.json").read_text(encoding="utf-8"))
    scenes = []
    for image in coco["images"][:: len(coco["images"]) // N_IMAGES][:N_IMAGES]:
        with Image.open(folder / "JPEGImages" / image["file_name"]) as opened:
            pixels = np.asarray(opened.convert("L"), np.float32) / np.float32(255)
        rows = [a for a in coco["annotations"] if a["image_id"] == image["id"]]
        boxes = np.array([a["bbox"] for a in rows], np.float32)
        boxes[:, 2:] += boxes[:, :2]
        boxes[:, 2:] = np.minimum(boxes[:, 2:], pixels.shape[::-1])
        scenes.append(
            Scene(
                name=f"train/{image['file_name']}",
                split="train",
                levels=quantise(pixels),
                boxes=boxes,
                labels=np.zeros(len(rows), np.int64),
                is_crowd=np.zeros(len(rows), bool),
                sources=tuple(str(a["id"]) for a in rows),
            )
        )
    path = tmp_path / "ssdd.h5"
    write_detection_images(path, ("ship",), scenes, {"settings": json.dumps({"source": "coco"})})
    return path


@pytest.mark.slow
def test_eight_images_are_learned_by_heart(ssdd_path, tmp_path):
    torch.set_num_threads(1)
    encoder_dir = write_encoder(
        tmp_path / "encoder", image_px=256, patch_px=16, width=96, layers=4, heads=4, mlp_width=192
    )
    # A drawn encoder has no use for its channels' mean yet; SAR images are dark.
    preprocessor = read_json(encoder_dir / "preprocessor_config.json")
    preprocessor |= {"image_mean": [0.1], "image_std": [0.1]}
    write_json(encoder_dir / "preprocessor_config.json", preprocessor)
    run = run_settings(
        seed=SEED,
        detector={
            "image_px": 320,
            "window": 8,
            "global_blocks": 2,
            "drop_path": 0.0,
            "pyramid_width": 32,
            "head_width": 128,
            "anchor_scale": 1.5,  # the smallest ship is 5 px long at this size
            "proposals": 300,
            "sampled_regions": 64,
        },
        epochs=EPOCHS,
        batch_size=1,
        micro_batch_size=1,
        warmup_updates=20,
        decay_epochs=(48, 55),
        flip_probability=0.0,
        optimiser=OptimiserSettings(learning_rate=1e-3, betas=(0.9, 0.999)),
    )
    rarely = loader(checkpoint_every_s=1e9, checkpoint_every_epochs=1000)
    names = ("small", "ssdd")
    train_detector(encoder_dir, ssdd_path, run, names, tmp_path / "detector", rarely)
    detect(tmp_path / "detector", ssdd_path, "train", names, tmp_path / "s0.json", rarely)
    metrics = read_json(tmp_path / "s0.json")
    assert metrics["n_boxes"]["all"] == 10
    assert metrics["scores"]["ap50"] >= 0.95
