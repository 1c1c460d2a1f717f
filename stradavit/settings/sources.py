"""Where pixels and weights come from: surveys, benchmarks, encoders to start from."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from stradavit.settings.base import Block, Count, PathText, Positive, Seed

SURVEY_KINDS = ("mgcls", "askap", "lotss", "sdc1")
BENCHMARK_KINDS = ("mirabest", "lotss_dr2", "rgz_dr1")


class SurveyBase(Block):
    """What all surveys share."""

    title: str | None = Field(None, description="Name in Table 1; the key of the survey if absent.")
    parts: Count = Field(
        1, description="Jobs the survey is divided into; a product's part is a hash."
    )
    planes: Literal["all"] | tuple[int, ...] = Field(
        "all", description="Planes of a cube to cut, counted over all leading axes in C order."
    )
    grid: Literal["tiles", "centre"] = Field(
        "tiles",
        description="tiles: non-overlapping cutouts from the corner; centre: one, from the middle "
        "(for images that were made around one source).",
    )
    stretch: Literal["zscale", "minmax"] = Field(
        "zscale",
        description="zscale: the paper's; minmax: for 8-bit images that were stretched before.",
    )


class SimulatedSurvey(SurveyBase):
    """A drawn sky with the headers, defects and noise of a real survey."""

    source: Literal["simulated"]
    like: Literal["mgcls", "askap", "lotss", "sdc1"] = Field(description="The survey to resemble.")
    products: Count = Field(2, description="FITS files to draw.")
    side_px: Annotated[int, Field(ge=64)] = Field(640, description="Side of a drawn mosaic.")
    seed: Seed = Field(1, description="Seed of the drawn sky.")


class LocalSurvey(SurveyBase):
    """Files you already have."""

    source: Literal["local"]
    files: tuple[PathText, ...] = Field(
        min_length=1, description="Glob patterns (`**` descends) of FITS mosaics or of PNG images."
    )
    positions: PathText | None = Field(
        None,
        description="CSV with the columns filename (relative to the CSV), ra_deg, dec_deg: the sky "
        "of images without a WCS. An image without any known sky is dropped where a guard is set.",
    )


Survey = Annotated[SimulatedSurvey | LocalSurvey, Field(discriminator="source")]


class BenchmarkBase(Block):
    """What all benchmarks share."""

    title: str | None = Field(None, description="Name in the tables; the key if absent.")
    classes: tuple[str, ...] | None = Field(
        None,
        description="Class names in table order; images of other classes are left out, counted.",
    )
    stretch: Literal["zscale", "minmax"] = Field("zscale", description="As for surveys.")
    crop_px: Count | None = Field(
        None, description="Keep only the central square of this side; the whole image if absent."
    )
    guard_arcmin: Positive = Field(
        2.0,
        description="A pretraining cutout whose footprint comes nearer than this to a benchmark "
        "position is dropped.",
    )


class SimulatedBenchmark(BenchmarkBase):
    """Drawn labelled sources with the class names of the paper."""

    source: Literal["simulated"]
    like: Literal["mirabest", "lotss_dr2", "rgz_dr1"]
    images_per_class: Count = Field(60, description="Mean number of images of a class.")
    seed: Seed = Field(2, description="Seed of the drawn sources.")


class FolderBenchmark(BenchmarkBase):
    """A folder of FITS or PNG images and a CSV of labels."""

    source: Literal["folder"]
    images: PathText = Field(description="Folder the file names in `labels` are relative to.")
    labels: PathText = Field(description="CSV file, one row an image.")
    filename_column: str = "filename"
    label_column: str = "label"
    source_column: str | None = Field(
        None, description="Column that names the source; images of one source share a fold."
    )
    ra_column: str | None = "ra_deg"
    dec_column: str | None = "dec_deg"


class BatchBenchmark(BenchmarkBase):
    """CIFAR-like pickled batches, as MiraBest and FR-DEEP are published."""

    source: Literal["batches"]
    path: PathText = Field(description="Folder, or .tar.gz, that holds the batches.")
    side_px: Count = Field(150, description="Images are reshaped to (side_px, side_px).")
    label_names: dict[int, str] = Field(description="Class name of each label to keep.")
    filename_pattern: str | None = Field(
        r"(?P<ra_deg>\d{3}\.\d{3})_(?P<dec_deg>[+-]\d{3}\.\d{3})",
        description="Regular expression that finds ra_deg and dec_deg in an image's file name.",
    )


Benchmark = Annotated[
    SimulatedBenchmark | FolderBenchmark | BatchBenchmark, Field(discriminator="source")
]


class Architecture(Block):
    """Shape of a ViT-MAE; the default is ViT-MAE-Base (He et al. 2022)."""

    image_px: Count = 224
    patch_px: Count = 16
    channels: Literal[1, 3] = 3
    width: Count = 768
    layers: Count = 12
    heads: Count = 12
    mlp_width: Count = 3072
    decoder_width: Count = 512
    decoder_layers: Count = 8
    decoder_heads: Count = 16
    decoder_mlp_width: Count = 2048

    @model_validator(mode="after")
    def _divisible(self) -> "Architecture":
        if self.image_px % self.patch_px:
            raise ValueError(
                f"image_px {self.image_px} is not divisible by patch_px {self.patch_px}; choose "
                f"{self.image_px // self.patch_px * self.patch_px or self.patch_px}"
            )
        for width, heads in ((self.width, self.heads), (self.decoder_width, self.decoder_heads)):
            if width % heads:
                raise ValueError(f"a width of {width} cannot be shared by {heads} heads")
            if width % 4:
                raise ValueError(f"a width of {width} is not a multiple of 4 (sin-cos positions)")
        return self


class ScratchEncoder(Block):
    """Random weights: switches the ImageNet normalisation off (paper, section 8.1)."""

    source: Literal["scratch"]
    title: str | None = None
    architecture: Architecture = Architecture()
    registers: Annotated[int, Field(ge=0)] = Field(
        0, description="Register tokens R of a baseline."
    )


class LocalEncoder(Block):
    """A folder in the Hugging Face layout."""

    source: Literal["local"]
    title: str | None = None
    path: PathText


class HubEncoder(Block):
    """A model of the Hugging Face hub."""

    source: Literal["hub"]
    title: str | None = None
    repo: str = Field(description="Such as facebook/vit-mae-base.")
    revision: str = Field("main", description="Commit to pin; `main` moves.")


Encoder = Annotated[ScratchEncoder | LocalEncoder | HubEncoder, Field(discriminator="source")]
