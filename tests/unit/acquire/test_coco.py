"""COCO annotations: what is read, and that a broken file is told all its faults at once."""

import copy
import json
import os
from pathlib import Path
from typing import Any

import pytest

from stradavit.acquire import coco
from stradavit.acquire.coco import CocoBox, read_coco
from stradavit.acquire.coco_copy import find_copy
from stradavit.errors import DataError

GOOD: dict[str, Any] = {
    "images": [
        {"id": 7, "file_name": "a.png", "width": 31, "height": 20},
        {"id": 8, "file_name": "deep/b.jpg", "width": 5, "height": 9},
    ],
    "categories": [{"id": 1, "name": "tank"}, {"id": 0, "name": "ship"}],
    "annotations": [
        {"id": 3, "image_id": 7, "category_id": 1, "bbox": [1, 2.5, 3, 4], "iscrowd": 1},
        {"id": 4, "image_id": 7, "category_id": 0, "bbox": [0, 0, 0, 4], "source_id": 99},
    ],
}


def write(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def changed(**changes: Any) -> dict[str, Any]:
    """GOOD with some keys of the first item of a list changed; None takes a key out."""
    content = copy.deepcopy(GOOD)
    for key, values in changes.items():
        for name, value in values.items():
            if value is None:
                del content[key][0][name]
            else:
                content[key][0][name] = value
    return content


def test_what_is_read(tmp_path: Path) -> None:
    read = read_coco(write(tmp_path / "train.json", GOOD))
    assert read.categories == {"ship": 0, "tank": 1}
    assert list(read.categories) == ["ship", "tank"]
    first, second = read.images
    assert (first.name, first.ny, first.nx) == ("a.png", 20, 31)
    assert (second.name, second.ny, second.nx, second.boxes) == ("deep/b.jpg", 9, 5, ())
    assert first.boxes == (
        CocoBox(3, "", "tank", 1.0, 2.5, 3.0, 4.0, True),
        CocoBox(4, "99", "ship", 0.0, 0.0, 0.0, 4.0, False),
    )


def test_a_byte_order_mark_does_no_harm(tmp_path: Path) -> None:
    assert len(read_coco(write(tmp_path / "a.json", "\ufeff" + json.dumps(GOOD))).images) == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (changed(images={"id": None}), r"images\[0\]: has no `id`; expected an integer"),
        (changed(images={"id": "7"}), r"images\[0\]: `id` is '7'; expected an integer"),
        (changed(images={"id": True}), r"images\[0\]: `id` is True"),
        (changed(images={"id": 8}), r"images\[1\]: repeats the id 8"),
        (changed(images={"file_name": None}), r"images\[0\]: has no `file_name`"),
        (changed(images={"file_name": "deep/b.jpg"}), r"images\[1\]: repeats the file name"),
        (changed(images={"file_name": "deep//b.jpg"}), r"images\[1\]: repeats the file name"),
        (changed(images={"file_name": "../a.png"}), "lies outside its folder"),
        (changed(images={"file_name": "/a.png"}), "lies outside its folder"),
        (changed(images={"file_name": "..\\a.png"}), "lies outside its folder"),
        (changed(images={"file_name": "a\n.png"}), "lies outside its folder or is no path"),
        (changed(images={"file_name": "\ud800"}), "lies outside its folder or is no path"),
        (changed(images={"width": 0}), r"`width` is 0; expected a positive integer"),
        (changed(images={"width": 3.0}), r"`width` is 3\.0; expected a positive integer"),
        (changed(images={"height": None}), r"has no `height`; expected a positive integer"),
        (changed(categories={"id": 0}), r"categories\[1\]: repeats the id 0"),
        (changed(categories={"name": "ship"}), r"two categories share a name, 'ship'"),
        (changed(categories={"name": ""}), r"categories\[0\]: `name` is ''; expected the name"),
        (changed(annotations={"id": 4}), r"annotations\[1\]: repeats the id 4"),
        (changed(annotations={"image_id": 9}), "has no image: there is none with the id 9"),
        (changed(annotations={"image_id": None}), "has no `image_id`; expected the id of an image"),
        (changed(annotations={"category_id": 9}), "there is no category with the id 9"),
        (changed(annotations={"category_id": None}), "has no `category_id`"),
        (changed(annotations={"bbox": None}), "has no `bbox`; expected four numbers"),
        (changed(annotations={"bbox": [1, 2, 3]}), r"`bbox` is \[1, 2, 3\]; expected four"),
        (changed(annotations={"bbox": [1, 2, 3, "4"]}), "expected four numbers"),
        (changed(annotations={"bbox": [1, 2, 3, float("nan")]}), "expected finite numbers"),
        (changed(annotations={"bbox": [1, 2, 3, 1e999]}), "expected finite numbers"),
        (changed(annotations={"bbox": [1, 2, 3, 10**400]}), "expected finite numbers"),
        (changed(annotations={"bbox": [1, 2, -3, 4]}), "expected no negative width or height"),
        (changed(annotations={"iscrowd": "yes"}), "`iscrowd` is 'yes'; expected 0 or 1"),
        (changed(annotations={"source_id": [1]}), r"`source_id` is \[1\]; expected text or"),
        (changed(annotations={"source_id": "\ud800"}), "expected printable text"),
        ({**GOOD, "images": None}, "`images` is None; expected a list"),
        ({"images": [], "categories": []}, "has no `annotations`; expected a list"),
        ({**GOOD, "categories": [3]}, r"categories\[0\]: is 3; expected an object"),
        ([], "holds a list; expected a JSON object"),
        ("{", "cannot be read as COCO annotations"),
        ("[" * 200_000, "cannot be read as COCO annotations"),
        ('{"images": ' + "9" * 5000 + "}", "cannot be read as COCO annotations"),
    ],
)
def test_a_fault_is_told(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        read_coco(write(tmp_path / "val.json", content))
    assert str(caught.value).startswith(f"{tmp_path / 'val.json'}: cannot be ")


def test_one_error_lists_every_fault(tmp_path: Path) -> None:
    content = copy.deepcopy(GOOD)
    content["images"][0]["file_name"] = "../a.png"
    content["images"][1] = {"id": 7, "file_name": "b.png", "width": -1}
    content["categories"].append({"id": 5, "name": "ship"})
    content["annotations"] += [
        {"id": 5, "image_id": 70, "category_id": 3, "bbox": [1, 2, 3]},
        {"id": 5, "image_id": 7, "category_id": 0, "bbox": [1, 2, 3, float("inf")]},
        "not a box",
    ]
    with pytest.raises(DataError) as caught:
        read_coco(write(tmp_path / "val.json", content))
    first, *faults = str(caught.value).splitlines()
    assert "for 11 faults" in first
    assert faults == [
        "- categories[2]: two categories share a name, 'ship'",
        "- images[0]: the file name '../a.png' lies outside its folder or is no path",
        "- images[1]: repeats the id 7",
        "- images[1]: `width` is -1; expected a positive integer",
        "- images[1]: has no `height`; expected a positive integer",
        "- annotations[2]: has no image: there is none with the id 70",
        "- annotations[2]: there is no category with the id 3",
        "- annotations[2]: `bbox` is [1, 2, 3]; expected four numbers: x, y, width, height",
        "- annotations[3]: repeats the id 5",
        "- annotations[3]: `bbox` is [1, 2, 3, inf]; expected finite numbers",
        "- annotations[4]: is 'not a box'; expected an object",
    ]


def test_very_many_faults_are_counted(tmp_path: Path) -> None:
    content = {**GOOD, "annotations": [{}] * 100}
    with pytest.raises(DataError, match="for 400 faults") as caught:
        read_coco(write(tmp_path / "val.json", content))
    lines = str(caught.value).splitlines()
    assert len(lines) == 1 + coco.TOLD_FAULTS + 1
    assert lines[-1] == "- and 350 more"


def test_a_file_too_large_is_not_parsed(tmp_path: Path) -> None:
    path = tmp_path / "val.json"
    with path.open("wb") as opened:
        os.truncate(opened.fileno(), coco.MAX_BYTES + 1)
    with pytest.raises(DataError, match="has 512 MB; at most 512 MB of annotations are read"):
        read_coco(path)


def test_text_that_is_not_utf8(tmp_path: Path) -> None:
    (tmp_path / "val.json").write_bytes(b'{"images": "\xff"}')
    with pytest.raises(DataError, match="cannot be read as COCO annotations"):
        read_coco(tmp_path / "val.json")


# -- copies ---------------------------------------------------------------------------------------


def lay_out(root: Path, **contents: Any) -> Path:
    for split, content in contents.items():
        write(root / "Annotations" / f"{split}.json", content)
    for name in ("a.png", "deep/b.jpg"):
        path = root / "JPEGImages" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def test_splits_may_be_a_subset(tmp_path: Path) -> None:
    found = find_copy(lay_out(tmp_path, val=GOOD), ("val",))
    assert set(found.files) == {"val"}
    assert found.folders == {"val": tmp_path / "JPEGImages"}
    assert found.n_images("val") == 2
    assert found.boxes_of_class("val") == {"ship": 1, "tank": 1}
    with pytest.raises(DataError, match=r"has no train\.json, test\.json;.*name the splits"):
        find_copy(tmp_path)


def test_ids_may_differ_between_splits_but_not_names(tmp_path: Path) -> None:
    other = copy.deepcopy(GOOD)
    for item in other["categories"]:
        item["id"] += 1
    for item in other["annotations"]:
        item["category_id"] += 1
    found = find_copy(lay_out(tmp_path, train=GOOD, val=other), ("train", "val"))
    assert found.categories == {"ship": 0, "tank": 1}
    assert found.files["val"].images == found.files["train"].images
    other["categories"][0]["name"] = "tonk"
    with pytest.raises(DataError, match=r"val\.json: its categories are \['ship', 'tonk'\]; those"):
        find_copy(lay_out(tmp_path, val=other), ("train", "val"))


def test_faults_of_all_splits_come_in_one_error(tmp_path: Path) -> None:
    lay_out(tmp_path, train=changed(images={"width": 0}), val="{", test=GOOD)
    with pytest.raises(DataError) as caught:
        find_copy(tmp_path)
    said = str(caught.value)
    assert "train.json: cannot be used" in said and "`width` is 0" in said
    assert "val.json: cannot be read" in said and "test.json" not in said
