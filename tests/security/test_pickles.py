"""Pickles that run nothing and are an attack all the same: small files that become large arrays.

Those that would run something are in tests/unit/acquire/test_batches.py.
"""

import pickle
import pickletools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stradavit.acquire.batch_benchmark import batch_labels
from stradavit.acquire.batches import iter_batch_images, load_batch
from stradavit.errors import DataError, LabelError
from stradavit.settings.sources import BatchBenchmark


def nested(depth: int, width: int = 10) -> Any:
    """Lists of one list, width by width by width: in a pickle a few bytes for each level."""
    inner: Any = [0] * width
    for _ in range(depth):
        inner = [inner] * width
    return inner


def test_lists_of_one_list_do_not_become_an_array(tmp_path: Path) -> None:
    path = tmp_path / "data_batch_1"
    path.write_bytes(pickle.dumps({"data": [nested(11)], "labels": [0], "filenames": ["a"]}))
    assert path.stat().st_size < 2000
    with pytest.raises(DataError, match="found a list in a list"):
        list(iter_batch_images(path, 10))


def test_nested_keys_are_not_written_out(tmp_path: Path) -> None:
    key: Any = ("x" * 100,)
    for _ in range(15):
        key = (key, key)
    (tmp_path / "b").write_bytes(pickle.dumps({key: 1}))
    with pytest.raises(DataError, match="found a tuple as a name"):
        load_batch(tmp_path / "b")


def test_one_text_is_not_copied_a_thousand_times(tmp_path: Path) -> None:
    """As Python 2 wrote arrays, whose bytes are text: the text once, arrays of it many times."""
    one = pickle.dumps([np.zeros(1000, np.uint8)], 2)
    # Of protocol 2 bytes are `_codecs.encode(text, "latin1")`: many arrays of one remembered text.
    codes = [(code.name, value) for code, value, _ in pickletools.genops(one)]
    assert ("GLOBAL", "_codecs encode") in codes
    text = b"X" + (1000).to_bytes(4, "little") + bytes(1000)
    encoded = b"c_codecs\nencode\nh\x01U\x06latin1\x86R"
    raw = b"\x80\x02}U\x04data](" + text + b"q\x010" + (encoded * 500) + b"es."
    (tmp_path / "b").write_bytes(raw)
    with pytest.raises(DataError, match="found arrays larger than the file"):
        load_batch(tmp_path / "b")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": [float("inf")]}, r"found the label inf; expected a whole number"),
        ({"labels": [float("nan")]}, "found the label nan"),
        ({"labels": ["x"]}, "found the label 'x'"),
        ({"filenames": [None]}, "found a NoneType as the name of a file"),
        ({"filenames": [7]}, "found a int as the name of a file"),
    ],
)
def test_labels_and_names_are_what_they_should_be(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    content = {"data": np.zeros((1, 4)), "labels": [0], "filenames": ["a"], **change}
    (tmp_path / "data_batch_1").write_bytes(pickle.dumps(content))
    benchmark = BatchBenchmark(
        source="batches", path=str(tmp_path), side_px=2, label_names={0: "FR I"}
    )
    with pytest.raises(LabelError, match=message):
        batch_labels("b", benchmark)
