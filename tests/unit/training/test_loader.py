"""Reading ahead changes nothing but the time: same cutouts, same order, the same errors."""

import gc
from pathlib import Path

import numpy as np
import pytest
import torch

from stradavit.cutouts.corpus import Corpus, write_corpus
from stradavit.cutouts.shards import ROW, Shard, new_shard
from stradavit.errors import DataError
from stradavit.settings.training import LoaderSettings
from stradavit.training.loader import _Memory, read_ahead
from stradavit.training.sampler import Plan

SIZE = 12


@pytest.fixture
def corpus_path(tmp_path: Path) -> Path:
    """Fifty cutouts of noise in two shards."""
    rng = np.random.default_rng(0)
    row = {name: np.zeros((), ROW[name]) for name in set(ROW.names or ()) - {"product", "checksum"}}
    shards = []
    for part in range(2):
        attributes = {"survey": "a", "part": str(part), "settings": "{}", "ledger_sha256": ""}
        path = tmp_path / f"{part}.h5"
        with new_shard(path, SIZE, attributes) as shard, shard.product("p", ""):
            for levels in rng.integers(0, 1 << 16, (25, SIZE, SIZE)):
                shard.append(levels.astype(np.uint16), **row)
        shards.append(Shard(path))
    write_corpus(tmp_path / "corpus.h5", shards, [np.arange(25)] * 2, {})
    return tmp_path / "corpus.h5"


@pytest.mark.parametrize("workers", [0, 1, 3])
@pytest.mark.parametrize("block", [1, 4])
def test_every_micro_batch_with_its_cutouts(corpus_path: Path, workers: int, block: int) -> None:
    plan = Plan(50, 7, 7, False, 1, shuffle_block=block)
    expected = Corpus(corpus_path).read(np.arange(50))
    loader = LoaderSettings(workers=workers, prefetch=2)
    found = list(read_ahead(corpus_path, plan.micro_batches(3), loader, pin_memory=False))
    assert [(b.epoch, b.step) for b, _ in found] == [
        (b.epoch, b.step) for b in plan.micro_batches(3)
    ]
    for batch, cutouts in found:
        assert cutouts.dtype == torch.uint16 and cutouts.shape == (
            len(batch.numbers),
            1,
            SIZE,
            SIZE,
        )
        np.testing.assert_array_equal(cutouts[:, 0].numpy(), expected[batch.numbers])


def test_batches_are_drawn_only_a_few_ahead(corpus_path: Path) -> None:
    drawn = []

    def listed():  # type: ignore[no-untyped-def]
        for batch in Plan(50, 5, 5, False, 1).micro_batches(1):
            drawn.append(batch.step)
            yield batch

    reading = read_ahead(corpus_path, listed(), LoaderSettings(workers=2, prefetch=2), False)
    next(reading)
    assert len(drawn) == 5
    reading.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize("workers", [0, 2])
def test_damage_reaches_the_training_by_name(corpus_path: Path, workers: int) -> None:
    path = corpus_path.parent / "1.h5"
    content = bytearray(path.read_bytes())
    pixels = Shard(path).read(np.array([7]), Shard(path).column("checksum")[7:8])
    content[content.index(pixels.tobytes()) + 5] ^= 4
    path.write_bytes(content)
    loader = LoaderSettings(workers=workers, prefetch=1)
    with pytest.raises(DataError, match=r"1\.h5: cutout 7 of 25 .*its pixels have changed"):
        list(read_ahead(corpus_path, Plan(50, 5, 5, False, 1).micro_batches(1), loader, False))


def test_memory_is_used_again_only_when_nobody_looks_at_it() -> None:
    memory = _Memory()
    first = memory.take(4, 3)
    place = first.data_ptr()
    part = first[1:]
    del first
    gc.collect()
    assert memory.take(4, 3).data_ptr() != place, "a slice of it is still alive"
    part.fill_(7)
    seen = part.numpy()
    del part
    gc.collect()
    assert memory.take(4, 3).data_ptr() != place and (seen == 7).all()
    del seen
    gc.collect()
    taken = [memory.take(2, 3) for _ in range(3)]
    assert place in {one.data_ptr() for one in taken}
    assert memory.take(0, 3).shape == (0, 1, 3, 3)
    assert memory.take(50, 3).shape == (50, 1, 3, 3), "larger than any before"
