"""The two things a run can learn: to fill in hidden patches, or to tell cutouts apart."""

from functools import partial
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor, nn

from stradavit.errors import SettingsError
from stradavit.models.cost import (
    contrastive_flops,
    dinov2_shape,
    encoder_flops,
    reconstruction_flops,
)
from stradavit.models.dinov2 import Dinov2Encoder
from stradavit.models.hub import Encoder, load_encoder, load_mae, read_json_object, save_encoder
from stradavit.models.preprocessing import Preprocessing
from stradavit.models.projection import ProjectionHead
from stradavit.objectives.contrastive import contrastive_loss, temperature_at
from stradavit.objectives.distributed import gather_keys
from stradavit.objectives.reconstruction import reconstruction_loss
from stradavit.settings.training import (
    ContrastiveLoss,
    ContrastiveSettings,
    PretrainSettings,
    ReconstructionLoss,
    ReconstructionSettings,
)
from stradavit.training.distributed import Team, synchronise_batch_norms
from stradavit.training.resampling import DrawnViews, Recipe
from stradavit.views.random import cutout_keys, fold, uniforms
from stradavit.views.recipes import contrastive_views, reconstruction_views

# What a cutout's key is folded with to draw its mask; the sampler has its neighbours.
_MASK = 1002


class Task(Protocol):
    """What the training loop needs to know about an objective.

    Attributes
    ----------
    modules : everything with trainable parameters, by name
    recipe : makes the views of cutouts
    flops : model FLOPs of one cutout, forward and backward
    """

    modules: dict[str, nn.Module]
    recipe: Recipe
    flops: float

    def loss(self, views: DrawnViews, epoch: int, progress: float) -> tuple[Tensor, Tensor | None]:
        """Mean loss over the cutouts of this device, and their embeddings if there are any.

        `progress` counts epochs done, with the fraction of the present one.
        """

    def at(self, progress: float) -> dict[str, float]:
        """What else the objective varies over the run, for the record."""

    def save(self, out_dir: Path, card: dict[str, Any]) -> None:
        """Write the encoder folder."""


def task_of(settings: PretrainSettings, start_dir: Path, here: Team) -> Task:
    """The task of a run, with the weights it starts from.

    Raises
    ------
    SettingsError
        If the phase belongs to the other objective.
    DataError
        If the start cannot be loaded.
    """
    match settings.objective, settings.loss, settings.phase:
        case "reconstruction", (
            "l2" | "l2_l1" | "l2_bl1"
        ) as loss, ReconstructionSettings() as phase:
            return Reconstruction(settings, phase, loss, start_dir, here)
        case "contrastive", (
            "info_nce" | "soft_hcl" | "hcl"
        ) as loss, ContrastiveSettings() as phase:
            return Contrastive(settings, phase, loss, start_dir, here)
    raise SettingsError(
        f"objective {settings.objective} does not go with the loss {settings.loss} and a phase of "
        f"{type(settings.phase).__name__}; choose all three from one objective."
    )


class Reconstruction:
    """Masked reconstruction: the whole autoencoder is trained and saved (paper, section 6)."""

    def __init__(
        self,
        settings: PretrainSettings,
        phase: ReconstructionSettings,
        name: ReconstructionLoss,
        start_dir: Path,
        here: Team,
    ) -> None:
        self._seed, self._phase, self._name = settings.seed, phase, name
        self._mae = load_mae(start_dir, settings.registers, settings.seed).to(here.device)
        config = self._mae.config
        path = start_dir / "preprocessor_config.json"
        self._preprocessing = Preprocessing.from_hf(
            read_json_object(path), config.image_px, config.channels, str(path)
        )
        self.modules: dict[str, nn.Module] = {"autoencoder": self._mae}
        self.flops = reconstruction_flops(config, phase.mask_ratio)
        self.recipe: Recipe = partial(
            reconstruction_views,
            seed=settings.seed,
            settings=settings.views,
            out_px=config.image_px,
        )

    def loss(self, views: DrawnViews, epoch: int, progress: float) -> tuple[Tensor, None]:
        """Reconstruct the one view of each cutout; the mask is keyed as the view is."""
        channels = self._mae.config.channels
        image = views.pixels[0]
        pixels = self._preprocessing.normalise(image, channels)
        keys = fold(cutout_keys(self._seed, epoch, views.slots), _MASK)
        noise = uniforms(keys, self._mae.config.patches)
        prediction, mask = self._mae(pixels, noise, self._phase.mask_ratio)
        loss = reconstruction_loss(
            self._name,
            prediction,
            self._mae.patchify(pixels),
            mask,
            self._mae.patchify(image.expand(-1, channels, -1, -1)),
            self._phase,
        )
        return loss, None

    def at(self, progress: float) -> dict[str, float]:
        """Nothing varies."""
        return {}

    def save(self, out_dir: Path, card: dict[str, Any]) -> None:
        """Write encoder and decoder."""
        save_encoder(
            out_dir, self._mae.vit, self._mae, preprocessing=self._preprocessing, card=card
        )


class Contrastive:
    """Contrastive learning: encoder and projection head are trained, the encoder is saved.

    The encoder stays in evaluation mode: nothing in it differs but the stochastic depth of some
    DINOv2 configurations, which the paper does not use.
    """

    def __init__(
        self,
        settings: PretrainSettings,
        phase: ContrastiveSettings,
        name: ContrastiveLoss,
        start_dir: Path,
        here: Team,
    ) -> None:
        self._phase, self._name = phase, name
        loaded = load_encoder(start_dir, settings.registers, settings.seed)
        self._encoder, self._preprocessing = loaded.encoder.to(here.device), loaded.preprocessing
        head = ProjectionHead(
            self._encoder.width,
            phase.head_width,
            phase.head_output,
            phase.head_output_norm,
            settings.seed,
        ).to(here.device)
        if here.world > 1:
            synchronise_batch_norms(head)
        self._head = head
        self.modules: dict[str, nn.Module] = {"encoder": self._encoder, "head": head}
        self.flops = contrastive_flops(
            _forward_flops(self._encoder),
            self._encoder.width,
            phase.head_width,
            phase.head_output,
            views=2,
        )
        self.recipe: Recipe = partial(
            contrastive_views,
            seed=settings.seed,
            settings=settings.views,
            out_px=self._encoder.image_px,
        )

    def loss(self, views: DrawnViews, epoch: int, progress: float) -> tuple[Tensor, Tensor]:
        """Contrast the views of this device with those of all."""
        pixels = self._preprocessing.normalise(views.pixels.flatten(0, 1), self._encoder.channels)
        embeddings: Tensor = self._head(self._encoder.readout(pixels))
        ids = views.numbers.repeat(len(views.pixels))
        keys = gather_keys(embeddings, ids, self._phase.remote_key_gradients)
        loss = contrastive_loss(
            self._name,
            embeddings,
            keys.embeddings,
            ids,
            keys.ids,
            keys.self_index,
            temperature_at(progress, self._phase),
            self._phase,
        )
        return loss, embeddings.detach()

    def at(self, progress: float) -> dict[str, float]:
        """The temperature."""
        return {"temperature": temperature_at(progress, self._phase)}

    def save(self, out_dir: Path, card: dict[str, Any]) -> None:
        """Write the encoder; head and decoder are left behind."""
        save_encoder(out_dir, self._encoder, preprocessing=self._preprocessing, card=card)


def _forward_flops(encoder: Encoder) -> float:
    if isinstance(encoder, Dinov2Encoder):
        return encoder_flops(dinov2_shape(encoder.model.config.to_dict()))
    return encoder_flops(encoder.config)
