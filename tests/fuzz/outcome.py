"""One damaged file through everything that reads it, and what became of it."""

import logging
import math
import resource
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from stradavit.acquire.archives.cutout_files import check_image
from stradavit.acquire.stages import acquire_part, make_manifest
from stradavit.acquire.transfer.content import check
from stradavit.acquire.transfer.fits_length import MalformedError
from stradavit.cutouts.product import SKIP_REASONS
from stradavit.cutouts.shards import Shard
from stradavit.cutouts.stages import cut_part
from stradavit.cutouts.tiling import DROP_REASONS
from stradavit.errors import DataError
from stradavit.planning.headers import image_axes
from stradavit.settings import CutoutSettings
from stradavit.settings.sources import LocalSurvey

SIZE_PX = 16
MEMORY_MB = 128

# What one step may cost, and how many warnings a user may be shown because of one file.
MOST_CPU_S = 10.0
MOST_MB = 512.0
MOST_WARNINGS = 10

# Words by which an allocation that failed shows through a message.
ALLOCATIONS = ("MemoryError", "Unable to allocate", "Cannot allocate", "bad_alloc", "array is too")


@dataclass
class Outcome:
    """What became of a file.

    Attributes
    ----------
    name : `cut`, `dropped` (no cutout has content), a skip reason, `refused`, or `failed`
    faults : everything that must not be; empty unless the name is `failed`
    detail : the message of the skip or refusal
    cpu_s, peak_mb : of the dearest step; memory is counted over what the process held before
    """

    name: str = "failed"
    faults: list[str] = field(default_factory=list)
    detail: str = ""
    cpu_s: float = 0.0
    peak_mb: float = 0.0


class Judge:
    """Runs files through the readers, in one process, beside one good file.

    Parameters
    ----------
    folder : empty; used over and over
    good : content of a good FITS file, which must be cut whatever lies beside it
    """

    def __init__(self, folder: Path, good: bytes) -> None:
        self._folder = folder
        (folder / "files").mkdir(parents=True)
        (folder / "files" / "a good one.fits").write_bytes(good)
        self._n_good = 0
        self._good_checksums: list[int] = []
        alone = Outcome()
        self._cut(alone)
        assert alone.name == "cut", alone
        shard = Shard(folder / "0.h5")
        self._good_checksums = sorted(shard.column("checksum").tolist())
        shard.close()

    def judge(self, content: bytes) -> Outcome:
        """The outcome of one file."""
        path = self._folder / "files" / "the case.fits"
        path.write_bytes(content)
        outcome = Outcome()
        logs = _Counter()
        logging.getLogger().addHandler(logs)
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                with _step("image_axes", outcome):
                    image_axes(path)
                with _step("fits_length", outcome):
                    self._check_length(path, content)
                with _step("check_image", outcome):
                    reason = check_image(path, (150.0, 2.0), None)
                    _look_for_allocations(outcome, "check_image", reason or "")
                with _step("cut_part", outcome):
                    self._cut(outcome, path)
        finally:
            logging.getLogger().removeHandler(logs)
            path.unlink()
        shown = logs.messages + [str(warning.message) for warning in caught]
        if len(shown) > MOST_WARNINGS:
            outcome.faults.append(f"{len(shown)} warnings, the first: {shown[0][:200]}")
        _look_for_allocations(outcome, "cut_part", " ".join([*shown, outcome.detail]))
        if outcome.faults:
            outcome.name = "failed"
        return outcome

    def _check_length(self, path: Path, content: bytes) -> None:
        most_bytes = 10**9  # archives.unpack_gb is a limit, and by default a generous one
        kind = "fits.gz" if content.startswith(b"\x1f\x8b") else "fits"
        with suppress(MalformedError):
            check(path, kind, None, "", most_bytes)

    def _cut(self, outcome: Outcome, path: Path | None = None) -> None:
        """The stages of a local survey; what is found wrong is added to `outcome`."""
        pattern = str(self._folder / "files" / "*")
        survey = LocalSurvey(source="local", files=(pattern,), parts=1)
        manifest, ledger, out = (self._folder / name for name in ("m.csv", "0.csv", "0.h5"))
        out.unlink(missing_ok=True)
        cutouts = CutoutSettings(size_px=SIZE_PX, memory_mb=MEMORY_MB)
        try:
            make_manifest("fuzz", survey, manifest)
            acquire_part("fuzz", survey, manifest, 0, ledger)
            cut_part("fuzz", survey, cutouts, ledger, out)
        except DataError as error:
            outcome.name, outcome.detail = "refused", str(error)
            if path is None or str(path) not in str(error):
                outcome.faults.append(f"a message that does not name the file: {error}")
            return
        shard = Shard(out)  # it was read back and verified when it was written
        try:
            self._look_at(shard, outcome, path)
        finally:
            shard.close()

    def _look_at(self, shard: Shard, outcome: Outcome, path: Path | None) -> None:
        rows = shard.rows()
        skipped, dropped = shard.attribute("skipped"), shard.attribute("dropped")
        if not set(skipped) <= set(SKIP_REASONS) or not set(dropped) <= set(DROP_REASONS):
            outcome.faults.append(f"unknown reasons: {skipped}, {dropped}")
        names = [name for name, _ in shard.products()]
        is_bad = np.array([names[k].startswith("the-case") for k in rows["product"]], dtype=bool)
        if path is not None:
            good = sorted(rows["checksum"][~is_bad].tolist())
            if good != self._good_checksums:
                outcome.faults.append("the good file beside it was not cut as when alone")
        limits = np.concatenate([rows["low"], rows["high"]])
        if not np.isfinite(limits).all() or (rows["low"] > rows["high"]).any():
            outcome.faults.append(f"limits {limits[~np.isfinite(limits)][:3]}")
        levels = shard.read(np.flatnonzero(is_bad), rows["checksum"][is_bad])
        if len(levels) and (levels.min(axis=(1, 2)) == levels.max(axis=(1, 2))).any():
            outcome.faults.append("a cutout without content")
        for column in ("ra_deg", "dec_deg", "radius_arcsec", "pixel_scale_arcsec"):
            if np.isinf(rows[column]).any():
                outcome.faults.append(f"infinite {column}")
        if sum(skipped.values()) > 1:
            outcome.faults.append(f"two products skipped: {skipped}")
        reason = next(iter(skipped), None)
        outcome.name = reason or ("cut" if is_bad.any() or path is None else "dropped")


