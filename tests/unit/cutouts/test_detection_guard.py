"""Held-out images of a detection set are kept out of the corpus of a pretraining."""

import h5py
import numpy as np
import pytest

from stradavit.cutouts.corpus import Corpus
from stradavit.cutouts.detection_images import Scene, write_detection_images
from stradavit.cutouts.selection import read_guard
from stradavit.cutouts.shards import Shard, new_shard
from stradavit.cutouts.stages import cut_corpus
from stradavit.errors import DataError

UNKNOWN = (np.nan,) * 3
# Half the side of a cutout in the sky of this file, arcsec.
HALF = 30.0


def detection_set(path, *places):
    """A file of images without boxes at (split, sky)."""
    scenes = [
        Scene(
            name=str(number),
            split=split,
            levels=np.full((4, 4), number, np.uint16),
            boxes=np.zeros((0, 4), np.float32),
            labels=np.zeros(0, np.int64),
            is_crowd=np.zeros(0, np.bool_),
            sources=(),
            sky=sky,
        )
        for number, (split, sky) in enumerate(places)
    ]
    write_detection_images(path, ("source",), scenes, {"settings": {}})
    return path


def shard_at(path, *declinations):
    """A shard of one cutout at each declination, right ascension 10."""
    rng = np.random.default_rng(0)
    about = {"survey": "sky", "part": "0", "settings": "{}", "ledger_sha256": ""}
    with new_shard(path, 16, about) as writer, writer.product("p", ""):
        for number, dec in enumerate(declinations):
            half = HALF / 3600
            corners = [(10 + i * half / np.cos(np.radians(dec)), dec + j * half)
                       for i, j in ((-1, -1), (-1, 1), (1, 1), (1, -1))]  # fmt: skip
            writer.append(
                rng.integers(0, 65535, (16, 16), np.uint16),
                plane=0,
                y0=0,
                x0=16 * number,
                ra_deg=10.0,
                dec_deg=dec,
                corner_ra_deg=[c[0] for c in corners],
                corner_dec_deg=[c[1] for c in corners],
                radius_arcsec=HALF * np.sqrt(2),
                beam_major_arcsec=1.0,
                beam_minor_arcsec=1.0,
                pixel_scale_arcsec=1.0,
                finite_fraction=1.0,
                low=0.0,
                high=1.0,
            )
    return path


def test_positions_are_those_of_validation_and_testing(tmp_path):
    path = detection_set(
        tmp_path / "d.h5",
        ("train", UNKNOWN),
        ("val", (10.0, -30.0, 60.0)),
        ("test", (11.0, -30.0, 90.0)),
    )
    guard = read_guard("radio", path, 2.0)
    assert guard.benchmark == "radio"
    np.testing.assert_array_equal(guard.positions, [[10.0, -30.0], [11.0, -30.0]])
    # The largest radius, 1.5 arcmin, on top.
    assert guard.guard_arcmin == 3.5


def test_pretraining_keeps_off_held_out_images_and_may_see_the_others(tmp_path):
    # The image reaches 60 arcsec, cutouts half a minute; the guard is 1 arcmin more.
    path = detection_set(
        tmp_path / "d.h5", ("train", (10.0, -10.0, 60.0)), ("test", (10.0, -30.0, 60.0))
    )
    near, just = 2.4 / 60, 2.6 / 60
    shard = shard_at(tmp_path / "shards" / "sky" / "0.h5", -10.0, -30.0, -30 + near, -30 + just)
    cut_corpus("c", {"sky": [shard]}, {"radio": (path, 1.0)}, tmp_path / "corpora" / "c.h5")
    corpus = Corpus(tmp_path / "corpora" / "c.h5")
    assert corpus.counts()["sky"]["guard"] == {"radio": 2}
    kept = [corpus.describe(n) for n in range(len(corpus))]
    assert [text.rpartition(" ")[2] for text in kept] == ["0", "48"]
    assert len(Shard(shard)) == 4


@pytest.mark.parametrize(
    ("places", "message"),
    [
        (
            [("train", (1.0, 1.0, 1.0)), ("test", UNKNOWN)],
            "of the 1 images .* sar, 1 have no place",
        ),
        ([("val", (1.0, 1.0, 1.0)), ("test", UNKNOWN)], "of the 2 images .* sar, 1 have no place"),
        ([("train", (1.0, 1.0, 1.0))], "of the 0 images for validation and testing"),
    ],
)
def test_sets_without_sky_are_no_guards(tmp_path, places, message):
    path = detection_set(tmp_path / "d.h5", *places)
    with pytest.raises(DataError, match=rf"d.h5: {message}.*Take sar out of the guards"):
        read_guard("sar", path, 2.0)


def test_what_is_neither_is_told_as_before(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.attrs["format"] = "other"
    with pytest.raises(DataError, match=r"x.h5: expected stradavit-benchmark .* found"):
        read_guard("b", tmp_path / "x.h5", 2.0)
    with pytest.raises(DataError, match=r"absent.h5: .* cut the benchmark again"):
        read_guard("b", tmp_path / "absent.h5", 2.0)
