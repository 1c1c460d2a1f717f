"""Draws that depend on what they should, class weights, and the schedule."""

import numpy as np
import pytest
import torch

from stradavit.evaluation import recipe


def test_orientations_depend_on_seed_fold_and_epoch_and_are_uniform() -> None:
    drawn = [
        recipe.training_orientations(seed, fold, epoch, 8000)
        for seed, fold, epoch in [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)]
    ]
    assert all((drawn[0] != other).mean() > 0.8 for other in drawn[1:])
    # 1000 expected of each; five standard deviations are 148.
    assert np.abs(np.bincount(drawn[0], minlength=8) - 1000).max() < 148
    np.testing.assert_array_equal(drawn[0], recipe.training_orientations(0, 0, 0, 8000))


def test_an_epoch_visits_every_training_image_once() -> None:
    train = np.arange(3, 60, 2)
    orders = [recipe.training_order(0, 0, epoch, train) for epoch in (0, 1)]
    assert all(sorted(order) == train.tolist() for order in orders)
    assert (orders[0] != orders[1]).any()
    pieces = list(recipe.batches(orders[0], 8))
    assert [len(piece) for piece in pieces] == [8, 8, 8, 5]
    np.testing.assert_array_equal(np.concatenate(pieces), orders[0])


def test_balanced_weights() -> None:
    labels = np.repeat([0, 1, 2], [6, 3, 1])
    train = np.arange(9)
    whole = recipe.balanced_weights(labels, train, 3, "whole_benchmark")
    # n / (C n_c) by hand, with n = 10 and C = 3.
    np.testing.assert_allclose(whole, [10 / 18, 10 / 9, 10 / 3])
    with_all = recipe.balanced_weights(labels, np.array([0, 1, 6, 9]), 3, "training_fold")
    np.testing.assert_allclose(with_all, [4 / 6, 4 / 3, 4 / 3])


def test_schedule_is_that_of_transformers() -> None:
    from transformers import get_cosine_schedule_with_warmup

    n_steps, n_warmup = 37, 8  # 8 = ⌈0.2 · 37⌉
    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = get_cosine_schedule_with_warmup(optimiser, n_warmup, n_steps)
    for step in range(n_steps):
        expected = scheduler.get_last_lr()[0]
        assert recipe.cosine_with_warmup(step, n_steps, 0.2) == pytest.approx(expected, abs=1e-12)
        optimiser.step()
        scheduler.step()


def test_head_is_drawn_anew_for_each_fold() -> None:
    heads = [recipe.head_weights(400, 5, seed=0, fold=fold) for fold in (0, 0, 1)]
    np.testing.assert_array_equal(heads[0], heads[1])
    assert (heads[0] != heads[2]).all()
    # Of 2000 draws the spread is known to 1.6 %.
    assert heads[0].std() == pytest.approx(0.02, rel=0.06)
    assert abs(heads[0].mean()) < 5 * 0.02 / 2000**0.5
