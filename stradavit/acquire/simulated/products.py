"""Which products a simulated survey has; they are drawn elsewhere, one by one."""

from pathlib import Path

from stradavit.acquire.manifest import ManifestRow, part_of
from stradavit.errors import DataError
from stradavit.settings.sources import SimulatedSurvey


def product_name(like: str, number: int) -> str:
    """Name of product `number` of a simulated survey."""
    return f"{like}-{number:04d}"


def simulated_manifest(survey: SimulatedSurvey) -> list[ManifestRow]:
    """What a simulated survey holds; the location of a product is its number."""
    names = {number: product_name(survey.like, number) for number in _numbers(survey)}
    return [
        ManifestRow(name, part_of(name, survey.parts), str(number))
        for number, name in names.items()
    ]


def product_number(row: ManifestRow, survey: SimulatedSurvey, manifest_path: Path) -> int:
    """Which product a row means.

    Raises
    ------
    DataError
        If it means none of this survey.
    """
    numbers = {str(number): number for number in _numbers(survey)}
    number = numbers.get(row.location)
    if number is None or product_name(survey.like, number) != row.product:
        raise DataError(
            f"{manifest_path}: the product {row.product!r} at {row.location!r} is none of a "
            f"simulated {survey.like} survey. Delete the manifest: it is of other settings."
        )
    return number


def _numbers(survey: SimulatedSurvey) -> range:
    return range(survey.first, survey.first + survey.products)
