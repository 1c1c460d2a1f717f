"""An encoder as the backbone of a detector: one map of features for images of any size."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from stradavit.detection.relative import RelativePositions
from stradavit.detection.windows import DropPath, WindowBlock
from stradavit.errors import SettingsError
from stradavit.models.dinov2 import Dinov2Encoder
from stradavit.models.encoder import Block, ViTEncoder
from stradavit.settings.detection import DetectorSettings


class Backbone(nn.Module):
    """A ViT with registers or without, most of its blocks attending inside windows.

    With global attention, before its relative positions have learned anything, and outside
    training, its features are the patch tokens of the encoder.

    Parameters
    ----------
    encoder : its modules become those of the backbone; use it no further
    settings : windows, relative positions, drop path

    References
    ----------
    Li et al. 2022, "Exploring plain vision transformer backbones for object detection".
    """

    def __init__(self, encoder: ViTEncoder, settings: DetectorSettings) -> None:
        super().__init__()
        config = encoder.config
        self.patch_px, self.width, self.channels = config.patch_px, config.width, config.channels
        self.prefix = 1 + config.registers
        self.checkpointing = settings.activation_checkpointing
        self.embeddings = encoder.embeddings
        if config.registers:
            self.register_tokens = encoder.register_tokens
        everywhere = global_blocks(config.layers, settings.global_blocks)
        grid = settings.image_px // config.patch_px
        blocks = []
        for number, block in enumerate(encoder.encoder.layer):
            assert isinstance(block, Block)
            window = 0 if number in everywhere else settings.window
            side = min(window, grid) if window else grid
            relative = None
            if settings.relative_positions:
                relative = RelativePositions(side, side, config.width // config.heads)
            rate = _drop_rate(number, config.layers, settings.drop_path)
            blocks.append(WindowBlock(block, window, relative, rate))
        self.blocks = nn.ModuleList(blocks)
        self.layernorm = encoder.layernorm if config.final_norm else nn.Identity()

    def forward(self, pixels: Tensor) -> Tensor:
        """Features of images.

        Parameters
        ----------
        pixels : (batch, channel, ny, nx) float, normalised; ny and nx multiples of the patch

        Returns
        -------
        (batch, width, ny / patch, nx / patch)

        Raises
        ------
        ValueError
            If the number of channels or the size does not fit the encoder.
        """
        rows, columns = _grid(pixels, self.channels, self.patch_px)
        registers = self.register_tokens if self.prefix > 1 else None
        # Float32 also under autocast, as in the encoder: positions and tokens are.
        tokens: Tensor = self.embeddings(pixels, registers, None)
        for block in self.blocks:
            if self.checkpointing and self.training:
                tokens = checkpoint(block, tokens, self.prefix, rows, columns, use_reentrant=False)
            else:
                tokens = block(tokens, self.prefix, rows, columns)
        tokens = self.layernorm(tokens)
        return torch.unflatten(tokens[:, self.prefix :].mT, 2, (rows, columns))


class Dinov2Backbone(nn.Module):
    """A DINOv2 with the global attention it has; its blocks are transformers', not ours.

    Parameters
    ----------
    encoder : its modules become those of the backbone; use it no further
    settings : drop path; no windows and no relative positions

    Raises
    ------
    SettingsError
        If the settings ask for windows or relative positions.
    """

    def __init__(self, encoder: Dinov2Encoder, settings: DetectorSettings) -> None:
        super().__init__()
        if settings.window or settings.relative_positions:
            raise SettingsError(
                f"detection.detector.window is {settings.window} and relative_positions "
                f"{str(settings.relative_positions).lower()}; a DINOv2 keeps its own attention. "
                "Set window: 0 and relative_positions: false, or choose a ViT-MAE encoder."
            )
        self.model: Any = encoder.model
        self.patch_px = int(self.model.config.patch_size)
        self.width, self.channels = encoder.width, encoder.channels
        self.prefix = 1 + encoder.registers
        layers = self.model.encoder.layer
        for number, layer in enumerate(layers):
            layer.drop_path = DropPath(_drop_rate(number, len(layers), settings.drop_path))
            if settings.activation_checkpointing:
                layers[number] = _Recomputed(layer)

    def forward(self, pixels: Tensor) -> Tensor:
        """Features as of `Backbone`: (batch, channel, ny, nx) to (batch, width, rows, columns).

        Raises
        ------
        ValueError
            If the number of channels or the size does not fit the encoder.
        """
        rows, columns = _grid(pixels, self.channels, self.patch_px)
        tokens: Tensor = self.model(pixel_values=pixels).last_hidden_state
        return torch.unflatten(tokens[:, self.prefix :].mT, 2, (rows, columns))


class _Recomputed(nn.Module):
    """A block that keeps its input only; transformers' own switch has another name every year."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, *inputs: Any, **named: Any) -> Any:
        if not self.training:
            return self.block(*inputs, **named)
        return checkpoint(self.block, *inputs, use_reentrant=False, **named)


def make_backbone(
    encoder: ViTEncoder | Dinov2Encoder, settings: DetectorSettings
) -> Backbone | Dinov2Backbone:
    """The backbone of an encoder.

    Raises
    ------
    SettingsError
        If the settings ask for what the encoder cannot do.
    """
    if isinstance(encoder, Dinov2Encoder):
        return Dinov2Backbone(encoder, settings)
    return Backbone(encoder, settings)


def global_blocks(layers: int, groups: int) -> frozenset[int]:
    """Blocks with global attention: the last of each of so many equal groups, counted from 0.

    Of 12 blocks in 4 groups these are 2, 5, 8, 11. With fewer blocks than groups, all are.
    """
    if layers < groups:
        return frozenset(range(layers))
    return frozenset((group + 1) * layers // groups - 1 for group in range(groups))


def _drop_rate(number: int, layers: int, last: float) -> float:
    """Linear from 0 in the first block to `last` in the last one."""
    return last * number / max(layers - 1, 1)


def _grid(pixels: Tensor, channels: int, patch_px: int) -> tuple[int, int]:
    """Rows and columns of patches."""
    ny, nx = pixels.shape[-2:]
    if pixels.shape[1] != channels or ny % patch_px or nx % patch_px:
        raise ValueError(
            f"pixels have shape {tuple(pixels.shape)}; expected {channels} channels and sides "
            f"that are multiples of {patch_px} px"
        )
    return ny // patch_px, nx // patch_px
