"""The images of a benchmark one after the other, from whatever file each lies in."""

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from stradavit.acquire.batches import iter_batch_images
from stradavit.acquire.labels import LabelledImage
from stradavit.cutouts.fits import open_product
from stradavit.cutouts.product import SKIP_REASONS
from stradavit.errors import LabelError, MalformedProductError

EXCLUDE_REASONS = MappingProxyType(
    {
        **SKIP_REASONS,
        "other_class": "its class is not among benchmarks.<name>.classes",
        "many_planes": "the file is a cube: which of its planes is the image cannot be known",
        "non_finite": "no pixel is finite",
        "all_zero": "all finite pixels are zero",
        "constant": "all finite pixels are equal",
    }
)
"""Short names under which images are counted that a benchmark leaves out."""


def labelled_images(
    rows: list[LabelledImage], side_px: int | None, memory_mb: int
) -> Iterator[tuple[LabelledImage, NDArray[np.float32] | str]]:
    """Images in the order of `rows`.

    Parameters
    ----------
    rows : what to read; those of one batch follow each other
    side_px : side of the images in batches
    memory_mb : most memory one image may take

    Yields
    ------
    The row, and its image (ny, nx) float32 with NaN where it is blank, or the reason
    (`EXCLUDE_REASONS`) why there is none.

    Raises
    ------
    LabelError
        If a batch does not have a member that the labels name.
    """
    for (path, is_batch), group in groupby(rows, key=lambda r: (r.path, r.member is not None)):
        if is_batch:
            assert side_px is not None
            yield from _members(path, list(group), side_px)
        else:
            for row in group:
                yield row, _image(path, memory_mb)


def _image(path: Path, memory_mb: int) -> NDArray[np.float32] | str:
    try:
        with open_product(path, memory_mb) as product:
            if product.n_planes != 1:
                return "many_planes"
            return product.read(0, 0, product.shape[0])
    except MalformedProductError as error:
        return error.reason


def _members(
    path: Path, rows: list[LabelledImage], side_px: int
) -> Iterator[tuple[LabelledImage, NDArray[np.float32]]]:
    wanted = {row.member: row for row in rows}
    for member, image in enumerate(iter_batch_images(path, side_px)):
        if member in wanted:
            yield wanted.pop(member), np.asarray(image, dtype=np.float32)
    if wanted:
        raise LabelError(
            f"{path}: has no members {sorted(m for m in wanted if m is not None)[:5]}, which the "
            "labels name; acquire the benchmark again."
        )


def exclude_reason(image: NDArray[np.float32]) -> str | None:
    """Why an image is left out, or None: blank pixels alone are no reason."""
    finite = image[np.isfinite(image)]
    if finite.size == 0:
        return "non_finite"
    if not finite.any():
        return "all_zero"
    return "constant" if finite.min() == finite.max() else None


def central_square(image: NDArray[np.float32], side_px: int | None) -> NDArray[np.float32]:
    """The middle of an image; the whole axis where it is not longer than `side_px`."""
    if side_px is None:
        return image
    starts = [max(0, (length - side_px) // 2) for length in image.shape]
    return image[starts[0] : starts[0] + side_px, starts[1] : starts[1] + side_px]