@contextmanager
def _step(name: str, outcome: Outcome) -> Iterator[None]:
    """Measure a step and take whatever it raises for a fault."""
    _reset_peak()
    before_mb = memory_mb("VmRSS")
    start = time.process_time()
    # The kernel ends a process that goes on for ever, wherever it is.
    limit = math.ceil(start + MOST_CPU_S) + 1
    before, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (limit, hard))
    try:
        yield
    except Exception as error:
        outcome.faults.append(f"{name} raised {type(error).__name__}: {str(error)[:300]}")
        outcome.detail = repr(error)[:300]
    finally:
        resource.setrlimit(resource.RLIMIT_CPU, (before, hard))
    cpu_s = time.process_time() - start
    peak_mb = max(0.0, memory_mb("VmHWM") - before_mb)
    if cpu_s > MOST_CPU_S:
        outcome.faults.append(f"{name} took {cpu_s:.1f} s")
    if peak_mb > MOST_MB:
        outcome.faults.append(f"{name} took {peak_mb:.0f} MB")
    outcome.cpu_s = max(outcome.cpu_s, cpu_s)
    outcome.peak_mb = max(outcome.peak_mb, peak_mb)


def _look_for_allocations(outcome: Outcome, step: str, text: str) -> None:
    """An allocation that fails here would succeed on a larger machine, and take all of it."""
    for words in ALLOCATIONS:
        if words in text:
            outcome.faults.append(f"{step} tried to allocate too much: {text[:300]}")
            return


class _Counter(logging.Handler):
    """Messages a user would be shown."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


def _reset_peak() -> None:
    """Let the kernel forget the most memory this process has held."""
    # Where it will not, the peak is that of all cases so far.
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def memory_mb(key: str) -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"/proc/self/status has no {key}")
