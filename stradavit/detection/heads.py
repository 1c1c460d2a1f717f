"""The heads of Faster R-CNN, for any patch size and safe under autocast."""

from typing import Any

import torch
from torch import Tensor
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import RPNHead
from torchvision.ops import MultiScaleRoIAlign
from torchvision.ops.poolers import LevelMapper

from stradavit.detection.pyramid import LEVELS, STRIDES

# Side of the area a box is pooled to (He et al. 2017, RoIAlign).
POOLED = 7
# Lin et al. 2017, equation 1: a box of 224 px belongs to the level of stride 16, one half as large
# to the next finer one; as 14 strides it means the same for other patches.
_CANONICAL_STRIDES, _CANONICAL_LEVEL = 14, 4


class Anchors(AnchorGenerator):  # type: ignore[misc]
    """Anchors of one size per level, in exact float32.

    torchvision's take the stride as a whole number (wrong for patches of 14 px), round the sides,
    and take the type of the features: in bfloat16, 800 px are told apart in steps of 4.

    Parameters
    ----------
    patch_px : side of a patch, the stride of the third level
    scale : side of a square anchor in strides of its level
    ratios : height over width of the anchors; their area is that of the square
    """

    def __init__(self, patch_px: int, scale: float, ratios: tuple[float, ...]) -> None:
        self.strides = tuple(patch_px * stride for stride in STRIDES)
        sizes = tuple((scale * stride,) for stride in self.strides)
        super().__init__(sizes, (ratios,) * len(sizes))

    def generate_anchors(
        self,
        scales: Any,
        aspect_ratios: Any,
        dtype: torch.dtype = torch.float32,
        device: Any = "cpu",
    ) -> Tensor:
        """(ratio, 4) float32 boxes around the origin."""
        side = torch.tensor([list(scales)], dtype=dtype, device=device)
        root = torch.tensor(list(aspect_ratios), dtype=dtype, device=device).sqrt().unsqueeze(1)
        width, height = (side / root).flatten(), (side * root).flatten()
        return torch.stack([-width, -height, width, height], dim=1) / 2

    def forward(self, image_list: ImageList, feature_maps: list[Tensor]) -> list[Tensor]:
        """The same anchors for every image: (places * ratios, 4) float32, levels in turn.

        The anchors of a place are centred on its corner, as in all Faster R-CNNs.
        """
        device = feature_maps[0].device
        levels = []
        for stride, cell, maps in zip(self.strides, self.cell_anchors, feature_maps, strict=True):
            rows, columns = maps.shape[-2:]
            y = torch.arange(rows, device=device, dtype=torch.float32) * stride
            x = torch.arange(columns, device=device, dtype=torch.float32) * stride
            places = torch.cartesian_prod(y, x)[:, [1, 0, 1, 0]]
            levels.append((places.unsqueeze(1) + cell.to(device)).flatten(0, 1))
        return [torch.cat(levels)] * len(image_list.image_sizes)


class RegionHead(RPNHead):  # type: ignore[misc]
    """torchvision's, with float32 results: boxes are decoded in their type."""

    def forward(self, x: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Objectness and box changes of each level."""
        objectness, changes = super().forward(x)
        return [t.float() for t in objectness], [t.float() for t in changes]


class BoxPredictor(FastRCNNPredictor):  # type: ignore[misc]
    """torchvision's, with float32 results: boxes are decoded in their type."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Scores (box, class) and box changes (box, 4 * class)."""
        scores, changes = super().forward(x)
        return scores.float(), changes.float()


def roi_align(patch_px: int) -> MultiScaleRoIAlign:
    """RoIAlign 7 x 7 on the first four levels, with as many samples as a box has places.

    torchvision takes the scale of a level to be a power of two; here they are what they are.
    On a GPU it must not be made deterministic (`torch.use_deterministic_algorithms`): torchvision
    then samples every place of a map for every bin, which no memory holds.
    """
    pool = MultiScaleRoIAlign(list(LEVELS), output_size=POOLED, sampling_ratio=0)
    strides = [patch_px * stride for stride in STRIDES[: len(LEVELS)]]
    pool.scales = [1.0 / stride for stride in strides]
    third = _CANONICAL_LEVEL - LEVELS.index("2")
    pool.map_levels = LevelMapper(
        third,
        third + len(LEVELS) - 1,
        canonical_scale=_CANONICAL_STRIDES * patch_px,
        canonical_level=_CANONICAL_LEVEL,
    )
    return pool
