"""The eight orientations are the symmetries of the square, and nothing else."""

import itertools

import torch

from stradavit.evaluation.dihedral import N_ORIENTATIONS, orient, orient_each

ASYMMETRIC = torch.arange(9.0).reshape(1, 3, 3)


def _all(image: torch.Tensor) -> list[torch.Tensor]:
    return [orient(image, k) for k in range(N_ORIENTATIONS)]


def test_eight_distinct_orientations_of_the_same_pixels() -> None:
    seen = _all(ASYMMETRIC)
    assert all(not torch.equal(a, b) for a, b in itertools.combinations(seen, 2))
    assert all(torch.equal(a.flatten().sort().values, ASYMMETRIC.flatten()) for a in seen)
    assert torch.equal(seen[0], ASYMMETRIC)


def test_closed_under_composition() -> None:
    seen = _all(ASYMMETRIC)
    for once, k in itertools.product(seen, range(N_ORIENTATIONS)):
        assert any(torch.equal(orient(once, k), known) for known in seen)


def test_rotation_comes_before_the_flip() -> None:
    image = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    # A quarter turn counter-clockwise, then left and right exchanged.
    assert torch.equal(orient(image, 1), torch.tensor([[2.0, 4.0], [1.0, 3.0]]))
    assert torch.equal(orient(image, 5), torch.tensor([[4.0, 2.0], [3.0, 1.0]]))


def test_each_image_of_a_batch_turns_on_its_own() -> None:
    pixels = torch.rand(20, 2, 5, 5, generator=torch.Generator().manual_seed(0))
    before = pixels.clone()
    orientations = torch.arange(20) % 8
    expected = torch.stack([orient(p, int(k)) for p, k in zip(pixels, orientations, strict=True)])
    assert torch.equal(orient_each(pixels, orientations), expected)
    assert torch.equal(pixels, before)
