"""Layer-wise learning rates of fine-tuning: early blocks move less (paper, section 9.3)."""

import re
from typing import Any

from torch import nn

from stradavit.settings.evaluation import FinetuneSettings
from stradavit.training.optimiser import is_decayed

# `encoder.layer.3.…` in ViT-MAE and DINOv2 names, wherever a wrapper has put the encoder.
BLOCK = re.compile(r"(?:^|\.)layer\.(\d+)\.")


def block_of(name: str) -> int | None:
    """Number of the block a parameter belongs to; None outside the blocks."""
    found = BLOCK.search(name)
    return int(found.group(1)) if found else None


def parameter_groups(
    encoder: nn.Module, head: nn.Module, settings: FinetuneSettings
) -> list[dict[str, Any]]:
    """Groups for AdamW, each with its `peak` learning rate, `lr` equal to it, and weight decay.

    Block l of L learns at η · decay^(L − 1 − l). Embeddings, tokens and whatever else lies outside
    the blocks, the encoder's final norm too, share the rate of block 0; `head` (its norm and its
    linear layer) learns at η · head_multiplier. No weight decay on biases, norms, layer scales,
    tokens and position embeddings.

    Parameters
    ----------
    encoder : module whose blocks are named ``…layer.<number>.…``
    head : module that holds everything that is new
    """
    named = [(n, p) for n, p in encoder.named_parameters() if p.requires_grad]
    blocks = {block for name, _ in named if (block := block_of(name)) is not None}
    assert blocks == set(range(len(blocks))), f"encoder with blocks {sorted(blocks)}"
    base = settings.learning_rate
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}

    def add(name: str, parameter: nn.Parameter, peak: float) -> None:
        decay = settings.weight_decay if is_decayed(name, parameter) else 0.0
        groups.setdefault((peak, decay), []).append(parameter)

    for name, parameter in named:
        above = len(blocks) - 1 - (block_of(name) or 0)
        add(name, parameter, base * settings.layer_decay**above)
    for name, parameter in head.named_parameters():
        add(name, parameter, base * settings.head_multiplier)
    return [
        {"params": parameters, "lr": peak, "peak": peak, "weight_decay": decay}
        for (peak, decay), parameters in groups.items()
    ]
