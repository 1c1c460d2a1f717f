"""PNG and JPEG images as products, for surveys and benchmarks that were published as pictures."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from stradavit.cutouts.product import check_memory, named_failures
from stradavit.errors import MalformedProductError

# ITU-R 601: the weights Pillow uses for mode L, kept in floats here so that nothing is rounded.
LUMINANCE = np.array([0.299, 0.587, 0.114], dtype=np.float32)

# Decoded pixels, their palette-free copy of four channels in floats, and the result.
BYTES_PER_PIXEL = 4 + 4 * 4 + 4


class ImageProduct:
    """A picture: one plane, no sky. Row 0 is the top row of the picture, as stored."""

    n_planes = 1
    wcs = None
    beam_arcsec = None
    pixel_scale_arcsec = None
    unit = ""
    frequency_hz = None

    def __init__(self, pixels: NDArray[np.float32], full_scale: float) -> None:
        self._pixels = pixels
        self.full_scale = full_scale  # the largest value a pixel of its depth can have
        self.shape: tuple[int, int] = (pixels.shape[0], pixels.shape[1])

    def read(self, plane: int, y0: int, y1: int) -> NDArray[np.float32]:
        """Rows `y0` to `y1` (half-open), (y1 - y0, nx) float32."""
        return self._pixels[y0:y1].copy()


def open_image(path: Path, memory_mb: int) -> ImageProduct:
    """Decode a PNG or JPEG file.

    Colours become their luminance, 0.299 R + 0.587 G + 0.114 B; transparency is ignored. 8-bit
    values stay in 0..255, 16-bit values in 0..65535.

    Raises
    ------
    MalformedProductError
        `too_large`, before any pixel is decoded, or `truncated`, or `unreadable`.
    """
    with named_failures(path):
        try:
            # Pillow's own guard against decompression bombs counts pixels too, but its limit is
            # fixed for the whole process; ours comes from the settings.
            image = Image.open(path, formats=("PNG", "JPEG"))
        except Image.DecompressionBombError as error:
            raise MalformedProductError("too_large", f"{path}: {error}") from error
        with image:
            needed = image.width * image.height * BYTES_PER_PIXEL
            check_memory(path, needed, memory_mb, f"a {image.width} x {image.height} image")
            try:
                image.load()
            except OSError as error:
                reason = "truncated" if "truncated" in str(error) else "unreadable"
                raise MalformedProductError(reason, f"{path}: {error}") from error
            return ImageProduct(_luminance(image), 65535.0 if _is_deep(image) else 255.0)


def _is_deep(image: Image.Image) -> bool:
    """Whether its values are 16-bit; of colours Pillow gives 8 bits in any case."""
    return image.mode in ("I", "F") or image.mode.startswith("I;16")


def _luminance(image: Image.Image) -> NDArray[np.float32]:
    if image.mode == "L" or _is_deep(image):
        return np.asarray(image).astype(np.float32)
    if image.mode in ("1", "LA"):
        return np.asarray(image.convert("L")).astype(np.float32)
    return np.asarray(image.convert("RGB")).astype(np.float32) @ LUMINANCE
