"""Optional: the blocks of a network as fused kernels, made by torch.compile."""

import logging
from typing import Literal

import torch
from torch import nn

logger = logging.getLogger(__name__)


def compile_blocks(
    modules: dict[str, nn.Module], wanted: Literal["auto", "off", "on"], device: torch.device
) -> int:
    """Compile the Transformer blocks of ours and of transformers' networks, in place.

    All blocks of one shape share one compilation, and names of parameters stay as they are.
    Where nothing can be compiled, a warning says so and the blocks run as they are.

    Parameters
    ----------
    wanted : `auto` compiles for GPUs only. On a processor, layers are matrix products nearly
        alone, and compiling takes longer than small runs do.

    Returns
    -------
    Number of blocks compiled
    """
    if wanted == "off" or (wanted == "auto" and device.type != "cuda"):
        return 0
    fault = _fault(device)
    if fault is not None:
        logger.warning(
            "torch.compile does not work here, so blocks run as they are: %s. Install a C++ "
            "compiler (on a GPU, also Triton), or set loader.compile to off.",
            fault,
        )
        return 0
    blocks = [
        block
        for module in modules.values()
        for stack in module.modules()
        if isinstance(stack, nn.ModuleList)
        for block in stack
    ]
    for block in blocks:
        block.compile()
    logger.info("Compiling %d blocks; the first steps wait for it", len(blocks))
    return len(blocks)


def _fault(device: torch.device) -> str | None:
    """What keeps torch from compiling a trifle, forwards and backwards."""
    trifle = torch.ones(8, device=device, requires_grad=True)
    try:
        torch.autograd.grad(torch.compile(lambda x: torch.sin(x).sum())(trifle), trifle)
    except Exception as error:  # torch has many kinds, most of them under private names
        return str(error).strip().splitlines()[0]
    return None
