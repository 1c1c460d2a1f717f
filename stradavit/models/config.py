"""The shape of a ViT-MAE or DINOv2, and its `config.json` in the Hugging Face layout."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stradavit.errors import DataError
from stradavit.settings.encoders import Architecture, Dinov2Architecture

# Values of keys that would mean another network; an absent key means the same as these.
_SUPPORTED = {
    "hidden_act": "gelu",
    "qkv_bias": True,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
    "use_dino_encoder": False,
    "use_patch_embed_layer_norm": False,
}

# Far above any network there is: a config from elsewhere must not make us build for ever.
_MOST = {"num_hidden_layers": 1000, "decoder_num_hidden_layers": 1000, "num_register_tokens": 1000}
_MOST_BY_DEFAULT = 2**16
_MOST_PATCHES = 2**20

# What transformers is told of a DINOv2. Other keys can make it load from elsewhere, or run more
# than a network: adapters, quantisers, kernels.
_DINOV2_WHOLE = (
    "image_size", "patch_size", "num_channels", "hidden_size", "num_hidden_layers",
    "num_attention_heads", "mlp_ratio", "num_register_tokens",
)  # fmt: skip
_DINOV2_OTHER = (
    "attention_probs_dropout_prob", "drop_path_rate", "hidden_act", "hidden_dropout_prob",
    "initializer_range", "layer_norm_eps", "layerscale_value", "qkv_bias", "use_mask_token",
    "use_swiglu_ffn",
)  # fmt: skip


@dataclass(frozen=True)
class DecoderConfig:
    """Shape of the MAE decoder (He et al. 2022: 8 blocks of width 512)."""

    width: int = 512
    layers: int = 8
    heads: int = 16
    mlp_width: int = 2048


@dataclass(frozen=True)
class EncoderConfig:
    """Shape of a ViT with optional registers; the default is ViT-MAE-Base.

    Parameters
    ----------
    registers : register tokens R (paper, section 5.3)
    final_norm : whether the tokens pass the last LayerNorm; False only for the released STRADAViT
        checkpoint, which was trained without it
    decoder : shape of the decoder the encoder was or will be trained with
    """

    image_px: int = 224
    patch_px: int = 16
    channels: int = 3
    width: int = 768
    layers: int = 12
    heads: int = 12
    mlp_width: int = 3072
    registers: int = 0
    final_norm: bool = True
    layer_norm_eps: float = 1e-12
    initializer_range: float = 0.02
    decoder: DecoderConfig = DecoderConfig()

    @property
    def patches(self) -> int:
        """Patches of an image of the native size."""
        return (self.image_px // self.patch_px) ** 2

    @classmethod
    def from_architecture(cls, shape: Architecture, registers: int) -> "EncoderConfig":
        """The shape a scratch start asks for."""
        return cls(
            image_px=shape.image_px,
            patch_px=shape.patch_px,
            channels=shape.channels,
            width=shape.width,
            layers=shape.layers,
            heads=shape.heads,
            mlp_width=shape.mlp_width,
            registers=registers,
            decoder=DecoderConfig(
                width=shape.decoder_width,
                layers=shape.decoder_layers,
                heads=shape.decoder_heads,
                mlp_width=shape.decoder_mlp_width,
            ),
        )

    @classmethod
    def from_hf(cls, values: Mapping[str, Any], where: str) -> "EncoderConfig":
        """Read a `config.json` of model type vit_mae.

        A file with registers but without `stradavit_final_norm` is the released STRADAViT
        checkpoint, whose register encoder skipped the last LayerNorm although the file holds it.

        Raises
        ------
        DataError
            If a value is not a number of its kind, or means a network this is not.
        """
        for key, supported in _SUPPORTED.items():
            if values.get(key, supported) != supported:
                raise DataError(
                    f"{where}: {key} is {values[key]!r}; only {supported!r} is supported, since "
                    "the weights would otherwise compute something else. Choose another encoder."
                )
        registers = _whole(values, "n_registers", 0, where, least=0)
        final_norm = values.get("stradavit_final_norm", registers == 0)
        if not isinstance(final_norm, bool):
            raise DataError(
                f"{where}: stradavit_final_norm is {final_norm!r}; expected true or false"
            )
        config = cls(
            image_px=_side(values, "image_size", 224, where),
            patch_px=_side(values, "patch_size", 16, where),
            channels=_whole(values, "num_channels", 3, where),
            width=_whole(values, "hidden_size", 768, where),
            layers=_whole(values, "num_hidden_layers", 12, where),
            heads=_whole(values, "num_attention_heads", 12, where),
            mlp_width=_whole(values, "intermediate_size", 3072, where),
            registers=registers,
            final_norm=final_norm,
            layer_norm_eps=_positive(values, "layer_norm_eps", 1e-12, where),
            initializer_range=_positive(values, "initializer_range", 0.02, where),
            decoder=DecoderConfig(
                width=_whole(values, "decoder_hidden_size", 512, where),
                layers=_whole(values, "decoder_num_hidden_layers", 8, where),
                heads=_whole(values, "decoder_num_attention_heads", 16, where),
                mlp_width=_whole(values, "decoder_intermediate_size", 2048, where),
            ),
        )
        config._check(where)
        return config

    def to_hf(self, with_decoder: bool) -> dict[str, Any]:
        """The `config.json` of this shape, readable by transformers when there are no registers."""
        stock = "ViTMAEForPreTraining" if with_decoder else "ViTMAEModel"
        return {
            "model_type": "vit_mae",
            # The name the released checkpoint gives; stock classes would ignore the registers.
            "architectures": ["ViTMAEWithRegistersForPreTraining" if self.registers else stock],
            "image_size": self.image_px,
            "patch_size": self.patch_px,
            "num_channels": self.channels,
            "hidden_size": self.width,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "intermediate_size": self.mlp_width,
            "n_registers": self.registers,
            "stradavit_final_norm": self.final_norm,
            "layer_norm_eps": self.layer_norm_eps,
            "initializer_range": self.initializer_range,
            "decoder_hidden_size": self.decoder.width,
            "decoder_num_hidden_layers": self.decoder.layers,
            "decoder_num_attention_heads": self.decoder.heads,
            "decoder_intermediate_size": self.decoder.mlp_width,
            # Stock code masks at inference too: without a decoder nothing must be masked.
            "mask_ratio": 0.75 if with_decoder else 0.0,
            "norm_pix_loss": False,
            "dtype": "float32",
            **{key: value for key, value in _SUPPORTED.items() if not key.startswith("use_")},
        }

    def _check(self, where: str) -> None:
        if self.image_px % self.patch_px:
            raise DataError(
                f"{where}: image_size {self.image_px} is not a multiple of "
                f"patch_size {self.patch_px}"
            )
        _check_patches(self.image_px, self.patch_px, where)
        widths = (
            ("hidden_size", self.width, self.heads),
            ("decoder_hidden_size", self.decoder.width, self.decoder.heads),
        )
        for key, width, heads in widths:
            if width % heads or width % 4:
                raise DataError(
                    f"{where}: {key} {width} must be a multiple of 4 and of its {heads} heads"
                )


def dinov2_config(shape: Dinov2Architecture) -> dict[str, Any]:
    """The `config.json` of a scratch DINOv2, with the keys of published ones."""
    values = {
        "model_type": "dinov2_with_registers" if shape.registers else "dinov2",
        "image_size": shape.image_px,
        "patch_size": shape.patch_px,
        "num_channels": shape.channels,
        "hidden_size": shape.width,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "mlp_ratio": shape.mlp_ratio,
        "layerscale_value": shape.layer_scale,
    }
    return values | ({"num_register_tokens": shape.registers} if shape.registers else {})


def known_dinov2(values: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Those keys of a DINOv2's `config.json` that describe the network, within bounds.

    Raises
    ------
    DataError
        If a value is not of its kind, or means a network larger than any there is.
    """
    known = {"model_type": values["model_type"]}
    for key in _DINOV2_WHOLE:
        if key in values:
            known[key] = _whole(values, key, 1, where, least=0)
    for key in _DINOV2_OTHER:
        if key in values:
            if not isinstance(values[key], str | int | float | bool):
                raise DataError(f"{where}: {key} is a {type(values[key]).__name__}, not one value")
            known[key] = values[key]
    _check_patches(known.get("image_size", 224), known.get("patch_size", 14), where)
    return known


def _check_patches(image_px: int, patch_px: int, where: str) -> None:
    if patch_px < 1 or (image_px // patch_px) ** 2 > _MOST_PATCHES:
        raise DataError(
            f"{where}: image_size {image_px} in patches of {patch_px}; expected at most "
            f"{_MOST_PATCHES} patches"
        )


def _whole(values: Mapping[str, Any], key: str, default: int, where: str, least: int = 1) -> int:
    value, most = values.get(key, default), _MOST.get(key, _MOST_BY_DEFAULT)
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise DataError(f"{where}: {key} is {value!r}; expected a whole number of at least {least}")
    if value > most:
        raise DataError(f"{where}: {key} is above {most}, which is more than any known network has")
    return value


def _side(values: Mapping[str, Any], key: str, default: int, where: str) -> int:
    """A side in pixels, written as a number or as a pair of equal numbers."""
    value = values.get(key, default)
    if isinstance(value, list) and len(value) == 2 and value[0] == value[1]:
        value = value[0]
    return _whole({key: value}, key, default, where)


def _positive(values: Mapping[str, Any], key: str, default: float, where: str) -> float:
    value = values.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1:
        raise DataError(f"{where}: {key} is {value!r}; expected a number between 0 and 1")
    return float(value)
