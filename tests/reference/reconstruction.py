"""The reconstruction losses on whole images, pixel by pixel in float64 (section 6.2)."""

import torch
from torch import Tensor


def masked_mse(x: Tensor, x_hat: Tensor, mask: Tensor, patch_px: int) -> Tensor:
    """(2): the squared error over the pixels of the hidden patches.

    x, x_hat : (batch, channel, ny, nx); mask : (batch, ny/patch_px, nx/patch_px), 1 is hidden
    """
    total, count = torch.zeros((), dtype=torch.float64), 0
    for b in range(x.shape[0]):
        for i in range(mask.shape[1]):
            for j in range(mask.shape[2]):
                if mask[b, i, j]:
                    rows = slice(i * patch_px, (i + 1) * patch_px)
                    columns = slice(j * patch_px, (j + 1) * patch_px)
                    error = x_hat[b, :, rows, columns] - x[b, :, rows, columns]
                    total = total + (error**2).sum()
                    count += error.numel()
    return total / count


def weights_unit(x01: Tensor, eps: float) -> Tensor:
    """(5): brightness over its mean in each image; x01 (batch, channel, ny, nx) in [0, 1]."""
    return torch.stack([image / max(image.mean().item(), eps) for image in x01])


def weights_batch(x: Tensor, eps: float) -> Tensor:
    """The authors' |normalised input| over its mean in the batch."""
    return x.abs() / max(x.abs().mean().item(), eps)


def loss(
    name: str,
    x: Tensor,
    x_hat: Tensor,
    mask: Tensor,
    patch_px: int,
    weights: Tensor | None = None,
    lambda_patch: float = 1.0,
    lambda_l1: float = 0.1,
) -> Tensor:
    """(3), (4) or (6); the mean of an image is over its pixels and channels."""
    value = lambda_patch * masked_mse(x, x_hat, mask, patch_px)
    if name == "l2_l1":
        per_image = [(h - t).abs().mean() for h, t in zip(x_hat, x, strict=True)]
        value = value + lambda_l1 * sum(per_image) / len(per_image)
    if name == "l2_bl1":
        assert weights is not None
        per_image = [(w * (h - t).abs()).mean() for w, h, t in zip(weights, x_hat, x, strict=True)]
        value = value + lambda_l1 * sum(per_image) / len(per_image)
    return value
