"""Whether an HDF5 file holds all that it shows.

HDF5 follows links into other files, reads a dataset from any file it names, and puts virtual
datasets together from others, all without a word: a file from elsewhere could so show what lies on
this disk. It also makes up the values of a dataset that was never written, however large it claims
to be. Nothing of this is in a file of ours.
"""

import os
from collections.abc import Callable
from typing import Any

import h5py

MAX_OBJECTS = 1000


def fault_of(file: Any) -> str:
    """What of an open `h5py.File` is not in the file itself; empty if all is.

    Read are links and headers, not values, which takes half a millisecond. Our datasets are stored
    as they are, so none is larger than the file.
    """
    size_bytes = os.fstat(file.id.get_vfd_handle()).st_size
    groups: list[tuple[str, Any]] = [("", file.id)]
    n_objects = 0
    while groups:
        path, group = groups.pop()
        for name in group:
            n_objects += 1
            if n_objects > MAX_OBJECTS:
                return f"it has more than {MAX_OBJECTS} groups and datasets"
            shown = f"{path}/{name.decode('utf-8', 'replace')}"
            if group.links.get_info(name).type != h5py.h5l.TYPE_HARD:
                return f"{shown!a} is a link and no dataset of its own"
            member = h5py.h5o.open(group, name)
            if isinstance(member, h5py.h5g.GroupID):
                groups.append((shown, member))
            if isinstance(member, h5py.h5d.DatasetID) and (
                fault := _fault_of_dataset(member, size_bytes)
            ):
                return f"{shown!a} {fault}"
    return ""


def _fault_of_dataset(dataset: Any, size_bytes: int) -> str:
    plist, space = dataset.get_create_plist(), dataset.get_space()
    checks: tuple[tuple[Callable[[], bool], str], ...] = (
        (lambda: plist.get_layout() == h5py.h5d.VIRTUAL, "is put together from other files"),
        (lambda: plist.get_external_count() > 0, "lies in another file"),
        (
            lambda: space.get_simple_extent_npoints() * dataset.get_type().get_size() > size_bytes,
            f"claims more than the {size_bytes} bytes of the file",
        ),
    )
    return next((fault for is_so, fault in checks if is_so()), "")
