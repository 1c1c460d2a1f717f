"""Attention inside windows of patches, for the blocks of an encoder."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stradavit.detection.relative import RelativePositions
from stradavit.models.attention import attend
from stradavit.models.encoder import Block, SelfAttention


class DropPath(nn.Module):
    """Stochastic depth: in training, a branch is left out for some samples of a batch.

    Parameters
    ----------
    rate : probability of leaving it out; the branches kept are scaled up to the same mean

    References
    ----------
    Huang et al. 2016, section 3.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, branch: Tensor) -> Tensor:
        """(batch, ...) to the same shape."""
        if not self.training or self.rate == 0.0:
            return branch
        if self.rate == 1.0:
            return torch.zeros_like(branch)
        shape = (len(branch), *(1 for _ in branch.shape[1:]))
        kept = torch.empty(shape, device=branch.device).bernoulli_(1.0 - self.rate)
        return branch * (kept / (1.0 - self.rate)).to(branch.dtype)


class WindowBlock(nn.Module):
    """A block of an encoder whose patches attend to their window only.

    Class token and registers belong to every window, and attend to everything themselves, so each
    keeps the meaning it had before.

    Parameters
    ----------
    block : of the encoder; its weights are used, not copied
    window : patches along a side of a window; 0: the whole image
    relative : relative positions of the patches in a window, if any
    drop_path : probability of leaving a branch out in training
    """

    def __init__(
        self, block: Block, window: int, relative: RelativePositions | None, drop_path: float
    ) -> None:
        super().__init__()
        self.block = block
        self.window = window
        self.relative = relative
        self.drop_path = DropPath(drop_path)

    def forward(self, tokens: Tensor, prefix: int, rows: int, columns: int) -> Tensor:
        """One block further.

        Parameters
        ----------
        tokens : (batch, prefix + rows * columns, width), patches row by row
        prefix : class token and registers, which come first

        Returns
        -------
        The same shape
        """
        block = self.block
        mixed = attend_in_windows(
            block.attention.attention,
            block.layernorm_before(tokens),
            prefix,
            (rows, columns),
            self.window,
            self.relative,
        )
        tokens = tokens + self.drop_path(block.attention.output(mixed))
        hidden = F.gelu(block.intermediate(block.layernorm_after(tokens)))
        updated: Tensor = tokens + self.drop_path(block.output(hidden))
        return updated


def attend_in_windows(
    layer: SelfAttention,
    tokens: Tensor,
    prefix: int,
    grid: tuple[int, int],
    window: int,
    relative: RelativePositions | None,
) -> Tensor:
    """Self-attention with the weights of `layer`, patches inside their windows.

    Windows start at the first row and column; those at the other end may hang over and are
    filled up with places nothing attends to.

    Parameters
    ----------
    tokens : (batch, prefix + rows * columns, width)
    grid : (rows, columns) of patches
    window : patches along a side; 0: the whole image

    Returns
    -------
    (batch, prefix + rows * columns, width)

    References
    ----------
    Li et al. 2022 (ViTDet), section 3.
    """
    batch = len(tokens)
    query, key, value = layer.project(tokens)
    sides = (min(window, grid[0]), min(window, grid[1])) if window else grid
    if sides == grid and relative is None:
        return attend(query, key, value).transpose(1, 2).flatten(2)
    inside = [_split(t[:, :, prefix:], grid, sides) for t in (query, key, value)]
    windows = len(inside[0]) // batch
    shared = [_repeat(t[:, :, :prefix], windows) for t in (key, value)]
    mixed = _attend_with_bias(
        inside[0],
        torch.cat([shared[0], inside[1]], dim=2),
        torch.cat([shared[1], inside[2]], dim=2),
        _bias(inside[0], batch, prefix, grid, sides, relative),
    )
    first = attend(query[:, :, :prefix], key, value)
    patches = _join(mixed, batch, grid, sides)
    return torch.cat([first, patches], dim=2).transpose(1, 2).flatten(2)


def _overhang(grid: tuple[int, int], sides: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns that fill up the last windows."""
    return -grid[0] % sides[0], -grid[1] % sides[1]


def _split(patches: Tensor, grid: tuple[int, int], sides: tuple[int, int]) -> Tensor:
    """(batch, heads, rows * columns, d) to (batch * windows, heads, places of a window, d)."""
    below, right = _overhang(grid, sides)
    padded = F.pad(torch.unflatten(patches, 2, grid), (0, 0, 0, right, 0, below))
    down, across = (grid[0] + below) // sides[0], (grid[1] + right) // sides[1]
    # (batch, heads, window row, row, window column, column, d)
    cut = padded.reshape(*padded.shape[:2], down, sides[0], across, sides[1], padded.shape[-1])
    return cut.permute(0, 2, 4, 1, 3, 5, 6).flatten(4, 5).flatten(0, 2)


def _join(windows: Tensor, batch: int, grid: tuple[int, int], sides: tuple[int, int]) -> Tensor:
    """The inverse of `_split`: the places that filled up windows are left out."""
    below, right = _overhang(grid, sides)
    down, across = (grid[0] + below) // sides[0], (grid[1] + right) // sides[1]
    cut = windows.reshape(batch, down, across, windows.shape[1], *sides, windows.shape[-1])
    padded = cut.permute(0, 3, 1, 4, 2, 5, 6).flatten(4, 5).flatten(2, 3)
    return padded[:, :, : grid[0], : grid[1]].flatten(2, 3)


def _repeat(tokens: Tensor, windows: int) -> Tensor:
    """(batch, heads, prefix, d) to (batch * windows, heads, prefix, d)."""
    return tokens.unsqueeze(1).expand(-1, windows, -1, -1, -1).flatten(0, 1)


def _bias(
    query: Tensor,
    batch: int,
    prefix: int,
    grid: tuple[int, int],
    sides: tuple[int, int],
    relative: RelativePositions | None,
) -> Tensor | None:
    """What is added to the scores of the patches, None if nothing.

    Returns
    -------
    (batch * windows, heads or 1, places or 1, prefix + places): nothing for the prefix, relative
    positions for patches, minus infinity for places that only fill up a window
    """
    bias = None
    if relative is not None:
        by_row, by_column = relative(query, *sides)
        pairs = by_row.unsqueeze(-1) + by_column.unsqueeze(-2)
        bias = F.pad(pairs.flatten(3), (prefix, 0))
    if _overhang(grid, sides) != (0, 0):
        # An image of ones; what fills it up are zeros.
        real = _split(query.new_ones(1, 1, grid[0] * grid[1], 1), grid, sides)[..., 0] > 0
        empty = F.pad(~real, (prefix, 0)).unsqueeze(2)  # (windows, 1, 1, prefix + places)
        hidden = torch.zeros_like(empty, dtype=query.dtype).masked_fill_(empty, float("-inf"))
        hidden = hidden.repeat(batch, 1, 1, 1)
        bias = hidden if bias is None else bias + hidden
    return bias


def _attend_with_bias(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None) -> Tensor:
    """Softmax attention with something added to the scores; all as in `attend`."""
    if bias is None:
        return attend(query, key, value)
    if query.device.type == "cpu" and query.dtype == torch.bfloat16:
        scores = (query * query.shape[-1] ** -0.5) @ key.mT
        weights: Tensor = (scores + bias).softmax(dim=-1)
        return weights @ value
    return F.scaled_dot_product_attention(query, key, value, attn_mask=bias.to(query.dtype))
