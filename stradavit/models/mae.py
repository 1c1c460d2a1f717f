"""The masked autoencoder: hide most patches, encode the rest, predict the pixels of all."""

import torch
from torch import Tensor, nn

from stradavit.models.config import EncoderConfig
from stradavit.models.encoder import Block, ViTEncoder, sin_cos_positions


class Decoder(nn.Module):
    """ViT-MAE's lightweight decoder."""

    decoder_pos_embed: Tensor

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        shape = config.decoder
        self.decoder_embed = nn.Linear(config.width, shape.width)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, shape.width))
        grid = config.image_px // config.patch_px
        self.register_buffer("decoder_pos_embed", sin_cos_positions(grid, shape.width))
        self.decoder_layers = nn.ModuleList(
            Block(shape.width, shape.heads, shape.mlp_width, config.layer_norm_eps)
            for _ in range(shape.layers)
        )
        self.decoder_norm = nn.LayerNorm(shape.width, eps=config.layer_norm_eps)
        self.decoder_pred = nn.Linear(shape.width, config.patch_px**2 * config.channels)

    def forward(self, tokens: Tensor, keep: Tensor) -> Tensor:
        """Predicted pixels of every patch.

        Parameters
        ----------
        tokens : (batch, 1 + k, width) from the encoder: class token, then visible patches
        keep : (batch, k) int64, which of the n patches the visible ones are

        Returns
        -------
        (batch, n, patch_px * patch_px * channel)
        """
        tokens = self.decoder_embed(tokens)
        batch, width = len(tokens), tokens.shape[-1]
        # Under autocast the visible tokens are bfloat16 while the parameter is float32.
        masked = self.mask_token.to(tokens.dtype)
        patches = masked.expand(batch, self.decoder_pos_embed.shape[1] - 1, -1).scatter(
            1, keep.unsqueeze(-1).expand(-1, -1, width), tokens[:, 1:]
        )
        tokens = torch.cat([tokens[:, :1], patches], dim=1) + self.decoder_pos_embed
        for block in self.decoder_layers:
            tokens = block(tokens)
        predicted: Tensor = self.decoder_pred(self.decoder_norm(tokens))
        return predicted[:, 1:]


class MaskedAutoencoder(nn.Module):
    """ViT-MAE with optional registers (He et al. 2022; paper, sections 5.1, 5.3 and 6.2)."""

    def __init__(self, encoder: ViTEncoder) -> None:
        super().__init__()
        self.vit = encoder
        self.decoder = Decoder(encoder.config)

    @property
    def config(self) -> EncoderConfig:
        """Shape of the encoder and of the decoder."""
        return self.vit.config

    def forward(
        self, pixels: Tensor, noise: Tensor, mask_ratio: float = 0.75
    ) -> tuple[Tensor, Tensor]:
        """Predict the patches of images most of which is hidden.

        Parameters
        ----------
        pixels : (batch, channel, image_px, image_px) float, normalised
        noise : (batch, n) float; the patches with the smallest values stay visible
        mask_ratio : share of the n patches that is hidden, rounded up to a whole patch

        Returns
        -------
        prediction : (batch, n, patch_px * patch_px * channel), laid out as `patchify` does
        mask : (batch, n) float32, 1 where the patch was hidden

        Raises
        ------
        ValueError
            If the images do not have the native size or the noise does not fit them.
        """
        side = self.config.image_px
        expected = (len(pixels), self.config.patches)
        if tuple(pixels.shape[-2:]) != (side, side) or tuple(noise.shape) != expected:
            raise ValueError(
                f"pixels have shape {tuple(pixels.shape)} and noise {tuple(noise.shape)}; "
                f"expected images of {side} x {side} px and noise of shape {expected}"
            )
        keep, _, mask = random_mask(noise, mask_ratio)
        return self.decoder(self.vit(pixels, keep), keep), mask

    def patchify(self, pixels: Tensor) -> Tensor:
        """Cut images of any number of channels into this model's patches: see `patchify`."""
        return patchify(pixels, self.config.patch_px)

    def unpatchify(self, patches: Tensor) -> Tensor:
        """Put square images together again: see `unpatchify`."""
        return unpatchify(patches, self.config.patch_px)


def random_mask(noise: Tensor, mask_ratio: float) -> tuple[Tensor, Tensor, Tensor]:
    """Choose the visible patches of every image by sorting noise, as ViT-MAE does.

    Parameters
    ----------
    noise : (batch, n) float
    mask_ratio : share of hidden patches; int(n * (1 - mask_ratio)) stay visible

    Returns
    -------
    keep : (batch, k) int64, indices of the visible patches
    restore : (batch, n) int64, the place of patch i in the shuffled order
    mask : (batch, n) float32, 1 where hidden
    """
    n_keep = int(noise.shape[1] * (1 - mask_ratio))
    # Stable, so that equal noise (possible in float32) gives one answer on every device.
    shuffle = noise.argsort(dim=1, stable=True)
    restore = shuffle.argsort(dim=1)
    return shuffle[:, :n_keep], restore, (restore >= n_keep).float()


def patchify(pixels: Tensor, patch_px: int) -> Tensor:
    """Cut images into patches, row by row; inside a patch the order is (y, x, channel).

    Parameters
    ----------
    pixels : (batch, channel, ny, nx), sides multiples of `patch_px`

    Returns
    -------
    (batch, ny/patch_px * nx/patch_px, patch_px * patch_px * channel)
    """
    batch, channel, ny, nx = pixels.shape
    grid = pixels.reshape(batch, channel, ny // patch_px, patch_px, nx // patch_px, patch_px)
    return grid.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)


def unpatchify(patches: Tensor, patch_px: int) -> Tensor:
    """Inverse of `patchify` for square images.

    Parameters
    ----------
    patches : (batch, n, patch_px * patch_px * channel), n a square number

    Returns
    -------
    (batch, channel, side, side)

    Raises
    ------
    ValueError
        If n is not a square number.
    """
    grid = round(patches.shape[1] ** 0.5)
    if grid * grid != patches.shape[1]:
        raise ValueError(f"{patches.shape[1]} patches do not make a square image")
    cells = patches.reshape(len(patches), grid, grid, patch_px, patch_px, -1)
    return cells.permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)
