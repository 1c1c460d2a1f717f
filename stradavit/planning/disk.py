"""How much disk the results are going to take, and whether there is so much."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from stradavit.planning.cutouts import SurveyPlan
from stradavit.planning.detection_sets import DetectionSetPlan
from stradavit.planning.detector_cost import DetectorShape, detector_parameters
from stradavit.planning.detectors import Detector, detector_folder
from stradavit.planning.known import Basis, least_sure
from stradavit.planning.networks import network_of
from stradavit.planning.raw import VALUE_BYTES, Raw
from stradavit.planning.runs import Run
from stradavit.planning.samples import SamplePlan
from stradavit.planning.work import ORIENTATIONS
from stradavit.settings import Settings
from stradavit.settings.evaluation import Protocol

STORED_BYTES = 2  # of a pixel in shards and labelled cutouts: uint16
# Weights and the two moments of AdamW; the two newest are kept while the next one is written.
CHECKPOINT_COPIES, CHECKPOINTS = 3, 3


@dataclass(frozen=True)
class Space:
    """Bytes of one kind of files: those here, and those to come."""

    title: str
    here: int
    to_come: int
    basis: Basis
    source: str


def spaces(
    settings: Settings,
    surveys: dict[str, SurveyPlan],
    samples: dict[str, SamplePlan],
    sets: dict[str, DetectionSetPlan],
    raw: Sequence[Raw],
    runs: Sequence[Run],
    detectors: Sequence[Detector],
    results_dir: Path,
) -> list[Space]:
    """What lies below the results, in the order it is made; logs and tables are too small."""
    parameters = _parameters(settings, sets, detectors, results_dir)
    return [
        *_raw(raw),
        *_detection_sets(sets, results_dir),
        _shards(settings, surveys, results_dir),
        *_labelled_cutouts(samples, results_dir),
        _encoders(settings, runs, results_dir),
        *_detectors(detectors, parameters, results_dir),
        _checkpoints(settings, runs, detectors, parameters, results_dir),
        *_features(settings, runs, samples, results_dir),
    ]


def free_bytes(results_dir: Path) -> int:
    """Free space of the disk the results are on, or will be."""
    folder = results_dir.absolute()
    while not folder.is_dir():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def _raw(raw: Sequence[Raw]) -> list[Space]:
    rows = []
    for title, prefix in (
        ("raw surveys", "surveys."),
        ("raw benchmarks", "benchmarks."),
        ("raw detection sets", "detection.sets."),
        ("weights as the hub sent them", "encoders."),
    ):
        some = [item for item in raw if item.name.startswith(prefix)]
        if not some:
            continue
        source = "manifests and ledgers, else the sizes named below"
        if not any(item.is_fetched for item in some):
            source = "drawn"
        elif prefix == "encoders.":
            source = "float32 parameters; may be deleted once the starting points are there"
        elif prefix == "detection.sets.":
            source = "what has come, else the sizes named below"
        elif prefix == "surveys.":
            source += "; a part's files may be deleted once its shard is there"
        rows.append(
            Space(
                title,
                sum(item.bytes_here for item in some),
                sum(item.bytes_left for item in some),
                least_sure([item.basis for item in some]),
                source,
            )
        )
    return rows


def _detection_sets(sets: dict[str, DetectionSetPlan], results_dir: Path) -> list[Space]:
    if not sets:
        return []
    here = sum(_size(results_dir / "detection" / f"{name}.h5") for name in sets)
    left = [plan for plan in sets.values() if not plan.is_cut]
    to_come = sum(plan.images * plan.pixels * STORED_BYTES for plan in left)
    basis = least_sure(["counted", *(plan.basis for plan in left)])
    source = f"pixels of an image, on average, × {STORED_BYTES} bytes"
    return [Space("detection sets", here, round(to_come), basis, source)]


def _shards(settings: Settings, surveys: dict[str, SurveyPlan], results_dir: Path) -> Space:
    size_px = settings.cutouts.size_px
    left = sum(max(0.0, plan.cutouts.value - plan.cutouts_here) for plan in surveys.values())
    here = sum(
        _size(results_dir / "shards" / name / f"{part}.h5")
        for name, plan in surveys.items()
        for part in range(plan.parts)
    )
    basis = least_sure([plan.cutouts.basis for plan in surveys.values()])
    source = f"cutouts × {size_px}² px × {STORED_BYTES} bytes; they are not packed"
    return Space("shards", here, round(left * size_px**2 * STORED_BYTES), basis, source)


def _labelled_cutouts(samples: dict[str, SamplePlan], results_dir: Path) -> list[Space]:
    if not samples:
        return []
    here, to_come = 0, 0.0
    for name, plan in samples.items():
        here += _size(results_dir / "benchmarks" / f"{name}.h5")
        if plan.is_cut:
            continue
        to_come += plan.images.value * plan.pixels * STORED_BYTES
    source = f"pixels of an image, on average, × {STORED_BYTES} bytes"
    basis = least_sure([plan.images.basis for plan in samples.values()])
    return [Space("labelled cutouts", here, round(to_come), basis, source)]


def _encoders(settings: Settings, runs: Sequence[Run], results_dir: Path) -> Space:
    here = to_come = 0
    bases = []
    for run in runs:
        network = network_of(settings, run.node, results_dir)
        n = _size(results_dir / "encoders" / run.node.name / "model.safetensors")
        here += n
        if not n:
            has_decoder = run.node.branch in ("start", "reconstruction")
            to_come += VALUE_BYTES * network.parameters(has_decoder)
            bases.append(network.basis)
    source = f"parameters × {VALUE_BYTES} bytes; with their decoder where they reconstruct"
    return Space("encoders", here, to_come, least_sure(["counted", *bases]), source)


def _parameters(
    settings: Settings,
    sets: dict[str, DetectionSetPlan],
    detectors: Sequence[Detector],
    results_dir: Path,
) -> dict[Detector, int]:
    """Values of each detector."""
    nodes = settings.nodes()
    return {
        one: detector_parameters(
            DetectorShape(
                network_of(settings, nodes[one.encoder], results_dir),
                settings.detection.detector,
                sets[one.detection_set].classes,
            )
        )
        for one in detectors
    }


def _detectors(
    detectors: Sequence[Detector], parameters: dict[Detector, int], results_dir: Path
) -> list[Space]:
    if not detectors:
        return []
    sizes = {one: _size(_folder(one, results_dir) / "model.safetensors") for one in detectors}
    to_come = sum(VALUE_BYTES * parameters[one] for one, n in sizes.items() if not n)
    source = f"parameters × {VALUE_BYTES} bytes"
    return [Space("detectors", sum(sizes.values()), to_come, "counted", source)]


def _checkpoints(
    settings: Settings,
    runs: Sequence[Run],
    detectors: Sequence[Detector],
    parameters: dict[Detector, int],
    results_dir: Path,
) -> Space:
    here, largest = 0, 0
    for run in runs:
        folder = results_dir / "encoders" / run.node.name
        if run.kind != "start" and not run.is_done:
            here += _checkpoints_in(folder)
            network = network_of(settings, run.node, results_dir)
            phase = settings.pretrain_settings(run.node).phase
            largest = max(largest, network.trained_parameters(phase))
    for one in detectors:
        if not one.is_done:
            here += _checkpoints_in(_folder(one, results_dir))
            largest = max(largest, parameters[one])
    needed = largest * VALUE_BYTES * CHECKPOINT_COPIES * CHECKPOINTS
    source = f"{CHECKPOINTS} of {CHECKPOINT_COPIES} × the weights, while one run is at work"
    return Space("checkpoints", here, max(0, needed - here), "counted", source)


def _checkpoints_in(folder: Path) -> int:
    return sum(_size(path) for path in folder.glob("checkpoints/*/*.pt"))


def _folder(one: Detector, results_dir: Path) -> Path:
    return detector_folder(results_dir, one.encoder, one.detection_set, one.seed)


def _features(
    settings: Settings, runs: Sequence[Run], samples: dict[str, SamplePlan], results_dir: Path
) -> list[Space]:
    if not samples:
        return []
    nodes = {run.node.name: run.node for run in runs}
    pairs: set[tuple[str, str]] = set()
    protocol: Protocol
    for protocol, encoder, benchmark in settings.cells():
        if protocol != "finetune":
            pairs.add((encoder, benchmark))
    here, to_come = 0, 0.0
    for encoder, benchmark in pairs:
        n_bytes = _size(results_dir / "features" / encoder / f"{benchmark}.h5")
        here += n_bytes
        if not n_bytes:
            width = network_of(settings, nodes[encoder], results_dir).shape.width
            to_come += samples[benchmark].images.value * ORIENTATIONS * width * VALUE_BYTES
    source = f"images × {ORIENTATIONS} orientations × width × {VALUE_BYTES} bytes, each encoder"
    basis = least_sure([plan.images.basis for plan in samples.values()])
    return [Space("features", here, round(to_come), basis, source)]


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0
