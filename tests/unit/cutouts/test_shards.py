"""Shards: exact, checked to the last byte, and safe to read from many processes."""

import multiprocessing
import os
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from stradavit.cutouts.quantise import checksum, quantise, restore
from stradavit.cutouts.shards import ROW, Shard, new_shard, verify_shard
from stradavit.errors import DataError, MalformedProductError

SIZE = 16
ATTRIBUTES = {"survey": "lotss", "part": "3", "settings": "{}", "ledger_sha256": "ab"}


def random_row(rng):
    given_elsewhere = ("product", "checksum")
    row = {}
    for name in ROW.names:
        if name not in given_elsewhere:
            dtype, shape = ROW[name].base, ROW[name].shape
            values = rng.integers(0, 1000, shape).astype(dtype)
            row[name] = values
    return row


def make(path, products=2, each=3, seed=0):
    """A shard; returns its pixels and rows."""
    rng = np.random.default_rng(seed)
    pixels, rows = [], []
    with new_shard(path, SIZE, ATTRIBUTES) as shard:
        for product in range(products):
            with shard.product(f"mosaic-{product}", "c0ffee") as dropped:
                for _ in range(each):
                    pixels.append(rng.random((SIZE, SIZE), dtype=np.float32))
                    rows.append(random_row(rng))
                    shard.append(quantise(pixels[-1]), **rows[-1])
                dropped["non_finite"] += 1
    return np.array(pixels).reshape(-1, SIZE, SIZE), rows


def read_all(shard):
    return shard.read(np.arange(len(shard)), shard.column("checksum"))


@settings(max_examples=200)
@given(hnp.arrays(np.float32, (3, 5), elements=st.floats(0, 1, width=32)))
def test_quantisation_error_is_half_a_level(pixels):
    assert np.abs(restore(quantise(pixels)) - pixels).max() <= 0.5 / 65535 + 1e-7
    np.testing.assert_array_equal(quantise(restore(quantise(pixels))), quantise(pixels))


def test_quantisation_keeps_the_ends():
    assert restore(quantise(np.array([0, 1], np.float32))).tolist() == [0, 1]
    assert restore(np.arange(65536, dtype=np.uint16)).dtype == np.float32


def test_checksums_do_not_depend_on_layout():
    levels = np.arange(64, dtype=np.uint16).reshape(8, 8)
    for same in (np.asfortranarray(levels), levels.astype(">u2"), levels[::-1][::-1]):
        assert checksum(same) == checksum(levels)
    assert checksum(levels.T) != checksum(levels)


def test_what_is_written_is_read(tmp_path):
    pixels, rows = make(tmp_path / "3.h5")
    shard = Shard(tmp_path / "3.h5")
    assert len(shard) == 6 and shard.size_px == SIZE
    np.testing.assert_array_equal(read_all(shard), quantise(pixels))
    assert read_all(shard).dtype == np.uint16
    order = np.array([5, 0, 0, 3])
    sums = shard.column("checksum")[order]
    np.testing.assert_array_equal(shard.read(order, sums), quantise(pixels)[order])
    for name, values in rows[0].items():
        found = shard.column(name)
        np.testing.assert_array_equal(found, [row[name] for row in rows])
        assert found.dtype == np.asarray(values).dtype
    assert shard.column("product").tolist() == [0, 0, 0, 1, 1, 1]
    assert shard.products() == [("mosaic-0", "c0ffee"), ("mosaic-1", "c0ffee")]
    assert shard.attribute("dropped") == {"non_finite": 2} and shard.attribute("skipped") == {}
    place = "plane {plane} y {y0} x {x0}".format(
        **{k: int(v) for k, v in rows[4].items() if v.ndim == 0}
    )
    assert shard.describe(4) == f"lotss/part 3/product mosaic-1 {place}"


def test_one_chunk_a_cutout_and_more_cutouts_than_the_growth(tmp_path):
    make(tmp_path / "3.h5", products=1, each=300)
    with h5py.File(tmp_path / "3.h5") as file:
        assert file["cutouts"].chunks == (1, SIZE, SIZE)
        assert file["cutouts"].shape == (300, SIZE, SIZE)
        assert file["cutouts"].id.get_num_chunks() == 300
        assert file["cutouts"].dtype == "<u2"


def test_checksums_are_xxh3():
    # The published value of XXH3 (64 bits, no seed) of nothing.
    assert checksum(np.empty((0, 0), np.uint16)) == 0x2D06800538D394C2


def test_cutouts_are_where_hdf5_says(tmp_path):
    pixels, _ = make(tmp_path / "3.h5", products=1, each=700)
    with h5py.File(tmp_path / "3.h5") as file:
        np.testing.assert_array_equal(file["cutouts"][()], quantise(pixels))
        notes = file["chunks"][()]
        found = [file["cutouts"].id.get_chunk_info_by_coord((row, 0, 0)) for row in notes[:, 0]]
        assert [chunk.byte_offset for chunk in found] == notes[:, 1].tolist()
    assert 1 <= len(notes) < 30


