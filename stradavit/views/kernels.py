"""Loops over the pixels of one image, compiled for the processor by numba.

A processor is fast while what it works on stays in its caches. Whole-batch tensor operations carry
every intermediate image through main memory; these loops finish one cutout or view before they
touch the next, in scratch of a few hundred kilobytes. They compute what `stradavit.views.tensors`
computes, from the same random numbers; `stradavit.views.loops` calls them.

Images are (size, size) arrays of any real type whose white is `unit`. All integers that are hashed
are uint64: they wrap as the int64 tensors of `stradavit.views.random` do.

One file, long as it is: numba keeps the machine code of a function until its own file changes, and
would not notice a change in another file that the function calls into.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import numba
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Function = TypeVar("Function", bound=Callable[..., Any])

U64 = np.uint64
GOLDEN = U64(0x9E3779B97F4A7C15)
_MIX_1, _MIX_2 = U64(0xBF58476D1CE4E5B9), U64(0x94D049BB133111EB)
HALF, ONE, ZERO = np.float32(0.5), np.float32(1), np.float32(0)
BACKGROUND_LEVELS = 4096
_HALF_ROOT, _LN_2 = np.int32(0x3F3504F3), np.float32(0.6931471805599453)
# ln(1 + t) = t - t²/2 + t³ P(t) for sqrt(1/2) <= 1 + t < sqrt(2), highest power first (S. Moshier's
# Cephes library, logf). The standard library's logarithm is exact, but one number at a time.
_LOG = tuple(
    np.float32(term)
    for term in (
        7.0376836292e-2,
        -1.1514610310e-1,
        1.1676998740e-1,
        -1.2420140846e-1,
        1.4249322787e-1,
        -1.6668057665e-1,
        2.0000714765e-1,
        -2.4999993993e-1,
        3.3333331174e-1,
    )
)


def _compiled(**options: Any) -> Callable[[Function], Function]:
    """Compile on first use, keep the machine code, and leave other threads running meanwhile."""
    compiled: Callable[[Function], Function] = numba.njit(nogil=True, cache=True, **options)
    return compiled


# Sums may be reordered, which vectorises them; pixels are numbers once they are loaded.
on_pixels = _compiled(fastmath={"contract", "reassoc", "nsz", "nnan", "ninf"})
as_written = _compiled()


@as_written
def mixed(z: Any) -> Any:
    """SplitMix64's finaliser: `stradavit.views.random._mix`."""
    z = (z ^ (z >> U64(30))) * _MIX_1
    z = (z ^ (z >> U64(27))) * _MIX_2
    return z ^ (z >> U64(31))


# ---------------------------------------------------------------- looking at a cutout


@on_pixels
def shows_nothing(
    image: Any,
    unit: Any,
    box: tuple[int, int, int, int],
    peak_max: float,
    bright_share: Any,
    bright_pixels: int,
) -> bool:
    """Whether no value of a box is above a floor, or its peak stands alone: see `emptiness`."""
    x0, y0, x1, y1 = box
    highest = image[y0, x0]
    for y in range(y0, y1):
        row = image[y]
        for x in range(x0, x1):
            highest = row[x] if row[x] > highest else highest
    peak = np.float32(highest) / unit
    if peak <= peak_max:
        return True
    floor = bright_share * peak
    count: Any = 0
    for y in range(y0, y1):
        row = image[y]
        here = np.int32(0)
        for x in range(x0, x1):
            here += np.int32(np.float32(row[x]) / unit >= floor)
        count += here
        if count >= bright_pixels:
            return False
    return True


