"""Detection: images with boxes, the detector that finds them, and how it is trained and scored."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from stradavit.settings.base import Block, Count, Fraction, PathText, Positive, Seed
from stradavit.settings.training import OptimiserSettings

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")


class DetectionSetBase(Block):
    """What all detection sets share."""

    title: str | None = Field(None, description="Name in the tables; the key if absent.")
    table: Literal["sar", "radio"] = Field(
        "sar", description="The table it fills: 16 (sar), 17 (radio)."
    )
    classes: tuple[str, ...] | None = Field(
        None,
        min_length=1,
        description="Classes in table order; boxes of others are left out, counted. All if absent.",
    )
    scored: Literal["val", "test"] = Field(
        "test", description="The split that tables show; printed beside every number."
    )


class SplitCounts(Block):
    """Images of each split."""

    train: Count = 64
    val: Count = 16
    test: Count = 32


class SimulatedScenes(DetectionSetBase):
    """Drawn SAR scenes: speckle, clutter, shores, ships and other bright targets."""

    source: Literal["simulated"]
    like: Literal["sar"] = Field("sar", description="What to resemble.")
    images: SplitCounts = SplitCounts()
    side_px: Annotated[int, Field(ge=64)] = Field(
        128, description="Middle of the sides, which differ from scene to scene."
    )
    seed: Seed = Field(3, description="Seed of the drawn scenes.")


class CocoSet(DetectionSetBase):
    """COCO annotations and their pictures on this disk, such as SARDet-100K or SSDD."""

    source: Literal["coco"]
    path: PathText = Field(
        description="Folder with Annotations/{train,val,test}.json and JPEGImages/, or above it."
    )
    splits: tuple[Split, ...] = Field(SPLITS, min_length=1, description="Splits to read.")


class SardetSet(DetectionSetBase):
    """SARDet-100K, fetched from Kaggle; a copy on this disk is `source: coco`."""

    source: Literal["sardet"]
    version: Count | None = Field(None, description="Version at Kaggle; the present one if absent.")


class TruthSet(DetectionSetBase):
    """Boxes from an SDC1 truth catalogue on the cutouts of a survey."""

    source: Literal["truth"]
    table: Literal["sar", "radio"] = Field("radio", description="As for other sets.")
    survey: str = Field(description="Key of the survey, simulated, local or fetched.")
    products: tuple[str, ...] | None = Field(
        None,
        min_length=1,
        description="Products of the survey to take; all if absent. They must not share any sky.",
    )
    truth: dict[str, PathText] | None = Field(
        None,
        description="Truth catalogue of each product by its name. If absent, those beside drawn "
        "mosaics, or those the archive has.",
    )
    catalogue: Literal["training", "full"] = Field(
        "full", description="Which of the archive's catalogues: 5 % of the field, or all of it."
    )
    labels: Literal["source", "class"] = Field(
        "source", description="One class for all, or the challenge's three kinds of object."
    )
    min_snr: Positive = Field(
        5.0, description="Sources whose peak is fainter than so many times the noise get no box."
    )
    min_box_px: Positive = Field(4.0, description="Least side of a box.")
    test_fraction: Fraction = Field(0.25, description="Share of the rows of cutouts for testing.")
    val_fraction: Fraction = Field(0.125, description="Share of the rows for validation.")

    @model_validator(mode="after")
    def _leaves_some_to_train(self) -> "TruthSet":
        if self.test_fraction + self.val_fraction >= 1.0 or self.test_fraction == 0.0:
            raise ValueError(
                "test_fraction must be above 0, and with val_fraction below 1: nothing would be "
                "left to test or train on"
            )
        return self


DetectionSet = Annotated[
    SimulatedScenes | CocoSet | SardetSet | TruthSet, Field(discriminator="source")
]


class DetectorSettings(Block):
    """ViTDet (Li et al. 2022) with Faster R-CNN heads; defaults are those of the SAR paper."""

    image_px: Count = Field(
        800, description="Images are resized to this side; their aspect is not kept."
    )
    window: int = Field(
        14, ge=0, description="Patches along a side of an attention window; 0: global attention."
    )
    global_blocks: Annotated[int, Field(ge=1)] = Field(
        4, description="Blocks with global attention: the last of so many equal groups."
    )
    relative_positions: bool = Field(
        True, description="Learned relative positions in the attention, zero before training."
    )
    drop_path: Fraction = Field(0.1, description="Stochastic depth of the last block; linear.")
    pyramid_width: Count = Field(256, description="Channels of each of the five levels.")
    anchor_scale: Positive = Field(8.0, description="Side of an anchor in strides of its level.")
    anchor_ratios: tuple[Positive, ...] = Field((0.5, 1.0, 2.0), min_length=1)
    head_width: Count = Field(1024, description="Width of the two fully connected layers.")
    proposals: Count = Field(
        2000, description="Regions proposed of each level and of an image; half in evaluation."
    )
    sampled_regions: Count = Field(
        512, description="Regions of an image that the heads learn from; a quarter on objects."
    )
    max_detections: Count = Field(100, description="Boxes kept of an image.")
    activation_checkpointing: bool = Field(
        False, description="Recompute blocks in the backward pass: less memory, a third slower."
    )


class DetectorTraining(Block):
    """Training of a detector (SAR paper, section III-C)."""

    epochs: Count = 12
    batch_size: Count = Field(16, description="Images of an update, reached by accumulation.")
    micro_batch_size: Count = Field(4, description="Images that pass the network at once.")
    optimiser: OptimiserSettings = OptimiserSettings(learning_rate=1e-4, betas=(0.9, 0.999))
    warmup_updates: int = Field(500, ge=0, description="Updates of linear warm-up.")
    warmup_factor: Positive = Field(1e-3, description="First learning rate of the warm-up.")
    decay_epochs: tuple[Count, ...] = Field(
        (8, 11), description="After so many epochs the learning rate falls by decay_factor."
    )
    decay_factor: Positive = 0.1
    flip_probability: Fraction = Field(0.5, description="Of a mirrored image, left to right.")
    clip_norm: Positive = Field(35.0, description="Norm of gradients; the paper names none.")
    precision: Literal["bf16", "fp32"] = "bf16"
    skip_held_out: bool = Field(
        True, description="Leave training images out whose pixels validation or test has too."
    )
    skip_empty: bool = Field(True, description="Leave training images without boxes out.")
    min_side_px: float = Field(
        0.0,
        ge=0.0,
        description="Training boxes with a shorter side are left out (16 in SARDet-100K's tools).",
    )
    seeds: tuple[Seed, ...] = Field((42,), min_length=1, description="One training per seed.")


class DetectionSettings(Block):
    """Sets, detector and training; which encoders are compared is in `matrix.detection`."""

    sets: dict[str, DetectionSet] = Field({}, description="Images with boxes, by name.")
    detector: DetectorSettings = DetectorSettings()
    training: DetectorTraining = DetectorTraining()


class DetectorRun(Block):
    """All that decides the weights of one detector, besides its encoder and its images."""

    detector: DetectorSettings
    training: DetectorTraining
    seed: Seed
