"""Views: the batched engine beside per-image pipelines of torchvision and lightly."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from benchmarks.harness import Comparison, Target, in_turn
from stradavit.settings.views import (
    MILD,
    MILD_WITHOUT_BANDS,
    STRONG,
    OperatorSettings,
    ViewSettings,
)
from stradavit.views.recipes import contrastive_views, reconstruction_views

BATCH = 64
# Sides of the crops in pixels of a 512-px cutout; a wide view, then an additional one.
_WIDE_PX, _ADDITIONAL_PX = (141, 287), (56, 143)


def compare(work_dir: Path, device: torch.device, rounds: int) -> list[Comparison]:
    """Contrastive pairs and reconstruction views at the paper's sizes, then at the default's."""
    return [
        _compare("contrastive", 512, 224, 16, device, rounds),
        _compare("reconstruction", 512, 224, 16, device, rounds),
        _compare("contrastive", 128, 48, 64, device, rounds),
    ]


def _compare(
    kind: str, size_px: int, out_px: int, n_batches: int, device: torch.device, rounds: int
) -> Comparison:
    cutouts = sky(n_batches * BATCH, size_px)
    pair = kind == "contrastive"
    recipe = contrastive_views if pair else reconstruction_views
    per_image = partial(_PerImage, out_px=out_px, scale=size_px / 512, is_pair=pair)
    sides: dict[str, tuple[str, Callable[[], float]]] = {
        "stradavit": (
            f"batched engine on {device.type}: anchors, emptiness tests, all operators",
            lambda: _ours(recipe, cutouts, out_px, device),
        ),
        "torchvision": (
            "the same operators, one image at a time, torchvision v2 in a DataLoader; random "
            "crops of the same sizes, no anchors and no emptiness tests",
            partial(_drain, _loader(_Listed(cutouts, per_image()))),
        ),
    }
    if pair:
        sides["lightly"] = (
            "lightly's SimCLRTransform on one grey channel: crop, both flips, rotation by 90 "
            "degrees, brightness and contrast, blur",
            partial(_drain, _loader(_Pictures(cutouts, out_px))),
        )
    measured, ratios = in_turn(sides, rounds)
    targets = []
    if device.type == "cpu" and pair and size_px == 512:
        targets = [
            Target("times torchvision's rate", 4.0, ratios["torchvision"].median),
            Target("times lightly's rate", 2.0, ratios["lightly"].median),
        ]
    return Comparison(
        name=f"views: {kind}, {size_px} px to {out_px} px",
        question=f"How many {kind} views a second are made of cutouts in memory?",
        unit="views/s",
        sides=measured,
        ratios=ratios,
        targets=targets,
        notes=[
            f"{len(cutouts)} cutouts in batches of {BATCH}; both processor cores on every side "
            "(threads here, two loader workers there). The peers do less: neither looks for "
            "anchors nor tests views for emptiness."
        ],
    )


def sky(n_cutouts: int, size_px: int) -> Tensor:
    """Cutouts with noise and some sources, (n, 1, size_px, size_px) uint16 as stored."""
    generator = np.random.default_rng(1)
    images = generator.normal(0.1, 0.04, (n_cutouts, size_px, size_px)).astype(np.float32)
    places = np.arange(-12, 13)
    for image in images:
        for _ in range(8):
            y, x = generator.integers(12, size_px - 12, 2)
            width = generator.uniform(1.0, 5.0)
            profile = np.exp(-(places**2) / (2 * width**2))
            around = image[y - 12 : y + 13, x - 12 : x + 13]
            around += generator.uniform(0.3, 1.0) * np.outer(profile, profile)
    levels = np.rint(np.clip(images, 0, 1) * 65535).astype(np.uint16)
    return torch.from_numpy(levels)[:, None]


def _ours(recipe: Any, cutouts: Tensor, out_px: int, device: torch.device) -> float:
    settings, done = ViewSettings(), 0
    for start in range(0, len(cutouts), BATCH):
        batch = cutouts[start : start + BATCH].to(device, non_blocking=True)
        numbers = torch.arange(start, start + len(batch), device=device)
        views = recipe(batch, numbers, 0, 42, settings, out_px).pixels
        done += views.shape[0] * views.shape[1]
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return done


class _PerImage:
    """The operators of the engine, in its order, on one image at a time."""

    def __init__(self, out_px: int, scale: float, is_pair: bool) -> None:
        self.out_px = out_px
        sizes = (_WIDE_PX, _ADDITIONAL_PX)[: 1 + is_pair]
        self.crops_px = [(int(low * scale), int(high * scale)) for low, high in sizes]
        self.operators = [MILD_WITHOUT_BANDS, STRONG] if is_pair else [MILD]

    def __call__(self, levels: Tensor) -> Tensor:
        from torchvision.transforms.v2 import functional as F

        image = F.to_dtype(levels, torch.float32, scale=False).div_(65535)
        views = []
        for (low, high), operators in zip(self.crops_px, self.operators, strict=True):
            side = int(torch.randint(low, high + 1, ()))
            top, left = torch.randint(0, image.shape[-1] - side + 1, (2,)).tolist()
            size = [self.out_px, self.out_px]
            view = F.resized_crop(image, top, left, side, side, size, antialias=True)
            views.append(self._augment(view, operators))
        return torch.stack(views)

    def _augment(self, view: Tensor, operators: OperatorSettings) -> Tensor:
        from torchvision.transforms.v2 import functional as F

        side = self.out_px
        view = torch.rot90(view, int(torch.randint(0, 4, ())), (1, 2))
        if float(torch.rand(())) < operators.flip_probability:
            view = F.horizontal_flip(view)
        if float(torch.rand(())) < operators.asinh_probability:
            a = torch.empty(()).uniform_(*operators.asinh_a)
            view = (view * a).asinh_().div_(a.asinh())
        reach = int(operators.translation * side)
        shift = torch.randint(-reach, reach + 1, (2,)).tolist()
        zoom = float(torch.empty(()).uniform_(1 - operators.scale, 1 + operators.scale))
        view = F.affine(
            view, 0.0, shift, zoom, [0.0, 0.0], interpolation=F.InterpolationMode.BILINEAR
        )
        view = F.gaussian_noise(view, 0.0, operators.noise_sigma, clip=False)
        if operators.bands_max:
            width = max(1, int(operators.band_width * side))
            for _ in range(int(torch.randint(1, operators.bands_max + 1, ()))):
                start = int(torch.randint(0, side - width + 1, ()))
                offset = float(torch.empty(()).uniform_(-1, 1)) * operators.band_offset
                along = 1 + int(torch.randint(0, 2, ()))
                view.narrow(along, start, width).add_(offset)
        if float(torch.rand(())) < operators.background_probability:
            factor = float(torch.empty(()).uniform_(*operators.background_factor))
            std, mean = torch.std_mean(view)
            view = torch.where(view < mean + 0.3 * std, view * factor, view)
        return view.clamp_(0, 1)


class _Listed(Dataset[Tensor]):
    def __init__(self, cutouts: Tensor, transform: Callable[[Tensor], Tensor]) -> None:
        self.cutouts, self.transform = cutouts, transform

    def __len__(self) -> int:
        return len(self.cutouts)

    def __getitem__(self, number: int) -> Tensor:
        return self.transform(self.cutouts[number])


class _Pictures(Dataset[Tensor]):
    """The cutouts as 8-bit grey pictures, lightly's input."""

    def __init__(self, cutouts: Tensor, out_px: int) -> None:
        from lightly.transforms import SimCLRTransform
        from PIL import Image

        self.pictures = [Image.fromarray((c[0].numpy() >> 8).astype(np.uint8)) for c in cutouts]
        self.transform = SimCLRTransform(
            input_size=out_px,
            min_scale=0.02,
            cj_sat=0.0,
            cj_hue=0.0,
            random_gray_scale=0.0,
            vf_prob=0.5,
            rr_prob=0.5,
            normalize=None,
        )

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, number: int) -> Tensor:
        return torch.stack(self.transform(self.pictures[number]))


def _loader(images: Dataset[Tensor]) -> DataLoader[Tensor]:
    """A worker to each core; they stay from round to round, so their start is not counted."""
    return DataLoader(
        images,
        batch_size=BATCH,
        num_workers=max(1, torch.get_num_threads()),
        worker_init_fn=_single_thread,
        multiprocessing_context="fork",
        persistent_workers=True,
    )


def _single_thread(_: int) -> None:
    torch.set_num_threads(1)


def _drain(batches: DataLoader[Tensor]) -> float:
    return sum(batch.shape[0] * batch.shape[1] for batch in batches)
