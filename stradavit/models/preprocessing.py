"""What happens to a stretched image before an encoder: channels, mean and standard deviation."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import torch
from torch import Tensor

from stradavit.errors import DataError

Resample = Literal["bilinear", "bicubic"]
# The codes image processors store are Pillow's.
_CODES: dict[Resample, int] = {"bilinear": 2, "bicubic": 3}


@dataclass(frozen=True)
class Preprocessing:
    """How an encoder wants its images.

    Parameters
    ----------
    image_px : native side of the input
    mean, std : one value per channel, of images in [0, 1]
    resample : interpolation the image processor names; the paper's evaluation is bicubic
    """

    image_px: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    resample: Resample = "bicubic"

    @classmethod
    def identity(cls, image_px: int, channels: int) -> "Preprocessing":
        """No normalisation: what scratch starts use (paper, section 8.1)."""
        return cls(image_px, (0.0,) * channels, (1.0,) * channels)

    @classmethod
    def from_hf(
        cls, values: Mapping[str, Any], image_px: int, channels: int, where: str
    ) -> "Preprocessing":
        """Read a `preprocessor_config.json`.

        The size comes from the encoder (`image_px`): that of a processor may be a crop of a
        photograph. Its rescale by 1/255 is for 8-bit files and is ignored, since our images are
        in [0, 1] already.

        Raises
        ------
        DataError
            If mean or standard deviation do not fit the channels, or the interpolation is another.
        """
        if not values.get("do_normalize", True):
            mean, std = (0.0,) * channels, (1.0,) * channels
        else:
            mean = _per_channel(values, "image_mean", channels, where)
            std = _per_channel(values, "image_std", channels, where)
            if min(std) <= 0:
                raise DataError(f"{where}: image_std is {list(std)}; expected positive numbers")
        code = values.get("resample", _CODES["bilinear"])
        names = [name for name, known in _CODES.items() if known == code]
        if not names:
            raise DataError(f"{where}: resample is {code!r}; expected 2 (bilinear) or 3 (bicubic)")
        return cls(image_px, mean, std, names[0])

    def to_hf(self) -> dict[str, Any]:
        """A `preprocessor_config.json` that transformers' ViTImageProcessor reads.

        It does not rescale: its input is the zscale-stretched image in [0, 1], not 8-bit pixels.
        """
        return {
            "image_processor_type": "ViTImageProcessor",
            "do_resize": True,
            "size": {"height": self.image_px, "width": self.image_px},
            "resample": _CODES[self.resample],
            "do_rescale": False,
            "do_normalize": True,
            "image_mean": list(self.mean),
            "image_std": list(self.std),
            "stradavit_note": "input: zscale-stretched images in [0, 1], hence no rescale by 1/255",
        }

    def normalise(self, pixels: Tensor, channels: int) -> Tensor:
        """Repeat the single channel and normalise each copy.

        Parameters
        ----------
        pixels : (batch, 1, ny, nx) float in [0, 1]; bicubic overshoot is left as it is
        channels : channels the encoder expects, as many as there are means

        Returns
        -------
        (batch, channels, ny, nx) float32

        Raises
        ------
        ValueError
            If the images have more than one channel, or the means are fewer or more.
        """
        if pixels.shape[1] != 1 or channels != len(self.mean):
            raise ValueError(
                f"pixels have shape {tuple(pixels.shape)} and go to {channels} channels; expected "
                f"one channel to be repeated to the {len(self.mean)} this preprocessing is for"
            )
        mean, std = (_on_device(values, pixels.device) for values in (self.mean, self.std))
        return (pixels.float() - mean) / std


@lru_cache
def _on_device(values: tuple[float, ...], device: torch.device) -> Tensor:
    """(1, channels, 1, 1) float32; kept, since the copy to a GPU would make every batch wait."""
    return torch.tensor(values, device=device).view(1, -1, 1, 1)


def _per_channel(
    values: Mapping[str, Any], key: str, channels: int, where: str
) -> tuple[float, ...]:
    found = values.get(key)
    is_numbers = isinstance(found, list) and all(
        isinstance(value, int | float) and not isinstance(value, bool) for value in found
    )
    if not is_numbers or len(found or ()) != channels:
        raise DataError(
            f"{where}: {key} is {found!r}; expected a list of {channels} numbers, one per channel"
        )
    return tuple(float(value) for value in found or ())
