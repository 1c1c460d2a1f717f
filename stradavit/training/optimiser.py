"""AdamW, with weight decay on matrices and convolutions only."""

import torch
from torch import nn

from stradavit.settings.training import OptimiserSettings

# Learned or fixed rows that stand for a token or a place, not for a map between features.
_TOKENS = ("cls_token", "register_tokens", "mask_token", "position_embeddings", "decoder_pos_embed")


def is_decayed(name: str, parameter: nn.Parameter) -> bool:
    """Whether weight decay applies: not to biases, norms and scales (one axis), nor to tokens."""
    return parameter.ndim > 1 and name.rsplit(".", 1)[-1] not in _TOKENS


def adamw(
    modules: dict[str, nn.Module], settings: OptimiserSettings
) -> tuple[torch.optim.AdamW, list[nn.Parameter]]:
    """Fused AdamW over everything trainable, and that list.

    The authors decay CLS and register tokens too; MAE and DINOv2 do not, and neither do we.
    """
    decayed: list[nn.Parameter] = []
    plain: list[nn.Parameter] = []
    for module in modules.values():
        for name, parameter in module.named_parameters():
            if parameter.requires_grad:
                (decayed if is_decayed(name, parameter) else plain).append(parameter)
    optimiser = torch.optim.AdamW(
        [
            {"params": decayed, "weight_decay": settings.weight_decay},
            {"params": plain, "weight_decay": 0.0},
        ],
        lr=settings.learning_rate,
        betas=settings.betas,
        eps=settings.eps,
        fused=True,
    )
    return optimiser, decayed + plain
