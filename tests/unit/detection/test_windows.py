"""Attention in windows equals the loop over pairs of patches."""

import numpy as np
import pytest
import torch

from stradavit.detection.relative import RelativePositions
from stradavit.detection.windows import DropPath, attend_in_windows
from stradavit.models.encoder import SelfAttention
from tests.reference.vitdet import resized, windowed_attention

HEADS, HEAD_WIDTH = 2, 4
WIDTH = HEADS * HEAD_WIDTH


def layer() -> SelfAttention:
    torch.manual_seed(0)
    return SelfAttention(WIDTH, HEADS).double()


def positions(rows: int, columns: int) -> RelativePositions:
    torch.manual_seed(1)
    relative = RelativePositions(rows, columns, HEAD_WIDTH)
    for table in relative.parameters():
        torch.nn.init.normal_(table)
    return relative.double()


def naive(
    attention: SelfAttention,
    tokens: torch.Tensor,
    prefix: int,
    grid: tuple[int, int],
    window: int,
    tables: tuple[np.ndarray, np.ndarray] | tuple[None, None],
) -> torch.Tensor:
    images = []
    for image in tokens:
        parts = [f(image).detach().numpy() for f in (attention.query, attention.key)]
        parts.append(attention.value(image).detach().numpy())
        heads = []
        for head in range(HEADS):
            own = slice(head * HEAD_WIDTH, (head + 1) * HEAD_WIDTH)
            q, k, v = (part[:, own] for part in parts)
            heads.append(windowed_attention(q, k, v, prefix, grid, window, *tables))
        images.append(np.concatenate(heads, axis=1))
    return torch.from_numpy(np.stack(images))


# Windows that fit, that hang over on one side or both, that hold the image, and one patch.
CASES = [
    ((4, 4), 2),
    ((5, 4), 2),
    ((4, 5), 3),
    ((5, 7), 3),
    ((3, 4), 4),
    ((3, 7), 5),
    ((5, 3), 0),
    ((2, 2), 1),
    ((1, 1), 3),
]


@pytest.mark.parametrize("has_positions", [False, True])
@pytest.mark.parametrize("prefix", [1, 3])
@pytest.mark.parametrize(("grid", "window"), CASES)
def test_equals_the_loop_over_pairs(
    grid: tuple[int, int], window: int, prefix: int, has_positions: bool
) -> None:
    attention = layer()
    sides = tuple(min(window, n) if window else n for n in grid)
    relative = positions(*sides) if has_positions else None
    tables: tuple[np.ndarray, np.ndarray] | tuple[None, None] = (None, None)
    if relative is not None:
        tables = (relative.rows.detach().numpy(), relative.columns.detach().numpy())
    tokens = torch.randn(2, prefix + grid[0] * grid[1], WIDTH, dtype=torch.float64)
    expected = naive(attention, tokens, prefix, grid, window, tables)
    found = attend_in_windows(attention, tokens, prefix, grid, window, relative)
    torch.testing.assert_close(found, expected)


def test_bfloat16_on_a_processor_is_the_same_within_its_rounding() -> None:
    attention, relative = layer().bfloat16(), positions(3, 3).bfloat16()
    tokens = torch.randn(2, 1 + 5 * 4, WIDTH, dtype=torch.bfloat16)
    found = attend_in_windows(attention, tokens, 1, (5, 4), 3, relative)
    expected = attend_in_windows(
        attention.double(), tokens.double(), 1, (5, 4), 3, relative.double()
    )
    # Values are of order 1 and have 8 bits; scores and weights are rounded in between.
    torch.testing.assert_close(found.double(), expected, rtol=0.0, atol=0.05)


def test_every_gradient_is_finite_and_that_of_the_loop() -> None:
    # Places that fill up a window are minus infinity inside; no gradient may see it.
    attention, relative = layer(), positions(3, 3)
    tokens = torch.randn(1, 1 + 4 * 5, WIDTH, dtype=torch.float64, requires_grad=True)
    parameters = [tokens, *relative.parameters(), *attention.parameters()]
    assert torch.autograd.gradcheck(
        lambda x, *_: attend_in_windows(attention, x, 1, (4, 5), 3, relative), parameters
    )


def test_positions_of_another_size_are_interpolated() -> None:
    attention, relative = layer(), positions(2, 3)
    tokens = torch.randn(1, 1 + 4 * 2, WIDTH, dtype=torch.float64)
    tables = (
        resized(relative.rows.detach().numpy(), 7),
        resized(relative.columns.detach().numpy(), 3),
    )
    found = attend_in_windows(attention, tokens, 1, (4, 2), 0, relative)
    torch.testing.assert_close(found, naive(attention, tokens, 1, (4, 2), 0, tables))


def test_positions_start_at_zero() -> None:
    attention = layer()
    tokens = torch.randn(2, 2 + 5 * 4, WIDTH, dtype=torch.float64)
    fresh = RelativePositions(3, 3, HEAD_WIDTH).double()
    with_positions = attend_in_windows(attention, tokens, 2, (5, 4), 3, fresh)
    torch.testing.assert_close(
        with_positions, attend_in_windows(attention, tokens, 2, (5, 4), 3, None)
    )


def test_drop_path_leaves_whole_samples_out_and_keeps_the_mean() -> None:
    torch.manual_seed(0)
    branch = torch.ones(20_000, 2, 3)
    dropped = DropPath(0.25)(branch)
    assert set(dropped.unique().tolist()) == {0.0, float(np.float32(1 / 0.75))}
    assert (dropped == dropped[:, :1, :1]).all()
    # The standard error is 0.004.
    assert dropped.mean().item() == pytest.approx(1.0, abs=0.02)
    assert DropPath(0.25)(branch.bfloat16()).dtype == torch.bfloat16


def test_drop_path_at_its_ends_and_outside_training() -> None:
    branch = torch.randn(4, 2, 3)
    assert DropPath(0.0)(branch) is branch
    assert DropPath(0.5).eval()(branch) is branch
    assert (DropPath(1.0)(branch) == 0).all()
