"""HDF5 files from elsewhere show what is in them, and nothing else of this disk."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from stradavit.cutouts.hdf5 import WRITTEN_FOR, LazyFile
from stradavit.errors import DataError
from stradavit.evaluation.feature_file import Features, read_features, write_features

SECRET = np.arange(100, dtype=np.float64)


def other(folder: Path) -> Path:
    """A file that the attacked user has, and the attacker has not."""
    path = folder / "private.h5"
    with h5py.File(path, "w") as file:
        file["values"] = SECRET
    (folder / "private.txt").write_bytes(SECRET.tobytes())
    return path


def virtual(file: Any, folder: Path) -> None:
    layout = h5py.VirtualLayout(shape=SECRET.shape, dtype=SECRET.dtype)
    layout[:] = h5py.VirtualSource(str(folder / "private.h5"), "values", shape=SECRET.shape)
    file.create_virtual_dataset("values", layout)


ATTACKS: dict[str, tuple[Callable[[Any, Path], Any], str]] = {
    "link to a file": (
        lambda file, folder: file.__setitem__(
            "values", h5py.ExternalLink(str(folder / "private.h5"), "values")
        ),
        "'/values' is a link",
    ),
    "link in a group": (
        lambda file, folder: file.create_group("rows").__setitem__(
            "values", h5py.ExternalLink(str(folder / "private.h5"), "values")
        ),
        "'/rows/values' is a link",
    ),
    "soft link": (
        lambda file, folder: file.__setitem__("values", h5py.SoftLink("/real")),
        "'/values' is a link",
    ),
    "storage in a file": (
        lambda file, folder: file.create_dataset(
            "values",
            shape=SECRET.shape,
            dtype=SECRET.dtype,
            external=[(str(folder / "private.txt"), 0, SECRET.nbytes)],
        ),
        "'/values' lies in another file",
    ),
    "virtual dataset": (virtual, "'/values' is put together from other files"),
    "never written": (
        lambda file, folder: file.create_dataset(
            "values", shape=(10**13,), dtype="f8", chunks=(1024,)
        ),
        "'/values' claims more than the .* bytes of the file",
    ),
    "circle": (
        lambda file, folder: file.create_group("a").__setitem__("b", file["/"]),
        "more than 1000 groups",
    ),
}


def attacked(folder: Path, attack: str) -> Path:
    other(folder)
    path = folder / "foreign.h5"
    with h5py.File(path, "w", libver=WRITTEN_FOR) as file:
        file.attrs.update({"format": "test", "version": 1})
        file["real"] = np.zeros(3)
        ATTACKS[attack][0](file, folder)
    return path


@pytest.mark.parametrize("attack", ["link to a file", "storage in a file", "virtual dataset"])
def test_hdf5_itself_would_show_the_other_file(tmp_path: Path, attack: str) -> None:
    with h5py.File(attacked(tmp_path, attack), "r") as file:
        np.testing.assert_array_equal(file["values"][:], SECRET)


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_file_that_does_not_hold_what_it_shows_is_refused(tmp_path: Path, attack: str) -> None:
    path = attacked(tmp_path, attack)
    with (
        pytest.raises(DataError, match=rf"foreign\.h5: .*{ATTACKS[attack][1]}.*Make it anew\."),
        LazyFile(path, "test", 1, "Make it anew.").opened(),
    ):
        pass


@pytest.mark.parametrize("attack", ["link to a file", "storage in a file", "never written"])
def test_features_are_refused_alike(tmp_path: Path, attack: str) -> None:
    path = tmp_path / "features.h5"
    features = Features(
        np.zeros((2, 8, 3), np.float32), np.zeros(2, np.int64), ["a"], ["s"], ["i"], [""], {}
    )
    write_features(path, features)
    read_features(path)
    other(tmp_path)
    with h5py.File(path, "r+") as file:
        ATTACKS[attack][0](file, tmp_path)
    with pytest.raises(DataError, match=ATTACKS[attack][1]):
        read_features(path)