@on_pixels
def tile_peaks_and_means(
    image: Any, unit: Any, peak_grid: int, mean_grid: int, peaks: Floats, means: Floats
) -> None:
    """Largest value and mean of each tile of two grids, in [0, 1]; `anchors` has the tiling."""
    size = len(image)
    side = -(-size // peak_grid)
    highest = np.empty(size, image.dtype)
    for band in range(peak_grid):
        start = band * size // peak_grid
        highest[:] = image[start]
        for y in range(start + 1, start + side):
            row = image[y]
            for x in range(size):
                highest[x] = row[x] if row[x] > highest[x] else highest[x]
        for tile in range(peak_grid):
            x0 = tile * size // peak_grid
            peaks[band * peak_grid + tile] = np.float32(highest[x0 : x0 + side].max()) / unit
    side = -(-size // mean_grid)
    sums = np.empty(size, np.float32)
    for band in range(mean_grid):
        start = band * size // mean_grid
        sums[:] = 0
        for y in range(start, start + side):
            row = image[y]
            for x in range(size):
                sums[x] += np.float32(row[x])
        for tile in range(mean_grid):
            x0 = tile * size // mean_grid
            total = 0.0
            for x in range(x0, x0 + side):
                total += sums[x]
            means[band * mean_grid + tile] = np.float32(total / (side * side * unit))


@as_written
def background(image: Any, unit: Any, key: Any, n_samples: int, fraction: float) -> tuple[int, int]:
    """Lower median and median deviation, in levels, of the faintest of some pixels.

    The whole image is used where it has no more than `n_samples` pixels, else as many are drawn.
    """
    flat = image.reshape(-1)
    counts = np.zeros(BACKGROUND_LEVELS, np.int32)
    steps = np.float32(BACKGROUND_LEVELS - 1)
    if len(flat) <= n_samples:
        n_samples = len(flat)
        for value in flat:
            counts[np.int32(np.float32(value) / unit * steps + HALF)] += 1
    else:
        for sample in range(n_samples):
            word = mixed(key + U64(sample // 2 + 1) * GOLDEN)
            piece = (word >> U64(32 * (sample % 2))) & U64(0xFFFFFFFF) ^ U64(0x80000000)
            value = flat[np.int64((piece * U64(len(flat))) >> U64(32))]
            counts[np.int32(np.float32(value) / unit * steps + HALF)] += 1
    n_faint = max(1, int(fraction * n_samples))
    half = (n_faint + 1) // 2
    seen, median = 0, -1
    for level in range(BACKGROUND_LEVELS):
        counts[level] = min(counts[level], n_faint - seen)
        seen += counts[level]
        if median < 0 and seen >= half:
            median = level
    seen = counts[median]
    deviation = 0
    while seen < half:
        deviation += 1
        if median - deviation >= 0:
            seen += counts[median - deviation]
        if median + deviation < BACKGROUND_LEVELS:
            seen += counts[median + deviation]
    return median, deviation


@as_written
def brightest(image: Any, y0: int, x0: int, ny: int, nx: int) -> tuple[int, int]:
    """Row and column in the image of the first of the brightest pixels of a box."""
    best, at_y, at_x = image[y0, x0], y0, x0
    for y in range(y0, y0 + ny):
        for x in range(x0, x0 + nx):
            if image[y, x] > best:
                best, at_y, at_x = image[y, x], y, x
    return at_y, at_x


@as_written
def all_surveys(
    begin: int,
    end: int,
    images: Any,
    unit: Any,
    keys: NDArray[np.uint64],
    peak_grid: int,
    mean_grid: int,
    n_samples: int,
    fraction: float,
    peaks: Floats,
    means: Floats,
    levels: NDArray[np.int64],
) -> None:
    """Fills (b, peak_grid²) peaks, (b, mean_grid²) means and (b, 2) levels of the background."""
    for n in range(begin, end):
        tile_peaks_and_means(images[n], unit, peak_grid, mean_grid, peaks[n], means[n])
        levels[n, 0], levels[n, 1] = background(images[n], unit, keys[n], n_samples, fraction)


@as_written
def all_brightest(
    images: Any, corners: NDArray[np.int64], side: int, found: NDArray[np.int64]
) -> None:
    """`brightest` of squares; (b, k, 2) points (x, y) are filled."""
    for n in range(len(corners)):
        for k in range(corners.shape[1]):
            y, x = brightest(images[n], corners[n, k, 1], corners[n, k, 0], side, side)
            found[n, k, 0], found[n, k, 1] = x, y


@as_written
def all_local_peaks(
    images: Any, unit: Any, points: NDArray[np.int64], reach: int, found: Floats
) -> None:
    """Largest value at most `reach` pixels from points (x, y) along each axis; fills (b, k)."""
    size = images.shape[1]
    for n in range(len(points)):
        for k in range(points.shape[1]):
            x0, x1 = max(0, points[n, k, 0] - reach), min(size, points[n, k, 0] + reach + 1)
            y0, y1 = max(0, points[n, k, 1] - reach), min(size, points[n, k, 1] + reach + 1)
            y, x = brightest(images[n], y0, x0, y1 - y0, x1 - x0)
            found[n, k] = np.float32(images[n, y, x]) / unit


@as_written
def all_first_informative(
    begin: int,
    end: int,
    images: Any,
    unit: Any,
    candidates: NDArray[np.int64],
    peak_max: float,
    bright_share: Any,
    bright_pixels: int,
    chosen: NDArray[np.int64],
) -> None:
    """The first of (b, k, 4) boxes that shows something, else the last; fills (b, 4)."""
    last = candidates.shape[1] - 1
    for n in range(begin, end):
        taken = last
        for k in range(last):
            x0, y0, x1, y1 = candidates[n, k]
            box = (x0, y0, x1, y1)
            if not shows_nothing(images[n], unit, box, peak_max, bright_share, bright_pixels):
                taken = k
                break
        chosen[n] = candidates[n, taken]


# ---------------------------------------------------------------- making a view


class Draws(NamedTuple):
    """What is drawn for the views of a batch, see `stradavit.views.augment`."""

    flips_y: NDArray[np.bool_]  # (b,) of the crop, before it is transposed
    flips_x: NDArray[np.bool_]
    is_transposed: NDArray[np.bool_]
    asinh_a: Floats  # (b,) 0 where there is no stretch
    asinh_scale: Floats  # (b,) 1 / asinh(a)
    shift: NDArray[np.float64]  # (b, 2) pixels, (x, y)
    zoom: NDArray[np.float64]  # (b,)
    noise_keys: NDArray[np.uint64]  # (b,)
    noise_sigma: np.float32
    bands: Floats  # (b, 2, n) added to rows and to columns; (b, 2, 0) without bands
    dimming: Floats  # (b,) factor - 1 of faint pixels
    threshold_std: np.float32


@on_pixels
def resize_rows(
    source: Any,
    unit: Any,
    y0: int,
    x0: int,
    n_rows: int,
    n_columns: int,
    flipped: bool,
    out_px: int,
    out: Floats,
) -> None:
    """Rows of an antialiased bilinear resize of a box: `resample.crop_taps` of one image.

    The weights bring the pixels to [0, 1], so these are converted where they are used.
    """
    scale = n_rows / out_px
    support = max(1.0, scale)
    weights = np.empty(int(2 * support) + 3, np.float32)
    for place in range(out_px):
        first, count = _taps(place, scale, support, n_rows, unit, weights)
        to = out[out_px - 1 - place] if flipped else out[place]
        row, weight = source[y0 + first], weights[0]
        for x in range(n_columns):
            to[x] = weight * np.float32(row[x0 + x])
        for tap in range(1, count):
            row, weight = source[y0 + first + tap], weights[tap]
            for x in range(n_columns):
                to[x] += weight * np.float32(row[x0 + x])


@as_written
def _taps(
    place: int, scale: float, support: float, length: int, unit: Any, weights: Floats
) -> tuple[int, int]:
    """First input row of an output row and how many count; their weights sum to 1 / unit."""
    centre = (place + 0.5) * scale - 0.5
    first = max(0, math.floor(centre - support) + 1)
    last = min(length - 1, math.ceil(centre + support) - 1)
    total = 0.0
    for row in range(first, last + 1):
        total += (1 - abs(row - centre) / support) * unit
    for row in range(first, last + 1):
        weights[row - first] = np.float32((1 - abs(row - centre) / support) / total)
    return first, last - first + 1


@on_pixels
def clip(view: Floats) -> None:
    """To [0, 1] in place: weights sum to one but for rounding."""
    for y in range(len(view)):
        row = view[y]
        for x in range(len(row)):
            row[x] = min(max(row[x], ZERO), ONE)


@on_pixels
def stretch_asinh(view: Floats, a: Any, scale: Any) -> None:
    """asinh(a x) / asinh(a) in place, of x >= 0; the logarithm errs by less than 2e-7."""
    p0, p1, p2, p3, p4, p5, p6, p7, p8 = _LOG
    n = view.shape[1]
    sums, exponents = np.empty(n, np.float32), np.empty(n, np.int32)
    patterns = sums.view(np.int32)
    for y in range(len(view)):
        row = view[y]
        for x in range(n):
            scaled = row[x] * a
            sums[x] = scaled + np.sqrt(scaled * scaled + ONE)
        # Split into a power of two and 1 + t.
        for x in range(n):
            exponents[x] = (patterns[x] - _HALF_ROOT) >> 23
        for x in range(n):
            patterns[x] -= exponents[x] << 23
        for x in range(n):
            t = sums[x] - ONE
            p = (((((((p0 * t + p1) * t + p2) * t + p3) * t + p4) * t + p5) * t + p6) * t) + p7
            square = t * t
            logarithm = t - HALF * square + square * t * (p * t + p8)
            row[x] = (logarithm + np.float32(exponents[x]) * _LN_2) * scale


@on_pixels
def zoom_rows(source: Floats, zoom: float, shift: float, out: Floats) -> None:
    """Bilinear zoom about the centre and shift, zeros from outside: `resample.zoom_taps`."""
    n = len(source)
    middle = (n - 1) / 2
    for place in range(n):
        at = (place - middle - shift) / zoom + middle
        row = math.floor(at)
        upper = np.float32(at - row) if -1 <= row < n - 1 else ZERO
        lower = np.float32(1 - (at - row)) if 0 <= row < n else ZERO
        row0, row1 = source[min(max(row, 0), n - 1)], source[min(max(row + 1, 0), n - 1)]
        to = out[place]
        for x in range(n):
            to[x] = lower * row0[x] + upper * row1[x]


@as_written
def transpose(source: Floats, ny: int, nx: int, out: Floats) -> None:
    """Swap the axes of the first rows and columns, in blocks that fit the registers."""
    for y0 in range(0, ny - 3, 4):
        for x0 in range(0, nx - 3, 4):
            for x in range(4):
                for y in range(4):
                    out[x0 + x, y0 + y] = source[y0 + y, x0 + x]
    for y in range(ny - ny % 4, ny):
        for x in range(nx):
            out[x, y] = source[y, x]
    for x in range(nx - nx % 4, nx):
        for y in range(ny):
            out[x, y] = source[y, x]


@on_pixels
def add_noise_and_bands(
    view: Floats, key: Any, sigma: Any, quantiles: Floats, bands: Floats
) -> tuple[Any, Any]:
    """Operators 4 and 5 in place; returns the mean of the view and its standard deviation."""
    n = len(view)
    has_bands = bands.shape[1] > 0
    flat = view.reshape(-1)
    count = len(flat)
    whole = count // 4
    for group in range(whole):
        word = mixed(key + U64(group + 1) * GOLDEN)
        start = 4 * group
        for piece in range(4):
            level = (word >> U64(16 * piece)) & U64(0xFFFF) ^ U64(0x8000)
            flat[start + piece] += sigma * quantiles[np.int64(level)]
    if whole * 4 < count:
        word = mixed(key + U64(whole + 1) * GOLDEN)
        for piece in range(count - 4 * whole):
            level = (word >> U64(16 * piece)) & U64(0xFFFF) ^ U64(0x8000)
            flat[4 * whole + piece] += sigma * quantiles[np.int64(level)]
    total: Any = 0.0
    for y in range(n):
        row = view[y]
        here = ZERO
        if has_bands:
            offset, offsets = bands[0, y], bands[1]
            for x in range(n):
                row[x] = row[x] + offset + offsets[x]
                here += row[x]
        else:
            for x in range(n):
                here += row[x]
        total += here
    mean = np.float32(total / count)
    squares: Any = 0.0
    for y in range(n):
        row = view[y]
        here = ZERO
        for x in range(n):
            here += (row[x] - mean) * (row[x] - mean)
        squares += here
    return mean, np.float32(math.sqrt(squares / count))


@on_pixels
def dim_and_clip(view: Floats, threshold: Any, dimming: Any, out: Floats) -> None:
    """Operator 6 and the final clamp."""
    for y in range(len(view)):
        row, to = view[y], out[y]
        for x in range(len(row)):
            value = row[x]
            value = value * (ONE + dimming) if value < threshold else value
            to[x] = min(max(value, ZERO), ONE)


@as_written
def all_views(
    begin: int,
    end: int,
    images: Any,
    unit: Any,
    boxes: NDArray[np.int64],
    draws: Draws,
    quantiles: Floats,
    peak_max: float,
    bright_share: Any,
    bright_pixels: int,
    views: Floats,
    is_blank: NDArray[np.bool_],
) -> None:
    """Crop, resize, turn, test, augment: fills (b, out, out) views and (b,) is_blank."""
    size, out_px = images.shape[1], views.shape[1]
    between = np.empty((out_px, size), np.float32)
    sideways = np.empty((size, out_px), np.float32)
    view, other = np.empty((out_px, out_px), np.float32), np.empty((out_px, out_px), np.float32)
    whole = (0, 0, out_px, out_px)
    for n in range(begin, end):
        x0, y0, x1, y1 = boxes[n]
        ny, nx = y1 - y0, x1 - x0
        # Rows are contiguous, columns are not: resample rows, swap the axes, resample rows.
        resize_rows(images[n], unit, y0, x0, ny, nx, draws.flips_y[n], out_px, between)
        transpose(between, out_px, nx, sideways)
        resize_rows(sideways, ONE, 0, 0, nx, out_px, draws.flips_x[n], out_px, view)
        is_blank[n] = shows_nothing(view, ONE, whole, peak_max, bright_share, bright_pixels)
        clip(view)
        if draws.asinh_a[n] > 0:
            stretch_asinh(view, draws.asinh_a[n], draws.asinh_scale[n])
        shift_x, shift_y = draws.shift[n]
        if draws.is_transposed[n]:  # which it is already, by its axes being swapped
            zoom_rows(view, draws.zoom[n], shift_y, other)
            transpose(other, out_px, out_px, view)
            zoom_rows(view, draws.zoom[n], shift_x, other)
            transpose(other, out_px, out_px, view)
        else:
            zoom_rows(view, draws.zoom[n], shift_x, other)
            transpose(other, out_px, out_px, view)
            zoom_rows(view, draws.zoom[n], shift_y, other)
            view, other = other, view
        mean, std = add_noise_and_bands(
            view, draws.noise_keys[n], draws.noise_sigma, quantiles, draws.bands[n]
        )
        dim_and_clip(view, mean + draws.threshold_std * std, draws.dimming[n], views[n])