@pytest.mark.parametrize("seed", range(5))
def test_any_rows_into_any_places(tmp_path, seed):
    pixels, _ = make(tmp_path / "3.h5", products=1, each=300)
    shard, rng = Shard(tmp_path / "3.h5"), np.random.default_rng(seed)
    rows = rng.integers(0, 300, 80)
    rows[20:60] = np.sort(rng.integers(0, 260, 1) + np.arange(40))  # neighbours
    out = np.zeros((100, SIZE, SIZE), np.uint16)
    places = rng.permutation(100)[:80]
    shard.read_into(out, places, rows, shard.column("checksum")[rows])
    expected = np.zeros_like(out)
    expected[places] = quantise(pixels)[rows]
    np.testing.assert_array_equal(out, expected)


def test_short_reads_go_on(tmp_path, monkeypatch):
    pixels, _ = make(tmp_path / "3.h5", products=1, each=40)
    shard, system = Shard(tmp_path / "3.h5"), os.preadv

    def little(descriptor, pieces, offset):
        taken = system(descriptor, [pieces[0][:37]], offset)
        return taken

    sums = shard.column("checksum")
    monkeypatch.setattr(os, "preadv", little)
    np.testing.assert_array_equal(shard.read(np.arange(40), sums), quantise(pixels))
    with (tmp_path / "3.h5").open("r+b") as file:
        file.truncate(5000)
    with pytest.raises(DataError, match="it has been cut off since it was opened"):
        shard.read(np.arange(40), sums)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda notes: np.add(notes, [[0, 10**15]]), "a cutout lies outside of it"),
        (lambda notes: np.add(notes, [[0, 10**15 - 2**63]]), "a cutout lies outside of it"),
        (
            lambda notes: np.add(np.repeat(notes[:1], 2, 0), [[0, 0], [1, 2**63 - 10**5]]),
            "outside of it",
        ),
        (lambda notes: np.add(notes, [[1, 0]]), "chunks does not count the 6 cutouts"),
        (lambda notes: np.concatenate([notes, notes]), "chunks does not count the 6 cutouts"),
        (lambda notes: np.add(notes, [[0, 2]]), "cutout 0 of 6 .*its pixels have changed"),
        (lambda notes: notes.astype(np.float64), "chunks is float64"),
        (lambda notes: notes[:, :1], "chunks is int64"),
        (lambda notes: notes[:0], "chunks does not count the 6 cutouts"),
    ],
)
def test_wrong_notes_are_noticed(tmp_path, change, message):
    make(tmp_path / "3.h5")
    with h5py.File(tmp_path / "3.h5", "r+") as file:
        notes = file["chunks"][()]
        del file["chunks"]
        file["chunks"] = change(notes)
    with pytest.raises(DataError, match=rf"3\.h5: .*{message}"):
        verify_shard(tmp_path / "3.h5")


@pytest.mark.parametrize(
    "layout",
    [
        {"chunks": (1, SIZE, SIZE), "compression": "gzip"},
        {"chunks": (2, SIZE, SIZE)},
        {"chunks": None},
        {"chunks": (1, SIZE, SIZE), "dtype": ">u2"},
    ],
)
def test_cutouts_stored_otherwise_are_refused(tmp_path, layout):
    pixels, _ = make(tmp_path / "3.h5")
    with h5py.File(tmp_path / "3.h5", "r+") as file:
        del file["cutouts"]
        dtype = layout.pop("dtype", "<u2")
        file.create_dataset("cutouts", data=quantise(pixels).astype(dtype), **layout)
    with pytest.raises(DataError, match=r"3\.h5: .*(plain chunk a cutout|cutouts is >u2)"):
        verify_shard(tmp_path / "3.h5")


def test_rows_that_are_not_there(tmp_path):
    make(tmp_path / "3.h5")
    shard = Shard(tmp_path / "3.h5")
    for row in (6, -1):
        with pytest.raises(DataError, match="it has 6 cutouts, asked for"):
            shard.read(np.array([0, row]), np.zeros(2, np.uint64))


def test_threads_read_side_by_side(tmp_path):
    pixels, _ = make(tmp_path / "3.h5", products=1, each=200)
    shard, expected = Shard(tmp_path / "3.h5"), quantise(pixels)
    sums = Shard(tmp_path / "3.h5").column("checksum")

    def read(seed):
        rows = np.random.default_rng(seed).permutation(200)
        return bool((shard.read(rows, sums[rows]) == expected[rows]).all())

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(read, range(60)))


def test_empty_part(tmp_path):
    make(tmp_path / "3.h5", products=0)
    verify_shard(tmp_path / "3.h5")
    shard = Shard(tmp_path / "3.h5")
    assert len(shard) == 0 and shard.products() == [] and len(shard.rows()) == 0
    assert read_all(shard).shape == (0, SIZE, SIZE)


