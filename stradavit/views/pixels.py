"""What the view engine asks of the pixels of a batch; all else is decided without them.

There are two answers. `stradavit.views.tensors` computes on whole batches with tensors, on any
device, and never waits for a value. `stradavit.views.loops` runs compiled loops over one view at a
time, which a processor likes better. Both are checked against one reference.
"""

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from stradavit.settings.views import AnchorSettings, EmptySettings, OperatorSettings


class Survey(NamedTuple):
    """What anchors are chosen by.

    Background and sigma are median and scaled median absolute deviation of the faintest pixels,
    read off a histogram of 4096 levels; half a level is below the scatter that taking a subset
    causes. Of an even number of pixels the lower median is taken.
    """

    peaks: Tensor  # (b, peak_grid²) float32, largest values of the tiles, row by row
    means: Tensor  # (b, mean_grid²) float32
    background: Tensor  # (b,) float32
    sigma: Tensor  # (b,) float32


class Pixels(Protocol):
    """A batch of b square cutouts with pixels in [0, 1].

    Attributes
    ----------
    size_px : side of the cutouts
    """

    size_px: int

    def survey(self, keys: Tensor, settings: AnchorSettings) -> "Survey":
        """Look over every cutout.

        Parameters
        ----------
        keys : (b,) int64; they choose the `background_samples` pixels the background is estimated
            from, with replacement. Smaller cutouts are used whole.
        """

    def brightest(self, corners: Tensor, side_px: int) -> Tensor:
        """(b, n, 2) int64 brightest pixels (x, y) of squares from their (b, n, 2) corners."""

    def local_peaks(self, points: Tensor, window_px: int) -> Tensor:
        """(b, n) float32 maxima of windows around (b, n, 2) points, cut at the edge."""

    def first_informative(
        self, candidates: Tensor, side_px_max: int, bright_pixels: int, settings: EmptySettings
    ) -> Tensor:
        """The first of (b, n, 4) boxes that is not empty, else the last; (b, 4).

        No box is larger than `side_px_max`; for `bright_pixels` see `emptiness.is_empty`.
        """

    def view(
        self,
        boxes: Tensor,
        side_px_max: int,
        keys: Tensor,
        operators: OperatorSettings,
        empty: EmptySettings,
        out: Tensor,
    ) -> Tensor:
        """Crop, resize, test for emptiness, augment.

        A view is tested before its noise: after it, a blank view has bright pixels as any other,
        and the test could never fail.

        Parameters
        ----------
        boxes : (b, 4) int64, square, inside the cutouts, none larger than `side_px_max`
        keys : (b,) int64 of the views
        out : (b, out_px, out_px) float32, filled with the views, in [0, 1]

        Returns
        -------
        (b,) bool, which were empty
        """


def pixels_of(cutouts: Tensor) -> Pixels:
    """The faster of the two for the device the cutouts are on.

    Parameters
    ----------
    cutouts : (b, 1, size, size), float32 in [0, 1] or uint16 in units of 1/65535. A float that is
        not finite counts as 0, as in the stretch.

    Raises
    ------
    ValueError
        If they are of another shape or type.
    """
    if cutouts.ndim != 4 or cutouts.shape[1] != 1 or cutouts.shape[2] != cutouts.shape[3]:
        raise ValueError(
            f"cutouts have shape {tuple(cutouts.shape)}; expected (batch, 1, size, size)"
        )
    if cutouts.dtype not in (torch.uint16, torch.float32):
        raise ValueError(f"cutouts are {cutouts.dtype}; expected float32 in [0, 1] or uint16")
    # Each brings imports the other does not need.
    if cutouts.device.type == "cpu":
        from stradavit.views.loops import LoopPixels

        return LoopPixels(cutouts[:, 0])
    from stradavit.views.tensors import TensorPixels

    return TensorPixels(cutouts[:, 0])


def without_nonsense(images: Tensor) -> Tensor:
    """Float images with what is no number as 0, clipped to [0, 1]; a copy."""
    return images.nan_to_num(0.0, 0.0, 0.0).clamp_(0, 1)
