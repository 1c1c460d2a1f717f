"""One training step beside transformers' model in a plain loop, and beside what products allow."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from benchmarks.harness import Comparison, Target, in_turn
from stradavit.models.compiled import compile_blocks
from stradavit.models.projection import ProjectionHead
from stradavit.models.stages import acquire_encoder
from stradavit.objectives.contrastive import contrastive_loss
from stradavit.settings.encoders import Architecture, ScratchEncoder
from stradavit.settings.training import (
    ContrastiveSettings,
    PretrainSettings,
    ReconstructionSettings,
)
from stradavit.settings.views import ViewSettings
from stradavit.training.distributed import Team
from stradavit.training.memory import keep_freed_memory
from stradavit.training.optimiser import AdamW, adamw
from stradavit.training.resampling import DrawnViews
from stradavit.training.tasks import task_of
from stradavit.training.throughput import matrix_product_rate

Objective = Literal["contrastive", "reconstruction"]

# The network of config.yaml.
_TINY = Architecture(
    image_px=48,
    patch_px=8,
    channels=3,
    width=96,
    layers=4,
    heads=4,
    mlp_width=384,
    decoder_width=64,
    decoder_layers=2,
    decoder_heads=4,
    decoder_mlp_width=256,
)
_BASE = Architecture()
_SEED = 11
# (rows, inner, columns) of the products of ViT-B: sixteen images of 197 tokens through its
# attention, its MLP and its decoder's MLP, and the gradients of weights.
_SHAPES = (
    (3152, 768, 2304),
    (3152, 768, 3072),
    (3152, 3072, 768),
    (3072, 3152, 768),
    (3152, 512, 2048),
    (768, 3152, 768),
)
_SCAN_S = 0.3


@dataclass(frozen=True)
class _Case:
    """A network, an objective, cutouts of a step on a processor and on a GPU, and the promise."""

    title: str
    objective: Objective
    shape: Architecture
    cutouts: int
    cutouts_gpu: int
    steps: int  # measured as one
    utilisation: float | None


_CASES = (
    _Case("contrastive ViT-B/16 at 224 px", "contrastive", _BASE, 6, 256, 1, 0.60),
    _Case("reconstruction ViT-B/16 at 224 px", "reconstruction", _BASE, 12, 256, 1, 0.45),
    _Case("contrastive, the default network", "contrastive", _TINY, 64, 64, 6, None),
    _Case("reconstruction, the default network", "reconstruction", _TINY, 64, 64, 12, None),
)


def compare(work_dir: Path, device: torch.device, rounds: int) -> list[Comparison]:
    """Both objectives with the paper's ViT-B and with the default configuration's network."""
    keep_freed_memory()  # as every run does; of use to both sides
    rates = {shape: matrix_product_rate(device, "bf16", _SCAN_S, shape) for shape in _SHAPES}
    best = max(_SHAPES, key=rates.__getitem__)
    figures = {
        "matrix_product_gflop_s_bf16": {str(shape): rates[shape] / 1e9 for shape in _SHAPES},
        "matrix_product_gflop_s_fp32": matrix_product_rate(device, "fp32", _SCAN_S, best) / 1e9,
    }
    return [_compare(case, work_dir, device, rounds, best, figures) for case in _CASES]


def _compare(
    case: _Case,
    work_dir: Path,
    device: torch.device,
    rounds: int,
    best: tuple[int, int, int],
    figures: dict[str, Any],
) -> Comparison:
    cutouts = case.cutouts_gpu if device.type == "cuda" else case.cutouts
    settings = _settings(case.objective, case.shape)
    start_dir = work_dir / f"start_{case.shape.width}"
    if not start_dir.exists():
        source = ScratchEncoder(source="scratch", architecture=case.shape)
        acquire_encoder(start_dir.name, source, _SEED, start_dir)
    task = task_of(settings, start_dir, Team(0, 1, device))
    compile_blocks(task.modules, "auto", device)
    views = _views(case, cutouts, device)
    ours = _step(list(task.modules.values()), lambda: task.loss(views, 0, 1.0)[0], settings, device)
    theirs = _transformers_step(case, views, settings, device)

    left, right = _operands(best, device)
    flops = 2 * best[0] * best[1] * best[2]
    # Half the operations of the step: a steady rate in less time.
    products = max(1, round(0.5 * task.flops * cutouts * case.steps / flops))

    def roof() -> float:
        for _ in range(products):
            torch.nn.functional.linear(left, right)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return products * flops / task.flops

    def times(step: Callable[[], None]) -> Callable[[], float]:
        def work() -> float:
            for _ in range(case.steps):
                step()
            return float(cutouts * case.steps)

        return work

    sides, ratios = in_turn(
        {
            "stradavit": ("forward, loss, backward, clip, AdamW, as pretrain does", times(ours)),
            "transformers": (
                "the same network of transformers with scaled_dot_product_attention, in a plain "
                "loop with bfloat16 autocast, clipping and fused AdamW; the same head and loss",
                times(theirs),
            ),
            "matrix products": (
                "as many cutouts as the model's FLOPs would allow at the bfloat16 rate of one "
                f"torch product of shape {best}, the fastest of those that occur in ViT-B",
                roof,
            ),
        },
        rounds,
    )
    targets = [Target("our rate over transformers'", 1.0, ratios["transformers"].median)]
    used = ratios["matrix products"].median
    if case.utilisation is not None:
        targets.append(Target("share of the measured product rate", case.utilisation, used))
    return Comparison(
        name=f"training step: {case.title}",
        question=f"One update of {cutouts} cutouts whose views are in memory, in bfloat16 on "
        f"{torch.get_num_threads()} thread(s): how many cutouts a second?",
        unit="cutouts/s",
        sides=sides,
        ratios=ratios,
        targets=targets,
        notes=[
            f"{task.flops / 1e9:.4g} GFLOP a cutout by formula (stradavit.training.throughput): "
            "matrix products of the forward pass, three times.",
            f"{cutouts} cutouts are one update here, so AdamW weighs more than in a real run, "
            "which accumulates 2048."
            if case.shape is _BASE
            else "An update of the default configuration.",
            "Registers are left out, since transformers' network has none.",
        ],
        figures=figures | {"gflop_per_cutout": task.flops / 1e9},
    )


def _operands(shape: tuple[int, int, int], device: torch.device) -> tuple[Tensor, Tensor]:
    rows, inner, columns = shape
    generator = torch.Generator().manual_seed(_SEED)
    return (
        torch.randn(rows, inner, generator=generator).to(device, torch.bfloat16),
        torch.randn(columns, inner, generator=generator).to(device, torch.bfloat16),
    )


def _settings(objective: Objective, shape: Architecture) -> PretrainSettings:
    is_contrastive = objective == "contrastive"
    head_width = 2048 if shape is _BASE else 256
    phase = (
        ContrastiveSettings(head_width=head_width) if is_contrastive else ReconstructionSettings()
    )
    return PretrainSettings(
        objective=objective,
        loss="info_nce" if is_contrastive else "l2",
        registers=0,
        seed=_SEED,
        phase=phase,
        views=ViewSettings(),
    )


def _views(case: _Case, cutouts: int, device: torch.device) -> DrawnViews:
    """Random views; what they show does not change how long a step takes."""
    generator = torch.Generator().manual_seed(_SEED)
    n_views = 2 if case.objective == "contrastive" else 1
    side = case.shape.image_px
    pixels = torch.rand(n_views, cutouts, 1, side, side, generator=generator).to(device)
    numbers = torch.arange(cutouts, device=device)
    return DrawnViews(pixels, numbers, numbers, 0, 0)


def _step(
    modules: list[nn.Module],
    loss: Callable[[], Tensor],
    settings: PretrainSettings,
    device: torch.device,
    optimiser: AdamW | torch.optim.Optimizer | None = None,
) -> Callable[[], None]:
    """A function that does one update."""
    parameters = [p for module in modules for p in module.parameters() if p.requires_grad]
    if optimiser is None:
        named = {str(place): module for place, module in enumerate(modules)}
        optimiser, parameters = adamw(named, settings.phase.optimiser)

    def step() -> None:
        with torch.autocast(device.type, torch.bfloat16):
            value = loss()
        value.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(parameters, settings.phase.clip_norm)
        optimiser.step()
        optimiser.zero_grad()
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    return step


def _transformers_step(
    case: _Case, views: DrawnViews, settings: PretrainSettings, device: torch.device
) -> Callable[[], None]:
    """The same with transformers' networks, as its users write it."""
    from transformers import ViTConfig, ViTMAEConfig, ViTMAEForPreTraining, ViTModel

    shape = case.shape
    shared: dict[str, Any] = {
        "image_size": shape.image_px,
        "patch_size": shape.patch_px,
        "num_channels": shape.channels,
        "hidden_size": shape.width,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "intermediate_size": shape.mlp_width,
        "attn_implementation": "sdpa",
    }
    pixels = views.pixels.flatten(0, 1).repeat(1, shape.channels, 1, 1)
    phase = settings.phase
    modules: list[nn.Module]
    if isinstance(phase, ReconstructionSettings):
        mae = ViTMAEForPreTraining(
            ViTMAEConfig(
                **shared,
                mask_ratio=phase.mask_ratio,
                decoder_hidden_size=shape.decoder_width,
                decoder_num_hidden_layers=shape.decoder_layers,
                decoder_num_attention_heads=shape.decoder_heads,
                decoder_intermediate_size=shape.decoder_mlp_width,
            )
        ).to(device)
        modules = [mae.train()]

        def loss() -> Tensor:
            found: Tensor = mae(pixel_values=pixels).loss
            return found
    else:
        vit = ViTModel(ViTConfig(**shared), add_pooling_layer=False).to(device).train()
        head = ProjectionHead(
            shape.width, phase.head_width, phase.head_output, phase.head_output_norm, _SEED
        ).to(device)
        modules = [vit, head]
        ids = views.numbers.repeat(2)
        places = torch.arange(len(ids), device=device)

        def loss() -> Tensor:
            embeddings = head(vit(pixel_values=pixels).last_hidden_state[:, 1:].mean(dim=1))
            return contrastive_loss(
                "info_nce", embeddings, embeddings, ids, ids, places, phase.temperature, phase
            )

    parameters = [p for module in modules for p in module.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(
        parameters,
        lr=phase.optimiser.learning_rate,
        betas=phase.optimiser.betas,
        weight_decay=phase.optimiser.weight_decay,
        fused=True,
    )
    return _step(modules, loss, settings, device, optimiser)
