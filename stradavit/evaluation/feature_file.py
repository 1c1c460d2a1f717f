"""The file of embedded benchmark images, checked whole before it is used."""

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from stradavit.cutouts.hdf5 import new_atomic_file
from stradavit.cutouts.self_contained import fault_of
from stradavit.disk import outside_fault
from stradavit.errors import DataError
from stradavit.evaluation.dihedral import N_ORIENTATIONS

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
    made_by : machine, libraries and commit; not under the checksum, which is of what was seen
    """

    values: NDArray[np.float32]
    labels: NDArray[np.int64]
    classes: list[str]
    sources: list[str]
    images: list[str]
    splits: list[str]
    provenance: dict[str, str]
    made_by: dict[str, Any] = field(default_factory=dict)

    @property
    def origin(self) -> dict[str, str]:
        """What scores on these features record: their own checksum, and what they came from."""
        return {"features_sha256": _checksum(self), **self.provenance}


def write_features(path: Path, features: Features) -> None:
    """Write atomically, with a checksum over everything in the file.

    Raises
    ------
    DataError
        If a value is not finite, naming the first image with one.
    """
    is_finite = np.isfinite(features.values).all(axis=(1, 2))
    if not is_finite.all():
        first = int(np.argmin(is_finite))
        raise DataError(
            f"{path}: the features of {int((~is_finite).sum())} images, the first of them image "
            f"{first} ({features.images[first]}), are not finite; expected numbers. Look at this "
            "image, and at the encoder's weights."
        )
    with new_atomic_file(path) as file:
        file["features"] = features.values
        file["labels"] = features.labels
        file.attrs["format"] = FORMAT
        file.attrs["sha256"] = _checksum(features)
        # As a dataset: the names of a large benchmark are longer than an attribute may be.
        file["names"] = _names(features)
        file["made_by"] = json.dumps(features.made_by)


def read_features(path: Path) -> Features:
    """Read and verify.

    Raises
    ------
    DataError
        If the file cannot be read, has another format, or fails its checksum.
    """
    remedy = "Delete it and run the stage `features` again."
    try:
        # Locks fail on some cluster disks, and nobody writes to a finished file.
        with h5py.File(path, "r", locking=False) as file:
            written_format = int(file.attrs["format"])
            if written_format != FORMAT:
                raise DataError(
                    f"{path}: features of format {written_format}; expected {FORMAT}. {remedy}"
                )
            if fault := fault_of(file):
                raise DataError(f"{path}: {fault}. {remedy}")
            names = json.loads(file["names"].asstr()[()])
            features = Features(
                values=file["features"][:],
                labels=file["labels"][:],
                classes=names["classes"],
                sources=names["sources"],
                images=names["images"],
                splits=names["splits"],
                provenance=names["provenance"],
                # Files of before had none.
                made_by=json.loads(file["made_by"].asstr()[()]) if "made_by" in file else {},
            )
            expected = str(file.attrs["sha256"])
    except (OSError, KeyError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        if refusal := outside_fault(error, path):
            raise refusal from error
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
