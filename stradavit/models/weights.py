"""Weight files: which names they use, and loading that accepts no surprise."""

import hashlib
import json
import re
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from stradavit.errors import DataError
from stradavit.files import atomic_path

SAFETENSORS = "model.safetensors"
PICKLED = "pytorch_model.bin"

# Key in the header of our own files: SHA-256 over all tensors. Published files have none.
SEAL = "sha256"

_REMEDY = "Delete it, and fetch or train it again."
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


def write_weights(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write safetensors atomically, with a checksum that `read_weights` compares.

    The same tensors give the same file, byte for byte: what follows from it need not run again.

    Parameters
    ----------
    tensors : by name; on any device
    """
    from safetensors.torch import save_file

    on_cpu = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with atomic_path(path) as temporary:
        # transformers 4 refuses files that do not name their framework.
        seal = _digest(on_cpu, on_cpu.__getitem__)
        save_file(on_cpu, temporary, metadata={"format": "pt", SEAL: seal})
        _sort_header(temporary)


def check_weights(path: Path) -> None:
    """Compare a safetensors file with its own checksum, if it has one.

    Raises
    ------
    DataError
        If it cannot be read, or has changed since it was written.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            noted = (file.metadata() or {}).get(SEAL)
            found = noted and _digest(file.keys(), file.get_tensor)
    except (SafetensorError, OSError, RuntimeError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as weights: {error}. {_REMEDY}") from error
    if found != noted:
        raise DataError(
            f"{path}: the weights have changed since they were written: their checksum is not the "
            f"one in the file. {_REMEDY}"
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

    check_packing(path)
    try:
        if path.name.endswith(".safetensors"):
            check_weights(path)
            found = load_file(path)
        else:
            found = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, OSError, EOFError, RuntimeError, ValueError, KeyError) as error:
        raise DataError(f"{path}: cannot be read as weights: {error}. {_REMEDY}") from error
    except DataError:
        raise
    except Exception as error:
        # The restricted unpickler raises its own class, which lies under a private name.
        raise DataError(f"{path}: is refused as weights: {error}") from error
    if not isinstance(found, dict) or not all(isinstance(t, Tensor) for t in found.values()):
        raise DataError(f"{path}: expected a table of tensors by name, found something else")
    size = path.stat().st_size
    for name, tensor in found.items():
        # One number that stands for a whole tensor takes no room in the file, and all of it here.
        is_plain = tensor.layout == torch.strided and not tensor.is_quantized
        if not is_plain or tensor.numel() * tensor.element_size() > size:
            raise DataError(
                f"{path}: {str(name)[:100]!a} is no plain tensor of numbers in the file, or claims "
                f"more than its {size} bytes. Fetch it again, or do not use it."
            )
    weights = {
        str(name): tensor.float() if tensor.is_floating_point() else tensor
        for name, tensor in found.items()
    }
    for name, tensor in weights.items():
        if not torch.isfinite(tensor).all():
            raise DataError(f"{path}: {name} holds values that are not finite; the file is damaged")
    return weights


def _digest(names: Iterable[str], tensor_of: Callable[[str], Tensor]) -> str:
    """Hex SHA-256 over names, types, shapes and bytes, one tensor after the other."""
    digest = hashlib.sha256()
    for name in sorted(names):
        tensor = tensor_of(name)
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _sort_header(path: Path) -> None:
    """Put the two entries of the header's metadata in order: safetensors writes them in any."""
    with path.open("rb+") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        assert len(text) <= length, "the header has become longer"
        file.seek(8)
        file.write(text.ljust(length))


def check_packing(path: Path) -> None:
    """Refuse a pickled weight file that unpacks to more than it has.

    Raises
    ------
    DataError
    """
    if path.name.endswith(".safetensors") or not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as opened:
            is_packed = any(member.compress_type for member in opened.infolist())
    except zipfile.BadZipFile as error:
        raise DataError(f"{path}: cannot be read as weights: {error}. Fetch it again.") from error
    if is_packed:
        raise DataError(
            f"{path}: is packed, which no program that writes weights does; do not use it, or "
            f"convert it to {SAFETENSORS} yourself."
        )


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
