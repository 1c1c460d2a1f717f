"""ViTDet with the heads of Faster R-CNN on any encoder of the project, and its folder."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.faster_rcnn import TwoMLPHead

from stradavit.detection.backbone import make_backbone
from stradavit.detection.heads import POOLED, Anchors, BoxPredictor, RegionHead, roi_align
from stradavit.detection.pyramid import Pyramid
from stradavit.errors import DataError, SettingsError
from stradavit.files import read_json, write_json
from stradavit.models.config import EncoderConfig
from stradavit.models.dinov2 import MODEL_TYPES, Dinov2Encoder
from stradavit.models.encoder import ViTEncoder
from stradavit.models.hub import Encoder, load_encoder
from stradavit.models.initial import generator_for
from stradavit.models.weights import SAFETENSORS, load_exactly, read_weights, write_weights
from stradavit.settings.detection import DetectorSettings

_MODEL_TYPE = "stradavit_detector"


@dataclass(frozen=True)
class DetectorConfig:
    """All that decides the shape of a detector.

    Parameters
    ----------
    classes : names; class i has the label i + 1, since 0 is the background
    settings : of the detector
    encoder : `config.json` of its encoder
    mean, std : one value per channel, of images in [0, 1]
    """

    classes: tuple[str, ...]
    settings: DetectorSettings
    encoder: dict[str, Any]
    mean: tuple[float, ...]
    std: tuple[float, ...]


class Features(nn.Module):
    """Backbone and pyramid as the one module torchvision's detectors want."""

    def __init__(self, encoder: Encoder, settings: DetectorSettings) -> None:
        super().__init__()
        self.vit = make_backbone(encoder, settings)
        self.pyramid = Pyramid(encoder.width, settings.pyramid_width)
        self.out_channels = settings.pyramid_width

    def forward(self, pixels: Tensor) -> "OrderedDict[str, Tensor]":
        """Five levels of (batch, channel, ny, nx), normalised."""
        levels: OrderedDict[str, Tensor] = self.pyramid(self.vit(pixels))
        return levels


