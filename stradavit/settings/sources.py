"""Where pixels and their labels come from: surveys and benchmarks."""

from typing import Annotated, Literal, get_args

from pydantic import Field, field_validator, model_validator

from stradavit.settings.archives import Missing
from stradavit.settings.base import Block, Count, Fraction, PathText, Positive, Seed
from stradavit.settings.detection import DetectionSet, Split
from stradavit.settings.encoders import Encoder

SURVEY_KINDS = ("mgcls", "askap", "lotss", "sdc1")
BENCHMARK_KINDS = ("mirabest", "lotss_dr2", "rgz_dr1")


# Shares that were in use; the archive publishes neither a list nor checksums. All images of one
# layout have one size: 4 header blocks and the padded pixels.
SDC1_SHARES = {
    "SKAMid_B1_1000h_v3.fits": "hbasFhd4YILNkCr",
    "SKAMid_B2_1000h_v3.fits": "GsxoTyv1zrdRTu4",
    "SKAMid_B5_1000h_v3.fits": "nK8Pqf3XIaXFuKD",
}
SDC1_BYTES = {"SKAMid_B2_1000h_v3.fits": 4_294_981_440}


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
    first: int = Field(
        0, ge=0, description="Number of the first product; it decides the place on the sky."
    )


class ChipsSurvey(Block):
    """Chips: whole pictures of a detection set, resized to the size of a cutout."""

    source: Literal["chips"]
    title: str | None = Field(None, description="Name in Table 1; else the set and splits.")
    detection: str = Field(description="Key of the detection set.")
    splits: tuple[Split, ...] = Field(
        ("train",),
        min_length=1,
        description="Splits to take; a picture that another split has too is dropped.",
    )
    parts: Count = Field(1, description="Shards the chips are divided into.")


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


class ArchiveSurvey(SurveyBase):
    """What all surveys fetched from archives share."""

    frozen_manifest: PathText | None = Field(
        None, description="A manifest (CSV) to follow instead of asking the archive what it has."
    )
    allow_missing: Missing = 0


class MgclsSurvey(ArchiveSurvey):
    """MeerKAT Galaxy Cluster Legacy Survey, DR1."""

    source: Literal["mgcls"]
    products: Literal["5pln", "fcube", "basic"] = Field(
        "5pln",
        description="5pln: enhanced cubes of brightness, index and their errors; fcube: enhanced "
        "cubes of 12 frequencies; basic: full fields, not corrected for the primary beam.",
    )
    polarisations: tuple[Literal["I", "Q", "U", "V"], ...] = Field(("I",), min_length=1)
    resolutions: tuple[Literal["15arcsec", "Farcsec"], ...] = Field(
        ("15arcsec",),
        min_length=1,
        description="Of enhanced products; Farcsec: full resolution, 7 to 8 arcsec.",
    )
    include: tuple[str, ...] = Field(
        ("*",),
        min_length=1,
        description="Fields (`Abell_13` is not `Abell_133`), shell patterns of file names "
        "(`Abell_13*` is both), or whole keys.",
    )
    exclude: tuple[str, ...] = Field((), description="As `include`, of what to leave.")


class CasdaSurvey(ArchiveSurvey):
    """Continuum images of ASKAP from CASDA; needs an OPAL login."""

    source: Literal["casda"]
    collections: tuple[str, ...] = Field(
        (), description="Collections to take, such as EMU; all if empty."
    )
    project: str | None = Field(None, description="OPAL code of the project, such as AS110.")
    filenames: str | None = Field(
        None, description="LIKE pattern of file names, such as `%taylor.0.restored.conv.fits`."
    )
    quality: tuple[str, ...] = Field(
        ("GOOD", "UNCERTAIN"), min_length=1, description="Quality levels to take."
    )
    subtype: str = Field("cont.restored.t0", description="dataproduct_subtype of the images.")
    max_products: Count | None = Field(
        None, description="Take this many only, the first in order of their names."
    )
    where: str | None = Field(None, description="One more condition in ADQL.")


class LotssSurvey(ArchiveSurvey):
    """Mosaics of LoTSS, DR2."""

    source: Literal["lotss"]
    fields: tuple[str, ...] = Field(
        ("*",), min_length=1, description="Fields to take, as shell patterns such as `P12*`."
    )
    product: Literal["mosaic-blanked.fits", "low-mosaic-blanked.fits"] = Field(
        "mosaic-blanked.fits", description="6 arcsec, or (low) 20 arcsec."
    )


class Sdc1Survey(ArchiveSurvey):
    """Images of the SKA Science Data Challenge 1."""

    source: Literal["sdc1"]
    files: tuple[str, ...] = Field(
        tuple(SDC1_SHARES), min_length=1, description="Names of the files to take."
    )
    shares: dict[str, str] = Field(
        SDC1_SHARES, description="Token of the share of each file; those given here come on top."
    )
    bytes: dict[str, Count] = Field(
        SDC1_BYTES, description="Exact size of files; the only check there is, none published."
    )

    @field_validator("shares", mode="after")
    @classmethod
    def _keeps_the_others(cls, shares: dict[str, str]) -> dict[str, str]:
        return SDC1_SHARES | shares

    @model_validator(mode="after")
    def _every_file_has_a_share(self) -> "Sdc1Survey":
        if unknown := [name for name in self.files if name not in self.shares]:
            raise ValueError(f"files names {unknown[0]!r}, which has no token in shares")
        return self


Mosaics = SimulatedSurvey | LocalSurvey | MgclsSurvey | CasdaSurvey | LotssSurvey | Sdc1Survey
MosaicSurvey = Annotated[Mosaics, Field(discriminator="source")]
Survey = Annotated[Mosaics | ChipsSurvey, Field(discriminator="source")]


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

    @property
    def publishes_split(self) -> bool:
        """Whether its images come divided into training and test images."""
        return False

    @property
    def note(self) -> str | None:
        """What a reader of the tables must know of the images, as the end of a sentence."""
        return None


