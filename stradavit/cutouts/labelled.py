"""The images of a benchmark one after the other, from whatever file each lies in."""

import hashlib
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
from stradavit.errors import DataError, LabelError, MalformedProductError
from stradavit.files import sha256_of

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
    rows: list[LabelledImage],
    side_px: int | None,
    memory_mb: int,
    labels_path: Path | None = None,
) -> Iterator[tuple[LabelledImage, NDArray[np.float32] | str]]:
    """Images in the order of `rows`.

    Parameters
    ----------
    rows : what to read; those of one batch follow each other
    side_px : side of the images in batches
    memory_mb : most memory one image may take
    labels_path : where the rows come from, for messages

    Yields
    ------
    The row, and its image (ny, nx) float32 with NaN where it is blank, or the reason
    (`EXCLUDE_REASONS`) why there is none.

    Raises
    ------
    LabelError
        If a batch does not have a member that the labels name.
    DataError
        If a file is not the one that was acquired.
    """
    for (path, is_batch), group in groupby(rows, key=lambda r: (r.path, r.member is not None)):
        if is_batch:
            assert side_px is not None
            members = list(group)
            _check_same(members[0], labels_path)
            yield from _members(path, members, side_px)
        else:
            for row in group:
                _check_same(row, labels_path)
                yield row, _image(path, memory_mb)


def _check_same(row: LabelledImage, labels_path: Path | None) -> None:
    """The file is the one that was acquired: a flipped byte shows nowhere else."""
    if row.sha256 and row.path.is_file() and sha256_of(row.path) != row.sha256:
        raise DataError(
            f"{row.path}: is not the file that was acquired: it does not have the SHA-256 that "
            f"{labels_path or 'labels.csv'} names. Delete both, and acquire the benchmark again."
        )


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


def images_digest(rows: list[LabelledImage]) -> str:
    """Hex SHA-256 over name and SHA-256 of every file the images lie in, in the labels' order.

    Names, not paths: the same images in another folder have the same digest.
    """
    digest = hashlib.sha256()
    for path in dict.fromkeys(row.path for row in rows):
        files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
        for file in files:
            digest.update(f"{file.name}\0{sha256_of(file)}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


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
