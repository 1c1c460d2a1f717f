"""Encoders: starting points and pretraining."""

from stradavit.commands.command import (
    ARCHIVES,
    BLOCK,
    LOADER,
    NAME,
    PATH,
    Namespace,
    archive_settings,
    command,
    loader_settings,
    source_block,
)


@command(
    "acquire-encoder",
    "Prepare a starting point: hub model, local folder, or scratch draw.",
    name=NAME | {"help": "Name of the encoder."},
    encoder=BLOCK | {"help": "Its block under `encoders` in the config."},
    seed={"type": int, "default": 0, "metavar": "N", "help": "Seed of a scratch draw."},
    out=PATH | {"help": "model.safetensors to write; the rest of the folder lies beside it."},
    archives=ARCHIVES,
)
def acquire_encoder(a: Namespace) -> str:
    """Prepare a starting point."""
    from stradavit.models.stages import acquire_encoder
    from stradavit.settings.encoders import Encoder

    encoder = source_block(Encoder, a.encoder, "encoder")
    acquire_encoder(a.name, encoder, a.seed, a.out.parent, archive_settings(a.archives))
    return f"encoder {a.name}: {a.out.parent}"


@command(
    "pretrain",
    "Train one encoder; continues from its last checkpoint if there is one. Launch it by "
    "torchrun to use several devices.",
    settings=BLOCK | {"help": "Objective, loss, registers, seed, phase, views."},
    corpus=PATH | {"help": "Index of the cutouts to train on."},
    start_from=PATH | {"help": "model.safetensors to start from."},
    out=PATH | {"help": "model.safetensors to write."},
    loader=LOADER,
)
def pretrain(a: Namespace) -> str:
    """Train one encoder."""
    loader = loader_settings(a.loader)
    from stradavit.settings.training import PretrainSettings
    from stradavit.training.pretrain import pretrain

    pretrain(
        PretrainSettings.parse(a.settings), a.corpus, a.start_from.parent, a.out.parent, loader
    )
    return f"encoder: {a.out.parent}"
