"""From a benchmark's stored image to what an encoder is fed (paper, section 9.1)."""

from collections.abc import Iterable

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from stradavit.cutouts.benchmark import LabelledCutouts


def resize(image: NDArray[np.float32], side_px: int) -> Tensor:
    """A stretched image at the size an encoder wants.

    Bicubic and antialiased, as PIL and torchvision resize. The result is not clamped again: a
    bicubic kernel overshoots a little at bright edges, and the paper leaves that in. An image that
    is not square is stretched to one.

    Parameters
    ----------
    image : (ny, nx) float32 in [0, 1]
    side_px : side of the result

    Returns
    -------
    (1, side_px, side_px) float32 tensor, nearly in [0, 1]
    """
    pixels = torch.from_numpy(image)[None, None]
    if pixels.shape[-2:] == (side_px, side_px):
        return pixels[0]
    size = (side_px, side_px)
    return F.interpolate(pixels, size=size, mode="bicubic", antialias=True)[0]


def resized_images(cutouts: LabelledCutouts, numbers: Iterable[int], side_px: int) -> Tensor:
    """(n, 1, side_px, side_px) float32 of the images `numbers`."""
    return torch.stack([resize(cutouts.read(number), side_px) for number in numbers])
