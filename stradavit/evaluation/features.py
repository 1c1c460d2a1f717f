"""Stage `features`: embed every benchmark image once in each of its eight orientations.

The probe's encoder is frozen and its only augmentation is D4, so these eight features are all it
will ever see of an image: twenty epochs in three folds cost one pass.
"""

import logging
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from stradavit.cutouts.benchmark import LabelledCutouts
from stradavit.errors import DataError
from stradavit.evaluation.device import Precision, mixed_precision, prepare_device
from stradavit.evaluation.dihedral import N_ORIENTATIONS, orient
from stradavit.evaluation.feature_file import Features, write_features
from stradavit.evaluation.images import resized_images
from stradavit.evaluation.recipe import batches
from stradavit.files import sha256_of
from stradavit.machine import maker
from stradavit.models.hub import LoadedEncoder, load_encoder
from stradavit.models.weights import weight_file
from stradavit.progress import progress
from stradavit.provenance import code_hash
from stradavit.settings.training import LoaderSettings

# Activations of a small encoder still fit a processor's cache; a GPU is busy enough.
BATCH = 32

log = logging.getLogger(__name__)


def extract_features(
    encoder_dir: Path, benchmark_path: Path, out_path: Path, loader: LoaderSettings
) -> None:
    """Write `Features` of a benchmark by an encoder.

    The encoder is in evaluation mode. It computes in bfloat16 autocast on a GPU, as the paper
    does, and in float32 on a processor; the file says which.
    """
    device = prepare_device(loader)
    precision: Precision = "bf16" if device.type == "cuda" else "fp32"
    loaded = load_encoder(encoder_dir)
    cutouts = LabelledCutouts(benchmark_path)
    log.info("embedding %d images on %s in %s", len(cutouts), device, precision)
    desc = f"{encoder_dir.name} on {benchmark_path.stem}"
    values = embed(loaded, cutouts, device, precision, desc)
    bad = np.flatnonzero(~np.isfinite(values).all(axis=(1, 2)))
    if len(bad):
        raise DataError(
            f"{encoder_dir}: {len(bad)} of the {len(values)} images of {benchmark_path} have "
            f"features that are not finite, first {cutouts.images[bad[0]]!r}. The weights are "
            "damaged or training diverged; make the encoder again."
        )
    provenance = {
        "encoder_sha256": sha256_of(weight_file(encoder_dir)),
        "benchmark_sha256": sha256_of(benchmark_path),
        "features_code": code_hash(__name__),
        "device": device.type,
        "precision": precision,
    }
    write_features(
        out_path,
        Features(
            values=values,
            labels=np.asarray(cutouts.labels, dtype=np.int64),
            classes=list(cutouts.classes),
            sources=list(cutouts.sources),
            images=list(cutouts.images),
            splits=list(cutouts.splits),
            provenance=provenance,
            made_by=maker(device.type),
        ),
    )


def embed(
    loaded: LoadedEncoder,
    cutouts: LabelledCutouts,
    device: torch.device,
    precision: Precision = "fp32",
    desc: str = "embedding",
) -> NDArray[np.float32]:
    """(n, 8, dim) float32 readouts of all images in their eight orientations.

    The same bits whatever the number of threads.
    """
    loaded.encoder.to(device).eval()
    values = np.empty((len(cutouts), N_ORIENTATIONS, loaded.encoder.width), np.float32)

    def read_out(numbers: NDArray[np.int64], orientation: int, pixels: Tensor) -> None:
        # Both modes belong to a thread, so they are entered here.
        with torch.inference_mode(), mixed_precision(device, precision):
            read = loaded.embed(orient(pixels, orientation))
        values[numbers, orientation] = read.float().cpu().numpy()

    bar: tqdm[None] = progress(total=len(cutouts), desc=desc, unit="image")
    running: deque[tuple[int, list[Future[None]]]] = deque()

    def finish_oldest() -> None:
        n_images, futures = running.popleft()
        for future in futures:
            future.result()
        bar.update(n_images)

    with bar, _workers(device) as pool:
        for numbers in batches(np.arange(len(cutouts)), BATCH):
            pixels = resized_images(cutouts, numbers, loaded.preprocessing.image_px).to(device)
            # One batch is computed while the next is read; more would only fill memory.
            if len(running) == 2:
                finish_oldest()
            turns = range(N_ORIENTATIONS)
            futures = [pool.submit(read_out, numbers, turn, pixels) for turn in turns]
            running.append((len(numbers), futures))
        while running:
            finish_oldest()
    return values


@contextmanager
def _workers(device: torch.device) -> Iterator[Executor]:
    """One worker for a GPU; on a processor as many as torch has threads, of one thread each.

    Orientations are independent, so workers need not wait for each other as the threads of one
    matrix product do: that costs a small encoder most of its second core, and on a busy machine
    far more. One thread also always sums in one order.
    """
    n_threads = torch.get_num_threads()
    n_workers = n_threads if device.type == "cpu" else 1
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(n_workers) as pool:
            yield pool
    finally:
        torch.set_num_threads(n_threads)
