"""Tiny encoder folders for tests of detectors."""

from pathlib import Path

from stradavit.models.config import EncoderConfig
from stradavit.models.encoder import ViTEncoder
from stradavit.models.hub import save_encoder
from stradavit.models.initial import initial_weights
from stradavit.models.preprocessing import Preprocessing
from stradavit.settings.detection import DetectorSettings


def tiny_config(registers: int = 0, channels: int = 1, final_norm: bool = True) -> EncoderConfig:
    """48-px images in 6 x 6 patches; every width differs from every other."""
    return EncoderConfig(48, 8, channels, 32, 4, 4, 56, registers=registers, final_norm=final_norm)


def tiny_encoder(config: EncoderConfig, seed: int = 0) -> ViTEncoder:
    encoder = ViTEncoder(config)
    # A std of 1 gives tokens that matter.
    encoder.load_state_dict(initial_weights(encoder.state_dict(), 1.0, seed))
    return encoder.eval()


def write_encoder(folder: Path, config: EncoderConfig, seed: int = 0) -> Path:
    mean, std = (0.4, 0.5, 0.6)[: config.channels], (0.2, 0.3, 0.4)[: config.channels]
    preprocessing = Preprocessing(config.image_px, mean, std)
    save_encoder(folder, tiny_encoder(config, seed), preprocessing=preprocessing, card={})
    return folder


def tiny_settings(**changes: object) -> DetectorSettings:
    values = {"image_px": 72, "window": 4, "global_blocks": 2, "pyramid_width": 16}
    return DetectorSettings.parse(values | {"head_width": 24} | changes)
