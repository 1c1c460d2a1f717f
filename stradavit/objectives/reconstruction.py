"""Losses of masked reconstruction (paper, section 6.2, equations 2 to 6).

Everything is in patches: (batch, n, p) with p = patch_px * patch_px * channel. A mean over the
pixels of an image is the same in either layout, so nothing has to be put together again. All is
computed in float32, also under autocast.
"""

import torch
from torch import Tensor

from stradavit.settings.training import ReconstructionLoss, ReconstructionSettings

# Floor of the variance in pixel-normalised targets (He et al. 2022).
_PATCH_EPS = 1e-6


def reconstruction_loss(
    name: ReconstructionLoss,
    prediction: Tensor,
    target: Tensor,
    mask: Tensor,
    image: Tensor,
    settings: ReconstructionSettings,
) -> Tensor:
    """The loss called `name`, with the weights of the settings.

    `l2`: equation 3; `l2_l1`: equation 4; `l2_bl1`: equation 6. With `normalise_patches` the
    network predicts normalised patches, so both terms compare with those; the brightness weights
    are still those of the image.

    Parameters
    ----------
    prediction : (batch, n, p) float, patches the decoder predicts
    target : (batch, n, p) float, patches of the normalised input
    mask : (batch, n), 1 where the patch was hidden
    image : (batch, n, p) float, the same patches in [0, 1], before normalisation
    settings : weights and the definition of brightness

    Returns
    -------
    () float32, mean over the batch

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    if not prediction.shape == target.shape == image.shape or prediction.shape[:2] != mask.shape:
        raise ValueError(
            "prediction, target and image must have one shape (batch, n, p) and the mask "
            f"(batch, n); found {tuple(prediction.shape)}, {tuple(target.shape)}, "
            f"{tuple(image.shape)} and {tuple(mask.shape)}"
        )
    compared = normalised_patches(target) if settings.normalise_patches else target.float()
    loss = settings.patch_weight * masked_patch_mse(prediction, compared, mask)
    if name == "l2_l1":
        loss = loss + settings.global_l1_weight * global_l1(prediction, compared)
    elif name == "l2_bl1":
        if settings.brightness == "unit":
            weights = unit_brightness(image, settings.brightness_eps)
        else:
            weights = batch_brightness(target, settings.brightness_eps)
        weighted = brightness_l1(prediction, compared, weights)
        loss = loss + settings.brightness_l1_weight * weighted
    return loss


def masked_patch_mse(prediction: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Mean squared error over the hidden patches (equation 2; He et al. 2022).

    Parameters
    ----------
    prediction, target : (batch, n, p) float
    mask : (batch, n), 1 where the patch was hidden; at least one is

    Returns
    -------
    () float32, mean over all hidden patches of the batch
    """
    per_patch = (prediction.float() - target.float()).square().mean(dim=-1)
    return (per_patch * mask).sum() / mask.sum()


def global_l1(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean absolute error over all pixels and channels, hidden or not (equation 4).

    Parameters
    ----------
    prediction, target : (batch, n, p) float

    Returns
    -------
    () float32
    """
    return (prediction.float() - target.float()).abs().mean()


def brightness_l1(prediction: Tensor, target: Tensor, weights: Tensor) -> Tensor:
    """Mean absolute error weighted by brightness (equation 6).

    Parameters
    ----------
    prediction, target : (batch, n, p) float
    weights : (batch, n, p) float, of unit mean: see `unit_brightness`, `batch_brightness`

    Returns
    -------
    () float32
    """
    return (weights * (prediction.float() - target.float()).abs()).mean()


@torch.no_grad()
def unit_brightness(image: Tensor, eps: float) -> Tensor:
    """Weights proportional to the brightness in [0, 1], of unit mean in each image (equation 5).

    Parameters
    ----------
    image : (batch, n, p) float in [0, 1]
    eps : floor of the mean; an image fainter than it weighs less than one, a black one nothing

    Returns
    -------
    (batch, n, p) float32, without gradient
    """
    brightness = image.float()
    return brightness / brightness.mean(dim=(1, 2), keepdim=True).clamp_min(eps)


@torch.no_grad()
def batch_brightness(target: Tensor, eps: float) -> Tensor:
    """Weights of the authors' code: |normalised input|, of unit mean over the batch.

    After ImageNet's normalisation the black background is about −2, so this does not weigh bright
    pixels up; it is an option for comparison with the published runs.

    Parameters
    ----------
    target : (batch, n, p) float, patches of the normalised input
    eps : floor of the mean

    Returns
    -------
    (batch, n, p) float32, without gradient
    """
    brightness = target.float().abs()
    return brightness / brightness.mean().clamp_min(eps)


def normalised_patches(target: Tensor) -> Tensor:
    """Patches of zero mean and unit (unbiased) variance: the targets of He et al. 2022.

    Parameters
    ----------
    target : (batch, n, p) float

    Returns
    -------
    (batch, n, p) float32
    """
    target = target.float()
    variance, mean = torch.var_mean(target, dim=-1, keepdim=True)
    return (target - mean) / (variance + _PATCH_EPS).sqrt()
