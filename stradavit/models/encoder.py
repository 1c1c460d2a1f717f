"""The encoder: a pre-norm Vision Transformer with optional register tokens.

Modules are nested only to give the parameters the names they have in ViT-MAE files on disk, so
weights can be exchanged with transformers without a table of names.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stradavit.models.config import EncoderConfig


class Dense(nn.Module):
    """A linear layer under the name `dense`."""

    def __init__(self, width_in: int, width_out: int) -> None:
        super().__init__()
        self.dense = nn.Linear(width_in, width_out)

    def forward(self, tokens: Tensor) -> Tensor:
        """(..., width_in) to (..., width_out)."""
        projected: Tensor = self.dense(tokens)
        return projected


class SelfAttention(nn.Module):
    """Multi-head attention of every token to every token."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """(batch, n, width) to (batch, n, width)."""
        query, key, value = (
            layer(tokens).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        if tokens.device.type == "cpu":
            # torch's bf16 attention takes half of a training step on a processor; in float32 the
            # whole step is about twice as fast, and the layers around it stay in bf16.
            with torch.autocast("cpu", enabled=False):
                attended = F.scaled_dot_product_attention(query.float(), key.float(), value.float())
        else:
            attended = F.scaled_dot_product_attention(query, key, value)
        return attended.transpose(1, 2).flatten(2)


class Attention(nn.Module):
    """Self-attention and its output projection."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention = SelfAttention(width, heads)
        self.output = Dense(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """(batch, n, width) to (batch, n, width)."""
        projected: Tensor = self.output(self.attention(tokens))
        return projected


class Block(nn.Module):
    """One pre-norm Transformer block with exact GELU."""

    def __init__(self, width: int, heads: int, mlp_width: int, eps: float) -> None:
        super().__init__()
        self.layernorm_before = nn.LayerNorm(width, eps=eps)
        self.attention = Attention(width, heads)
        self.layernorm_after = nn.LayerNorm(width, eps=eps)
        self.intermediate = Dense(width, mlp_width)
        self.output = Dense(mlp_width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """(batch, n, width) to (batch, n, width)."""
        tokens = tokens + self.attention(self.layernorm_before(tokens))
        hidden = F.gelu(self.intermediate(self.layernorm_after(tokens)))
        updated: Tensor = tokens + self.output(hidden)
        return updated


class PatchEmbeddings(nn.Module):
    """Linear embedding of non-overlapping square patches."""

    def __init__(self, channels: int, patch_px: int, width: int) -> None:
        super().__init__()
        self.projection = nn.Conv2d(channels, width, kernel_size=patch_px, stride=patch_px)

    def forward(self, pixels: Tensor) -> Tensor:
        """(batch, channel, ny, nx) to (batch, patch, width), patches row by row."""
        return self.projection(pixels).flatten(2).transpose(1, 2)  # type: ignore[no-any-return]


class Embeddings(nn.Module):
    """Patches with their positions, and the class token."""

    position_embeddings: Tensor

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.image_px = config.image_px
        self.patch_px = config.patch_px
        self.cls_token = nn.Parameter(torch.zeros(1, 1, config.width))
        self.patch_embeddings = PatchEmbeddings(config.channels, config.patch_px, config.width)
        # A buffer: stored in the file, but fixed whatever a caller does to the parameters.
        grid = config.image_px // config.patch_px
        self.register_buffer("position_embeddings", sin_cos_positions(grid, config.width))

    def positions(self, ny: int, nx: int) -> Tensor:
        """Positions (1, 1 + patches, width) of an image, interpolated for another size.

        Bicubic on the grid of patches, as transformers does; the class token keeps its own.
        """
        if (ny, nx) == (self.image_px, self.image_px):
            return self.position_embeddings
        grid = self.image_px // self.patch_px
        native = self.position_embeddings[:, 1:].reshape(1, grid, grid, -1).permute(0, 3, 1, 2)
        size = (ny // self.patch_px, nx // self.patch_px)
        resized = F.interpolate(native, size=size, mode="bicubic", align_corners=False)
        return torch.cat([self.position_embeddings[:, :1], resized.flatten(2).mT], dim=1)


class Blocks(nn.Module):
    """The blocks under the name `layer`."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.layer = nn.ModuleList(
            Block(config.width, config.heads, config.mlp_width, config.layer_norm_eps)
            for _ in range(config.layers)
        )

    def forward(self, tokens: Tensor) -> Tensor:
        """(batch, n, width) to (batch, n, width)."""
        for block in self.layer:
            tokens = block(tokens)
        return tokens


class ViTEncoder(nn.Module):
    """ViT-MAE's encoder with R register tokens between the class token and the patches.

    Registers have no position, take part in every block, and are cut from the output, so the
    sequence is the class token and the patches whatever R is (paper, sections 5.1 and 5.3).

    Made directly, it has PyTorch's default weights and zero tokens; `stradavit.models.initial`
    draws the weights of a scratch start and `stradavit.models.hub` reads those of a file.
    """

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.embeddings = Embeddings(config)
        if config.registers:
            self.register_tokens = nn.Parameter(torch.zeros(1, config.registers, config.width))
        self.encoder = Blocks(config)
        self.layernorm = nn.LayerNorm(config.width, eps=config.layer_norm_eps)
        # A parameter that never gets a gradient would stall data-parallel training.
        self.layernorm.requires_grad_(config.final_norm)

    @property
    def width(self) -> int:
        """Width of the readout."""
        return self.config.width

    @property
    def channels(self) -> int:
        """Channels of the input."""
        return self.config.channels

    @property
    def image_px(self) -> int:
        """Native side of the input in pixels."""
        return self.config.image_px

    def forward(self, pixels: Tensor, keep: Tensor | None = None) -> Tensor:
        """Tokens of the last layer.

        Parameters
        ----------
        pixels : (batch, channel, ny, nx) float, normalised; ny and nx multiples of the patch
        keep : (batch, k) int64, indices of the visible patches, in the order wanted; all if absent

        Returns
        -------
        (batch, 1 + k, width): class token, then patches

        Raises
        ------
        ValueError
            If the number of channels or the size does not fit the encoder.
        """
        ny, nx = pixels.shape[-2:]
        patch_px = self.config.patch_px
        if pixels.shape[1] != self.config.channels or ny % patch_px or nx % patch_px:
            raise ValueError(
                f"pixels have shape {tuple(pixels.shape)}; expected {self.config.channels} "
                f"channels and sides that are multiples of {patch_px} px"
            )
        positions = self.embeddings.positions(ny, nx)
        patches = self.embeddings.patch_embeddings(pixels) + positions[:, 1:]
        if keep is not None:
            # Masked patches are dropped before the blocks, which is what makes MAE cheap.
            patches = patches.gather(1, keep.unsqueeze(-1).expand(-1, -1, patches.shape[-1]))
        first = [self.embeddings.cls_token + positions[:, :1]]
        if self.config.registers:
            first.append(self.register_tokens)
        tokens = torch.cat([*(t.expand(len(pixels), -1, -1) for t in first), patches], dim=1)
        tokens = self.encoder(tokens)
        if self.config.final_norm:
            tokens = self.layernorm(tokens)
        return torch.cat([tokens[:, :1], tokens[:, 1 + self.config.registers :]], dim=1)

    def readout(self, pixels: Tensor) -> Tensor:
        """One vector per image: the mean of its patch tokens (paper, equation 1).

        Parameters
        ----------
        pixels : (batch, channel, ny, nx) float, normalised

        Returns
        -------
        (batch, width)
        """
        return self(pixels)[:, 1:].mean(dim=1)  # type: ignore[no-any-return]


def sin_cos_positions(grid: int, width: int) -> Tensor:
    """Fixed positions of a class token (zero) and of a square grid of patches.

    The first half of a vector holds sines then cosines of the column, the second half those of
    the row: the order in published ViT-MAE files.

    Parameters
    ----------
    grid : patches per side
    width : length of a vector, a multiple of 4

    Returns
    -------
    (1, 1 + grid * grid, width) float32
    """
    # Always on the processor: on `meta`, where weights are counted before they are drawn, this
    # arithmetic would import sympy, a second of every start-up.
    with torch.device("cpu"):
        frequencies = 10000.0 ** (-torch.arange(width // 4, dtype=torch.float64) / (width // 4))
        angles = torch.arange(grid, dtype=torch.float64).outer(frequencies)
    waves = torch.cat([angles.sin(), angles.cos()], dim=1)
    columns, rows = waves.repeat(grid, 1), waves.repeat_interleave(grid, dim=0)
    patches = torch.cat([columns, rows], dim=1)
    return torch.cat([torch.zeros_like(patches[:1]), patches]).float().unsqueeze(0)