def test_a_product_that_fails_half_way_leaves_nothing(tmp_path):
    rng = np.random.default_rng(0)
    pixels = rng.random((3, SIZE, SIZE), dtype=np.float32)
    with new_shard(tmp_path / "3.h5", SIZE, ATTRIBUTES) as shard:
        with shard.product("good", ""):
            shard.append(quantise(pixels[0]), **random_row(rng))
        with pytest.raises(MalformedProductError), shard.product("bad", "") as dropped:
            shard.append(quantise(pixels[1]), **random_row(rng))
            dropped["constant"] += 1
            raise MalformedProductError("truncated", "half way")
        with shard.product("better", ""):
            shard.append(quantise(pixels[2]), **random_row(rng))
    shard = Shard(tmp_path / "3.h5")
    np.testing.assert_array_equal(read_all(shard), quantise(pixels[[0, 2]]))
    assert [shard.products()[i][0] for i in shard.column("product")] == ["good", "better"]
    assert shard.attribute("skipped") == {"truncated": 1} and shard.attribute("dropped") == {}


def test_nothing_appears_if_writing_fails(tmp_path):
    with pytest.raises(ZeroDivisionError), new_shard(tmp_path / "3.h5", SIZE, ATTRIBUTES):
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_every_flipped_byte_of_the_cutouts_is_noticed(tmp_path):
    path = tmp_path / "3.h5"
    make(path)
    with h5py.File(path) as file:
        chunks = [file["cutouts"].id.get_chunk_info(i) for i in range(6)]
    good = path.read_bytes()
    rng = np.random.default_rng(1)
    for chunk in chunks:
        number = chunk.chunk_offset[0]
        for offset in [0, chunk.size - 1, *rng.integers(0, chunk.size, 5)]:
            damaged = bytearray(good)
            damaged[chunk.byte_offset + offset] ^= 1 << rng.integers(8)
            path.write_bytes(damaged)
            with pytest.raises(
                DataError, match=rf"3\.h5: cutout {number} of 6 .*product mosaic.* Delete the file"
            ):
                verify_shard(path)
    path.write_bytes(good)
    verify_shard(path)


def test_flipped_bytes_elsewhere_do_no_harm_unnoticed(tmp_path):
    path = tmp_path / "3.h5"
    pixels, _ = make(path, products=1, each=2)
    good = path.read_bytes()
    expected = Shard(path).rows()
    for place in range(0, len(good), 97):
        damaged = bytearray(good)
        damaged[place] ^= 0xFF
        path.write_bytes(damaged)
        try:
            verify_shard(path)
        except DataError:
            continue
        shard = Shard(path)
        np.testing.assert_array_equal(read_all(shard), quantise(pixels))
        np.testing.assert_array_equal(shard.rows(), expected)
        shard.close()


@pytest.mark.parametrize("content", [b"", b"<html>", b"\x89HDF\r\n\x1a\n" + bytes(100)])
def test_no_shard_at_all(tmp_path, content):
    (tmp_path / "3.h5").write_bytes(content)
    with pytest.raises(DataError, match=r"3.h5: .*Delete the file and cut the part again"):
        verify_shard(tmp_path / "3.h5")


def test_another_kind_of_file(tmp_path):
    with h5py.File(tmp_path / "3.h5", "w") as file:
        file.attrs["format"] = "something"
    with pytest.raises(DataError, match=r"expected stradavit-shard 2, found .'something', None"):
        len(Shard(tmp_path / "3.h5"))
    with pytest.raises(DataError, match=r"absent.h5"):
        len(Shard(tmp_path / "absent.h5"))


def test_pickling_drops_the_handle(tmp_path):
    pixels, _ = make(tmp_path / "3.h5")
    shard = Shard(tmp_path / "3.h5")
    read_all(shard)
    copy = pickle.loads(pickle.dumps(shard))
    assert copy._lazy._handle is None
    np.testing.assert_array_equal(read_all(copy), quantise(pixels))


def _child(shard, inherited, queue):
    same = shard._lazy._handle is not None and shard._lazy._process == os.getpid()
    levels = read_all(shard)
    queue.put((same, shard._lazy._process != inherited, int(levels.sum())))


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_fork_opens_its_own_handle(tmp_path):
    pixels, _ = make(tmp_path / "3.h5")
    shard = Shard(tmp_path / "3.h5")
    read_all(shard)
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    children = [context.Process(target=_child, args=(shard, os.getpid(), queue)) for _ in range(2)]
    for child in children:
        child.start()
    found = [queue.get(timeout=30) for _ in children]
    for child in children:
        child.join()
    assert found == [(False, True, int(quantise(pixels).sum()))] * 2
    np.testing.assert_array_equal(read_all(shard), quantise(pixels))


def test_paths_may_be_text(tmp_path):
    make(tmp_path / "3.h5")
    assert Shard(str(tmp_path / "3.h5")).path == Path(tmp_path / "3.h5")
