"""What a network costs by its shape alone: operations and parameters, without torch.

Operations are those of the matrix products, twice as many again for the backward pass (Chowdhery
et al. 2022, appendix B); what is normalised, copied or computed twice counts nothing.
"""

from collections.abc import Mapping
from typing import Any

from stradavit.models.config import EncoderConfig

_BACKWARD = 2  # one product for the gradient of the input and one for that of the weights


def blocks_flops(tokens: int, width: int, layers: int, mlp_width: int) -> float:
    """Forward FLOPs of Transformer blocks on one image.

    A block multiplies every token with 4 width² weights of its attention (query, key, value,
    output) and 2 width × mlp_width of its MLP; and it multiplies queries with keys and weights
    with values, tokens² × width each. A multiplication and an addition are two operations.
    """
    weights = 4 * width**2 + 2 * width * mlp_width
    return 2.0 * layers * (tokens * weights + 2 * tokens**2 * width)


def encoder_flops(config: EncoderConfig, visible: int | None = None) -> float:
    """Forward FLOPs of the encoder on one image of the native size.

    Parameters
    ----------
    visible : patches that are not masked; only they are embedded and pass the blocks, with the
        class token and the registers; all if absent
    """
    patches = config.patches if visible is None else visible
    embedding = 2.0 * patches * config.width * config.channels * config.patch_px**2
    tokens = 1 + config.registers + patches
    return embedding + blocks_flops(tokens, config.width, config.layers, config.mlp_width)


def reconstruction_flops(config: EncoderConfig, mask_ratio: float) -> float:
    """Model FLOPs, forward and backward, of one image of masked reconstruction.

    The decoder sees the class token and all patches: the visible ones are embedded into its width,
    and a row of pixels is predicted for each.
    """
    visible = int(config.patches * (1 - mask_ratio))
    shape, tokens = config.decoder, 1 + config.patches
    ends = (1 + visible) * config.width + tokens * config.channels * config.patch_px**2
    decoder = 2.0 * shape.width * ends
    decoder += blocks_flops(tokens, shape.width, shape.layers, shape.mlp_width)
    return (1 + _BACKWARD) * (encoder_flops(config, visible) + decoder)


def contrastive_flops(encoder: float, width: int, hidden: int, output: int, views: int) -> float:
    """Model FLOPs, forward and backward, of one cutout: its views through encoder and head.

    Parameters
    ----------
    encoder : forward FLOPs of one image
    width, hidden, output : of the projection head
    """
    return (1 + _BACKWARD) * views * (encoder + 2.0 * hidden * (width + output))


def dinov2_shape(values: Mapping[str, Any]) -> EncoderConfig:
    """The shape of a DINOv2 from its `config.json`; keys that are absent mean the usual ones.

    The gated MLP of the giant one has three matrices of two thirds the width: as many weights.
    """
    width = int(values.get("hidden_size", 768))
    has_registers = "registers" in str(values.get("model_type", ""))
    return EncoderConfig(
        image_px=int(values.get("image_size", 224)),
        patch_px=int(values.get("patch_size", 14)),
        channels=int(values.get("num_channels", 3)),
        width=width,
        layers=int(values.get("num_hidden_layers", 12)),
        heads=int(values.get("num_attention_heads", 12)),
        mlp_width=int(width * values.get("mlp_ratio", 4)),
        registers=int(values.get("num_register_tokens", 4 if has_registers else 0)),
    )


# -- parameters ----------------------------------------------------------------------------------


def blocks_parameters(width: int, layers: int, mlp_width: int) -> int:
    """Parameters of Transformer blocks: attention, MLP and two norms, with all biases."""
    attention = 4 * (width**2 + width)
    mlp = 2 * width * mlp_width + mlp_width + width
    return layers * (attention + mlp + 4 * width)


def encoder_parameters(config: EncoderConfig) -> int:
    """Values an encoder's weight file holds, its fixed positions among them."""
    patch = config.channels * config.patch_px**2 * config.width + config.width
    tokens = (1 + config.registers + 1 + config.patches) * config.width
    blocks = blocks_parameters(config.width, config.layers, config.mlp_width)
    return patch + tokens + blocks + 2 * config.width


def autoencoder_parameters(config: EncoderConfig) -> int:
    """The same with the decoder, as runs of masked reconstruction keep it."""
    shape, pixels = config.decoder, config.channels * config.patch_px**2
    entry = config.width * shape.width + shape.width
    tokens = (1 + 1 + config.patches) * shape.width
    blocks = blocks_parameters(shape.width, shape.layers, shape.mlp_width)
    prediction = shape.width * pixels + pixels
    return encoder_parameters(config) + entry + tokens + blocks + 2 * shape.width + prediction


def dinov2_parameters(config: EncoderConfig) -> int:
    """Values of a DINOv2 of this shape: a mask token and two scales a block come on top."""
    return encoder_parameters(config) + config.width * (1 + 2 * config.layers)


def head_parameters(width: int, hidden: int, output: int) -> int:
    """Parameters of the projection head of a contrastive run; no encoder folder holds them."""
    return (width + 1) * hidden + 2 * hidden + (hidden + 1) * output
