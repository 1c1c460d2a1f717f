"""How well a run uses its device: model FLOPs a second, as a share of a named dense peak.

Model FLOPs are those of `stradavit.models.cost`: what is recomputed, normalised or copied counts
nothing, so the share says how much of the time went into the model itself (Chowdhery et al. 2022,
appendix B).
"""

import time
from dataclasses import dataclass
from typing import Literal

import torch

# Dense bfloat16 TFLOP/s (without sparsity) in NVIDIA's data sheet of each product. The first name
# all words of which are in the device's own name ("NVIDIA A100-SXM4-80GB") counts.
_BF16_PEAKS = (
    ("H200", 989.0),
    ("H100 NVL", 835.0),
    ("H100 PCIe", 756.0),
    ("H100", 989.0),
    ("A100", 312.0),
    ("L40S", 362.0),
    ("L4", 121.0),
    ("A10G", 70.0),
    ("RTX 4090", 165.0),
)
_MEASURED_S = 0.1


@dataclass(frozen=True)
class Peak:
    """What a device could do: `flops` a second, and where the number is from."""

    flops: float
    source: str


def device_peak(device: torch.device, precision: Literal["bf16", "fp32"]) -> Peak:
    """The published dense bfloat16 peak of a known GPU, else a matrix product measured now."""
    if device.type == "cuda" and precision == "bf16":
        name = torch.cuda.get_device_name(device)
        published = published_peak(name)
        if published is not None:
            return Peak(published, f"dense bf16 peak of {name}")
    return Peak(
        matrix_product_rate(device, precision, _MEASURED_S), f"measured {precision} matrix product"
    )


def published_peak(name: str) -> float | None:
    """Dense bfloat16 FLOP/s in the data sheet of the GPU that calls itself so, if known."""
    words = name.replace("-", " ").split()
    for known, tflops in _BF16_PEAKS:
        if all(word in words for word in known.split()):
            return tflops * 1e12
    return None


def matrix_product_rate(
    device: torch.device,
    precision: Literal["bf16", "fp32"],
    seconds: float,
    shape: tuple[int, int, int] | None = None,
) -> float:
    """Floating point operations a second of a plain matrix product, the best of several.

    Parameters
    ----------
    seconds : to spend, after a product that is not counted
    shape : rows, inner and columns; if absent, large enough for the device
    """
    is_cuda = device.type == "cuda"
    rows, inner, columns = shape or ((8192,) * 3 if is_cuda else (1024,) * 3)
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    # Not ones: a GPU that multiplies ones draws less power and is faster than it ever is in use.
    generator = torch.Generator(device).manual_seed(0)
    left = torch.randn(rows, inner, dtype=dtype, device=device, generator=generator)
    right = torch.randn(columns, inner, dtype=dtype, device=device, generator=generator)
    best_s, stop = float("inf"), None
    while stop is None or time.perf_counter() < stop:
        started = time.perf_counter()
        torch.nn.functional.linear(left, right)
        if is_cuda:
            torch.cuda.synchronize(device)
        ended = time.perf_counter()
        if stop is None:
            stop = ended + seconds
        else:
            best_s = min(best_s, ended - started)
    if best_s == float("inf"):  # the first product took all the time there was
        best_s = ended - started
    return 2 * rows * inner * columns / best_s


class Gauge:
    """What a rate of cutouts means for each of the devices.

    Parameters
    ----------
    flops : model FLOPs of one cutout
    world : devices that share the cutouts
    peak : of one device
    """

    def __init__(self, flops: float, world: int, peak: Peak) -> None:
        self._flops, self._world, self.peak = flops, world, peak

    def rates(self, cutouts_per_s: float) -> dict[str, float]:
        """TFLOP/s of one device, and its share of the peak."""
        achieved = cutouts_per_s * self._flops / self._world
        return {"tflop_per_s": achieved / 1e12, "peak_fraction": achieved / self.peak.flops}

    def read(self, rates: dict[str, float]) -> str:
        """One line of a window's rates."""
        used = self.rates(rates["cutouts_per_s"])
        return (
            f"{rates['cutouts_per_s']:.4g} cutouts/s, data stall {rates['stall_fraction']:.1%}, "
            f"{used['tflop_per_s']:.3g} TFLOP/s = {used['peak_fraction']:.1%} of the "
            f"{self.peak.source} ({self.peak.flops / 1e12:.3g} TFLOP/s)"
        )
