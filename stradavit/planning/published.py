"""What archives are known to hold, from the paper, their pages and the sizes of single files."""

from dataclasses import dataclass
from fnmatch import fnmatch

from stradavit.planning.known import Known
from stradavit.settings.sources import (
    SDC1_BYTES,
    ArchiveBenchmark,
    ArchiveSurvey,
    CasdaSurvey,
    HortonBenchmark,
    LotssSurvey,
    MgclsSurvey,
    MiraBestBenchmark,
    RgzBenchmark,
    Sdc1Survey,
)

MGCLS_FIELDS = 115
LOTSS_FIELDS = 841
# Enough images for the paper's number of cutouts, see workflow/config/paper.yaml.
ASKAP_IMAGES = 370

TABLE_1 = {"mgcls": 139_500, "askap": 261_390, "lotss": 177_476, "sdc1": 12_288}
"""The paper's cutouts of 512 px, by survey."""

TABLE_1_PX = 512


@dataclass(frozen=True)
class Product:
    """A usual product of a survey.

    Parameters
    ----------
    side_px, planes : of its pixels
    bytes : of its file, before any packing
    kept : share of its whole tiles that are cutouts, the others having no data somewhere; such that
        the survey of workflow/config/paper.yaml has the cutouts of Table 1
    """

    side_px: int
    planes: int
    bytes: int
    kept: float

    def cutouts(self, size_px: int, planes: int) -> float:
        """Cutouts of one product."""
        return planes * (self.side_px // size_px) ** 2 * self.kept


def usual_product(survey: ArchiveSurvey) -> Product:
    """What one product of a survey is like."""
    match survey:
        case MgclsSurvey(products="basic"):
            # 2° at 1.25"; Stokes I, an index and 14 sub-bands.
            return Product(5600, 16, 5600**2 * 16 * 4, 1.0)
        case MgclsSurvey():
            # 1.2° at 1.25".
            planes = 12 if survey.products == "fcube" else 5
            kept = TABLE_1["mgcls"] / (8 * MGCLS_FIELDS * 5 * (3456 // TABLE_1_PX) ** 2)
            return Product(3456, planes, 3456**2 * planes * 4, kept)
        case CasdaSurvey():
            # 14,000 to 15,500 px, 0.8 to 1 GB.
            kept = TABLE_1["askap"] / (ASKAP_IMAGES * (14_750 // TABLE_1_PX) ** 2)
            return Product(14_750, 1, 900_000_000, kept)
        case LotssSurvey(product="low-mosaic-blanked.fits"):
            return Product(2978, 1, 2978**2 * 8, 0.65)
        case LotssSurvey():
            # The mean of four mosaics of 8938 to 10210 px, float64.
            kept = TABLE_1["lotss"] / (LOTSS_FIELDS * (9508 // TABLE_1_PX) ** 2)
            return Product(9508, 1, 725_000_000, kept)
        case Sdc1Survey():
            # All images of one layout have one size.
            return Product(32_768, 1, max(SDC1_BYTES.values()), 1.0)
    raise TypeError(f"nothing is known of {type(survey).__name__}")


def expected_products(survey: ArchiveSurvey) -> Known:
    """How many products a survey is expected to have, before its archive was asked."""
    match survey:
        case MgclsSurvey():
            fields = _chosen(survey.include, MGCLS_FIELDS)
            per_field = 1
            if survey.products != "basic":
                per_field = len(survey.polarisations) * len(survey.resolutions)
            return Known(fields * per_field, "published", f"at most; {MGCLS_FIELDS} fields")
        case CasdaSurvey(max_products=None):
            return Known(ASKAP_IMAGES, "assumed", "as many as the paper needs; CASDA decides")
        case CasdaSurvey():
            return Known(survey.max_products or 0, "counted", "max_products")
        case LotssSurvey():
            fields = _chosen(survey.fields, LOTSS_FIELDS)
            return Known(fields, "published", f"{LOTSS_FIELDS} fields of DR2")
        case Sdc1Survey():
            return Known(len(survey.files), "counted", "files of the config")
    raise TypeError(f"nothing is known of {type(survey).__name__}")


def table_1_cutouts(survey: ArchiveSurvey) -> int | None:
    """The paper's number, where the survey and its products are those of the paper's config."""
    match survey:
        case MgclsSurvey(products="5pln", planes="all", include=("*",), exclude=()):
            is_whole = len(survey.polarisations) * len(survey.resolutions) == 8
            return TABLE_1["mgcls"] if is_whole else None
        case CasdaSurvey(max_products=n):
            return TABLE_1["askap"] if n == ASKAP_IMAGES else None
        case LotssSurvey(fields=("*",), product="mosaic-blanked.fits"):
            return TABLE_1["lotss"]
        case Sdc1Survey():
            return TABLE_1["sdc1"] if len(survey.files) == 3 else None
    return None


@dataclass(frozen=True)
class Sample:
    """What a labelled set of an archive holds: images, files to fetch and their bytes."""

    images: int
    files: int
    bytes: int
    source: str


def usual_sample(benchmark: ArchiveBenchmark) -> Sample:
    """What a benchmark is expected to have."""
    match benchmark:
        case RgzBenchmark():
            # Cutouts of some 10 kB, and the catalogue.
            return Sample(98_391, 98_392, 1_000_000_000, "the paper, consensus of at least 0.65")
        case HortonBenchmark():
            return Sample(8_805, 8_806, 1_000_000_000, "the paper, sources with one initial class")
        case MiraBestBenchmark():
            n, usual = len(benchmark.releases), MiraBestBenchmark.model_fields["label_names"]
            is_confident = benchmark.label_names == usual.default
            images = 833 if is_confident else 1_256
            said = "confident FR I and FR II of" if is_confident else "at most, all classes of"
            # 1,256 images of 150 px in one byte each, before packing.
            return Sample(
                n * images, n, n * 28_300_000, f"{said} {' and '.join(benchmark.releases)}"
            )
    raise TypeError(f"nothing is known of {type(benchmark).__name__}")


def _chosen(patterns: tuple[str, ...], n_all: int) -> int:
    """Fields that patterns choose: all of them as soon as one has a wildcard."""
    is_open = any(fnmatch("", pattern) or set("*?[") & set(pattern) for pattern in patterns)
    return n_all if is_open else min(n_all, len(patterns))
