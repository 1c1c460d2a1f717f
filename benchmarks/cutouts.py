"""From mosaics to a shard: ours beside the loop an astronomer would write with Astropy and h5py.

Both run in one process per core, each on its share of the products, as the workflow runs its
parts. Before anything is timed, every cutout of both is compared.
"""

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import torch
from astropy.io import fits
from astropy.nddata import Cutout2D
from astropy.visualization import ZScaleInterval
from astropy.wcs import WCS
from numpy.typing import NDArray

from benchmarks.harness import Comparison, Target, fresh_processes, in_turn
from stradavit.acquire.manifest import Acquired, write_ledger
from stradavit.acquire.simulated.surveys import draw_product
from stradavit.cutouts.fits import open_product
from stradavit.cutouts.shards import Shard
from stradavit.cutouts.stages import cut_part
from stradavit.cutouts.tiling import cut
from stradavit.cutouts.zscale import stretch
from stradavit.files import sha256_of
from stradavit.settings import CutoutSettings
from stradavit.settings.sources import LocalSurvey

PROCESSES = 2
SIDE_PX = 4096
SIZES_PX = (128, 512)
SEED = 0
# A MeerKAT cube of two planes for one process; an ASKAP tile of four axes and a float64 LOFAR
# mosaic in a NaN border for the other: as many pixels.
PARTS = ((("mgcls", 0),), (("askap", 0), ("lotss", 0)))
SURVEY = LocalSurvey(source="local", files=("*.fits",))


def compare(work_dir: Path, device: torch.device, rounds: int) -> list[Comparison]:
    """Cutouts per second from FITS files to a finished shard."""
    folder = work_dir / "cutouts"
    folder.mkdir(parents=True, exist_ok=True)
    with fresh_processes(PROCESSES) as processes:
        parts = list(processes.map(partial(_draw, folder), range(PROCESSES)))
        return [_compare(folder, parts, size_px, processes, rounds) for size_px in SIZES_PX]


def _compare(
    folder: Path,
    parts: list[list[Path]],
    size_px: int,
    processes: ProcessPoolExecutor,
    rounds: int,
) -> Comparison:
    def by_processes(work: Callable[[Path, int, int, list[Path]], int]) -> int:
        return sum(processes.map(partial(work, folder, size_px), range(PROCESSES), parts))

    by_processes(_ours)
    by_processes(_astropy)
    checked = list(processes.map(partial(_agreement, folder, size_px), range(PROCESSES), parts))
    furthest, most_levels, share = (max(values) for values in zip(*checked, strict=True))
    if furthest > 1e-6 or most_levels > 1 or share > 1e-3:
        raise AssertionError(
            f"ours and Astropy's pixels differ by {furthest}, and {share:.1e} of the stored levels "
            f"by up to {most_levels}"
        )
    sides: dict[str, tuple[str, Callable[[], float]]] = {
        "ours": (
            "cut_part: with the sky of every corner, checksums, and the shard read back",
            lambda: by_processes(_ours),
        ),
        "astropy": (
            "Cutout2D and ZScaleInterval for each cutout, h5py",
            lambda: by_processes(_astropy),
        ),
    }
    measured, ratios = in_turn(sides, rounds)
    return Comparison(
        name=f"Cutouts of {size_px} px",
        question=(
            f"How fast do simulated mosaics (MeerKAT cube, ASKAP tile, LOFAR mosaic, "
            f"{SIDE_PX} px wide) become shards of {size_px} px cutouts, with both cores?"
        ),
        unit="cutouts/s",
        sides=measured,
        ratios=ratios,
        targets=[
            Target("times the astropy loop", 3.0, ratios["astropy"].median),
            Target("largest difference before quantisation", 1e-6, furthest, at_least=False),
        ],
        notes=[
            f"Of the stored 16-bit levels {100 * (1 - share):.2f} % are equal and none are further "
            "apart than one: Astropy divides in double precision and we in single, 6e-8 apart.",
            "The files lie in the page cache. Ours also forces the shard to disk and reads it "
            "back, which the loop does not.",
        ],
        figures={"share_of_levels_that_differ": share, "largest_difference": furthest},
    )


