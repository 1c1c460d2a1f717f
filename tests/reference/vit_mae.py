"""A ViT with registers and its MAE decoder, image by image from a table of weights, in float64.

Written from He et al. 2022 and section 5 of the paper; the names are those of published files.
"""

import math

import torch
from torch import Tensor

Weights = dict[str, Tensor]


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    mean = x.mean(-1, keepdim=True)
    variance = ((x - mean) ** 2).mean(-1, keepdim=True)
    return (x - mean) / torch.sqrt(variance + eps) * weight + bias


def gelu(x: Tensor) -> Tensor:
    return x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))


def block(x: Tensor, w: Weights, prefix: str, heads: int, eps: float) -> Tensor:
    """x : (n, width)"""

    def linear(name: str, y: Tensor) -> Tensor:
        return y @ w[f"{prefix}.{name}.weight"].T + w[f"{prefix}.{name}.bias"]

    def norm(name: str, y: Tensor) -> Tensor:
        return layer_norm(y, w[f"{prefix}.{name}.weight"], w[f"{prefix}.{name}.bias"], eps)

    y = norm("layernorm_before", x)
    q, k, v = (linear(f"attention.attention.{name}", y) for name in ("query", "key", "value"))
    d = x.shape[1] // heads
    mixed = []
    for h in range(heads):
        part = slice(h * d, (h + 1) * d)
        scores = torch.softmax(q[:, part] @ k[:, part].T / math.sqrt(d), dim=-1)
        mixed.append(scores @ v[:, part])
    x = x + linear("attention.output.dense", torch.cat(mixed, dim=1))
    y = gelu(linear("intermediate.dense", norm("layernorm_after", x)))
    return x + linear("output.dense", y)


def encode(
    image: Tensor,
    w: Weights,
    *,
    patch_px: int,
    layers: int,
    heads: int,
    eps: float,
    final_norm: bool,
    keep: list[int] | None = None,
) -> Tensor:
    """Tokens (1 + k, width) of one image (channel, ny, nx): class token, visible patches."""
    w = {name.removeprefix("vit."): tensor.double() for name, tensor in w.items()}
    image = image.double()
    kernel = w["embeddings.patch_embeddings.projection.weight"]
    patches = []
    for y in range(0, image.shape[1], patch_px):
        for x in range(0, image.shape[2], patch_px):
            pixels = image[:, y : y + patch_px, x : x + patch_px]
            patches.append(kernel.flatten(1) @ pixels.flatten())
    positions = w["embeddings.position_embeddings"][0]
    tokens = torch.stack(patches) + w["embeddings.patch_embeddings.projection.bias"]
    tokens = tokens + positions[1:]
    if keep is not None:
        tokens = tokens[keep]
    registers = w["register_tokens"][0] if "register_tokens" in w else tokens[:0]
    class_token = w["embeddings.cls_token"][0] + positions[:1]
    tokens = torch.cat([class_token, registers, tokens])
    for n in range(layers):
        tokens = block(tokens, w, f"encoder.layer.{n}", heads, eps)
    if final_norm:
        tokens = layer_norm(tokens, w["layernorm.weight"], w["layernorm.bias"], eps)
    return torch.cat([tokens[:1], tokens[1 + len(registers) :]])


def decode(
    tokens: Tensor, keep: list[int], w: Weights, *, layers: int, heads: int, eps: float
) -> Tensor:
    """Pixels (n, p) of all patches from the class token and the visible patches `keep`."""
    w = {
        name.removeprefix("decoder."): tensor.double()
        for name, tensor in w.items()
        if name.startswith("decoder.")
    }
    tokens = tokens @ w["decoder_embed.weight"].T + w["decoder_embed.bias"]
    n = w["decoder_pos_embed"].shape[1] - 1
    sequence = [tokens[0]]
    for i in range(n):
        sequence.append(tokens[1 + keep.index(i)] if i in keep else w["mask_token"][0, 0])
    x = torch.stack(sequence) + w["decoder_pos_embed"][0]
    for layer in range(layers):
        x = block(x, w, f"decoder_layers.{layer}", heads, eps)
    x = layer_norm(x, w["decoder_norm.weight"], w["decoder_norm.bias"], eps)
    return (x @ w["decoder_pred.weight"].T + w["decoder_pred.bias"])[1:]
