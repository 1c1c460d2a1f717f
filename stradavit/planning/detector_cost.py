"""What a detector costs by its shape alone: operations and parameters, without torch.

Operations are those of the matrix products and convolutions, as in `stradavit.models.cost`. Left
out: resizing, norms, pooling of areas (RoIAlign), the choice among overlapping boxes, matching of
anchors, losses, the optimiser; also that blocks whose path is dropped still cost.
"""

from dataclasses import dataclass
from math import ceil

from stradavit.planning.networks import Network
from stradavit.settings.detection import DetectorSettings

# Of torchvision's Faster R-CNN, as `stradavit.detection` uses it; importing that costs seconds, so
# the tests compare.
POOLED = 7
LEARNED_BOXES, LOOKED_AT_BOXES = 512, 1000

_BACKWARD = 2  # one product for the gradient of the input and one for that of the weights


@dataclass(frozen=True)
class DetectorShape:
    """What decides the cost of a detector.

    Parameters
    ----------
    network : its encoder
    settings : of the detector
    classes : without the background
    """

    network: Network
    settings: DetectorSettings
    classes: int

    @property
    def grid(self) -> int:
        """Patches along a side of an image."""
        return self.settings.image_px // self.network.shape.patch_px

    @property
    def places(self) -> tuple[int, ...]:
        """Places of each of the five levels; the last two are rounded up one after the other."""
        grid = self.grid
        half = ceil(grid / 2)
        return (4 * grid) ** 2, (2 * grid) ** 2, grid**2, half**2, ceil(half / 2) ** 2


def detector_flops(shape: DetectorShape, is_learning: bool) -> float:
    """Forward FLOPs on one image.

    Parameters
    ----------
    is_learning : whether the heads look at the boxes sampled for the loss, or at all proposals
    """
    boxes = LEARNED_BOXES if is_learning else LOOKED_AT_BOXES
    return (
        _backbone_flops(shape)
        + _pyramid_flops(shape)
        + _proposal_flops(shape)
        + boxes * _box_flops(shape)
    )


def learning_flops(shape: DetectorShape) -> float:
    """FLOPs of one image, forward and backward; with what activation checkpointing repeats."""
    repeated = _blocks_flops(shape) if shape.settings.activation_checkpointing else 0.0
    return (1 + _BACKWARD) * detector_flops(shape, is_learning=True) + repeated


def _backbone_flops(shape: DetectorShape) -> float:
    encoder = shape.network.shape
    embedding = 2.0 * shape.grid**2 * encoder.width * encoder.channels * encoder.patch_px**2
    return embedding + _blocks_flops(shape)


def _blocks_flops(shape: DetectorShape) -> float:
    """Blocks with windows and without, as `stradavit.models.cost.blocks_flops` counts."""
    encoder = shape.network.shape
    tokens = _prefix(shape) + shape.grid**2
    weights = 4 * encoder.width**2 + 2 * encoder.width * encoder.mlp_width
    attention = sum(_attention_flops(shape, side) for side in _window_sides(shape))
    return 2.0 * encoder.layers * tokens * weights + attention


def _attention_flops(shape: DetectorShape, side: int) -> float:
    """Products of queries, keys and values of one block, its windows having this side.

    Every place of a window, those that fill it up too, is multiplied with the window and with the
    prefix; class token and registers with everything. Relative positions multiply each place with
    a vector for each row and each column of its window.
    """
    width, prefix, grid = shape.network.shape.width, _prefix(shape), shape.grid
    places = ceil(grid / side) ** 2 * side**2
    pairs = places * (prefix + side**2) + prefix * (prefix + grid**2)
    relative = 2 * places * side if _has_relative(shape) else 0
    return 2.0 * width * (2 * pairs + relative)


def _pyramid_flops(shape: DetectorShape) -> float:
    width, out, patches = shape.network.shape.width, shape.settings.pyramid_width, shape.grid**2
    half, quarter = width // 2, width // 4
    # Deconvolutions of 2 x 2: every place becomes four.
    weights = patches * 4 * (2 * width * half) + 4 * patches * 4 * half * quarter
    for places, entering in zip(shape.places, (quarter, half, width, width), strict=False):
        weights += places * (entering * out + 9 * out**2)
    return 2.0 * weights


def _proposal_flops(shape: DetectorShape) -> float:
    """Region proposals: a 3 x 3 convolution, then a score and four numbers for each anchor."""
    width, anchors = shape.settings.pyramid_width, len(shape.settings.anchor_ratios)
    return 2.0 * sum(shape.places) * (9 * width**2 + 5 * anchors * width)


def _box_flops(shape: DetectorShape) -> float:
    """Of one box: two layers, then a score and four numbers for each class and the background."""
    pooled, width = shape.settings.pyramid_width * POOLED**2, shape.settings.head_width
    return 2.0 * (pooled * width + width**2 + 5 * (shape.classes + 1) * width)


def detector_parameters(shape: DetectorShape) -> int:
    """Values of its weight file."""
    encoder, out, hidden = (
        shape.network.shape,
        shape.settings.pyramid_width,
        shape.settings.head_width,
    )
    width, half, quarter = encoder.width, encoder.width // 2, encoder.width // 4
    total = shape.network.parameters(has_decoder=False)
    if _has_relative(shape):
        head = encoder.width // encoder.heads
        total += sum(2 * (2 * side - 1) * head for side in _window_sides(shape))
    # The pyramid: deconvolutions with biases, a norm between two of them, and for each level two
    # convolutions without, each with a norm.
    total += 2 * (4 * width * half + half) + 4 * half * quarter + quarter + 2 * half
    for entering in (quarter, half, width, width):
        total += entering * out + 9 * out**2 + 4 * out
    anchors, classes = len(shape.settings.anchor_ratios), shape.classes + 1
    total += 9 * out**2 + out + 5 * anchors * (out + 1)
    return total + (out * POOLED**2 + 1) * hidden + (hidden + 1) * (hidden + 5 * classes)


def _prefix(shape: DetectorShape) -> int:
    """Class token and registers."""
    return 1 + shape.network.shape.registers


def _window_sides(shape: DetectorShape) -> list[int]:
    """Patches along a side of the windows of each block; of those with global attention, all."""
    layers, settings = shape.network.shape.layers, shape.settings
    if not settings.window or shape.network.is_dinov2:
        return [shape.grid] * layers
    n_global = min(settings.global_blocks, layers)
    return [shape.grid] * n_global + [min(settings.window, shape.grid)] * (layers - n_global)


def _has_relative(shape: DetectorShape) -> bool:
    return shape.settings.relative_positions and not shape.network.is_dinov2