def _draw(folder: Path, part: int) -> list[Path]:
    """The products of a part in the order of its ledger, which is written beside them."""
    drawn = [draw_product(like, number, SIDE_PX, SEED, folder) for like, number in PARTS[part]]
    paths = sorted(drawn)
    rows = [Acquired(p.stem, p, sha256_of(p), p.stat().st_size) for p in paths]
    write_ledger(_ledger_path(folder, part), rows)
    return paths


def _ledger_path(folder: Path, part: int) -> Path:
    return folder / f"{part}.csv"


def _ours_path(folder: Path, size_px: int, part: int) -> Path:
    return folder / f"ours-{size_px}-{part}.h5"


def _astropy_path(folder: Path, size_px: int, part: int) -> Path:
    return folder / f"astropy-{size_px}-{part}.h5"


def _ours(folder: Path, size_px: int, part: int, paths: list[Path]) -> int:
    out_path = _ours_path(folder, size_px, part)
    settings = CutoutSettings(size_px=size_px)
    cut_part("simulated", SURVEY, settings, _ledger_path(folder, part), out_path)
    return len(Shard(out_path))


def _astropy(folder: Path, size_px: int, part: int, paths: list[Path]) -> int:
    """The loop: one cutout after the other, positions for all of an image at once."""
    interval = ZScaleInterval()
    rows: list[NDArray[np.float64]] = []
    done = 0
    with h5py.File(_astropy_path(folder, size_px, part), "w") as file:
        cutouts = file.create_dataset(
            "cutouts",
            shape=(0, size_px, size_px),
            maxshape=(None, size_px, size_px),
            chunks=(1, size_px, size_px),
            dtype="<u2",
        )
        for path in paths:
            with fits.open(path) as hdus:
                data, wcs = hdus[0].data, WCS(hdus[0].header).celestial
            planes = data.reshape(-1, *data.shape[-2:])
            ny, nx = planes.shape[1:]
            cutouts.resize(done + len(planes) * (ny // size_px) * (nx // size_px), axis=0)
            kept = []
            for plane, image in enumerate(planes):
                for y0 in range(0, ny - size_px + 1, size_px):
                    for x0 in range(0, nx - size_px + 1, size_px):
                        middle = (x0 + (size_px - 1) / 2, y0 + (size_px - 1) / 2)
                        pixels = Cutout2D(image, middle, size_px).data.astype(np.float32)
                        if not np.isfinite(pixels).all() or pixels.std() <= 1e-12:
                            continue
                        cutouts[done + len(kept)] = np.rint(interval(pixels) * 65535)
                        kept.append((plane, y0, x0, *middle))
            found = np.array(kept)
            sky = wcs.pixel_to_world(found[:, 3], found[:, 4]).icrs
            rows.append(np.column_stack([found[:, :3], sky.ra.deg, sky.dec.deg]))
            done += len(kept)
        cutouts.resize(done, axis=0)
        file["rows"] = np.concatenate(rows)
    return done


def _agreement(
    folder: Path, size_px: int, part: int, paths: list[Path]
) -> tuple[float, int, float]:
    """Largest difference of stretched pixels and of levels, and the share of levels that differ."""
    shard = Shard(_ours_path(folder, size_px, part))
    rows = shard.rows()
    ours = shard.read(np.arange(len(rows)), rows["checksum"])
    shard.close()
    with h5py.File(_astropy_path(folder, size_px, part)) as file:
        apart = np.abs(ours.astype(np.int32) - file["cutouts"][()])
    interval, furthest = ZScaleInterval(), 0.0
    for path in paths:
        with open_product(path) as product:
            for cutout in cut(product, size_px):
                if np.isfinite(cutout.pixels).all():
                    expected = interval(cutout.pixels)
                    found = stretch(cutout.pixels, "zscale")
                    furthest = max(furthest, float(np.abs(found - expected).max()))
    return furthest, int(apart.max()), float((apart != 0).mean())
