"""The encoder: a pre-norm Vision Transformer with optional register tokens.

Modules are nested only to give the parameters the names they have in ViT-MAE files on disk, so
weights can be exchanged with transformers without a table of names.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stradavit.models.attention import attend
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

    def project(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(batch, n, width) to query, key and value, each (batch, heads, n, head width)."""
        # One product instead of three: under autocast the tokens are cast once, not three times.
        layers = (self.query, self.key, self.value)
        weight = torch.cat([layer.weight for layer in layers])
        bias = torch.cat([layer.bias for layer in layers])
        batch, n, _ = tokens.shape
        projected = F.linear(tokens, weight, bias).view(batch, n, 3, self.heads, -1)
        query, key, value = projected.permute(2, 0, 3, 1, 4).unbind()
        return query, key, value

    def forward(self, tokens: Tensor) -> Tensor:
        """(batch, n, width) to (batch, n, width)."""
        return attend(*self.project(tokens)).transpose(1, 2).flatten(2)


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

    def forward(self, pixels: Tensor, keep: Tensor | None = None) -> Tensor:
        """Embed all patches, or those to keep.

        The convolution is done as the one matrix product it is: faster on every device, and hidden
        patches cost nothing.

        Parameters
        ----------
        pixels : (batch, channel, ny, nx) float
        keep : (batch, k) int64, indices of patches, in the order wanted; all, row by row, if absent

        Returns
        -------
        (batch, patch, width)
        """
        batch, channel, ny, nx = pixels.shape
        side = self.projection.kernel_size[0]
        grid = pixels.reshape(batch, channel, ny // side, side, nx // side, side)
        patches = grid.permute(0, 2, 4, 1, 3, 5)  # (batch, row, column, channel, y, x)
        if keep is None:
            patches = patches.flatten(1, 2)
        else:
            image = torch.arange(batch, device=pixels.device).unsqueeze(1)
            columns = nx // side
            patches = patches[image, keep // columns, keep % columns]
        weight, bias = self.projection.weight.flatten(1), self.projection.bias
        return F.linear(patches.flatten(2), weight, bias)


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

    def forward(self, pixels: Tensor, registers: Tensor | None, keep: Tensor | None) -> Tensor:
        """What enters the first block: class token, registers, patches.

        Parameters
        ----------
        pixels : (batch, channel, ny, nx) float, normalised
        registers : (1, R, width), which have no position, if there are any
        keep : (batch, k) int64, indices of the visible patches; all if absent

        Returns
        -------
        (batch, 1 + R + k, width)
        """
        positions = self.positions(*pixels.shape[-2:])
        places = positions[:, 1:] if keep is None else positions[0, 1:][keep]
        # Masked patches are dropped before the blocks, which is what makes MAE cheap.
        patches = self.patch_embeddings(pixels, keep) + places
        first = [self.cls_token + positions[:, :1]]
        if registers is not None:
            first.append(registers)
        return torch.cat([*(t.expand(len(pixels), -1, -1) for t in first), patches], dim=1)


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
        tokens = self._through_blocks(pixels, keep)
        if not self.config.registers:
            return tokens
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
        return self._through_blocks(pixels)[:, 1 + self.config.registers :].mean(dim=1)

    def _through_blocks(self, pixels: Tensor, keep: Tensor | None = None) -> Tensor:
        """Class token, registers and patches of the last layer, (batch, 1 + registers + k, width).

        The tokens that run along the blocks are float32 also under autocast: each block adds a
        little to them.
        """
        ny, nx = pixels.shape[-2:]
        patch_px = self.config.patch_px
        if pixels.shape[1] != self.config.channels or ny % patch_px or nx % patch_px:
            raise ValueError(
                f"pixels have shape {tuple(pixels.shape)}; expected {self.config.channels} "
                f"channels and sides that are multiples of {patch_px} px"
            )
        registers = self.register_tokens if self.config.registers else None
        last: Tensor = self.encoder(self.embeddings(pixels, registers, keep))
        return self.layernorm(last) if self.config.final_norm else last


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
