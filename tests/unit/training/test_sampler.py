"""Each cutout once per epoch, for any number of devices, and the same updates for all of them."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stradavit.errors import TrainingError
from stradavit.training.sampler import (
    _ORDER,
    WINDOW_BLOCKS,
    MicroBatch,
    Plan,
    _by_hash,
    epoch_order,
    replacements,
)
from stradavit.views.random import cutout_keys, fold

sizes = st.integers(1, 60)
few = st.integers(1, 7)


def devices(n: int, batch: int, effective: int, world: int, **values: bool) -> list[Plan]:
    return [
        Plan(n, batch, effective, values.get("drop_last", False), 3, rank=rank, world=world)
        for rank in range(world)
    ]


@given(n=sizes, batch=few, effective=st.integers(1, 40), world=few)
@settings(deadline=None)
def test_each_cutout_once_per_epoch_and_all_devices_in_step(
    n: int, batch: int, effective: int, world: int
) -> None:
    runs = [list(p.micro_batches(2)) for p in devices(n, batch, effective, world)]
    for together in zip(*runs, strict=True):
        position = {(b.epoch, b.step, b.n_update, b.ends_update, b.ends_epoch) for b in together}
        assert len(position) == 1
        shares = [len(b.numbers) for b in together]
        assert max(shares) - min(shares) <= 1 and max(shares) <= batch
    for epoch in range(2):
        shown = [b.numbers for run in runs for b in run if b.epoch == epoch]
        assert sorted(np.concatenate(shown)) == list(range(n))


@given(n=sizes, batch=few, effective=st.integers(1, 40), world=few)
@settings(deadline=None)
def test_devices_share_the_micro_batches_of_one_large_device(
    n: int, batch: int, effective: int, world: int
) -> None:
    whole = list(devices(n, batch * world, effective, 1)[0].micro_batches(2))
    runs = [list(p.micro_batches(2)) for p in devices(n, batch, effective, world)]
    for one, parts in zip(whole, zip(*runs, strict=True), strict=True):
        assert one.numbers.tolist() == np.concatenate([b.numbers for b in parts]).tolist()
        assert one.n_update == parts[0].n_update and one.ends_update == parts[0].ends_update


@given(n=sizes, batch=few, effective=st.integers(1, 40), world=few, drop_last=st.booleans())
@settings(deadline=None)
def test_weights_of_an_update_add_up_to_one(
    n: int, batch: int, effective: int, world: int, drop_last: bool
) -> None:
    if drop_last and n < batch * world:
        return
    plans = devices(n, batch, effective, world, drop_last=drop_last)
    updates: list[list[MicroBatch]] = [[]]
    for together in zip(*(p.micro_batches(2) for p in plans), strict=True):
        updates[-1].extend(together)
        if together[0].ends_update:
            updates.append([])
    assert updates.pop() == []
    assert len(updates) == 2 * plans[0].updates_per_epoch
    for update in updates:
        assert sum(b.weight for b in update) == pytest.approx(1, rel=1e-12)
        assert {len({b.epoch for b in update})} == {1}
    whole_update = plans[0].accumulation * batch * world
    assert effective <= whole_update < effective + batch * world


@given(n=sizes, batch=few, effective=st.integers(1, 40), done=st.integers(0, 12))
@settings(deadline=None)
def test_resuming_goes_on_where_the_run_stopped(
    n: int, batch: int, effective: int, done: int
) -> None:
    plan = devices(n, batch, effective, 1)[0]
    whole = list(plan.micro_batches(3))
    ends = [0, *(place + 1 for place, b in enumerate(whole) if b.ends_update)]
    done = min(done, len(ends) - 1)
    rest = list(plan.micro_batches(3, done))
    expected = whole[ends[done] :]
    assert [(b.epoch, b.step) for b in rest] == [(b.epoch, b.step) for b in expected]
    assert all((a.numbers == b.numbers).all() for a, b in zip(rest, expected, strict=True))
    before = sum(len(b.numbers) for b in whole[: ends[done]])
    assert plan.cutouts_before(done) == before


def test_drop_last_leaves_out_the_incomplete_micro_batch() -> None:
    plan = Plan(22, 4, 8, True, 0)
    assert [len(b.numbers) for b in plan.micro_batches(1)] == [4] * 5
    assert plan.updates_per_epoch == 3
    assert [b.n_update for b in plan.micro_batches(1)] == [8, 8, 8, 8, 4]


def test_equal_shares_leave_out_less_than_one_cutout_a_device() -> None:
    plans = [Plan(23, 4, 8, False, 0, equal_shares=True, rank=r, world=2) for r in range(2)]
    shares = [[len(b.numbers) for b in plan.micro_batches(1)] for plan in plans]
    assert shares == [[4, 4, 3], [4, 4, 3]]


def test_the_order_changes_with_seed_and_epoch_only() -> None:
    orders = [tuple(epoch_order(s, e, 50)) for s, e in itertools.product((0, 1), (0, 1))]
    assert len(set(orders)) == 4
    assert tuple(epoch_order(0, 0, 50)) == orders[0]


def reference_order(seed: int, epoch: int, n: int) -> np.ndarray:
    """The numbers sorted by their hashes, all at once."""
    hashes = fold(cutout_keys(seed, epoch, torch.arange(n)), _ORDER)
    return np.argsort(hashes.numpy(), kind="stable")


@given(seed=st.integers(0, 2**40), epoch=st.integers(0, 999), n=st.integers(1, 40_000))
@settings(deadline=None, max_examples=40)
def test_the_order_is_that_of_the_hashes(seed: int, epoch: int, n: int) -> None:
    expected = reference_order(seed, epoch, n)
    found = epoch_order(seed, epoch, n)
    assert found.dtype == np.int64
    np.testing.assert_array_equal(found, expected)
    # With ten bits of hash beside the number there are ties everywhere.
    np.testing.assert_array_equal(_by_hash(seed, epoch, n, _ORDER, spare_bits=54), expected)


def test_the_order_of_measured_runs_stays_as_it_is() -> None:
    assert epoch_order(42, 3, 12).tolist() == [0, 2, 11, 6, 4, 3, 10, 1, 7, 9, 8, 5]


@given(seed=st.integers(0, 99), epoch=few, n=st.integers(1, 5000), block=st.integers(2, 40))
@settings(deadline=None, max_examples=60)
def test_blocks_stay_together_within_windows(seed: int, epoch: int, n: int, block: int) -> None:
    order = epoch_order(seed, epoch, n, block)
    np.testing.assert_array_equal(np.sort(order), np.arange(n))
    np.testing.assert_array_equal(order, epoch_order(seed, epoch, n, block))
    start = 0
    while start < n:
        # A window has as many cutouts as fit, less what the last, short block lacks.
        whole = order[start : start + WINDOW_BLOCKS * block]
        numbers, sizes = np.unique(whole // block, return_counts=True)
        if len(numbers) > WINDOW_BLOCKS:
            whole = whole[: WINDOW_BLOCKS * block - (-n % block)]
            numbers, sizes = np.unique(whole // block, return_counts=True)
        last = (n - 1) // block
        assert len(numbers) <= WINDOW_BLOCKS
        assert all(
            size == block or (number == last and size == n - last * block)
            for number, size in zip(numbers, sizes, strict=True)
        )
        start += len(whole)


def test_blocks_are_shuffled_and_mixed() -> None:
    n, block = 6400, 4
    order = epoch_order(0, 0, n, block)
    assert tuple(order) != tuple(epoch_order(0, 1, n, block))
    assert tuple(order) != tuple(epoch_order(1, 0, n, block))
    # Half a window holds cutouts of nearly all of its blocks, not of the first half of them.
    window = WINDOW_BLOCKS * block
    halves = [
        len(set(order[start : start + window // 2] // block)) for start in range(0, n, window)
    ]
    assert min(halves) > WINDOW_BLOCKS // 2
    # The mean step between a window's mean number and the next one's is that of a random order:
    # a third of n over the root of the number of blocks, far from a window's length.
    means = order.reshape(-1, window).mean(1)
    assert np.abs(np.diff(means)).mean() > 2 * window


@given(n=sizes, batch=few, block=st.integers(1, 9))
@settings(deadline=None)
def test_a_plan_shuffles_blocks(n: int, batch: int, block: int) -> None:
    plan = Plan(n, batch, batch, False, 3, shuffle_block=block)
    shown = np.concatenate([b.numbers for b in plan.micro_batches(1)])
    np.testing.assert_array_equal(shown, epoch_order(3, 0, n, block))


def test_the_order_has_no_favourites() -> None:
    # The mean place of a cutout over 400 epochs is 24.5 ± 14.4 / 20; five sigma are 3.6.
    places = np.stack([np.argsort(epoch_order(0, epoch, 50)) for epoch in range(400)])
    assert np.abs(places.mean(0) - 24.5).max() < 3.6


def test_replacements_are_spread_and_keyed() -> None:
    numbers = torch.arange(4000)
    one, two = (replacements(5, 0, numbers, torch.full_like(numbers, k), 20) for k in (1, 2))
    counts = torch.bincount(one, minlength=20)
    assert len(counts) == 20
    # Binomial: 200 ± 13.8; five sigma.
    assert (counts - 200).abs().max() < 70
    # Two attempts agree by chance only: 200 ± 13.8.
    assert abs(int((one == two).sum()) - 200) < 70
    assert replacements(5, 0, numbers[7:8], torch.tensor([1]), 20) == one[7]


def test_a_corpus_smaller_than_a_micro_batch_is_an_error() -> None:
    with pytest.raises(TrainingError, match="3 cutouts, not enough for one micro-batch of 4"):
        Plan(3, 4, 8, True, 0)
