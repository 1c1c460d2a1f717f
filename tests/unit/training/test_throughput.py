"""Rates as shares of a peak, and where peaks are from."""

import platform

import pytest
import torch

from stradavit.training.memory import keep_freed_memory
from stradavit.training.throughput import (
    Gauge,
    Peak,
    device_peak,
    matrix_product_rate,
    published_peak,
)


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
