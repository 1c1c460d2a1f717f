"""Tables 3 to 5: the settings of views, contrastive losses and training, in the paper's words."""

from collections.abc import Callable

from stradavit.paper.layout import Cell, Column, Head, Row, RowGroup, Table
from stradavit.settings import Settings
from stradavit.settings.encoders import Scratch
from stradavit.settings.training import (
    ContrastiveSettings,
    PhaseSettings,
    ReconstructionSettings,
)
from stradavit.settings.views import OperatorSettings

NO_STARTS = "n/a"


def augmentation_table(settings: Settings) -> Table:
    """Table 3: the operators of both regimes, in the order they run."""
    views = settings.views
    rows = [
        _row(
            name,
            _mild(words(views.reconstruction), words(views.contrastive_wide)),
            words(views.contrastive_additional),
        )
        for name, words in _OPERATORS.items()
    ]
    return Table(
        number=3,
        slug="augmentations",
        title="Augmentation operators",
        caption="Mild: reconstruction view and wide contrastive view; strong: additional "
        "contrastive view. Intervals are uniform, p is a probability; operators run in this order "
        "on [0, 1], then the view is clamped.",
        heads=(Head("operator", "Operator"),),
        columns=(Column("mild", "Mild setting"), Column("strong", "Strong setting")),
        groups=(RowGroup(tuple(rows)),),
    )


def contrastive_loss_table(settings: Settings) -> Table:
    """Table 4: parameters of the contrastive losses."""
    phase = settings.training.contrastive
    rows = [
        _row("InfoNCE", f"temperature {_temperature(phase)}"),
        _row("HCL", f"τ as above; β = {phase.hcl_beta:g}, no debiasing"),
        _row(
            "Soft-HCL",
            f"τ as above; α = {phase.soft_hcl_alpha:g}, hardness temperature "
            f"{phase.soft_hcl_temperature:g}",
        ),
    ]
    return Table(
        number=4,
        slug="contrastive_losses",
        title="Parameters of the contrastive losses",
        caption="As set for runs that start from ViT-MAE.",
        heads=(Head("variant", "Variant"),),
        columns=(Column("parameters", "Parameters"),),
        groups=(RowGroup(tuple(rows)),),
    )


def training_table(settings: Settings) -> Table:
    """Table 5: settings of both branches, and of DINOv2 starts and chips where they are used."""
    training, matrix = settings.training, settings.matrix
    starts = matrix.reconstruction.starts + matrix.contrastive.starts + matrix.two_stage.starts
    patch = _patch_size(settings, starts)
    branches: list[tuple[Column, ReconstructionSettings | ContrastiveSettings, str]] = [
        (Column("reconstruction", "Reconstruction branch"), training.reconstruction, patch),
        (Column("contrastive", "Contrastive branch"), training.contrastive, patch),
    ]
    if matrix.dinov2.starts:
        column = Column("contrastive_dinov2", "Contrastive branch, DINOv2 start")
        branches.append((column, training.dinov2, _patch_size(settings, matrix.dinov2.starts)))
    if matrix.chips.starts and matrix.chips.corpora:
        column = Column("chips", "Reconstruction of chips")
        # A config may be about chips alone.
        branches = [branch for branch in branches if branch[2] != NO_STARTS]
        branches.append((column, training.chips, _patch_size(settings, matrix.chips.starts)))
    rows = [
        _row("Epochs", *(str(phase.epochs) for _, phase, _ in branches)),
        _row("Patch size", *(size for _, _, size in branches)),
        *(
            _row(name, *(words(phase) for _, phase, _ in branches))
            for name, words in _TRAINING.items()
        ),
    ]
    seeds = ", ".join(map(str, training.seeds))
    return Table(
        number=5,
        slug="training_settings",
        title="Pretraining settings by branch",
        caption=f"The learning rate falls to zero; seeds: {seeds}.",
        heads=(Head("setting", "Setting"),),
        columns=tuple(column for column, _, _ in branches),
        groups=(RowGroup(tuple(rows)),),
    )


def _row(label: str, *cells: Cell) -> Row:
    return Row((label,), cells)


def _interval(bounds: tuple[float, float]) -> str:
    return f"[{bounds[0]:g}, {bounds[1]:g}]"


def _mild(reconstruction: str, wide: str) -> str:
    """Both mild views have one column, as in the paper; they differ in banding alone there."""
    if reconstruction == wide:
        return wide
    return f"reconstruction: {reconstruction}; contrastive wide view: {wide}"


def _banding(operators: OperatorSettings) -> str:
    if operators.bands_max == 0:
        return "off"
    return (
        f"1 to {operators.bands_max} bands, offset ± {operators.band_offset:g}, width "
        f"{operators.band_width:.2g} of the side"
    )


_OPERATORS: dict[str, Callable[[OperatorSettings], str]] = {
    "Dihedral transforms": lambda o: (
        f"rotation by k × 90°, horizontal flip p = {o.flip_probability:g}"
    ),
    "Asinh stretch": lambda o: f"p = {o.asinh_probability:g}, a in {_interval(o.asinh_a)}",
    "Affine jitter": lambda o: (
        f"translation ± {o.translation:g} of the side, scale 1 ± {o.scale:g}"
    ),
    "Gaussian noise": lambda o: f"σ = {o.noise_sigma:g}",
    "Banding": _banding,
    "Flux/background perturbation": lambda o: (
        f"p = {o.background_probability:g}, factor in {_interval(o.background_factor)} below "
        f"mean + {o.background_threshold_std:g} std"
    ),
}


def _temperature(phase: ContrastiveSettings) -> str:
    return (
        f"τ: {phase.temperature_start:g} → {phase.temperature:g} ({phase.temperature_ramp}, first "
        f"{phase.warmup_fraction:.0%} of the epochs), then {phase.temperature:g}"
    )


def _masking(phase: PhaseSettings) -> str:
    if isinstance(phase, ReconstructionSettings):
        targets = ", targets normalised by patch" if phase.normalise_patches else ""
        return f"mask ratio {phase.mask_ratio:g}{targets}"
    return "unmasked encoder"


_TRAINING: dict[str, Callable[[PhaseSettings], str]] = {
    "Masking": _masking,
    "Views per cutout": lambda p: "2" if isinstance(p, ContrastiveSettings) else "1",
    "Per-device batch size": lambda p: str(p.batch_size),
    "Effective global batch": lambda p: f"{p.effective_batch} cutouts, by gradient accumulation",
    "Optimizer": lambda p: (
        f"AdamW, weight decay {p.optimiser.weight_decay:g}, betas ({p.optimiser.betas[0]:g}, "
        f"{p.optimiser.betas[1]:g})"
    ),
    "Learning-rate schedule": lambda p: (
        f"cosine with linear warm-up ({p.warmup_fraction:.0%} of the epochs), base "
        f"{p.optimiser.learning_rate:g}"
    ),
    "Precision": lambda p: p.precision,
    "Gradient clipping": lambda p: f"{p.clip_norm:g}",
    "Temperature": lambda p: _temperature(p) if isinstance(p, ContrastiveSettings) else "n/a",
}


def _patch_size(settings: Settings, starts: tuple[str, ...]) -> str:
    """Published weights bring their own patch size; the config knows that of scratch starts."""
    sizes = {
        str(encoder.architecture.patch_px)
        if isinstance(encoder := settings.encoders[start], Scratch)
        else "as published"
        for start in starts
    }
    return ", ".join(sorted(sizes)) or NO_STARTS
