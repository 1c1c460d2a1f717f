"""Small fake cutouts: noise, and sources that are few, compact and unequal."""

import numpy as np
import torch


def sparse_sky(count: int, size: int, seed: int, noise: float = 0.05) -> torch.Tensor:
    """(count, 1, size, size) float32 in [0, 1]; every fourth cutout has no source at all."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size]
    images = np.abs(rng.normal(0, noise, (count, size, size)))
    for n in range(count):
        for _ in range(rng.integers(1, 5) if n % 4 else 0):
            x0, y0 = rng.uniform(0, size, 2)
            width, peak = rng.uniform(1, 6), rng.uniform(0.2, 1.2)
            images[n] += peak * np.exp(-((x - x0) ** 2 + (y - y0) ** 2) / (2 * width**2))
    return torch.from_numpy(images.clip(0, 1).astype(np.float32))[:, None]
