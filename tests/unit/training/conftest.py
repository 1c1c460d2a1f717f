"""A corpus of 22 small cutouts in two shards, and a tiny encoder to start from."""

from pathlib import Path

import numpy as np
import pytest
import torch

from stradavit.cutouts.corpus import write_corpus
from stradavit.cutouts.quantise import quantise
from stradavit.cutouts.shards import Shard, new_shard
from stradavit.models.stages import acquire_encoder
from stradavit.settings.encoders import Architecture, ScratchEncoder

SIZE_PX = 64
PER_SHARD = 11


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)


def blobs(rng: np.random.Generator, n_blobs: int) -> np.ndarray:
    """(SIZE_PX, SIZE_PX) float32 in [0, 1]: a few Gaussians on a faint noise."""
    y, x = np.mgrid[:SIZE_PX, :SIZE_PX]
    image = 0.05 * rng.random((SIZE_PX, SIZE_PX))
    for _ in range(n_blobs):
        centre_y, centre_x = rng.uniform(12, SIZE_PX - 12, 2)
        width = rng.uniform(2, 5)
        image += np.exp(-((y - centre_y) ** 2 + (x - centre_x) ** 2) / (2 * width**2))
    return np.clip(image, 0, 1).astype(np.float32)


def write_shards(folder: Path, n_blank: int = 0) -> Path:
    """Write shards and their corpus; the first `n_blank` cutouts of each shard are black."""
    rng = np.random.default_rng(5)
    shards = []
    for part in range(2):
        path = folder / "shards" / "drawn" / f"{part}.h5"
        about = {"survey": "drawn", "part": part, "settings": "{}", "ledger_sha256": ""}
        with new_shard(path, SIZE_PX, about) as writer, writer.product(f"field{part}", ""):
            for number in range(PER_SHARD):
                image = blobs(rng, 1 + number % 3)
                writer.append(
                    quantise(image * (number >= n_blank)),
                    plane=0,
                    y0=0,
                    x0=number * SIZE_PX,
                    ra_deg=np.nan,
                    dec_deg=np.nan,
                    corner_ra_deg=np.nan,
                    corner_dec_deg=np.nan,
                    radius_arcsec=np.nan,
                    beam_major_arcsec=np.nan,
                    beam_minor_arcsec=np.nan,
                    pixel_scale_arcsec=np.nan,
                    finite_fraction=1.0,
                    low=0.0,
                    high=1.0,
                )
        shards.append(Shard(path))
    corpus_path = folder / "corpora" / "drawn.h5"
    everything = [np.arange(PER_SHARD)] * 2
    write_corpus(corpus_path, shards, everything, {"drawn": {"kept": 2 * PER_SHARD}})
    return corpus_path


@pytest.fixture(scope="session")
def corpus_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus of 22 cutouts, all with sources."""
    return write_shards(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="session")
def half_blank_corpus_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus of 22 cutouts, 10 of them black."""
    return write_shards(tmp_path_factory.mktemp("half_blank"), n_blank=5)


@pytest.fixture(scope="session")
def start_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An encoder folder: 32 px, patches of 8, two blocks."""
    shape = Architecture(
        image_px=32,
        patch_px=8,
        channels=1,
        width=32,
        layers=2,
        heads=2,
        mlp_width=64,
        decoder_width=32,
        decoder_layers=1,
        decoder_heads=2,
        decoder_mlp_width=64,
    )
    folder = tmp_path_factory.mktemp("encoders") / "start"
    acquire_encoder("start", ScratchEncoder(source="scratch", architecture=shape), 3, folder)
    return folder
