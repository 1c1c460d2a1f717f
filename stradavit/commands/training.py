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
    job_of,
    lease_gpu,
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
    "Train one encoder; continues from its last checkpoint if there is one. Starts a process for "
    "each device if the settings name several.",
    settings=BLOCK | {"help": "Objective, loss, registers, seed, devices, phase, views."},
    corpus=PATH | {"help": "Index of the cutouts to train on."},
    start_from=PATH | {"help": "model.safetensors to start from."},
    out=PATH | {"help": "model.safetensors to write."},
    loader=LOADER,
)
def pretrain(a: Namespace) -> str | int:
    """Train one encoder."""
    loader = loader_settings(a.loader)
    from stradavit.settings.training import PretrainSettings
    from stradavit.training.launch import become_worker, is_worker, launch

    settings = PretrainSettings.parse(a.settings)
    is_one_of_many = is_worker()
    if is_one_of_many:
        become_worker()
    elif settings.devices > 1:
        options = ("settings", "corpus", "start_from", "out", "loader")
        command = [f"--{name.replace('_', '-')}={getattr(a, name)}" for name in options]
        launch(settings.devices, loader, ["pretrain", *command], job_of(a), a.out)
        return f"encoder: {a.out.parent}"
    else:
        lease_gpu(a, loader)
    from stradavit.training.pretrain import pretrain

    pretrain(settings, a.corpus, a.start_from.parent, a.out.parent, loader)
    return 0 if is_one_of_many else f"encoder: {a.out.parent}"
