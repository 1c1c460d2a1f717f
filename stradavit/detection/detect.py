"""Stage `detect`: run a detector over a split, write what it finds and what that is worth."""

import json
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from stradavit.cutouts.detection_images import DetectionImages
from stradavit.detection.coco import SIZE_LIMITS_PX, Detection, Truth, coco_scores
from stradavit.detection.detector import Detector, load_detector
from stradavit.detection.inputs import as_input
from stradavit.errors import DataError
from stradavit.files import atomic_path, sha256_of, write_json
from stradavit.machine import maker
from stradavit.models.weights import weight_file
from stradavit.progress import progress
from stradavit.provenance import code_hash
from stradavit.settings.detection import DetectorRun, Split
from stradavit.settings.training import LoaderSettings
from stradavit.training.distributed import choose_device

logger = logging.getLogger(__name__)

# Of a written box and score. Scores are computed from what is written, so they can be repeated.
_BOX_DIGITS, _SCORE_DIGITS = 3, 6


def detect(
    detector_dir: Path,
    set_path: Path,
    split: Split,
    names: tuple[str, str],
    out_path: Path,
    loader: LoaderSettings,
    sources_path: Path | None = None,
) -> None:
    """Score one detector on one split; write metrics and, beside them, all detections.

    Parameters
    ----------
    detector_dir : detector folder; its weights, batch size at once and precision are used
    set_path : detection set with the classes the detector was trained for
    split : scored
    names : of the encoder and of the set, for the tables
    out_path : metrics (JSON); beside them ``<name>.detections.json``, COCO results whose
        `image_id` is the number of the image in the set
    loader : what decides only speed
    sources_path : truth catalogues of a radio set, for the score of the SKA's first data challenge

    Raises
    ------
    DataError
        If detector or set cannot be read, do not fit, or the split has no images.
    """
    torch.set_num_threads(loader.threads)
    device = choose_device(loader.device)
    images = DetectionImages(set_path)
    model, meta = load_detector(detector_dir)
    run = DetectorRun.model_validate(meta["settings"])
    numbers = images.of_split(split)
    known = model.config.classes
    if known != images.classes:
        raise DataError(
            f"{detector_dir}: the detector knows the classes {', '.join(known)}; "
            f"expected those of {set_path}: {', '.join(images.classes)}. Train a detector on this "
            "set."
        )
    if not len(numbers):
        raise DataError(
            f"{set_path}: has no images in the split {split}; expected some. Choose another split "
            "with `scored` of the set."
        )
    logger.info("%s on %s: %d images of split %s on %s", *names, len(numbers), split, device.type)
    model = model.to(device).eval()
    found = find(model, images, numbers.tolist(), run, device)
    found_path = out_path.with_suffix(".detections.json")
    _write_detections(found_path, found)

    truth = [
        Truth(n, images.boxes(n), images.labels(n), images.is_crowd(n)) for n in numbers.tolist()
    ]
    scores = coco_scores(truth, found, images.classes)
    write_json(
        out_path,
        {
            "protocol": "detection",
            "encoder": names[0],
            "set": names[1],
            "seed": run.seed,
            "split": split,
            "classes": list(images.classes),
            "settings": run.model_dump(mode="json"),
            "code": code_hash(__name__),
            "provenance": {
                "encoder_sha256": meta["encoder_sha256"],
                "detector_sha256": sha256_of(weight_file(detector_dir)),
                "detector_code": meta["code"],
                "set_sha256": sha256_of(set_path),
                "device": device.type,
            },
            "made_by": maker(device.type),
            "detections_sha256": sha256_of(found_path),
            "scores": scores.scores,
            "per_class": scores.per_class,
            "n_images": len(numbers),
            "n_boxes": scores.n_boxes,
            "size_limits_px": list(SIZE_LIMITS_PX),
            "sdc1": _challenge(images, sources_path, split, found),
        },
        sealed=True,
    )
    images.close()


@torch.inference_mode()
def find(
    model: Detector,
    images: DetectionImages,
    numbers: Sequence[int],
    run: DetectorRun,
    device: torch.device,
) -> list[Detection]:
    """What a detector in evaluation mode finds in images, best first within each.

    Parameters
    ----------
    numbers : of the images, which become their ids
    run : how the detector was trained; images at once and precision are taken from it
    """
    channels = len(model.config.mean)
    settings = run.training
    found: list[Detection] = []
    bar: tqdm[None] = progress(total=len(numbers), desc="detect", unit="images")
    with bar:
        for first in range(0, len(numbers), settings.micro_batch_size):
            part = numbers[first : first + settings.micro_batch_size]
            inputs = [
                as_input(torch.from_numpy(images.image(n))[None], channels, device) for n in part
            ]
            with torch.autocast(device.type, torch.bfloat16, settings.precision == "bf16"):
                outputs: list[dict[str, torch.Tensor]] = model(inputs)
            for number, output in zip(part, outputs, strict=True):
                found.extend(_detections(number, output))
            bar.update(len(part))
    return found


def _detections(number: int, output: dict[str, torch.Tensor]) -> Iterator[Detection]:
    boxes = output["boxes"].double().cpu().numpy()
    rounded = np.round(np.hstack([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]]), _BOX_DIGITS)
    labels, scores = output["labels"].tolist(), output["scores"].tolist()
    for bbox, label, score in zip(rounded.tolist(), labels, scores, strict=True):
        yield {
            "image_id": number,
            "category_id": label - 1,  # 0 is the background
            "bbox": bbox,
            "score": round(score, _SCORE_DIGITS),
        }


def _write_detections(path: Path, found: Sequence[Detection]) -> None:
    """A line per detection, in a file that is whole or absent."""
    rows = ",\n".join(json.dumps(one, allow_nan=False) for one in found)
    with atomic_path(path) as temporary:
        temporary.write_text(f"[\n{rows}\n]\n" if found else "[]\n", encoding="utf-8")


def _challenge(
    images: DetectionImages, sources_path: Path | None, split: Split, found: list[Detection]
) -> dict[str, Any] | None:
    """The score of the SKA's first data challenge, for sets made from its truth catalogues."""
    if sources_path is None or images.attribute("settings").get("source") != "truth":
        return None
    from stradavit.detection.challenge import challenge_score

    return challenge_score(images, sources_path, split, found)
