"""Encoders as Hugging Face folders: config.json, model.safetensors, preprocessor, model card."""

import json
import logging
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from stradavit.errors import DataError
from stradavit.files import atomic_path, without_seal, write_json
from stradavit.models.card import read_card
from stradavit.models.config import EncoderConfig
from stradavit.models.dinov2 import MODEL_TYPES, Dinov2Encoder, load_dinov2
from stradavit.models.encoder import ViTEncoder
from stradavit.models.initial import initial_weights
from stradavit.models.mae import MaskedAutoencoder
from stradavit.models.preprocessing import Preprocessing
from stradavit.models.weights import (
    SAFETENSORS,
    canonical_names,
    load_exactly,
    read_weights,
    weight_file,
    write_weights,
)

log = logging.getLogger(__name__)

MAX_JSON_BYTES = 2**24

Encoder = ViTEncoder | Dinov2Encoder
Model = TypeVar("Model", ViTEncoder, MaskedAutoencoder)


@dataclass(frozen=True)
class LoadedEncoder:
    """An encoder, how it wants its images, and the provenance its model card states."""

    encoder: Encoder
    preprocessing: Preprocessing
    card: dict[str, Any]

    def embed(self, pixels: Tensor) -> Tensor:
        """Readout (batch, width) of stretched images (batch, 1, ny, nx) in [0, 1]."""
        return self.encoder.readout(self.preprocessing.normalise(pixels, self.encoder.channels))


def load_encoder(folder: Path, registers: int | None = None, seed: int = 0) -> LoadedEncoder:
    """Read an encoder folder: ours, a published ViT-MAE or DINOv2, the released STRADAViT.

    Parameters
    ----------
    folder : in the Hugging Face layout
    registers : registers wanted, if not those of the folder: an encoder without any gets fresh
        tokens
    seed : of fresh tokens

    Returns
    -------
    The encoder on the CPU, in float32 and in evaluation mode

    Raises
    ------
    DataError
        If files are missing, damaged or do not fit together, or the registers cannot be had.
    """
    folder = Path(folder)
    values = _read_config(folder)
    if values["model_type"] in MODEL_TYPES:
        dinov2 = load_dinov2(folder, values)
        # A grid that says nothing about registers (0) means a DINOv2 start as it is.
        if registers not in (None, 0, dinov2.registers):
            raise DataError(_wrong_registers(folder, dinov2.registers, registers))
        encoder: Encoder = dinov2
    else:
        config, weights = _read_vit(folder, values, registers)
        with torch.device("meta"):
            vit = ViTEncoder(config)
        given = {
            name.removeprefix("vit."): tensor
            for name, tensor in weights.items()
            if not name.startswith("decoder.")
        }
        encoder = _fill(vit, given, seed, folder)
    preprocessing = _read_preprocessing(folder, encoder)
    return LoadedEncoder(encoder.eval(), preprocessing, read_card(folder))


def load_mae(folder: Path, registers: int, seed: int) -> MaskedAutoencoder:
    """Read an encoder folder as a masked autoencoder to go on training.

    Parameters
    ----------
    folder : of a ViT-MAE; without a decoder in its weights, a fresh one is drawn
    registers : registers wanted; an encoder without any gets fresh tokens
    seed : of whatever is drawn

    Returns
    -------
    The autoencoder on the CPU, in float32 and in training mode

    Raises
    ------
    DataError
        As `load_encoder`, or if the folder is a DINOv2, which has no decoder.
    """
    folder = Path(folder)
    values = _read_config(folder)
    if values["model_type"] in MODEL_TYPES:
        raise DataError(
            f"{folder}: is a {values['model_type']}, which has no reconstruction decoder. "
            "Use it in the grid matrix.dinov2, which trains contrastively."
        )
    config, weights = _read_vit(folder, values, registers)
    with torch.device("meta"):
        mae = MaskedAutoencoder(ViTEncoder(config))
    return _fill(mae, weights, seed, folder)


