"""Weight files: which names they use, and loading that accepts no surprise."""

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from stradavit.errors import DataError

SAFETENSORS = "model.safetensors"
PICKLED = "pytorch_model.bin"

_ENCODER_ROOTS = ("embeddings.", "encoder.", "layernorm.", "register_tokens")


def weight_file(folder: Path) -> Path:
    """The weight file of a model folder: safetensors, or the older format if there is none.

    Raises
    ------
    DataError
        If there is neither.
    """
    for name in (SAFETENSORS, PICKLED):
        if (folder / name).is_file():
            return folder / name
    raise DataError(
        f"{folder}: holds neither {SAFETENSORS} nor {PICKLED}; expected a model folder in the "
        "Hugging Face layout. Point `path` at the folder that holds config.json and the weights."
    )


def read_weights(path: Path) -> dict[str, Tensor]:
    """All tensors of a weight file as float32 on the CPU; code in a pickle is never run.

    Raises
    ------
    DataError
        If the file is damaged, holds anything but tensors, or a value that is not finite.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if path.name.endswith(".safetensors"):
            found = load_file(path)
        else:
            found = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, OSError, EOFError, RuntimeError, ValueError, KeyError) as error:
        raise DataError(f"{path}: cannot be read as weights: {error}. Fetch it again.") from error
    except Exception as error:
        # The restricted unpickler raises its own class, which lies under a private name.
        raise DataError(f"{path}: is refused as weights: {error}") from error
    if not isinstance(found, dict) or not all(isinstance(t, Tensor) for t in found.values()):
        raise DataError(f"{path}: expected a table of tensors by name, found something else")
    weights = {
        str(name): tensor.float() if tensor.is_floating_point() else tensor
        for name, tensor in found.items()
    }
    for name, tensor in weights.items():
        if not torch.isfinite(tensor).all():
            raise DataError(f"{path}: {name} holds values that are not finite; the file is damaged")
    return weights


def canonical_names(weights: Mapping[str, Tensor], where: str) -> dict[str, Tensor]:
    """Name the tensors of a ViT-MAE file as `MaskedAutoencoder` does.

    Accepts the encoder with or without `vit.`, and the decoder blocks under the name published
    files use (`decoder_layers.N`) or the one transformers 5 writes (`decoder_encoder.layer.N`).
    A contrastive projector is left out.

    Raises
    ------
    DataError
        If two tensors end up with the same name.
    """
    renamed: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        if name.startswith("projector_head."):
            continue
        new = f"vit.{name}" if name.startswith(_ENCODER_ROOTS) else name
        new = re.sub(r"^decoder\.decoder_encoder\.layer\.", "decoder.decoder_layers.", new)
        if new in renamed:
            raise DataError(f"{where}: holds {new} twice, under two spellings; keep one of them")
        renamed[new] = tensor
    return renamed


def load_exactly(module: nn.Module, weights: Mapping[str, Tensor], where: str) -> None:
    """Give a module its weights if names and shapes are exactly those it has.

    The module may be on the `meta` device: its tensors are replaced, not written into.

    Raises
    ------
    DataError
        Naming the missing, unexpected and misshapen tensors.
    """
    wanted = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    faults = [f"missing {name}" for name in wanted if name not in weights]
    faults += [f"unexpected {name}" for name in weights if name not in wanted]
    faults += [
        f"{name} has shape {tuple(weights[name].shape)}, expected {shape}"
        for name, shape in wanted.items()
        if name in weights and tuple(weights[name].shape) != shape
    ]
    if faults:
        shown = "; ".join(faults[:12]) + (f"; and {len(faults) - 12} more" if faults[12:] else "")
        raise DataError(
            f"{where}: the weights do not fit config.json beside them: {shown}. "
            "Check that both files belong to the same model."
        )
    module.load_state_dict(dict(weights), strict=True, assign=True)
