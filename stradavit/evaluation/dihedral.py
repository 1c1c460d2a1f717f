"""The dihedral group D4, the only augmentation of both protocols (paper, section 9.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

# For annotations only: the probe reads cached orientations and starts without loading torch.
if TYPE_CHECKING:
    from torch import Tensor

N_ORIENTATIONS = 8


def orient(pixels: Tensor, orientation: int) -> Tensor:
    """One of the eight orientations of square images; 0 is the image itself.

    Orientation k is a rotation by (k mod 4) · 90° and then, for k ≥ 4, a flip of x. Uniform k is
    the paper's uniform rotation with a flip of probability 0.5. No pixel is interpolated.

    Parameters
    ----------
    pixels : (..., side, side) tensor
    orientation : 0 to 7
    """
    turned = pixels.rot90(orientation % 4, dims=(-2, -1))
    return turned.flip(-1) if orientation >= 4 else turned


def orient_each(pixels: Tensor, orientations: Tensor) -> Tensor:
    """Each image of a batch in its own orientation.

    Parameters
    ----------
    pixels : (b, c, side, side) tensor
    orientations : (b,) int64 in [0, 8)
    """
    oriented = pixels.clone()
    for orientation in range(1, N_ORIENTATIONS):
        chosen = orientations == orientation
        oriented[chosen] = orient(pixels[chosen], orientation)
    return oriented
