"""The file of embedded benchmark images, checked whole before it is used."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from stradavit.errors import DataError
from stradavit.evaluation.dihedral import N_ORIENTATIONS
from stradavit.files import atomic_path

FORMAT = 2


@dataclass(frozen=True)
class Features:
    """Every image of a benchmark in its eight orientations, as one encoder sees it.

    Parameters
    ----------
    values : (n, 8, dim) float32; orientations as in `stradavit.evaluation.dihedral.orient`
    labels : (n,) int64 into `classes`
    classes, sources, images, splits : as in the labelled cutouts
    provenance : hashes of encoder, benchmark and code; device and precision
    """

    values: NDArray[np.float32]
    labels: NDArray[np.int64]
    classes: list[str]
    sources: list[str]
    images: list[str]
    splits: list[str]
    provenance: dict[str, str]


def write_features(path: Path, features: Features) -> None:
    """Write atomically, with a checksum over everything in the file."""
    with atomic_path(path) as temporary, h5py.File(temporary, "w") as file:
        file["features"] = features.values
        file["labels"] = features.labels
        file.attrs["format"] = FORMAT
        file.attrs["sha256"] = _checksum(features)
        # As a dataset: the names of a large benchmark are longer than an attribute may be.
        file["names"] = _names(features)


def read_features(path: Path) -> Features:
    """Read and verify.

    Raises
    ------
    DataError
        If the file cannot be read, has another format, or fails its checksum.
    """
    remedy = "Delete it and run the stage `features` again."
    try:
        with h5py.File(path, "r") as file:
            written_format = int(file.attrs["format"])
            if written_format != FORMAT:
                raise DataError(
                    f"{path}: features of format {written_format}; expected {FORMAT}. {remedy}"
                )
            names = json.loads(file["names"].asstr()[()])
            features = Features(
                values=file["features"][:],
                labels=file["labels"][:],
                classes=names["classes"],
                sources=names["sources"],
                images=names["images"],
                splits=names["splits"],
                provenance=names["provenance"],
            )
            expected = str(file.attrs["sha256"])
    except (OSError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: not a readable features file ({error}). {remedy}") from error
    found = _checksum(features)
    if found != expected:
        raise DataError(
            f"{path}: damaged; its content has checksum {found[:12]}…, it was written with "
            f"{expected[:12]}…. {remedy}"
        )
    n = len(features.labels)
    assert features.values.shape[:2] == (n, N_ORIENTATIONS), "the checksum vouches for the shape"
    return features


def _names(features: Features) -> str:
    return json.dumps(
        {
            "classes": features.classes,
            "sources": features.sources,
            "images": features.images,
            "splits": features.splits,
            "provenance": features.provenance,
        }
    )


def _checksum(features: Features) -> str:
    digest = hashlib.sha256(_names(features).encode())
    for array in (features.values, features.labels):
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
