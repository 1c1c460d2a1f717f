"""Counted operations and parameters against torch's own count of what networks do and hold."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from stradavit.models.config import DecoderConfig, EncoderConfig
from stradavit.models.cost import (
    autoencoder_parameters,
    contrastive_flops,
    dinov2_parameters,
    dinov2_shape,
    encoder_flops,
    encoder_parameters,
    head_parameters,
    reconstruction_flops,
)
from stradavit.models.encoder import ViTEncoder
from stradavit.models.mae import MaskedAutoencoder
from stradavit.models.projection import ProjectionHead

CONFIG = EncoderConfig(
    image_px=48,
    patch_px=8,
    width=32,
    layers=3,
    heads=2,
    mlp_width=80,
    registers=4,
    decoder=DecoderConfig(width=24, layers=2, heads=3, mlp_width=48),
)


def counted(forward, *inputs) -> float:  # type: ignore[no-untyped-def]
    """Forward FLOPs; in bfloat16, where attention is plain products that torch can count."""
    with (
        FlopCounterMode(display=False) as counter,
        torch.no_grad(),
        torch.autocast("cpu", torch.bfloat16),
    ):
        forward(*inputs)
    return counter.get_total_flops()


def numbers_in(module: nn.Module) -> int:
    """Values a module's weight file holds."""
    return sum(tensor.numel() for tensor in module.state_dict().values())


@pytest.mark.parametrize("registers", [0, 4])
def test_reconstruction_flops_are_those_of_the_products(registers: int) -> None:
    config = replace(CONFIG, registers=registers)
    mae = MaskedAutoencoder(ViTEncoder(config))
    found = counted(mae, torch.randn(1, 3, 48, 48), torch.rand(1, config.patches), 0.75)
    assert reconstruction_flops(config, 0.75) == 3 * found


def test_contrastive_flops_are_those_of_the_products() -> None:
    encoder, head = ViTEncoder(CONFIG), ProjectionHead(32, 40, 16, False, 0)
    images = torch.randn(1, 3, 48, 48)
    assert encoder_flops(CONFIG) == counted(encoder.readout, images)
    found = counted(lambda x: head(encoder.readout(x)), images)
    assert contrastive_flops(encoder_flops(CONFIG), 32, 40, 16, views=2) == 3 * 2 * found


@pytest.mark.parametrize("registers", [0, 4])
def test_a_dinov2_costs_as_much_as_the_same_vit(registers: int) -> None:
    from transformers import (
        Dinov2Config,
        Dinov2Model,
        Dinov2WithRegistersConfig,
        Dinov2WithRegistersModel,
    )

    shape = {
        "image_size": 48,
        "patch_size": 8,
        "hidden_size": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "mlp_ratio": 4,
    }
    if registers:
        theirs = Dinov2WithRegistersConfig(**shape, num_register_tokens=registers)
        model = Dinov2WithRegistersModel(theirs)
    else:
        theirs = Dinov2Config(**shape)
        model = Dinov2Model(theirs)
    # What transformers writes into config.json, without the values that are its own defaults.
    for values in (theirs.to_dict(), theirs.to_diff_dict()):
        found = dinov2_shape(values)
        assert encoder_flops(found) == encoder_flops(
            replace(CONFIG, mlp_width=128, registers=registers)
        )
        assert dinov2_parameters(found) == numbers_in(model)


@pytest.mark.parametrize("registers", [0, 4])
def test_parameters_are_those_of_the_networks(registers: int) -> None:
    config = replace(CONFIG, registers=registers)
    mae = MaskedAutoencoder(ViTEncoder(config))
    assert encoder_parameters(config) == numbers_in(mae.vit)
    assert autoencoder_parameters(config) == numbers_in(mae)
    assert head_parameters(32, 40, 16) == numbers_in(ProjectionHead(32, 40, 16, False, 0))


def test_the_papers_autoencoder_has_the_size_of_its_file() -> None:
    # 448 MB at the hub, in float32.
    assert 4 * autoencoder_parameters(EncoderConfig()) == pytest.approx(448e6, rel=2e-3)


def test_the_papers_network_has_the_flops_everybody_names() -> None:
    # 17.6 billion multiplications and additions an image (Dosovitskiy et al. 2021, as in timm).
    assert encoder_flops(EncoderConfig()) == pytest.approx(2 * 17.56e9, rel=5e-3)
