"""Weights of a scratch start, each tensor a function of (seed, its name) alone.

So two models that differ in one part, say in their registers, share all their other weights.
"""

import hashlib
import math

import torch
from torch import Tensor, nn

from stradavit.models.config import EncoderConfig
from stradavit.models.encoder import sin_cos_positions

_POSITIONS = ("position_embeddings", "decoder_pos_embed")
_NORMS = ("layernorm", "layernorm_before", "layernorm_after", "decoder_norm")


def initial_weights(module: nn.Module, config: EncoderConfig, seed: int) -> dict[str, Tensor]:
    """Draw every tensor of a ViT-MAE's state by transformers' rules for ViT-MAE.

    Linear layers, class and mask token: normal with the std of the config; patch projection:
    Xavier uniform; biases 0, norms 1; positions sin-cos; registers: truncated normal, std 0.02.

    Parameters
    ----------
    module : a `ViTEncoder` or `MaskedAutoencoder`, on any device, `meta` included
    seed : of the scratch start

    Returns
    -------
    Name to float32 tensor on the CPU, one for each entry of the module's state
    """
    prefix = "" if any(name.startswith("vit.") for name in module.state_dict()) else "vit."
    return {
        name: _draw(prefix + name, tuple(tensor.shape), config.initializer_range, seed)
        for name, tensor in module.state_dict().items()
    }


def generator_for(seed: int, name: str) -> torch.Generator:
    """A CPU random generator for one named thing of a run."""
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big", signed=True))


def _draw(name: str, shape: tuple[int, ...], std: float, seed: int) -> Tensor:
    *_, owner, kind = name.split(".")
    if kind in _POSITIONS:
        return sin_cos_positions(math.isqrt(shape[1] - 1), shape[2])
    if kind == "bias":
        return torch.zeros(shape)
    if owner in _NORMS:
        return torch.ones(shape)
    drawn, generator = torch.empty(shape), generator_for(seed, name)
    if kind == "register_tokens":
        return nn.init.trunc_normal_(drawn, std=0.02, generator=generator)
    if owner == "projection":
        # The convolution is a linear layer on flattened patches, and is drawn like one.
        nn.init.xavier_uniform_(drawn.view(shape[0], -1), generator=generator)
        return drawn
    return nn.init.normal_(drawn, std=std, generator=generator)
