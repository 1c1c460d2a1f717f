"""The stage that brings a starting point into `encoders/`: drawn, copied or downloaded."""

import logging
from pathlib import Path
from typing import Any

import torch

from stradavit.acquire.archives.hub import fetch_model
from stradavit.errors import SettingsError
from stradavit.files import sha256_of
from stradavit.machine import maker
from stradavit.models.config import EncoderConfig
from stradavit.models.dinov2 import Dinov2Encoder, draw_dinov2
from stradavit.models.encoder import ViTEncoder
from stradavit.models.hub import LoadedEncoder, load_encoder, load_mae, save_encoder
from stradavit.models.initial import initial_weights
from stradavit.models.mae import MaskedAutoencoder
from stradavit.models.preprocessing import Preprocessing
from stradavit.models.weights import read_weights, weight_file
from stradavit.provenance import code_hash
from stradavit.settings.archives import ArchiveSettings
from stradavit.settings.encoders import (
    Encoder,
    HubEncoder,
    LocalEncoder,
    Scratch,
    ScratchDinov2Encoder,
    ScratchEncoder,
)

log = logging.getLogger(__name__)


def acquire_encoder(
    name: str,
    encoder: Encoder,
    seed: int | None,
    out_dir: Path,
    archives: ArchiveSettings | None = None,
) -> None:
    """Write the encoder folder of a starting point.

    Parameters
    ----------
    name : of the encoder in the config, for its card
    encoder : scratch (random weights of a ViT-MAE or DINOv2), local (a folder) or hub (a download)
    seed : of the weights of a scratch start; published weights have none
    out_dir : folder to write, in the Hugging Face layout; what a hub sends is kept in `.hub` in it
    archives : how often to try, and where the hub is; the defaults if absent

    Raises
    ------
    SettingsError
        If a scratch start has no seed.
    DataError
        If files are missing, damaged or do not fit together, or the hub cannot be reached.
    """
    card: dict[str, Any] = {
        "title": encoder.title or name,
        "name": name,
        "settings": encoder.model_dump(mode="json"),
        "code": code_hash(__name__),
        "made_by": [maker()],
    }
    match encoder:
        case ScratchEncoder() | ScratchDinov2Encoder():
            if seed is None:
                raise SettingsError(f"encoders.{name}: a scratch start needs a seed; found none")
            _draw(encoder, seed, out_dir, card | {"seed": seed})
        case LocalEncoder():
            _copy(Path(encoder.path).expanduser(), out_dir, card)
        case HubEncoder():
            model = fetch_model(
                encoder.repo, encoder.revision, archives or ArchiveSettings(), out_dir / ".hub"
            )
            _copy(model.folder, out_dir, card | {"commit": model.commit, "files": model.files})


def _draw(encoder: Scratch, seed: int, out_dir: Path, card: dict[str, Any]) -> None:
    if isinstance(encoder, ScratchDinov2Encoder):
        dinov2 = draw_dinov2(encoder.architecture, seed)
        preprocessing = Preprocessing.identity(dinov2.image_px, dinov2.channels)
        save_encoder(out_dir, dinov2, preprocessing=preprocessing, card=card)
    else:
        config = EncoderConfig.from_architecture(encoder.architecture, encoder.registers)
        with torch.device("meta"):
            mae = MaskedAutoencoder(ViTEncoder(config))
        mae.load_state_dict(
            initial_weights(mae.state_dict(), config.initializer_range, seed), assign=True
        )
        preprocessing = Preprocessing.identity(config.image_px, config.channels)
        save_encoder(out_dir, mae.vit, mae, preprocessing=preprocessing, card=card)
    log.info("drew %s from seed %d", out_dir, seed)


def _copy(folder: Path, out_dir: Path, card: dict[str, Any]) -> None:
    """Read a folder strictly and write it in our layout: same numbers, one set of names."""
    loaded = load_encoder(folder)
    source = weight_file(folder)
    card = card | {"weights": {"file": source.name, "sha256": sha256_of(source)}}
    mae = _decoder_of(loaded, folder)
    encoder = loaded.encoder if mae is None else mae.vit
    save_encoder(out_dir, encoder, mae, preprocessing=loaded.preprocessing, card=card)
    log.info("copied %s to %s", folder, out_dir)


def _decoder_of(loaded: LoadedEncoder, folder: Path) -> MaskedAutoencoder | None:
    """The autoencoder of a folder whose weights include the decoder."""
    if isinstance(loaded.encoder, Dinov2Encoder):
        return None
    if not any(name.startswith("decoder.") for name in read_weights(weight_file(folder))):
        return None
    return load_mae(folder, loaded.encoder.config.registers, seed=0)