class Detector(FasterRCNN):  # type: ignore[misc]
    """Faster R-CNN that knows what it is made of.

    Parameters
    ----------
    encoder : its modules become those of the detector; use it no further
    config : must belong to the encoder

    Raises
    ------
    SettingsError
        If the settings do not fit the encoder.
    """

    def __init__(self, encoder: Encoder, config: DetectorConfig) -> None:
        settings, patch_px = config.settings, _patch_px(encoder)
        side = settings.image_px
        if side % patch_px:
            nearest = max(round(side / patch_px), 1) * patch_px
            raise SettingsError(
                f"detection.detector.image_px is {side}; expected a multiple of the encoder's "
                f"patch of {patch_px} px. The nearest is {nearest}."
            )
        anchors = Anchors(patch_px, settings.anchor_scale, settings.anchor_ratios)
        width = settings.pyramid_width
        super().__init__(
            Features(encoder, settings),
            min_size=side,
            max_size=side,
            fixed_size=(side, side),
            size_divisible=patch_px,
            image_mean=list(config.mean),
            image_std=list(config.std),
            rpn_anchor_generator=anchors,
            rpn_head=RegionHead(width, anchors.num_anchors_per_location()[0]),
            box_roi_pool=roi_align(patch_px),
            box_head=TwoMLPHead(width * POOLED**2, settings.head_width),
            box_predictor=BoxPredictor(settings.head_width, len(config.classes) + 1),
            rpn_pre_nms_top_n_train=settings.proposals,
            rpn_post_nms_top_n_train=settings.proposals,
            rpn_pre_nms_top_n_test=max(settings.proposals // 2, 1),
            rpn_post_nms_top_n_test=max(settings.proposals // 2, 1),
            box_batch_size_per_image=settings.sampled_regions,
            box_detections_per_img=settings.max_detections,
        )
        self.config = config


def build_detector(
    encoder_dir: Path, classes: Sequence[str], settings: DetectorSettings, seed: int
) -> Detector:
    """A detector to be trained: the weights of an encoder, all others drawn.

    What is drawn is a function of the seed, the name and the shape of a tensor alone: encoders of
    one shape get the same heads. For a ViT-B at 800 px they are 20 million numbers, beside 86
    million of the encoder.

    In training, the model takes a list of images (channels, ny, nx) in [0, 1] and a list of
    {"boxes": (k, 4) float32, "labels": (k,) int64}, and returns its losses; otherwise it takes
    images and returns a list of {"boxes", "scores", "labels"}, in pixels of the images given.

    Parameters
    ----------
    encoder_dir : in the Hugging Face layout
    classes : names; class i has the label i + 1
    seed : of the weights drawn

    Returns
    -------
    The detector on the CPU, in float32 and in training mode

    Raises
    ------
    DataError
        If the encoder cannot be read.
    SettingsError
        If the settings do not fit the encoder.
    """
    loaded = load_encoder(encoder_dir)
    given, preprocessing = loaded.encoder, loaded.preprocessing
    config = DetectorConfig(
        tuple(classes), settings, _to_hf(given), preprocessing.mean, preprocessing.std
    )
    # New parts come into being without values, so nothing is drawn but what is drawn here.
    with torch.device("meta"):
        model = Detector(given, config)
    drawn = {
        name: _draw(name, tuple(tensor.shape), seed) if tensor.is_meta else tensor
        for name, tensor in model.state_dict().items()
    }
    load_exactly(model, drawn, str(encoder_dir))
    model.train()
    return model


def save_detector(folder: Path, model: Detector, meta: Mapping[str, Any]) -> None:
    """Write a detector's folder; the weights come last, so their presence means a whole folder.

    Parameters
    ----------
    meta : anything JSON can say, to be kept with it
    """
    config = model.config
    folder.mkdir(parents=True, exist_ok=True)
    values = {
        "model_type": _MODEL_TYPE,
        "classes": list(config.classes),
        "detector": config.settings.model_dump(mode="json"),
        "encoder": config.encoder,
        "image_mean": list(config.mean),
        "image_std": list(config.std),
        "meta": dict(meta),
    }
    write_json(folder / "config.json", values, sealed=True)
    write_weights(folder / SAFETENSORS, model.state_dict())


def load_detector(folder: Path) -> tuple[Detector, dict[str, Any]]:
    """Read a detector's folder; its encoder's folder is not needed.

    Returns
    -------
    The detector on the CPU, in float32 and in evaluation mode, and what was saved with it

    Raises
    ------
    DataError
        If a file is missing or damaged, or they do not fit together.
    """
    config, meta = detector_config(folder)
    path = Path(folder) / SAFETENSORS
    if not path.is_file():
        raise DataError(f"{folder}: holds no {SAFETENSORS}; expected a detector. Train it first.")
    with torch.device("meta"):
        model = Detector(_empty_encoder(config.encoder, folder), config)
    load_exactly(model, read_weights(path), str(path))
    model.eval()
    return model, meta


def detector_config(folder: Path) -> tuple[DetectorConfig, dict[str, Any]]:
    """What a detector's `config.json` says, and what was saved with it.

    Raises
    ------
    DataError
        If the file is missing, damaged, or that of something else.
    """
    path = Path(folder) / "config.json"
    try:
        values = read_json(path)
        if values["model_type"] != _MODEL_TYPE:
            raise ValueError(f"model_type is {values['model_type']!r}, expected {_MODEL_TYPE!r}")
        config = DetectorConfig(
            tuple(values["classes"]),
            DetectorSettings.parse(values["detector"]),
            dict(values["encoder"]),
            tuple(values["image_mean"]),
            tuple(values["image_std"]),
        )
        meta = dict(values["meta"])
    except (OSError, ValueError, KeyError, TypeError, SettingsError) as error:
        raise DataError(
            f"{path}: is not the config.json of a detector ({error!r}); expected one written with "
            "its weights. Train the detector again."
        ) from error
    return config, meta


def _patch_px(encoder: Encoder) -> int:
    if isinstance(encoder, Dinov2Encoder):
        return int(encoder.model.config.patch_size)
    return encoder.config.patch_px


def _to_hf(encoder: Encoder) -> dict[str, Any]:
    if isinstance(encoder, Dinov2Encoder):
        # Only this form leaves out the folder it was read from.
        values: dict[str, Any] = encoder.model.config.to_diff_dict()
        return values
    return encoder.config.to_hf(with_decoder=False)


def _empty_encoder(values: dict[str, Any], folder: Path) -> Encoder:
    """An encoder of this shape, whatever its weights."""
    if values.get("model_type") in MODEL_TYPES:
        from transformers import AutoConfig, AutoModel

        return Dinov2Encoder(AutoModel.from_config(AutoConfig.for_model(**values)))
    return ViTEncoder(EncoderConfig.from_hf(values, str(Path(folder) / "config.json")))


def _draw(name: str, shape: tuple[int, ...], seed: int) -> Tensor:
    """A tensor beside the encoder's, as its publication starts it.

    Relative positions and biases are 0, norms 1; the layers of the region proposals and the class
    scores are normal with a std of 0.01, the box changes with 0.001 (Ren et al. 2015, section
    3.1.3; Girshick 2015, section 2.3); everything else is Xavier uniform.
    """
    if name.endswith(".bias") or ".relative." in name:
        return torch.zeros(shape)
    if len(shape) == 1:
        return torch.ones(shape)
    drawn, generator = torch.empty(shape), generator_for(seed, name)
    if name.startswith("rpn.") or ".cls_score." in name:
        return nn.init.normal_(drawn, std=0.01, generator=generator)
    if ".bbox_pred." in name:
        return nn.init.normal_(drawn, std=0.001, generator=generator)
    return nn.init.xavier_uniform_(drawn, generator=generator)
