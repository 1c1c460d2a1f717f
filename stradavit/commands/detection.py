"""Detectors: training and scoring."""

from stradavit.commands.command import (
    BLOCK,
    LOADER,
    NAME,
    PATH,
    Namespace,
    Option,
    command,
    lease_gpu,
    loader_settings,
)

NAMES: dict[str, Option] = {
    "encoder_name": NAME | {"help": "Name of the encoder in the tables."},
    "set_name": NAME | {"help": "Name of the detection set in the tables."},
}
IMAGES: Option = PATH | {"help": "Images with boxes."}


@command(
    "train-detector",
    "Train one detector on images with boxes; continues from its last checkpoint if there is one.",
    **NAMES,
    encoder=PATH | {"help": "model.safetensors of the encoder it starts from."},
    images=IMAGES,
    # Not `run`, which is the function a subcommand calls.
    run=BLOCK | {"dest": "settings", "help": "Detector, training and seed."},
    out=PATH | {"help": "model.safetensors to write; the rest of the folder lies beside it."},
    loader=LOADER,
)
def train_detector(a: Namespace) -> str:
    """Train one detector."""
    loader = loader_settings(a.loader)
    lease_gpu(a, loader)
    from stradavit.detection.training import train_detector
    from stradavit.settings.detection import DetectorRun

    names = (a.encoder_name, a.set_name)
    run = DetectorRun.parse(a.settings)
    train_detector(a.encoder.parent, a.images, run, names, a.out.parent, loader)
    return f"detector: {a.out.parent}"


@command(
    "detect",
    "Find objects with a detector and score them: COCO's average precision and, for sets made "
    "from the truth catalogues of SDC1, the score of that challenge.",
    **NAMES,
    detector=PATH | {"help": "model.safetensors of the detector."},
    images=IMAGES,
    split={"choices": ("train", "val", "test"), "help": "Images to score."},
    sources=PATH | {"default": None, "help": "sources.json of a set made from truth catalogues."},
    out=PATH | {"help": "Metrics to write (JSON)."},
    loader=LOADER,
)
def detect(a: Namespace) -> str:
    """Score one detector."""
    loader = loader_settings(a.loader)
    lease_gpu(a, loader)
    from stradavit.detection.detect import detect

    names = (a.encoder_name, a.set_name)
    detect(a.detector.parent, a.images, a.split, names, a.out, loader, a.sources)
    return f"metrics: {a.out}"
