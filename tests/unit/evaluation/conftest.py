"""Small benchmarks and encoders, written by the real writers."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from stradavit.acquire.labels import LabelledImage
from stradavit.cutouts.benchmark import BenchmarkWriter
from stradavit.cutouts.hdf5 import new_file
from stradavit.models.stages import acquire_encoder
from stradavit.settings.encoders import Architecture, ScratchEncoder


@pytest.fixture(scope="session")
def write_benchmark() -> Callable[..., Path]:
    """Write labelled cutouts: `write_benchmark(path, images, labels, sources=None)`."""

    def write(path: Path, images, labels, sources=None) -> Path:
        classes = [f"class {number}" for number in range(max(labels) + 1)]
        with new_file(path) as file:
            writer = BenchmarkWriter(file)
            for i, (pixels, label) in enumerate(zip(images, labels, strict=True)):
                source = f"source {i}" if sources is None else sources[i]
                row = LabelledImage(
                    image=f"image {i}",
                    path=Path("none.fits"),
                    member=None,
                    label=classes[label],
                    source=source,
                    ra_deg=math.nan,
                    dec_deg=math.nan,
                )
                writer.append(np.asarray(pixels, np.float32), row)
            attributes = {"excluded": json.dumps({}), "settings": "{}", "labels_sha256": ""}
            writer.finish(classes, attributes)
        return path

    return write


@pytest.fixture(scope="session")
def encoder_dir(tmp_path_factory) -> Path:
    """A ViT of two blocks with registers, drawn from a seed."""
    shape = Architecture(
        image_px=16,
        patch_px=8,
        channels=3,
        width=32,
        layers=2,
        heads=2,
        mlp_width=64,
        decoder_width=16,
        decoder_layers=1,
        decoder_heads=2,
        decoder_mlp_width=32,
    )
    folder = tmp_path_factory.mktemp("encoders") / "tiny"
    source = ScratchEncoder(source="scratch", registers=2, architecture=shape)
    acquire_encoder("tiny", source, 0, folder)
    return folder