class SimulatedBenchmark(BenchmarkBase):
    """Drawn labelled sources with the class names of the paper."""

    source: Literal["simulated"]
    like: Literal["mirabest", "lotss_dr2", "rgz_dr1"]
    images_per_class: Count = Field(60, description="Mean number of images of a class.")
    seed: Seed = Field(2, description="Seed of the drawn sources.")

    @property
    def publishes_split(self) -> bool:
        """As the benchmark it is drawn like."""
        return self.like == "mirabest"


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
    split_column: str | None = Field(
        None,
        description="Column that says train or test, for the protocol published_split; valid and "
        "val count as train, since nothing is chosen by them.",
    )

    @property
    def publishes_split(self) -> bool:
        """Whether `labels` has such a column."""
        return self.split_column is not None


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
    test_batch: str | None = Field(
        "test_batch",
        description="Name of the batch whose images are for testing, those of all others being "
        "for training: the protocol published_split. Null if the batches are no such division.",
    )

    @property
    def publishes_split(self) -> bool:
        """Whether one of the batches is for testing."""
        return self.test_batch is not None


class ArchiveBenchmark(BenchmarkBase):
    """What all benchmarks fetched from archives share."""

    allow_missing: Missing = 0


class RgzBenchmark(ArchiveBenchmark):
    """Radio Galaxy Zoo DR1: catalogue from Zenodo, cutouts from FIRST."""

    source: Literal["rgz"]
    record: Annotated[str, Field(pattern=r"^\d+$")] = Field(
        "14195049", description="Record of the catalogue; a version, which stays as it is."
    )
    consensus_min: Fraction = Field(0.65, description="Least consensus level of a source.")
    lae_factor: Positive = Field(1.5, description="Side of a cutout in largest angular extents.")
    min_px: Count = Field(8, description="Least side of a cutout.")
    centre_tolerance_arcmin: Positive = Field(
        1.0,
        description="A cutout whose centre is farther from the source is refused; a position that "
        "is farther from the one in the source's name is replaced by that.",
    )


class MiraBestBenchmark(ArchiveBenchmark):
    """MiraBest, fetched: confidently classified FR I and FR II by default."""

    source: Literal["mirabest"]
    release: tuple[Literal["full", "F", "N"], ...] = Field(
        ("F",), min_length=1, description="full and F: FIRST images; N: NVSS."
    )
    pooled_as_in_paper: bool = Field(
        False,
        description="Take the images of F and of N, training and test batches pooled, whatever "
        "`release` says, as the paper did: most sources are then seen twice, by two telescopes. "
        "Folds keep both images of a source together, which the paper's did not.",
    )
    side_px: Count = Field(150, description="Images are reshaped to (side_px, side_px).")
    label_names: dict[int, str] = Field(
        {0: "FR I", 1: "FR I", 2: "FR I", 5: "FR II", 6: "FR II"},
        description="Class name of each label to keep.",
    )
    filename_pattern: str | None = Field(
        r"(?P<ra_deg>\d{3}\.\d{3})_?(?P<dec_deg>[+-]\d{2,3}\.\d{3})",
        description="Regular expression that finds ra_deg and dec_deg in an image's file name.",
    )
    digests: dict[str, dict[str, str]] | None = Field(
        None,
        description="MD5 of each batch, and of the whole as `archive`, by release; the published "
        "ones if absent. For a mirror whose files differ.",
    )

    @model_validator(mode="after")
    def _pooled_images_have_positions(self) -> "MiraBestBenchmark":
        if self.pooled_as_in_paper and self.filename_pattern is None:
            raise ValueError(
                "pooled_as_in_paper needs filename_pattern: without positions nothing would tell "
                "that two images show one source"
            )
        return self

    @property
    def releases(self) -> tuple[Literal["full", "F", "N"], ...]:
        """The releases to fetch, each once."""
        return ("F", "N") if self.pooled_as_in_paper else tuple(dict.fromkeys(self.release))

    @property
    def note(self) -> str | None:
        """That images of several telescopes are pooled, if they are."""
        if len(self.releases) == 1:
            return None
        return (
            f"pools the releases {' and '.join(self.releases)}, which show the same sources; "
            "images of one source share a fold"
        )

    @property
    def publishes_split(self) -> bool:
        """The images of `test_batch` are for testing: 104 of 833 confident ones of release F.

        A pool of releases has none: what one trains on the other may test on.
        """
        return len(self.releases) == 1


class HortonBenchmark(ArchiveBenchmark):
    """LoTSS DR2 classes of Horton et al. (2025): catalogue from CDS, cutouts from LoTSS."""

    source: Literal["horton"]
    enlargement: Positive = Field(1.0, description="Side of a cutout in sizes of its source.")
    fallback_arcmin: Positive = Field(
        5.0, description="Side where a source has no redshift or no size."
    )


Benchmark = Annotated[
    SimulatedBenchmark
    | FolderBenchmark
    | BatchBenchmark
    | RgzBenchmark
    | MiraBestBenchmark
    | HortonBenchmark,
    Field(discriminator="source"),
]

# Keys of the blocks of each `source`; one word can stand for a survey and for an encoder.
KINDS: dict[str, set[str]] = {}
for _block in (
    member
    for union in (Survey, Benchmark, Encoder, DetectionSet)
    for member in get_args(get_args(union)[0])
):
    for _source in get_args(_block.model_fields["source"].annotation):
        KINDS.setdefault(_source, set()).update(_block.model_fields)
