"""What is still to be fetched or drawn: files and bytes of surveys, benchmarks and weights."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from stradavit.acquire.manifest import ManifestRow, read_ledger
from stradavit.errors import DataError
from stradavit.planning.cutouts import (
    SIMULATED_PLANES,
    SIMULATED_VALUE_BYTES,
    SurveyPlan,
    manifest_rows,
)
from stradavit.planning.known import Basis, Known, least_sure
from stradavit.planning.networks import network_of
from stradavit.planning.published import usual_product, usual_sample
from stradavit.planning.runs import Run
from stradavit.planning.samples import SIMULATED_PIXELS, SamplePlan
from stradavit.planning.samples import SIMULATED_VALUE_BYTES as SAMPLE_VALUE_BYTES
from stradavit.settings import Settings
from stradavit.settings.encoders import HubEncoder
from stradavit.settings.sources import (
    ArchiveBenchmark,
    ArchiveSurvey,
    CasdaSurvey,
    ChipsSurvey,
    LocalSurvey,
    LotssSurvey,
    MgclsSurvey,
    Sdc1Survey,
    SimulatedBenchmark,
    SimulatedSurvey,
)

CopiedSurvey = SimulatedSurvey | MgclsSurvey | CasdaSurvey | LotssSurvey | Sdc1Survey

VALUE_BYTES = 4
_FITS_HEADER = 2880
_HUB_FILES = 3

# A line of the journal of what a folder holds, see `stradavit.acquire.transfer.journal`.
_JOURNAL = re.compile(r'"bytes": (\d+), .*?"name": "([^"]+)"')


@dataclass(frozen=True)
class Raw:
    """Files of one entry of the config.

    Parameters
    ----------
    name : such as surveys.mgcls
    is_fetched : whether they come from an archive, and are not drawn here
    files_here, bytes_here : on this disk
    files_left, bytes_left : still to come
    basis, source : of what is to come
    """

    name: str
    is_fetched: bool
    files_here: int
    bytes_here: int
    files_left: int
    bytes_left: int
    basis: Basis
    source: str


def raw_of(
    settings: Settings,
    surveys: dict[str, SurveyPlan],
    samples: dict[str, SamplePlan],
    runs: Sequence[Run],
    results_dir: Path,
) -> list[Raw]:
    """Every entry whose files are copied or drawn into the results; local ones stay in place.

    Those of detection sets are in `stradavit.planning.detection_raw`.
    """
    found = []
    for name, plan in surveys.items():
        survey = settings.surveys[name]
        if not isinstance(survey, LocalSurvey | ChipsSurvey):
            found.append(_of_survey(name, survey, plan, results_dir))
    for name, benchmark in settings.benchmarks.items():
        if isinstance(benchmark, ArchiveBenchmark):
            usual = usual_sample(benchmark)
            expected = Known(usual.bytes, "published", usual.source)
            found.append(_of_benchmark(name, samples[name], usual.files, expected, results_dir))
        elif isinstance(benchmark, SimulatedBenchmark):
            n = int(samples[name].images.value)
            value_bytes = SAMPLE_VALUE_BYTES[benchmark.like]
            n_bytes = n * (SIMULATED_PIXELS[benchmark.like] * value_bytes + 2 * _FITS_HEADER)
            expected = Known(n_bytes, "counted", "drawn")
            found.append(_of_benchmark(name, samples[name], n, expected, results_dir))
    for run in runs:
        encoder = settings.encoders[run.node.start]
        if run.kind == "start" and isinstance(encoder, HubEncoder):
            found.append(_of_encoder(settings, run, encoder, results_dir))
    return found


def _of_survey(name: str, survey: CopiedSurvey, plan: SurveyPlan, results_dir: Path) -> Raw:
    product_bytes = _product_bytes(survey)
    here = _acquired(name, survey, results_dir)
    rows = manifest_rows(name, survey, results_dir)
    is_fetched = isinstance(survey, ArchiveSurvey)
    about = f"surveys.{name}", is_fetched
    if rows is not None:
        done = {p for p in range(survey.parts) if _is_cut(results_dir, name, p)}
        left = [row for row in rows if row.product not in here and row.part not in done]
        n_bytes, source = _sum_of_sizes(left, product_bytes)
        held = sum(here.values())
        return Raw(*about, len(here), held, len(left), n_bytes, "counted", source)
    n_left = max(0, int(plan.products.value) - len(here))
    is_exact = isinstance(survey, SimulatedSurvey | Sdc1Survey)
    basis = least_sure([plan.products.basis, "counted" if is_exact else "published"])
    said = f"{product_bytes / 1e6:,.0f} MB a file" if is_fetched else "drawn"
    source = f"{said}; {plan.products.source}" if is_fetched else said
    n_bytes = n_left * product_bytes
    return Raw(*about, len(here), sum(here.values()), n_left, n_bytes, basis, source)


def _sum_of_sizes(rows: list[ManifestRow], product_bytes: int) -> tuple[int, str]:
    n_unknown = sum(row.bytes is None for row in rows)
    known = sum(row.bytes or 0 for row in rows)
    source = "its manifest"
    if n_unknown:
        source += f"; {n_unknown} of unlisted size at {product_bytes / 1e6:,.0f} MB"
    return known + n_unknown * product_bytes, source


def _product_bytes(survey: CopiedSurvey) -> int:
    if isinstance(survey, ArchiveSurvey):
        return usual_product(survey).bytes
    planes, value = SIMULATED_PLANES[survey.like], SIMULATED_VALUE_BYTES[survey.like]
    return survey.side_px**2 * planes * value + 2 * _FITS_HEADER


def _acquired(name: str, survey: CopiedSurvey, results_dir: Path) -> dict[str, int]:
    """Bytes of the products that have come; 0 if a ledger names one that was deleted since."""
    folder = results_dir / "raw" / name
    here = in_journal(folder / "files")
    for part in range(survey.parts):
        path = folder / f"{part}.csv"
        if not path.is_file():
            continue
        try:
            items = read_ledger(path)
        except DataError:
            continue
        here |= {item.product: item.bytes if item.path.is_file() else 0 for item in items}
    return here


def _is_cut(results_dir: Path, name: str, part: int) -> bool:
    return (results_dir / "shards" / name / f"{part}.h5").is_file()


def _of_benchmark(
    name: str, plan: SamplePlan, n_files: int, expected: Known, results_dir: Path
) -> Raw:
    folder = results_dir / "raw" / name / "files"
    here = in_journal(folder)
    is_fetched = expected.basis == "published"
    if not is_fetched and folder.is_dir():
        here = {path.name: path.stat().st_size for path in folder.iterdir() if path.is_file()}
    n_left = 0 if plan.is_acquired else max(0, n_files - len(here))
    share = n_left / n_files if n_files else 0
    n_bytes = round(expected.value * share)
    held = sum(here.values())
    about = f"benchmarks.{name}", is_fetched
    return Raw(*about, len(here), held, n_left, n_bytes, expected.basis, expected.source)


def _of_encoder(settings: Settings, run: Run, encoder: HubEncoder, results_dir: Path) -> Raw:
    network = network_of(settings, run.node, results_dir)
    n_bytes = VALUE_BYTES * network.parameters(has_decoder=True)
    kept = results_dir / "encoders" / run.node.name / ".hub"
    held = sum(path.stat().st_size for path in kept.glob("*/*") if path.is_file())
    is_here = run.is_done or any(kept.glob("*/hub.json")) or _is_in_cache(encoder)
    about = f"encoders.{run.node.start}", True
    n_here = sum(path.is_file() for path in kept.glob("*/*"))
    source = f"float32 parameters of {network.source}"
    if is_here:
        return Raw(*about, n_here, held, 0, 0, "counted", "is on this disk")
    return Raw(*about, n_here, held, _HUB_FILES, n_bytes, network.basis, source)


def _is_in_cache(encoder: HubEncoder) -> bool:
    """Whether the cache of huggingface_hub has the weights; the stage checks them before use."""
    from huggingface_hub import constants, try_to_load_from_cache

    found = try_to_load_from_cache(
        encoder.repo, "model.safetensors", constants.HF_HUB_CACHE, encoder.revision
    )
    return isinstance(found, str)


def in_journal(folder: Path) -> dict[str, int]:
    """Bytes of each file that came whole into a folder."""
    path = folder / ".journal.jsonl"
    if not path.is_file():
        return {}
    found = _JOURNAL.findall(path.read_text(encoding="utf-8", errors="replace"))
    return {name: int(n_bytes) for n_bytes, name in found}
