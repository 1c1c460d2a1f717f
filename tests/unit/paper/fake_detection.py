"""A matrix with detection and chips, and the files its tables and figures read."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stradavit.cutouts.detection_images import DetectionImages, Scene, write_detection_images
from stradavit.cutouts.detection_report import LeftOut, Tally
from stradavit.cutouts.quantise import quantise
from stradavit.models.stages import acquire_encoder
from stradavit.provenance import code_hash
from stradavit.settings import Settings
from stradavit.settings.detection import SPLITS
from stradavit.settings.encoders import ScratchEncoder

from .fake_data import write_data
from .fake_results import small_config, write_all_metrics

CLASSES = {"sar": ("ship", "tank & $5"), "radio": ("source",)}
IMAGES = {"train": 5, "val": 6, "test": 7}
SIDE = 96
SCORES = ("map", "ap50", "ap75", "map_small", "map_medium", "map_large")
TINY = {
    "image_px": 32, "patch_px": 8, "width": 16, "layers": 1, "heads": 2, "mlp_width": 32,
    "decoder_width": 16, "decoder_layers": 1, "decoder_heads": 2, "decoder_mlp_width": 32,
}  # fmt: skip


def detection_config() -> dict[str, Any]:
    """The small matrix with a set of each table, chips of one, and two seeds of the detector."""
    config = small_config()
    config["surveys"]["field"] = {"source": "simulated", "like": "sdc1", "first": 5}
    config["surveys"]["pictures"] = {"source": "chips", "detection": "sar"}
    config["corpora"]["chips"] = {"surveys": ["pictures"], "title": "SAR"}
    config["encoders"]["photographs"] = {"source": "hub", "repo": "a/p", "title": "ImageNet"}
    config["matrix"]["chips"] = {"starts": ["tiny_net", "photographs"], "corpora": ["chips"]}
    config["matrix"]["detection"] = {
        "sar": {"baselines": ["tiny_net", "photographs"], "chips": True},
        "radio": {"baselines": ["tiny_net"], "selected": True},
    }
    config["detection"] = {
        "sets": {
            "sar": {"source": "simulated", "table": "sar", "title": "Scenes_1"},
            "radio": {"source": "truth", "table": "radio", "survey": "field", "title": "SDC1"},
        },
        "training": {"seeds": [7, 8]},
    }
    return config


def scenes(classes: tuple[str, ...]) -> list[Scene]:
    """Noise with bright rectangles, each in a box; every image has another side."""
    rng = np.random.default_rng(len(classes))
    made = []
    for split in SPLITS:
        for i in range(IMAGES[split]):
            shape = (SIDE - 4 * i, SIDE)
            pixels = rng.uniform(0.1, 0.3, shape).astype(np.float32)
            # The first image of every split is empty.
            corners = rng.integers(4, 50, (min(i, 3), 2))
            boxes = np.array([(x, y, x + 14, y + 10) for x, y in corners], np.float32)
            for x, y in corners:
                pixels[y : y + 10, x : x + 14] = rng.uniform(0.7, 1.0)
            made.append(
                Scene(
                    name=f"{split}/{i}.png",
                    split=split,
                    levels=quantise(pixels),
                    boxes=boxes.reshape(-1, 4),
                    labels=np.arange(len(boxes)) % len(classes),
                    is_crowd=np.zeros(len(boxes), np.bool_),
                    sources=tuple(f"{i}-{k}" for k in range(len(boxes))),
                )
            )
    return made


def detection_report(classes: tuple[str, ...], has_left_out: bool) -> dict[str, Any]:
    """What `cut-detection` says of the scenes; of pictures also what was left out of them."""
    tally, left_out = Tally(classes), LeftOut()
    for scene in scenes(classes):
        tally.see(scene)
    for what, split in (("no_area", "val"), ("outside", "val"), ("outside", "val")):
        left_out.note(what, split, "a box")
    left_out.note("clipped", "test", "a box")
    left_out.other_class["test"].update({"tree": 3, "house": 4})
    return tally.report(left_out if has_left_out else None, {})


def draw_scores(encoder: str, name: str, seed: int) -> dict[str, float]:
    """Scores that differ in every coordinate."""
    key = list(f"{encoder} {name} {seed}".encode())
    drawn = np.random.default_rng(key).uniform(0.2, 0.9, len(SCORES))
    return dict(zip(SCORES, drawn.tolist(), strict=True))


def detection_content(settings: Settings, encoder: str, name: str, seed: int) -> dict[str, Any]:
    """What `detect` writes of a detector; no scored box is large, no tank occurs."""
    scores: dict[str, float | None] = {**draw_scores(encoder, name, seed), "map_large": None}
    first, *rest = CLASSES[name]
    per_class: dict[str, Any] = dict.fromkeys(rest)
    per_class[first] = {"map": scores["map"], "ap50": scores["ap50"]}
    sdc1 = {
        "score": 10.0 + seed, "percent": 4.0 + seed, "n_detections": 100, "n_matched": 40,
        "n_false": 60, "band_mhz": 560,
    }  # fmt: skip
    return {
        "protocol": "detection",
        "encoder": encoder,
        "set": name,
        "seed": seed,
        "split": settings.detection.sets[name].scored,
        "classes": list(CLASSES[name]),
        "settings": settings.detector_run(seed).model_dump(mode="json"),
        "code": code_hash("stradavit.detection.detect"),
        "provenance": {"detector_code": code_hash("stradavit.detection.training")},
        "scores": scores,
        "per_class": per_class,
        "n_images": IMAGES[settings.detection.sets[name].scored],
        "n_boxes": {"all": 1500, "small": 1400, "medium": 100, "large": 0},
        "size_limits_px": [32, 96],
        "sdc1": sdc1 if name == "radio" else None,
    }


def write_content(path: Path, content: Any) -> None:
    """JSON under a path whose folder may not exist."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def write_detection(settings: Settings, results_dir: Path) -> None:
    """Sets, metrics, detections; of each pair of true boxes the first is found, with a ghost."""
    for name in settings.matrix.detection:
        path = results_dir / "detection" / f"{name}.h5"
        attributes = {"report": detection_report(CLASSES[name], has_left_out=name == "sar")}
        write_detection_images(path, CLASSES[name], scenes(CLASSES[name]), attributes)
    for encoder, name, seed in settings.detection_cells():
        path = results_dir / "metrics" / "detection" / encoder / name / f"s{seed}.json"
        write_content(path, detection_content(settings, encoder, name, seed))
        images = DetectionImages(results_dir / "detection" / f"{name}.h5")
        entries = []
        for number in images.of_split(settings.detection.sets[name].scored).tolist():
            for box, label in zip(images.boxes(number)[:2], images.labels(number), strict=False):
                entries.append(_entry(number, box + 1, label, 0.9))
            entries.append(_entry(number, np.array([60.0, 2.0, 80.0, 20.0]), 0, 0.6))
            entries.append(_entry(number, np.array([2.0, 2.0, 90.0, 60.0]), 0, 0.3))
        write_content(path.with_suffix(".detections.json"), entries)


def _entry(number: int, box: NDArray[Any], label: int, score: float) -> dict[str, Any]:
    x0, y0, x1, y1 = (float(value) for value in box)
    bbox = [x0, y0, x1 - x0, y1 - y0]
    return {"image_id": number, "category_id": int(label), "bbox": bbox, "score": score}


def write_detection_results(settings: Settings, results_dir: Path) -> None:
    """All that tables and figures of a config with detection read."""
    write_all_metrics(settings, results_dir)
    write_data(settings, results_dir)
    write_detection(settings, results_dir)
    tiny = ScratchEncoder.model_validate({"source": "scratch", "architecture": TINY})
    for node in settings.nodes().values():
        if node.corpus in settings.matrix.chips.corpora:
            acquire_encoder(node.name, tiny, node.seed, results_dir / "encoders" / node.name)
