"""The shape of every encoder of the matrix, before and after it is there."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from stradavit.files import read_json
from stradavit.models.config import EncoderConfig, dinov2_config
from stradavit.models.cost import (
    autoencoder_parameters,
    dinov2_parameters,
    dinov2_shape,
    encoder_parameters,
    head_parameters,
)
from stradavit.planning.known import Basis
from stradavit.settings import Settings
from stradavit.settings.encoders import (
    HubEncoder,
    LocalEncoder,
    ScratchDinov2Encoder,
    ScratchEncoder,
)
from stradavit.settings.matrix import EncoderNode
from stradavit.settings.training import ContrastiveSettings

_DINOV2_SMALL: dict[str, Any] = {"image_size": 518, "hidden_size": 384, "num_attention_heads": 6}
_DINOV2_BASE: dict[str, Any] = {"image_size": 518}
_DINOV2_LARGE: dict[str, Any] = {
    "image_size": 518,
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
}
_REGISTERS = {"model_type": "dinov2_with_registers"}

# The `config.json` of models at the hub, as far as it decides what they cost.
_DINOV2_AT_HUB = {
    "facebook/dinov2-small": _DINOV2_SMALL,
    "facebook/dinov2-base": _DINOV2_BASE,
    "facebook/dinov2-large": _DINOV2_LARGE,
    "facebook/dinov2-with-registers-small": _DINOV2_SMALL | _REGISTERS,
    "facebook/dinov2-with-registers-base": _DINOV2_BASE | _REGISTERS,
    "facebook/dinov2-with-registers-large": _DINOV2_LARGE | _REGISTERS,
}
_MAE_AT_HUB = {
    "facebook/vit-mae-base": EncoderConfig(),
    "facebook/vit-mae-large": EncoderConfig(width=1024, layers=24, heads=16, mlp_width=4096),
    "facebook/vit-mae-huge": EncoderConfig(
        patch_px=14, width=1280, layers=32, heads=16, mlp_width=5120
    ),
    "ISSA-ML/stradavit-base": EncoderConfig(registers=4),
}


@dataclass(frozen=True)
class Network:
    """What decides the cost of an encoder.

    Parameters
    ----------
    shape : of the encoder and, if there is one, of its decoder
    is_dinov2 : DINOv2 has no decoder, and some parameters of its own
    basis, source : where the shape is from
    """

    shape: EncoderConfig
    is_dinov2: bool
    basis: Basis
    source: str

    def is_like(self, other: "Network") -> bool:
        """Whether the two are of one architecture; registers may differ."""
        return self.is_dinov2 == other.is_dinov2 and self._plain() == other._plain()

    def parameters(self, has_decoder: bool) -> int:
        """Values of its weight file."""
        if self.is_dinov2:
            return dinov2_parameters(self.shape)
        return (autoencoder_parameters if has_decoder else encoder_parameters)(self.shape)

    def trained_parameters(self, phase: object) -> int:
        """Values a run carries along: the autoencoder, or the encoder and its projection head."""
        if not isinstance(phase, ContrastiveSettings):
            return self.parameters(has_decoder=True)
        head = head_parameters(self.shape.width, phase.head_width, phase.head_output)
        return self.parameters(has_decoder=False) + head

    def _plain(self) -> EncoderConfig:
        # What a weight file says of itself beside its shape does not change the work.
        usual = EncoderConfig()
        return replace(
            self.shape,
            registers=0,
            final_norm=True,
            layer_norm_eps=usual.layer_norm_eps,
            initializer_range=usual.initializer_range,
            decoder=usual.decoder if self.is_dinov2 else self.shape.decoder,
        )


def network_of(settings: Settings, node: EncoderNode, results_dir: Path) -> Network:
    """The network of a node; a run has that of its start, with the registers it adds."""
    start = _start_network(settings, node.start, results_dir)
    if node.branch == "start" or start.is_dinov2:
        return start
    return replace(start, shape=replace(start.shape, registers=node.registers))


def read_network(folder: Path) -> Network | None:
    """The network of an encoder folder, from its config.json; None if that cannot be read."""
    path = Path(folder) / "config.json"
    try:
        values = read_json(path)
        is_dinov2 = "dinov2" in values.get("model_type", "")
        shape = dinov2_shape(values) if is_dinov2 else EncoderConfig.from_hf(values, str(path))
    except Exception:
        # Whatever the file holds: the stage that needs it will say what is wrong with it.
        return None
    return Network(shape, is_dinov2, "counted", str(path))


def _start_network(settings: Settings, name: str, results_dir: Path) -> Network:
    encoder = settings.encoders[name]
    key = f"encoders.{name}"
    match encoder:
        case ScratchEncoder():
            shape = EncoderConfig.from_architecture(encoder.architecture, encoder.registers)
            return Network(shape, False, "counted", key)
        case ScratchDinov2Encoder():
            shape = dinov2_shape(dinov2_config(encoder.architecture))
            return Network(shape, True, "counted", key)
        case LocalEncoder():
            found = read_network(Path(encoder.path).expanduser())
        case HubEncoder():
            found = read_network(results_dir / "encoders" / f"start_{name}")
            if found is None and encoder.repo in _MAE_AT_HUB:
                found = Network(_MAE_AT_HUB[encoder.repo], False, "published", encoder.repo)
            elif found is None and encoder.repo in _DINOV2_AT_HUB:
                shape = dinov2_shape(_DINOV2_AT_HUB[encoder.repo])
                found = Network(shape, True, "published", encoder.repo)
    if found is not None:
        return found
    is_dinov2 = name in settings.matrix.dinov2.starts
    shape = dinov2_shape(_DINOV2_BASE) if is_dinov2 else EncoderConfig()
    return Network(shape, is_dinov2, "assumed", f"{key} is not here yet: taken for a ViT-Base")
