"""Counted FLOPs against torch's own count of what a network does."""

import platform
from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from stradavit.models.config import DecoderConfig, EncoderConfig
from stradavit.models.encoder import ViTEncoder
from stradavit.models.mae import MaskedAutoencoder
from stradavit.models.projection import ProjectionHead
from stradavit.training.memory import keep_freed_memory
from stradavit.training.throughput import (
    Gauge,
    Peak,
    contrastive_flops,
    device_peak,
    dinov2_flops,
    encoder_flops,
    matrix_product_rate,
    published_peak,
    reconstruction_flops,
)

CONFIG = EncoderConfig(
    image_px=48,
    patch_px=8,
    width=32,
    layers=3,
    heads=2,
    mlp_width=80,
    registers=4,
    decoder=DecoderConfig(width=24, layers=2, heads=3, mlp_width=48),
)


def counted(forward, *inputs) -> float:  # type: ignore[no-untyped-def]
    """Forward FLOPs; in bfloat16, where attention is plain products that torch can count."""
    with (
        FlopCounterMode(display=False) as counter,
        torch.no_grad(),
        torch.autocast("cpu", torch.bfloat16),
    ):
        forward(*inputs)
    return counter.get_total_flops()


@pytest.mark.parametrize("registers", [0, 4])
def test_reconstruction_flops_are_those_of_the_products(registers: int) -> None:
    config = replace(CONFIG, registers=registers)
    mae = MaskedAutoencoder(ViTEncoder(config))
    found = counted(mae, torch.randn(1, 3, 48, 48), torch.rand(1, config.patches), 0.75)
    assert reconstruction_flops(config, 0.75) == 3 * found


def test_contrastive_flops_are_those_of_the_products() -> None:
    encoder, head = ViTEncoder(CONFIG), ProjectionHead(32, 40, 16, False, 0)
    images = torch.randn(1, 3, 48, 48)
    assert encoder_flops(CONFIG) == counted(encoder.readout, images)
    found = counted(lambda x: head(encoder.readout(x)), images)
    assert contrastive_flops(encoder_flops(CONFIG), 32, 40, 16, views=2) == 3 * 2 * found


def test_dinov2_flops_are_those_of_the_same_vit() -> None:
    from transformers import Dinov2WithRegistersConfig

    theirs = Dinov2WithRegistersConfig(
        image_size=48,
        patch_size=8,
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=2,
        mlp_ratio=4,
        num_register_tokens=4,
    )
    assert dinov2_flops(theirs) == encoder_flops(replace(CONFIG, mlp_width=128))


def test_the_papers_network_has_the_flops_everybody_names() -> None:
    # 17.6 billion multiplications and additions an image (Dosovitskiy et al. 2021, as in timm).
    assert encoder_flops(EncoderConfig()) == pytest.approx(2 * 17.56e9, rel=5e-3)


@pytest.mark.parametrize(
    ("name", "tflops"),
    [
        ("NVIDIA A100-SXM4-80GB", 312),
        ("NVIDIA H100 80GB HBM3", 989),
        ("NVIDIA H100 PCIe", 756),
        ("NVIDIA H200", 989),
        ("NVIDIA L40S", 362),
        ("NVIDIA L4", 121),
        ("NVIDIA GeForce RTX 4090", 165),
        ("NVIDIA L40", None),
        ("Tesla T4", None),
    ],
)
def test_published_peaks_are_found_by_whole_words(name: str, tflops: float | None) -> None:
    assert published_peak(name) == (tflops and tflops * 1e12)


def test_a_processor_is_measured() -> None:
    peak = device_peak(torch.device("cpu"), "fp32")
    assert peak.source == "measured fp32 matrix product"
    assert 1e8 < peak.flops < 1e15
    assert matrix_product_rate(torch.device("cpu"), "bf16", 0.0, (8, 16, 4)) > 0


def test_a_gauge_reads_rates_per_device() -> None:
    gauge = Gauge(flops=2e9, world=4, peak=Peak(1e12, "dense bf16 peak of a GPU"))
    assert gauge.rates(1000.0) == {"tflop_per_s": 0.5, "peak_fraction": 0.5}
    text = gauge.read({"cutouts_per_s": 1000.0, "stall_fraction": 0.015})
    assert text == (
        "1000 cutouts/s, data stall 1.5%, 0.5 TFLOP/s = 50.0% of the dense bf16 peak of a GPU "
        "(1 TFLOP/s)"
    )


def test_freed_memory_is_kept_where_there_is_glibc() -> None:
    assert keep_freed_memory() == (platform.libc_ver()[0] == "glibc")