def save_encoder(
    folder: Path,
    encoder: Encoder,
    mae: MaskedAutoencoder | None = None,
    *,
    preprocessing: Preprocessing,
    card: Mapping[str, Any],
) -> None:
    """Write an encoder folder; the weights come last, so their presence means a whole folder.

    Parameters
    ----------
    encoder : a ViT, or a DINOv2
    mae : the autoencoder the ViT belongs to, if its decoder is to be kept
    card : provenance for the model card: anything JSON can say; `title` becomes the heading
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "preprocessor_config.json", preprocessing.to_hf(), sealed=True)
    with atomic_path(folder / "README.md") as temporary:
        temporary.write_text(_card_text(encoder, preprocessing, card), encoding="utf-8")
    if isinstance(encoder, Dinov2Encoder):
        with tempfile.TemporaryDirectory(dir=folder, prefix=".saving.") as name:
            encoder.save(Path(name))
            for file in ("config.json", SAFETENSORS):
                (Path(name) / file).replace(folder / file)
        return
    state = {f"vit.{name}": tensor for name, tensor in encoder.state_dict().items()}
    if mae is not None:
        state |= {f"decoder.{name}": tensor for name, tensor in mae.decoder.state_dict().items()}
    config = encoder.config.to_hf(with_decoder=mae is not None)
    write_json(folder / "config.json", config, sealed=True)
    write_weights(folder / SAFETENSORS, state)


def read_json_object(path: Path) -> dict[str, Any]:
    """A JSON file that must hold an object.

    Raises
    ------
    DataError
        If it is missing, damaged, or holds something else.
    """
    try:
        if (size := path.stat().st_size) > MAX_JSON_BYTES:
            raise ValueError(f"it has {size} bytes, where at most {MAX_JSON_BYTES} are read")
        value = without_seal(json.loads(path.read_text(encoding="utf-8")), path)
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(
            f"{path}: cannot be read ({error}); expected a JSON file of the Hugging Face layout. "
            "A folder of an encoder holds config.json, preprocessor_config.json and weights; "
            "delete it, and fetch or train the encoder again."
        ) from error
    if not isinstance(value, dict):
        raise DataError(f"{path}: expected a JSON object, found {type(value).__name__}")
    return value


def _read_config(folder: Path) -> dict[str, Any]:
    values = read_json_object(folder / "config.json")
    known = ("vit_mae", *MODEL_TYPES)
    if values.get("model_type") not in known:
        raise DataError(
            f"{folder / 'config.json'}: model_type is {values.get('model_type')!r}; expected one "
            f"of {', '.join(known)}"
        )
    return values


def _read_vit(
    folder: Path, values: Mapping[str, Any], registers: int | None
) -> tuple[EncoderConfig, dict[str, Tensor]]:
    """The config with the wanted registers, and the weights under `MaskedAutoencoder`'s names."""
    config = EncoderConfig.from_hf(values, str(folder / "config.json"))
    path = weight_file(folder)
    weights = canonical_names(read_weights(path), str(path))
    has_tokens = "vit.register_tokens" in weights
    if has_tokens != bool(config.registers):
        raise DataError(
            f"{path}: has {'' if has_tokens else 'no '}register_tokens although n_registers is "
            f"{config.registers} in config.json. Check that both files belong to the same model."
        )
    if registers is not None and registers != config.registers:
        if config.registers:
            raise DataError(_wrong_registers(folder, config.registers, registers))
        log.info("%s: adding %d fresh register tokens", folder, registers)
        config = EncoderConfig(**{**vars(config), "registers": registers})
    return config, weights


def _fill(model: Model, weights: dict[str, Tensor], seed: int, folder: Path) -> Model:
    """Give a model its weights, and draw the parts a file may lack as a whole."""
    lacking: tuple[str, ...] = ()
    if not any(name.endswith("register_tokens") for name in weights):
        lacking += ("register_tokens", "vit.register_tokens")
    if not any(name.startswith("decoder.") for name in weights):
        lacking += ("decoder.",)
        if isinstance(model, MaskedAutoencoder):
            log.info("%s: has no decoder; drawing a fresh one", folder)
    absent = {name: t for name, t in model.state_dict().items() if name.startswith(lacking)}
    fresh = initial_weights(absent, model.config.initializer_range, seed)
    load_exactly(model, fresh | weights, str(weight_file(folder)))
    return model


def _read_preprocessing(folder: Path, encoder: Encoder) -> Preprocessing:
    path = folder / "preprocessor_config.json"
    values = read_json_object(path)
    return Preprocessing.from_hf(values, encoder.image_px, encoder.channels, str(path))


def _wrong_registers(folder: Path, found: int, wanted: int | None) -> str:
    return (
        f"{folder}: has {found} register tokens, {wanted} are wanted. Registers can only be added "
        f"to an encoder without any: ask for {found}, or start from another encoder."
    )


def _card_text(encoder: Encoder, preprocessing: Preprocessing, card: Mapping[str, Any]) -> str:
    title = card.get("title", "stradavit encoder")
    provenance = json.dumps(dict(card), sort_keys=True, indent=1, ensure_ascii=False)
    if isinstance(encoder, Dinov2Encoder):
        readout = "the pooled, layer-normed class token"
    else:
        readout = "the mean of the patch tokens, without the class token"
    warning = ""
    if isinstance(encoder, ViTEncoder) and encoder.config.registers:
        warning = (
            "\nThe network has register tokens. Stock transformers classes load this folder but "
            "leave them out; load it with `stradavit.models.hub.load_encoder`.\n"
        )
    return f"""---
library_name: stradavit
tags: [radio-astronomy, self-supervised, vision-transformer]
---

# {title}

Input: single-channel images stretched to [0, 1] (zscale), resized to {preprocessing.image_px} x
{preprocessing.image_px} px, repeated to {encoder.channels} channel(s), normalised with mean
{list(preprocessing.mean)} and standard deviation {list(preprocessing.std)}. Do not divide by 255.
Features: {readout}; width {encoder.width}.
{warning}
Scores are not part of this file: they are measured later and lie in the metrics of the workflow.

## Provenance

```json
{provenance}
```
"""
