"""Compiled blocks compute what they did before; without a compiler they run as they are."""

import shutil
import subprocess
import sys

import pytest
import torch

from stradavit.models.compiled import compile_blocks
from stradavit.models.config import EncoderConfig
from stradavit.models.encoder import ViTEncoder

CPU = torch.device("cpu")
# In a process of its own: torch keeps what it compiled, and what it was told about errors.
COMPARE = """
import torch
from stradavit.models.compiled import compile_blocks
from stradavit.models.config import EncoderConfig
from stradavit.models.encoder import ViTEncoder

torch.set_num_threads(1)
encoder = ViTEncoder(EncoderConfig(image_px=32, patch_px=16, width=16, heads=2, layers=3,
                                   mlp_width=32))
for parameter in encoder.parameters():
    torch.nn.init.normal_(parameter, std=0.3)
names, images = list(encoder.state_dict()), torch.randn(4, 3, 32, 32)
expected = torch.autograd.grad(encoder.readout(images).square().sum(),
                               list(encoder.encoder.parameters()))
n_compiled = compile_blocks({"encoder": encoder}, "on", torch.device("cpu"))
print("compiled", n_compiled)
assert list(encoder.state_dict()) == names
for n in (4, 3):  # the last micro-batch of an epoch is smaller
    encoder.readout(images[:n])
found = torch.autograd.grad(encoder.readout(images).square().sum(),
                            list(encoder.encoder.parameters()))
for ours, theirs in zip(found, expected, strict=True):
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)
"""


@pytest.mark.parametrize(("wanted", "device"), [("off", "cuda"), ("auto", "cpu")])
def test_compiling_can_be_left_out(wanted: str, device: str) -> None:
    encoder = ViTEncoder(EncoderConfig(image_px=32, width=16, heads=2, layers=2, mlp_width=32))
    assert compile_blocks({"encoder": encoder}, wanted, torch.device(device)) == 0  # type: ignore[arg-type]
    assert all(block._compiled_call_impl is None for block in encoder.encoder.layer)


@pytest.mark.slow
@pytest.mark.parametrize("compiler", ["there", "missing"])
def test_compiled_blocks_compute_the_same(compiler: str, tmp_path) -> None:  # type: ignore[no-untyped-def]
    if compiler == "there" and shutil.which("g++") is None:
        pytest.skip("there is no C++ compiler")
    environment = {"PATH": "/usr/bin:/bin", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
    if compiler == "missing":
        environment |= {"CXX": "/nowhere/c++"}
    done = subprocess.run(
        [sys.executable, "-c", COMPARE],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
