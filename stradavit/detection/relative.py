"""Decomposed relative positions: what a patch's distance adds to its attention."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class RelativePositions(nn.Module):
    """One learned vector for each distance along rows, and one along columns, of one block.

    The score of patch i for patch j grows by q_i . (r[row_i - row_j] + c[column_i - column_j]).
    All vectors start at zero, so an encoder computes what it did before. All heads share them.

    Parameters
    ----------
    rows, columns : patches along the sides of the area a patch attends to
    head_width : width of an attention head

    References
    ----------
    Li et al. 2022 (MViTv2), section 4.1, equations 3 and 4. The paper divides q . r by the square
    root of head_width, as it does q . k; the networks published with it and with ViTDet do not,
    nor do we: at one learning rate the vectors then matter sooner.
    """

    def __init__(self, rows: int, columns: int, head_width: int) -> None:
        super().__init__()
        self.rows = nn.Parameter(torch.zeros(2 * rows - 1, head_width))
        self.columns = nn.Parameter(torch.zeros(2 * columns - 1, head_width))

    def forward(self, query: Tensor, rows: int, columns: int) -> tuple[Tensor, Tensor]:
        """What is added to the scores, before it is spread over pairs of patches.

        Parameters
        ----------
        query : (batch, heads, rows * columns, head_width), not scaled
        rows, columns : patches of the area; vectors of another size are resized to it

        Returns
        -------
        Two tensors (batch, heads, rows * columns, rows) and (batch, heads, rows * columns,
        columns): patch i gains [i, row_j] of the first and [i, column_j] of the second for patch j
        """
        grid = torch.unflatten(query, 2, (rows, columns))
        by_row = torch.einsum("bhyxd,yjd->bhyxj", grid, _of_pairs(self.rows, rows))
        by_column = torch.einsum("bhyxd,xjd->bhyxj", grid, _of_pairs(self.columns, columns))
        return by_row.flatten(2, 3), by_column.flatten(2, 3)


def _of_pairs(table: Tensor, size: int) -> Tensor:
    """(2 * n - 1, head_width) by distance to (size, size, head_width) by [place i, place j]."""
    wanted = 2 * size - 1
    if len(table) != wanted:
        table = F.interpolate(table.T.unsqueeze(0), size=wanted, mode="linear")[0].T
    place = torch.arange(size, device=table.device)
    return table[place.unsqueeze(1) - place.unsqueeze(0) + size - 1]
