"""AdamW, with weight decay on matrices and convolutions only."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw as adamw_step

from stradavit.settings.training import OptimiserSettings

# Learned or fixed rows that stand for a token or a place, not for a map between features.
_TOKENS = ("cls_token", "register_tokens", "mask_token", "position_embeddings", "decoder_pos_embed")
# Tables of a detector by distance, not by feature (stradavit.detection.relative).
_RELATIVE = ("relative.rows", "relative.columns")


def is_decayed(name: str, parameter: nn.Parameter) -> bool:
    """Whether weight decay applies.

    Not to biases, norms and scales, which have one axis, nor to tokens and positions.
    """
    is_place = name.rsplit(".", 1)[-1] in _TOKENS or name.endswith(_RELATIVE)
    return parameter.ndim > 1 and not is_place


class AdamW:
    """Fused AdamW (Loshchilov and Hutter 2019) on groups of parameters.

    `torch.optim.AdamW(fused=True)` to the bit, and its checkpoints too. Not that class itself,
    since all of torch's optimisers import its compiler when they are made: two seconds of every
    job, as much as all the rest of torch.

    Parameters
    ----------
    groups : each with `params`, `weight_decay` and `lr`, which may be set anew before every step;
        other keys are kept as they are
    """

    def __init__(
        self, groups: list[dict[str, Any]], betas: tuple[float, float], eps: float = 1e-8
    ) -> None:
        self.param_groups = groups
        self._betas, self._eps = betas, eps
        # Of each parameter, once it has had a gradient: step, mean and mean square of gradients.
        self._state: dict[nn.Parameter, dict[str, Tensor]] = {}

    @torch.no_grad()
    def step(self) -> None:
        """One update of every parameter that has a gradient."""
        for group in self.param_groups:
            moved = [parameter for parameter in group["params"] if parameter.grad is not None]
            states = [self._state_of(parameter) for parameter in moved]
            adamw_step(
                moved,
                [parameter.grad for parameter in moved],
                [state["exp_avg"] for state in states],
                [state["exp_avg_sq"] for state in states],
                [],
                [state["step"] for state in states],
                fused=True,
                amsgrad=False,
                beta1=self._betas[0],
                beta2=self._betas[1],
                lr=group["lr"],
                weight_decay=group["weight_decay"],
                eps=self._eps,
                maximize=False,
            )

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for parameter in self._parameters():
            parameter.grad = None

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps, laid out as torch's: parameters are numbered over the groups."""
        numbers = {parameter: number for number, parameter in enumerate(self._parameters())}
        return {
            "state": {numbers[parameter]: state for parameter, state in self._state.items()},
            "param_groups": [
                group | {"params": [numbers[parameter] for parameter in group["params"]]}
                for group in self.param_groups
            ],
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Go on where `saved` was written; learning rates are those of the groups as they are."""
        parameters = self._parameters()
        for number, state in saved["state"].items():
            kept = self._state_of(parameters[number])
            for name, tensor in kept.items():
                tensor.copy_(state[name])

    def _parameters(self) -> list[nn.Parameter]:
        return [parameter for group in self.param_groups for parameter in group["params"]]

    def _state_of(self, parameter: nn.Parameter) -> dict[str, Tensor]:
        if parameter not in self._state:
            self._state[parameter] = {
                # Beside the parameter: a GPU would wait for a number from elsewhere.
                "step": torch.zeros((), device=parameter.device),
                "exp_avg": torch.zeros_like(parameter),
                "exp_avg_sq": torch.zeros_like(parameter),
            }
        return self._state[parameter]


def adamw(
    modules: dict[str, nn.Module], settings: OptimiserSettings
) -> tuple[AdamW, list[nn.Parameter]]:
    """Fused AdamW over everything trainable, and that list.

    The authors decay CLS and register tokens too; MAE and DINOv2 do not, and neither do we.
    """
    decayed: list[nn.Parameter] = []
    plain: list[nn.Parameter] = []
    for module in modules.values():
        for name, parameter in module.named_parameters():
            if parameter.requires_grad:
                (decayed if is_decayed(name, parameter) else plain).append(parameter)
    rate = settings.learning_rate
    groups: list[dict[str, Any]] = [
        {"params": decayed, "lr": rate, "weight_decay": settings.weight_decay},
        {"params": plain, "lr": rate, "weight_decay": 0.0},
    ]
    return AdamW(groups, settings.betas, settings.eps), decayed + plain
