"""Chips: whole pictures of a detection set, resized to the size of a cutout, for pretraining."""

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from stradavit.cutouts.detection_images import DetectionImages
from stradavit.cutouts.quantise import STORED, quantise, restore
from stradavit.cutouts.shards import new_shard
from stradavit.errors import DataError, SettingsError
from stradavit.progress import progress
from stradavit.provenance import note_maker

logger = logging.getLogger(__name__)


def cut_chips(
    survey_name: str,
    splits: Sequence[str],
    detection_path: Path,
    part: int,
    parts: int,
    size_px: int,
    out_path: Path,
) -> None:
    """Resize the images of some splits into one part of a survey of chips.

    A picture whose pixels equal those of one in another split is dropped (`held_out`): published
    sets hold the same picture under two names, and nothing that is scored may be pretrained on.
    Repeats within the splits are left to the corpus, which keeps one of each.

    Parameters
    ----------
    survey_name : key of the survey
    splits : those to take
    detection_path : file made by `stradavit.cutouts.detection_stages.cut_detection`
    part, parts : images whose number in the file leaves this remainder are taken
    size_px : side of the chips; the aspect of the pictures is not kept
    out_path : shard to write. A product is one picture, its digest that of its stored pixels;
        where a picture lies on the sky is noted if it is known.

    Raises
    ------
    SettingsError
        If there is no such part.
    DataError
        If the detection set has no image of these splits, or is damaged.
    """
    if not 0 <= part < parts:
        raise SettingsError(f"{survey_name}: has no part {part}; its {parts} parts count from 0.")
    images = DetectionImages(detection_path)
    wanted = np.flatnonzero(np.isin(images.splits, list(splits)))
    if not len(wanted):
        raise DataError(
            f"{detection_path}: has no image of the splits {', '.join(splits)}; its splits are "
            f"{', '.join(sorted(set(images.splits.tolist())))}. Correct surveys.{survey_name}."
        )
    held_out = {_same(images, n) for n in range(len(images)) if images.splits[n] not in splits}
    dropped: Counter[str] = Counter()
    attributes = {
        "survey": survey_name,
        "part": str(part),
        "settings": json.dumps(
            {"splits": sorted(splits), "parts": parts, "size_px": size_px}, sort_keys=True
        ),
        # The checksum of its tables, which hold those of the pixels: no gigabytes are read.
        "detection_checksum": images.attribute("rows_checksum"),
    }
    mine = wanted[wanted % parts == part]
    with new_shard(out_path, size_px, attributes) as shard:
        for number in progress(mine.tolist(), desc=f"cut {survey_name}", unit="image"):
            levels = images.levels(number)
            digest = hashlib.sha256(np.ascontiguousarray(levels, STORED).tobytes()).hexdigest()
            with shard.product(images.names[number], digest) as counts:
                reason = "held_out" if _same(images, number) in held_out else None
                chip = quantise(resized(restore(levels), size_px))
                if reason is None and chip.min() == chip.max():
                    reason = "constant"
                if reason is not None:
                    counts[reason] += 1
                    dropped[reason] += 1
                    continue
                ra_deg, dec_deg, radius_arcsec = images.sky[number]
                _, _, _, low, high = images.place(number)
                shard.append(
                    chip,
                    plane=0,
                    y0=0,
                    x0=0,
                    ra_deg=ra_deg,
                    dec_deg=dec_deg,
                    corner_ra_deg=np.nan,
                    corner_dec_deg=np.nan,
                    radius_arcsec=radius_arcsec,
                    beam_major_arcsec=np.nan,
                    beam_minor_arcsec=np.nan,
                    pixel_scale_arcsec=np.nan,
                    finite_fraction=1.0,  # else it were in no detection set
                    low=low,
                    high=high,
                )
    images.close()
    note_maker(out_path, __name__)
    logger.info(
        "%s, part %d: %d chips of %d images; dropped %s",
        *(survey_name, part, len(mine) - dropped.total(), len(mine)),
        json.dumps(dropped, sort_keys=True),
    )


def resized(image: NDArray[np.float32], size_px: int) -> NDArray[np.float32]:
    """(size_px, size_px) float32 in [0, 1]: bicubic, averaging over what becomes one pixel.

    Pillow's filter is the one torch calls antialiased; this stage needs no torch. Where the kernel
    overshoots, values are cut off at 0 and 1.

    Parameters
    ----------
    image : (ny, nx) float32 in [0, 1]
    """
    picture = Image.fromarray(np.ascontiguousarray(image, np.float32))
    chip = picture.resize((size_px, size_px), Image.Resampling.BICUBIC)
    return np.clip(np.asarray(chip, np.float32), 0.0, 1.0)


def _same(images: DetectionImages, number: int) -> tuple[int, int, int]:
    """Equal for equal pixels in equal shape."""
    ny, nx = images.shapes[number]
    return int(images.checksums[number]), int(ny), int(nx)
