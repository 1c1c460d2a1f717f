"""A small data set in the layout of SARDet-100K, with what real ones surprise by."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

CATEGORIES = [{"id": 0, "name": "ship"}, {"id": 1, "name": "tank"}, {"id": 2, "name": "car"}]


def noise(seed: int, *shape: int) -> np.ndarray:
    """Random 8-bit pixels."""
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def box(image_id: int, category_id: int, bbox: list[float], **more: Any) -> dict[str, Any]:
    """An annotation without its id."""
    return {"image_id": image_id, "category_id": category_id, "bbox": bbox, **more}


def lay_out(
    root: Path, split: str, pictures: dict[str, np.ndarray], boxes: list[dict[str, Any]]
) -> Path:
    """Write one split; pictures count from 0 in the order given. Returns the annotation file."""
    images = []
    for number, (name, pixels) in enumerate(pictures.items()):
        path = root / "JPEGImages" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
        ny, nx = pixels.shape[:2]
        images.append({"id": number, "file_name": name, "width": nx, "height": ny})
    numbered = [{"id": n, **one} for n, one in enumerate(boxes, start=1)]
    path = root / "Annotations" / f"{split}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    coco = {"images": images, "annotations": numbered, "categories": CATEGORIES}
    path.write_text(json.dumps(coco))
    return path
