"""The simple feature pyramid: five scales from the one map of a ViT."""

from collections import OrderedDict

import torch.nn.functional as F
from torch import Tensor, nn

# Names of the levels, as torchvision's heads know them.
LEVELS = ("0", "1", "2", "3")
COARSEST = "pool"
# Strides of the five levels in patches.
STRIDES = (0.25, 0.5, 1.0, 2.0, 4.0)


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of each place of a map, in float32."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-6)

    def forward(self, maps: Tensor) -> Tensor:
        """(batch, channel, ny, nx) to float32 of the same shape."""
        last = maps.permute(0, 2, 3, 1).float()
        normed = F.layer_norm(last, self.normalized_shape, self.weight, self.bias, self.eps)
        return normed.permute(0, 3, 1, 2)


class Pyramid(nn.Module):
    """Maps of strides 1/4, 1/2, 1, 2 and 4 patches, made from the last map of the backbone alone.

    Deconvolutions of kernel and stride 2 enlarge, max pooling shrinks. Each of the first four
    levels ends with a 1 x 1 and a 3 x 3 convolution, each followed by a LayerNorm; the fifth is
    every second place of the fourth.

    Parameters
    ----------
    width_in : channels of the backbone, a multiple of 4 (768 gives levels of 192, 384, 768, 768)
    width : channels of every level

    References
    ----------
    Li et al. 2022 (ViTDet), section 3; Lin et al. 2017 (FPN), section 4.1, for the fifth level.
    """

    def __init__(self, width_in: int, width: int) -> None:
        super().__init__()
        half, quarter = width_in // 2, width_in // 4
        resize = (
            nn.Sequential(
                _twice(width_in, half), ChannelNorm(half), nn.GELU(), _twice(half, quarter)
            ),
            _twice(width_in, half),
            nn.Identity(),
            # A last odd row or column is kept: the coarse map must reach the edge of the image.
            nn.MaxPool2d(2, ceil_mode=True),
        )
        # Dictionaries, not lists: nothing here is a block of a Transformer to be compiled.
        self.resize = nn.ModuleDict(dict(zip(LEVELS, resize, strict=True)))
        widths = (quarter, half, width_in, width_in)
        self.finish = nn.ModuleDict(
            {name: _finish(n, width) for name, n in zip(LEVELS, widths, strict=True)}
        )

    def forward(self, features: Tensor) -> "OrderedDict[str, Tensor]":
        """Five levels, finest first.

        Parameters
        ----------
        features : (batch, width_in, rows, columns)

        Returns
        -------
        "0", "1", "2", "3", "pool" to (batch, width, rows and columns over the stride) float32,
        rounded up
        """
        levels = OrderedDict(
            (name, self.finish[name](self.resize[name](features))) for name in LEVELS
        )
        levels[COARSEST] = levels[LEVELS[-1]][:, :, ::2, ::2]
        return levels


def _twice(width_in: int, width: int) -> nn.Module:
    return nn.ConvTranspose2d(width_in, width, kernel_size=2, stride=2)


def _finish(width_in: int, width: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(width_in, width, kernel_size=1, bias=False),
        ChannelNorm(width),
        nn.Conv2d(width, width, kernel_size=3, padding=1, bias=False),
        ChannelNorm(width),
    )
