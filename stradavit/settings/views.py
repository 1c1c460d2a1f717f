"""Every number of the view generator: anchors, crops, emptiness, the operators of Table 3."""

from pydantic import Field, model_validator

from stradavit.settings.base import (
    Block,
    Count,
    Fraction,
    FractionInterval,
    Interval,
    Positive,
)


class AnchorSettings(Block):
    """How anchors are proposed in a cutout (paper, section 6.1)."""

    peak_grid: Count = Field(16, description="Tiles per side of the peak search.")
    peak_candidates: Count = Field(3, description="Peak tiles kept.")
    peak_separation_tiles: int = Field(
        2, description="Kept tiles are more than this apart (Chebyshev)."
    )
    peak_z_min: float = Field(2.5, description="Smallest z-score of a peak.")
    background_fraction: Fraction = Field(
        0.8, description="Share of the faintest pixels that make median and MAD of the z-score."
    )
    background_samples: Count = Field(8192, description="Pixels the background is estimated from.")
    mean_grid: Count = Field(8, description="Tiles per side of the mean-intensity search.")
    mean_candidates: Count = Field(5, description="Mean tiles kept; their centres are the anchors.")
    mean_probability: Fraction = Field(0.5, description="Chance to draw from the mean set, if any.")
    local_peak_fraction: Fraction = Field(
        0.8, description="An anchor's local peak must reach this share of the cutout's peak."
    )
    local_peak_window_px: Count = Field(
        21, description="Side of the window of the local peak (odd)."
    )

    @model_validator(mode="after")
    def _odd_window(self) -> "AnchorSettings":
        if self.local_peak_window_px % 2 == 0:
            raise ValueError("local_peak_window_px must be odd so that the window has a centre")
        return self


class CropSettings(Block):
    """Sizes of the crops; side fractions are linear, `wide_area` alone is a share of the area."""

    wide_probability: Fraction = Field(
        0.20, description="Chance of a wide-field reconstruction view."
    )
    wide_area: FractionInterval = (0.80, 1.00)
    roi_side: FractionInterval = Field((0.55, 0.80), description="Of the cutout's side.")
    tight_side: FractionInterval = Field(
        (0.50, 0.70), description="Of the ROI side; reconstruction."
    )
    wide_side: FractionInterval = Field(
        (0.50, 0.70), description="Of the ROI side; contrastive wide."
    )
    additional_side: FractionInterval = Field((0.20, 0.35), description="Of the ROI side.")
    ioa_min: Fraction = Field(0.70, description="Share of the additional view inside the wide one.")
    ioa_tries: Count = Field(12, description="Placements tried before the best one is taken.")
    jitter_wide: Fraction = Field(
        0.12, description="Centre jitter of wide and tight crops, of side."
    )
    jitter_additional: Fraction = Field(0.05, description="Centre jitter of the additional crop.")
    side_px_min: Count = Field(16, description="Smallest crop.")


class EmptySettings(Block):
    """When a crop or a finished view counts as empty; tested on [0, 1], before normalisation."""

    peak_max: Fraction = Field(0.02, description="Empty if no absolute value is above this.")
    bright_share: Fraction = Field(
        0.3, description="A bright pixel reaches this share of the peak."
    )
    bright_pixels_wide: Count = Field(12, description="Bright pixels a wide or tight crop needs.")
    bright_pixels_additional: Count = Field(
        8, description="Bright pixels an additional crop needs."
    )
    bright_pixels_view: Count = Field(5, description="Bright pixels a finished view needs.")
    crop_tries: Count = Field(4, description="Crops tried in one cutout.")
    resamplings: int = Field(5, ge=0, description="Other cutouts tried for an empty view.")


class OperatorSettings(Block):
    """One column of Table 3; the operators run in this order."""

    quarter_turns: bool = Field(True, description="A rotation by k × 90° comes first.")
    flip_probability: Fraction = Field(0.5, description="Of a mirrored view, left to right.")
    asinh_probability: Fraction = 0.35
    asinh_a: Interval = (3.0, 12.0)
    translation: Fraction = Field(0.03, description="Of the side, whole pixels.")
    scale: Fraction = Field(0.05, description="Scale is drawn from 1 ± this.")
    noise_sigma: float = Field(0.02, ge=0.0)
    bands_max: int = Field(2, ge=0, description="1..bands_max bands; 0 switches banding off.")
    band_offset: Positive = Field(0.3, description="Offsets are drawn from ± this.")
    band_width: Fraction = Field(1 / 64, description="Of the side.")
    background_probability: Fraction = 0.5
    background_factor: Interval = (0.70, 0.95)
    background_threshold_std: float = Field(0.3, description="Pixels below mean + this × std.")


MILD = OperatorSettings()
MILD_WITHOUT_BANDS = OperatorSettings(bands_max=0)
STRONG = OperatorSettings(
    asinh_probability=0.50,
    asinh_a=(3.0, 20.0),
    translation=0.05,
    scale=0.08,
    noise_sigma=0.04,
    bands_max=3,
    background_factor=(0.50, 0.90),
)


class ViewSettings(Block):
    """The views the network sees."""

    anchors: AnchorSettings = AnchorSettings()
    crops: CropSettings = CropSettings()
    empty: EmptySettings = EmptySettings()
    reconstruction: OperatorSettings = MILD
    contrastive_wide: OperatorSettings = MILD_WITHOUT_BANDS
    contrastive_additional: OperatorSettings = STRONG


FLIPS_ONLY = OperatorSettings(
    quarter_turns=False,  # a radar looks from one side
    asinh_probability=0.0,
    translation=0.0,
    scale=0.0,
    noise_sigma=0.0,
    bands_max=0,
    background_probability=0.0,
)
# A whole chip, mirrored or not (SAR paper, section III-B): there is no sky around a target to
# choose from, and no chip counts as empty.
CHIP_VIEWS = ViewSettings(
    crops=CropSettings(wide_probability=1.0, wide_area=(1.0, 1.0)),
    empty=EmptySettings(peak_max=0.0, bright_pixels_view=1, resamplings=0),
    reconstruction=FLIPS_ONLY,
)
