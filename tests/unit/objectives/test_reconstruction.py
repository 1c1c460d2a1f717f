"""The reconstruction losses in patches against loops over the pixels of whole images."""

import pytest
import torch
from torch import Tensor

from stradavit.models.mae import patchify
from stradavit.objectives.reconstruction import (
    batch_brightness,
    masked_patch_mse,
    normalised_patches,
    reconstruction_loss,
    unit_brightness,
)
from stradavit.settings.training import ReconstructionSettings
from tests.reference import reconstruction as reference

PATCH_PX = 4
SETTINGS = ReconstructionSettings(patch_weight=0.7, global_l1_weight=0.3, brightness_l1_weight=0.4)


@pytest.fixture
def batch() -> dict[str, Tensor]:
    """Images (2, 3, 8, 12) in [0, 1], normalised, predicted, and a mask of their patches."""
    generator = torch.Generator().manual_seed(3)
    image = torch.rand(2, 1, 8, 12, generator=generator).pow(4).expand(-1, 3, -1, -1)
    image = image * torch.tensor([1.0, 0.2]).view(2, 1, 1, 1)  # one image is faint
    x = (image - 0.45) / 0.22
    predicted = x + torch.randn(x.shape, generator=generator)
    mask = torch.tensor([[[1, 0, 1], [0, 1, 1]], [[1, 1, 1], [1, 0, 0]]])
    return {"image": image, "x": x, "predicted": predicted, "mask": mask}


def ours(name: str, batch: dict[str, Tensor], settings: ReconstructionSettings) -> Tensor:
    return reconstruction_loss(
        name,
        patchify(batch["predicted"], PATCH_PX),
        patchify(batch["x"], PATCH_PX),
        batch["mask"].flatten(1),
        patchify(batch["image"], PATCH_PX),
        settings,
    )


@pytest.mark.parametrize("brightness", ["unit", "normalised_batch"])
@pytest.mark.parametrize("name", ["l2", "l2_l1", "l2_bl1"])
def test_value_and_gradient_are_those_of_the_equations(
    name: str, brightness: str, batch: dict[str, Tensor]
) -> None:
    settings = SETTINGS.model_copy(update={"brightness": brightness})
    predicted = batch["predicted"].clone().requires_grad_()
    twin = batch["predicted"].double().requires_grad_()
    found = ours(name, batch | {"predicted": predicted}, settings)
    if brightness == "unit":
        weights = reference.weights_unit(batch["image"].double(), 1e-6)
    else:
        weights = reference.weights_batch(batch["x"].double(), 1e-6)
    expected = reference.loss(
        name,
        batch["x"].double(),
        twin,
        batch["mask"],
        PATCH_PX,
        weights,
        lambda_patch=0.7,
        lambda_l1=0.3 if name == "l2_l1" else 0.4,
    )
    found.backward()
    expected.backward()
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=0)
    torch.testing.assert_close(predicted.grad.double(), twin.grad, rtol=1e-5, atol=1e-8)


def test_visible_patches_do_not_enter_the_masked_error(batch: dict[str, Tensor]) -> None:
    before = ours("l2", batch, SETTINGS)
    visible = batch["mask"].repeat_interleave(4, 1).repeat_interleave(4, 2).unsqueeze(1) == 0
    changed = torch.where(visible, 100.0, batch["predicted"])
    assert torch.equal(ours("l2", batch | {"predicted": changed}, SETTINGS), before)
    assert ours("l2_l1", batch | {"predicted": changed}, SETTINGS) > before + 1


def test_weights_have_unit_mean_and_no_gradient(batch: dict[str, Tensor]) -> None:
    image = patchify(batch["image"], PATCH_PX).requires_grad_()
    weights = unit_brightness(image, 1e-6)
    torch.testing.assert_close(weights.mean(dim=(1, 2)), torch.ones(2))
    assert not weights.requires_grad
    assert batch_brightness(image, 1e-6).mean().item() == pytest.approx(1)
    # The faint image has the same weights as if it were bright: the mean is per image.
    torch.testing.assert_close(unit_brightness(image * 0.5, 1e-6), weights)


def test_a_black_image_weighs_nothing() -> None:
    assert torch.equal(unit_brightness(torch.zeros(1, 2, 3), 1e-6), torch.zeros(1, 2, 3))


def test_normalised_targets_are_seen_by_both_terms(batch: dict[str, Tensor]) -> None:
    target = normalised_patches(patchify(batch["x"], PATCH_PX))
    torch.testing.assert_close(target.mean(-1), torch.zeros(2, 6), atol=1e-5, rtol=0)
    torch.testing.assert_close(target.var(-1), torch.ones(2, 6), atol=1e-3, rtol=0)
    found = reconstruction_loss(
        "l2_l1",
        target,
        patchify(batch["x"], PATCH_PX),
        batch["mask"].flatten(1),
        patchify(batch["image"], PATCH_PX),
        SETTINGS.model_copy(update={"normalise_patches": True}),
    )
    assert found.item() == 0.0


def test_half_precision_predictions_are_compared_in_float32(batch: dict[str, Tensor]) -> None:
    target = patchify(batch["x"], PATCH_PX)
    mask = batch["mask"].flatten(1)
    found = masked_patch_mse((target + 1).bfloat16(), target, mask)
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(1, abs=0.02)


def test_shapes_that_do_not_fit_are_named(batch: dict[str, Tensor]) -> None:
    with pytest.raises(ValueError, match=r"found \(2, 6, 48\), \(2, 6, 48\), \(2, 6, 16\)"):
        ours("l2", batch | {"image": batch["image"][:, :1]}, SETTINGS)
