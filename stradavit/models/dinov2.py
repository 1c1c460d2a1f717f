"""DINOv2 with or without registers: transformers' networks behind our readout."""

import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from stradavit.errors import DataError
from stradavit.models.config import dinov2_config, known_dinov2
from stradavit.models.initial import initial_dinov2_weights
from stradavit.models.weights import (
    PICKLED,
    SAFETENSORS,
    check_packing,
    check_weights,
    read_weights,
    weight_file,
    write_weights,
)
from stradavit.settings.encoders import Dinov2Architecture

MODEL_TYPES = ("dinov2", "dinov2_with_registers")


class Dinov2Encoder(nn.Module):
    """A DINOv2 backbone read out as its authors do: the layer-normed class token.

    Parameters
    ----------
    model : transformers' Dinov2Model or Dinov2WithRegistersModel
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        # Only DINOv2's own pretraining uses it; data-parallel training would wait for its gradient.
        if model.embeddings.mask_token is not None:
            model.embeddings.mask_token.requires_grad_(False)

    @property
    def width(self) -> int:
        """Width of the readout."""
        return int(self.model.config.hidden_size)

    @property
    def channels(self) -> int:
        """Channels of the input."""
        return int(self.model.config.num_channels)

    @property
    def image_px(self) -> int:
        """Native side of the input in pixels (518 in published weights)."""
        return int(self.model.config.image_size)

    @property
    def registers(self) -> int:
        """Register tokens of the backbone."""
        return int(getattr(self.model.config, "num_register_tokens", 0))

    def forward(self, pixels: Tensor) -> Tensor:
        """The readout, so that wrappers for several devices can call the module itself."""
        return self.readout(pixels)

    def readout(self, pixels: Tensor) -> Tensor:
        """One vector per image.

        Parameters
        ----------
        pixels : (batch, channel, ny, nx) float, normalised

        Returns
        -------
        (batch, width)
        """
        pooled: Tensor = self.model(pixel_values=pixels).pooler_output
        return pooled

    def save(self, folder: Path) -> None:
        """Write config.json and model.safetensors under the names of the published files."""
        with _quiet_transformers():
            self.model.save_pretrained(folder, safe_serialization=True)
        # The same tensors again, with their checksum.
        write_weights(folder / SAFETENSORS, read_weights(folder / SAFETENSORS))


def load_dinov2(folder: Path, config: Mapping[str, Any]) -> Dinov2Encoder:
    """Read a DINOv2 folder.

    Raises
    ------
    DataError
        If the weights are not exactly those its config.json asks for.
    """
    kind = _transformers_class(config["model_type"])
    path = weight_file(folder)
    if path.name == SAFETENSORS:
        check_weights(path)
    check_packing(path)
    known = known_dinov2(config, str(folder / "config.json"))
    try:
        with _quiet_transformers(), _only(path, known) as alone:
            model, report = kind.from_pretrained(
                alone,
                local_files_only=True,
                use_safetensors=path.name != PICKLED,
                weights_only=True,
                dtype="float32",
                attn_implementation="sdpa",
                output_loading_info=True,
            )
    except Exception as error:
        # Whatever a strange folder provokes inside transformers is a fault of that folder.
        raise DataError(f"{folder}: cannot be read as {config['model_type']}: {error}") from error
    faults = [
        f"{fault.removesuffix('_keys')} {name}"
        for fault in ("missing_keys", "unexpected_keys", "mismatched_keys")
        for name in sorted(map(str, report[fault]))
    ]
    if faults:
        raise DataError(f"{path}: the weights do not fit config.json: {'; '.join(faults[:12])}")
    return Dinov2Encoder(model)


@contextmanager
def _only(weights: Path, config: dict[str, Any]) -> Iterator[Path]:
    """A folder of nothing but these weights and this config.

    transformers looks into a folder for more than it is asked for: adapters of other networks,
    shards, kernels by the name its config gives.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / weights.name).symlink_to(weights.resolve())
        (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
        yield folder


def draw_dinov2(shape: Dinov2Architecture, seed: int) -> Dinov2Encoder:
    """A DINOv2 of random weights, each tensor a function of (seed, its published name).

    Those names, and not the ones inside transformers, which its versions change: hence the way
    through a file.
    """
    values = dinov2_config(shape)
    kind = _transformers_class(values["model_type"])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        Dinov2Encoder(kind(kind.config_class.from_dict(values))).save(folder)
        state = read_weights(folder / SAFETENSORS)
        drawn = initial_dinov2_weights(state, kind.config_class().initializer_range, seed)
        write_weights(folder / SAFETENSORS, drawn)
        return load_dinov2(folder, values)


def _transformers_class(model_type: str) -> Any:
    from transformers import Dinov2Model, Dinov2WithRegistersModel

    return Dinov2WithRegistersModel if "registers" in model_type else Dinov2Model


@contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Hide transformers' progress bars and notes for the time of a block."""
    from transformers.utils import logging

    level, had_bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if had_bars:
            logging.enable_progress_bar()
