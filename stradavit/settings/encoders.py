"""Where weights come from: encoders to start from."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from stradavit.settings.base import Block, Count, PathText, Positive


# Defined first: the defaults below are checked while this file is read.
def _check_patches(image_px: int, patch_px: int) -> None:
    if image_px % patch_px:
        raise ValueError(
            f"image_px {image_px} is not divisible by patch_px {patch_px}; choose "
            f"{image_px // patch_px * patch_px or patch_px}"
        )


def _check_heads(width: int, heads: int) -> None:
    if width % heads:
        raise ValueError(f"a width of {width} cannot be shared by {heads} heads")


class Architecture(Block):
    """Shape of a ViT-MAE; the default is ViT-MAE-Base (He et al. 2022)."""

    image_px: Count = 224
    patch_px: Count = 16
    channels: Literal[1, 3] = 3
    width: Count = 768
    layers: Count = 12
    heads: Count = 12
    mlp_width: Count = 3072
    decoder_width: Count = 512
    decoder_layers: Count = 8
    decoder_heads: Count = 16
    decoder_mlp_width: Count = 2048

    @model_validator(mode="after")
    def _divisible(self) -> "Architecture":
        _check_patches(self.image_px, self.patch_px)
        for width, heads in ((self.width, self.heads), (self.decoder_width, self.decoder_heads)):
            _check_heads(width, heads)
            if width % 4:
                raise ValueError(f"a width of {width} is not a multiple of 4 (sin-cos positions)")
        return self


class Dinov2Architecture(Block):
    """Shape of a DINOv2; the default is DINOv2-Base (Oquab et al. 2024)."""

    image_px: Count = 518
    patch_px: Count = 14
    channels: Literal[1, 3] = 3
    width: Count = 768
    layers: Count = 12
    heads: Count = 12
    mlp_ratio: Count = Field(4, description="Width of the MLP in widths.")
    registers: Annotated[int, Field(ge=0)] = Field(
        0, description="Register tokens; they belong to the shape, as in published weights."
    )
    layer_scale: Positive = Field(1.0, description="LayerScale factors before training.")

    @model_validator(mode="after")
    def _divisible(self) -> "Dinov2Architecture":
        _check_patches(self.image_px, self.patch_px)
        _check_heads(self.width, self.heads)
        return self


class ScratchEncoder(Block):
    """Random weights: switches the ImageNet normalisation off (paper, section 8.1)."""

    source: Literal["scratch"]
    title: str | None = None
    architecture: Architecture = Architecture()
    registers: Annotated[int, Field(ge=0)] = Field(
        0, description="Register tokens R of a baseline."
    )


class ScratchDinov2Encoder(Block):
    """As scratch, but of the DINOv2 kind: a start of the grid matrix.dinov2."""

    source: Literal["scratch_dinov2"]
    title: str | None = None
    architecture: Dinov2Architecture = Dinov2Architecture()


class LocalEncoder(Block):
    """A folder in the Hugging Face layout."""

    source: Literal["local"]
    title: str | None = None
    path: PathText


class HubEncoder(Block):
    """A model of the Hugging Face hub."""

    source: Literal["hub"]
    title: str | None = None
    repo: str = Field(description="Such as facebook/vit-mae-base.")
    revision: str = Field("main", description="Commit to pin, 40 hexadecimal digits; `main` moves.")


Scratch = ScratchEncoder | ScratchDinov2Encoder
Encoder = Annotated[Scratch | LocalEncoder | HubEncoder, Field(discriminator="source")]
