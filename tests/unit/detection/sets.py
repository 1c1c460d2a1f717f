"""Small detection sets, encoders and settings for the tests of detectors."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from stradavit.cutouts.detection_images import Scene, write_detection_images
from stradavit.cutouts.quantise import quantise
from stradavit.models.stages import acquire_encoder
from stradavit.settings.detection import DetectorRun, DetectorSettings, DetectorTraining
from stradavit.settings.encoders import Architecture, ScratchEncoder
from stradavit.settings.training import LoaderSettings

CLASSES = ("ship", "tank")

# An architecture that is trained in seconds.
TINY_ENCODER: dict[str, Any] = {
    "image_px": 64,
    "patch_px": 8,
    "channels": 1,
    "width": 32,
    "layers": 2,
    "heads": 2,
    "mlp_width": 64,
    "decoder_width": 32,
    "decoder_layers": 1,
    "decoder_heads": 2,
    "decoder_mlp_width": 64,
}


def scene(
    name: str,
    split: str = "train",
    boxes: Any = (),
    labels: Any = None,
    is_crowd: Any = None,
    shape: tuple[int, int] = (64, 64),
) -> Scene:
    """A dark image on which each box (x0, y0, x1, y1) is bright; tanks are striped."""
    rng = np.random.default_rng(sum(map(ord, name + split)))
    labels = [0] * len(boxes) if labels is None else labels
    pixels = (0.2 * rng.random(shape)).astype(np.float32)
    for (x0, y0, x1, y1), label in zip(boxes, labels, strict=True):
        pixels[y0:y1, x0 : x1 : 1 + label] = 0.9
    return Scene(
        name=f"{split}/{name}",
        split=split,
        levels=quantise(pixels),
        boxes=np.array(boxes, np.float32).reshape(-1, 4),
        labels=np.array(labels, np.int64),
        is_crowd=np.array([False] * len(boxes) if is_crowd is None else is_crowd, bool),
        sources=tuple(f"{name}-{k}" for k in range(len(boxes))),
    )


# Odd sizes, an empty image, several boxes, a crowd, a box of 3 px.
SCENES = [
    scene("a", boxes=[(10, 12, 30, 28)]),
    scene("b", boxes=[(5, 5, 21, 25), (40, 30, 60, 50)], labels=[1, 0], shape=(61, 83)),
    scene("empty"),
    scene("c", boxes=[(20, 30, 44, 47)], labels=[1], shape=(77, 59)),
    scene("crowd", boxes=[(3, 3, 40, 40)], is_crowd=[True]),
    scene("d", boxes=[(8, 8, 28, 26), (50, 50, 53, 60)], labels=[0, 0]),
    scene("e", boxes=[(30, 4, 50, 20)], labels=[1]),
    scene("a", "test", boxes=[(12, 12, 30, 30)]),
    scene("b", "test", boxes=[(6, 30, 26, 48), (40, 5, 60, 21)], labels=[1, 0], shape=(57, 90)),
    scene("empty", "test"),
]


def write_set(path: Path, scenes: Any = SCENES, **settings: Any) -> Path:
    """A detection set."""
    attributes = {"settings": json.dumps({"source": "simulated"} | settings)}
    write_detection_images(path, CLASSES, scenes, attributes)
    return path


def write_encoder(folder: Path, channels: int = 1, **shape: Any) -> Path:
    """A drawn encoder: 64 px, patches of 8, two blocks."""
    values = TINY_ENCODER | {"channels": channels} | shape
    architecture = Architecture(**values)
    encoder = ScratchEncoder(source="scratch", architecture=architecture)
    acquire_encoder(folder.name, encoder, 3, folder)
    return folder


def run_settings(seed: int = 7, detector: Any = None, **training: Any) -> DetectorRun:
    """Two epochs of three updates: 5 images, two to an update, one at once."""
    small = {
        "image_px": 64,
        "window": 4,
        "global_blocks": 1,
        "pyramid_width": 16,
        "head_width": 32,
        "anchor_scale": 4.0,
    }
    short = {
        "epochs": 2,
        "batch_size": 2,
        "micro_batch_size": 1,
        "warmup_updates": 2,
        "decay_epochs": (1,),
        "precision": "fp32",
    }
    return DetectorRun(
        detector=DetectorSettings(**(small | (detector or {}))),
        training=DetectorTraining(**(short | training)),
        seed=seed,
    )


def loader(**values: Any) -> LoaderSettings:
    """On the CPU, with a line and a checkpoint at every update."""
    speed = {"device": "cpu", "log_every_steps": 1, "checkpoint_every_s": 1e-9}
    return LoaderSettings(**(speed | values))


def lines(out_dir: Path, kind: str) -> list[dict[str, Any]]:
    """Lines of one kind in metrics.jsonl, without rates."""
    texts = (out_dir / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    found = [line for line in map(json.loads, texts) if line["kind"] == kind]
    for line in found:
        line.pop("images_per_s", None)
    return found
