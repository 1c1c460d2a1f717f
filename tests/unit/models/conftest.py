"""Tiny networks all tests of the models share."""

import pytest

from stradavit.models.config import DecoderConfig, EncoderConfig


@pytest.fixture
def tiny() -> EncoderConfig:
    """3-channel 48-px images in nine patches; every width differs from every other."""
    decoder = DecoderConfig(width=24, layers=2, heads=3, mlp_width=36)
    return EncoderConfig(48, 16, 3, 32, 3, 4, 56, decoder=decoder)
