"""Where an evaluation computes, and in which precision."""

import os
from contextlib import AbstractContextManager
from typing import Literal

import torch

from stradavit.errors import SettingsError
from stradavit.settings.training import LoaderSettings

Precision = Literal["bf16", "fp32"]


def prepare_device(loader: LoaderSettings) -> torch.device:
    """The device to compute on; sets the number of threads, and makes a GPU deterministic.

    Raises
    ------
    SettingsError
        If `loader.device` asks for a GPU and there is none.
    """
    has_gpu = torch.cuda.is_available()
    if loader.device == "cuda" and not has_gpu:
        raise SettingsError(
            "loader.device is cuda, but torch sees no CUDA device. Set loader.device to auto or "
            "cpu, or check the driver and the installed torch build."
        )
    torch.set_num_threads(loader.threads)
    if loader.device == "cpu" or not has_gpu:
        return torch.device("cpu")
    # cuBLAS needs a fixed workspace to take the same sums in the same order. Where CUDA has no
    # deterministic version of an operation, torch says so and goes on.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    return torch.device("cuda")


def mixed_precision(device: torch.device, precision: Precision) -> AbstractContextManager[None]:
    """Autocast to bfloat16, or nothing."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")
