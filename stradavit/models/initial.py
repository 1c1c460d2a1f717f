"""Weights of a scratch start, each tensor a function of (seed, its name) alone.

So two models that differ in one part, say in their registers, share all their other weights.
"""

import hashlib
import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from stradavit.models.encoder import sin_cos_positions

_POSITIONS = ("position_embeddings", "decoder_pos_embed")
_NORMS = ("layernorm", "layernorm_before", "layernorm_after", "decoder_norm", "norm1", "norm2")


def initial_weights(state: Mapping[str, Tensor], std: float, seed: int) -> dict[str, Tensor]:
    """Draw tensors of a ViT-MAE as He et al. (2022, appendix A.1) do.

    Linear layers and the patch projection: Xavier uniform; class and mask token: normal; biases
    0, norms 1; positions sin-cos; registers: truncated normal of std 0.02. (transformers draws
    linear layers with a std of 0.02 at any width, which leaves the blocks of a narrow network
    so close to the identity that it hardly learns.)

    Parameters
    ----------
    state : what to draw, named as in a `ViTEncoder` or a `MaskedAutoencoder`; only the shapes are
        used, so `meta` tensors will do
    std : of the tokens' normal draws, `initializer_range` of the config
    seed : of the scratch start

    Returns
    -------
    Name to float32 tensor on the CPU, in the shapes of `state`
    """
    return {
        name: _draw(_full_name(name), tuple(tensor.shape), std, seed)
        for name, tensor in state.items()
    }


def initial_dinov2_weights(state: Mapping[str, Tensor], std: float, seed: int) -> dict[str, Tensor]:
    """Draw tensors of a DINOv2 by the same rules.

    What it has beside those of a ViT-MAE: learned positions, which start as a truncated normal
    (Oquab et al. 2024), LayerScale factors, which keep their value, and a mask token of zeros.
    transformers would start registers at zero too, where they all stay the same.

    Parameters
    ----------
    state : tensors under the names of published files
    std : of positions and of the class token, `initializer_range` of the config
    seed : of the scratch start

    Returns
    -------
    Name to float32 tensor on the CPU, in the shapes of `state`
    """
    drawn = {}
    for name, tensor in state.items():
        shape, kind = tuple(tensor.shape), name.rpartition(".")[2]
        if kind == "lambda1":
            drawn[name] = tensor.clone()  # it may lie in a file that is written anew
        elif kind == "mask_token":
            drawn[name] = torch.zeros(shape)
        elif kind == "position_embeddings":
            generator = generator_for(seed, name)
            drawn[name] = nn.init.trunc_normal_(torch.empty(shape), std=std, generator=generator)
        else:
            drawn[name] = _draw(name, shape, std, seed)
    return drawn


def generator_for(seed: int, name: str) -> torch.Generator:
    """A CPU random generator for one named thing of a run."""
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big", signed=True))


def _full_name(name: str) -> str:
    """The name inside an autoencoder, so that an encoder alone gets the same weights."""
    return name if name.startswith(("vit.", "decoder.")) else f"vit.{name}"


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
    if kind == "weight":
        # The patch convolution is a linear layer on flattened patches, and is drawn like one.
        nn.init.xavier_uniform_(drawn.view(shape[0], -1), generator=generator)
        return drawn
    return nn.init.normal_(drawn, std=std, generator=generator)
