"""Places of an image that can be found again in another image of the same sky.

Everything works on *local contrast*, which does not change with brightness and gives faint
structure, noise included, as much to say as bright sources: where there is noise it is the
fingerprint of an image, and images of different point sources do not look alike.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter, uniform_filter

Floats = NDArray[np.float32]
Contrasts = NDArray[np.int16]

# Side of the surroundings a pixel is compared with: a few beams.
SURROUNDINGS_PX = 15
# Contrast fades below this share of the image's range; the steps of 8-bit images are 1/255 of it.
FAINT = 0.02
# A lone bright pixel stands out by 12 of its surroundings' standard deviations, the most possible.
CONTRAST_UNITS = 1024
# Landmarks are the highest contrasts within this distance, at most one per `AREA_PX` on average.
APART_PX = 6
AREA_PX = 900
FEWEST = 8
LEAST_CONTRAST = 0.5

N_ORIENTATIONS = 8
# A window is SIDE x SIDE samples this many pixels apart: one of 25 px, one of 73 px.
SIDE = 13
STEPS_PX = (2, 6)
# Share of a window's amplitude that is left when its eight orientations are averaged; of a window
# with nothing but a point source, nearly all is.
MOST_SYMMETRIC = 0.95
# Moments closer to a tie than this, in units of a random window's, count as both ways round.
TIE = 0.1
# Samples of a window of norm 1 are at most 1, and 0.08 as a rule.
UNIT = 1 / 127


@dataclass(frozen=True)
class Landmarks:
    """Windows around landmarks, each turned to a standard orientation.

    A window whose standard orientation is nearly a tie is there once for each.

    Attributes
    ----------
    image : (n,) int32, number of the image
    place : (n, 2) int32, y and x of the middle, px
    orientation : (n,) int8; `orient` by it turns the image's window to the standard one
    window : (n, SIDE²) int8, the standard window with mean 0 and norm 1, in units of `UNIT`
    """

    image: NDArray[np.int32]
    place: NDArray[np.int32]
    orientation: NDArray[np.int8]
    window: NDArray[np.int8]

    def __len__(self) -> int:
        return len(self.image)

    @classmethod
    def joined(cls, parts: "list[Landmarks]") -> "Landmarks":
        """All of them in a row."""
        columns = ("image", "place", "orientation", "window")
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in columns))


def orient(images: NDArray[Any], orientation: int) -> NDArray[Any]:
    """(..., ny, nx) images turned by (orientation mod 4) · 90°, then flipped in x if it is >= 4.

    The same eight orientations as those of the probe; a view.
    """
    turned = np.rot90(images, orientation % 4, axes=(-2, -1))
    return turned[..., ::-1] if orientation >= 4 else turned


# TURNED[k]: which samples of a window make the one turned by k.
TURNED = np.stack(
    [orient(np.arange(SIDE * SIDE).reshape(SIDE, SIDE), k).ravel() for k in range(N_ORIENTATIONS)]
)


def local_contrasts(image: NDArray[np.floating]) -> Contrasts:
    """How much each pixel stands out from its surroundings, in their standard deviations.

    Parameters
    ----------
    image : (ny, nx), finite, any range

    Returns
    -------
    (ny, nx) int16 in units of 1 / `CONTRAST_UNITS`; 0 where the surroundings are constant
    """
    low, high = float(image.min()), float(image.max())
    if low == high:
        return np.zeros(image.shape, dtype=np.int16)
    scaled = ((image - low) / (high - low)).astype(np.float32)
    mean = uniform_filter(scaled, SURROUNDINGS_PX, mode="nearest")
    variance = uniform_filter(scaled * scaled, SURROUNDINGS_PX, mode="nearest") - mean * mean
    contrasts = (scaled - mean) / (np.sqrt(np.maximum(variance, 0)) + np.float32(FAINT))
    rounded: Contrasts = np.rint(contrasts * np.float32(CONTRAST_UNITS)).astype(np.int16)
    return rounded


def cut_windows(contrasts: Contrasts) -> tuple[NDArray[np.int64], list[Floats]]:
    """Landmarks of an image with the windows around them, not yet turned.

    Parameters
    ----------
    contrasts : (ny, nx), see `local_contrasts`

    Returns
    -------
    places : (n, 2) y and x, the highest contrast first
    windows : for each of `STEPS_PX` (n, SIDE²) float32; beyond the edge there is no contrast
    """
    contrast = contrasts.astype(np.float32)
    contrast /= CONTRAST_UNITS
    smooth = uniform_filter(contrast, 3, mode="constant")
    is_highest = smooth == maximum_filter(smooth, 2 * APART_PX + 1, mode="constant")
    places = np.argwhere(is_highest & (smooth > LEAST_CONTRAST))
    heights = smooth[places[:, 0], places[:, 1]]
    n_most = max(FEWEST, contrast.size // AREA_PX)
    places = places[np.argsort(-heights, kind="stable")[:n_most]]
    # In wide samples positive and negative contrasts cancel; their strength does not.
    strength = np.abs(contrast)
    strength -= strength.mean()
    strength = uniform_filter(strength, STEPS_PX[1] + 1, mode="constant")
    samples = zip((smooth, strength), STEPS_PX, strict=True)
    return places, [_windows(pixels, places, step_px) for pixels, step_px in samples]


def _windows(pixels: Floats, places: NDArray[np.int64], step_px: int) -> Floats:
    reach = SIDE // 2 * step_px
    padded = np.pad(pixels, reach)
    offsets = np.arange(SIDE) * step_px
    rows, columns = (places[:, axis, None] + offsets for axis in (0, 1))
    windows: Floats = padded[rows[:, :, None], columns[:, None, :]].reshape(-1, SIDE * SIDE)
    return windows


def standard_landmarks(
    images: NDArray[np.int32], places: NDArray[np.int64], windows: Floats
) -> Landmarks:
    """Windows (n, SIDE²) in standard orientation, without those that look the same from all sides.

    Parameters
    ----------
    images : (n,) number of the image of each
    places : (n, 2) y and x
    windows : (n, SIDE²)
    """
    windows = windows - windows.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(windows, axis=1)
    symmetric = np.linalg.norm(windows @ AVERAGE, axis=1)
    tells = symmetric < MOST_SYMMETRIC * norms
    windows = windows[tells] / norms[tells, None]
    # The standard orientation is the one whose first moments are positive and in this order.
    moments = (windows @ RAMPS).reshape(-1, 2, N_ORIENTATIONS)
    my, mx = moments[:, 0], moments[:, 1]
    which, orientation = np.nonzero((mx >= -TIE) & (my >= -TIE) & (mx - my >= -TIE))
    turned = windows[which[:, None], TURNED[orientation]]
    return Landmarks(
        images[tells][which],
        places[tells][which].astype(np.int32),
        orientation.astype(np.int8),
        np.rint(turned / np.float32(UNIT)).astype(np.int8),
    )


def _ramps() -> Floats:
    """(SIDE², 16): moments in y of a window's eight orientations, then those in x."""
    ramp = np.linspace(-1, 1, SIDE)
    ramps = np.zeros((SIDE * SIDE, 2, N_ORIENTATIONS))
    for k, samples in enumerate(TURNED):
        ramps[samples, 0, k] = np.repeat(ramp, SIDE)
        ramps[samples, 1, k] = np.tile(ramp, SIDE)
    # A random window of norm 1 then has moments of the order of 1.
    scaled: Floats = (ramps / np.linalg.norm(ramps[:, 0, 0]) * SIDE).astype(np.float32)
    return scaled.reshape(SIDE * SIDE, -1)


def _average() -> Floats:
    """(SIDE², SIDE²): replaces a window by the mean of its eight orientations."""
    average = np.zeros((SIDE * SIDE, SIDE * SIDE), dtype=np.float32)
    for samples in TURNED:
        average[samples, np.arange(SIDE * SIDE)] += 1 / N_ORIENTATIONS
    return average


RAMPS = _ramps()
AVERAGE = _average()
