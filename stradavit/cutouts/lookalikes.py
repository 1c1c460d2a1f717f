"""Pairs of images that share a landmark, found without comparing each with each.

Windows are hashed by the signs of random projections; those with equal keys are compared. Work and
memory grow with the number of windows, not with its square, and a crowd of windows that all look
alike is compared piecewise: it can cost neither without bound.
"""

import numpy as np
from numpy.typing import NDArray

from stradavit.cutouts.landmarks import N_ORIENTATIONS, SIDE, UNIT, Landmarks, orient

Integers = NDArray[np.int64]
Pairs = tuple[Integers, Integers, NDArray[np.float32]]

SEED = 0
# A pair of windows that agree by 0.9 falls under one key in one of so many tables 99 times of 100.
TABLES = 8
# Windows with one key, on average, and the most that are compared at once.
BUCKET = 192
LARGEST_BUCKET = 512
PROJECTED_AT_ONCE = 65_536
LEAST_COSINE = 0.8
# Partners a window keeps in a bucket, an image keeps in the end, and alignments kept for a pair.
PARTNERS_OF_WINDOW = 3
PARTNERS_OF_IMAGE = 10
ALIGNMENTS = 2

_FOUND = np.dtype(
    [("pair", "<i8"), ("orientation", "<i8"), ("dy", "<i8"), ("dx", "<i8"), ("weight", "<f8")]
)


def find_alignments(
    scales: list[Landmarks], shapes: Integers
) -> list[tuple[int, int, int, tuple[int, int]]]:
    """Ways in which two images may show the same sky, to be looked at.

    Parameters
    ----------
    scales : landmarks of all images, those of each size of windows together
    shapes : (n_images, 2) ny, nx

    Returns
    -------
    first, second : numbers of images, first < second, in ascending order
    orientation : `orient` the second image by it
    shift : y and x of its first pixel then, in pixels of the first image

    At most `ALIGNMENTS` for a pair, and only of pairs that are among the `PARTNERS_OF_IMAGE` best
    ones of at least one of their images.
    """
    draw = np.random.default_rng(SEED)
    found = [_aligned(some, *_alike(some, draw), shapes) for some in scales if len(some) > 1]
    if not found:
        return []
    chosen = _best(np.concatenate(found), len(shapes))
    first, second = np.divmod(chosen["pair"], len(shapes))
    shifts = zip(chosen["dy"].tolist(), chosen["dx"].tolist(), strict=True)
    columns = (first.tolist(), second.tolist(), chosen["orientation"].tolist(), shifts)
    return list(zip(*columns, strict=True))


def _alike(landmarks: Landmarks, draw: np.random.Generator) -> Pairs:
    """Windows of two images and their cosine; the first window's image has the lower number."""
    n = len(landmarks)
    n_bits = int(np.clip(np.ceil(np.log2(n / BUCKET)), 1, 30))
    pairs, cosines = np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.float32)
    for _ in range(TABLES):
        directions = draw.standard_normal((SIDE * SIDE, n_bits)).astype(np.float32)
        blocks = (landmarks.window[at : at + PROJECTED_AT_ONCE] for at in _steps(n))
        projected = np.concatenate([block.astype(np.float32) @ directions for block in blocks])
        # Halved at the median: windows have much in common, which would fall on one side of 0.
        keys = (projected > np.median(projected, axis=0)) @ (1 << np.arange(n_bits))
        order = np.lexsort((projected[:, 0], keys))
        found = [(pairs, cosines)]
        for bucket in np.split(order, np.flatnonzero(np.diff(keys[order])) + 1):
            for start in range(0, len(bucket), LARGEST_BUCKET):
                a, b, cosine = _compare(landmarks, bucket[start : start + LARGEST_BUCKET])
                found.append((a * n + b, cosine))
        pairs, first = np.unique(np.concatenate([one for one, _ in found]), return_index=True)
        cosines = np.concatenate([one for _, one in found])[first]
    return pairs // n, pairs % n, cosines


def _steps(n: int) -> range:
    return range(0, n, PROJECTED_AT_ONCE)


def _compare(landmarks: Landmarks, some: Integers) -> Pairs:
    windows = landmarks.window[some].astype(np.float32)
    windows *= np.float32(UNIT)
    images = landmarks.image[some]
    cosines = windows @ windows.T
    cosines[images[:, None] == images] = -1
    rows = np.arange(len(some))
    partners, found = [], []
    for _ in range(PARTNERS_OF_WINDOW):
        partners.append(cosines.argmax(axis=1))
        found.append(cosines[rows, partners[-1]])
        cosines[rows, partners[-1]] = -1
    a, b, cosine = np.tile(rows, len(found)), np.concatenate(partners), np.concatenate(found)
    is_good = cosine >= LEAST_COSINE
    a, b, cosine = a[is_good], b[is_good], cosine[is_good]
    swapped = images[a] > images[b]
    return some[np.where(swapped, b, a)], some[np.where(swapped, a, b)], cosine


def _aligned(
    landmarks: Landmarks, a: Integers, b: Integers, cosine: NDArray[np.float32], shapes: Integers
) -> NDArray[np.void]:
    """How the second image must be turned and moved for windows a and b to coincide."""
    first, second = landmarks.image[a].astype(np.int64), landmarks.image[b].astype(np.int64)
    orientation = COMPOSED[INVERSE[landmarks.orientation[a]], landmarks.orientation[b]]
    place = turned_places(landmarks.place[b].astype(np.int64), shapes[second], orientation)
    found = np.zeros(len(a), dtype=_FOUND)
    found["pair"] = first * len(shapes) + second
    found["orientation"] = orientation
    found["dy"], found["dx"] = (landmarks.place[a] - place).T
    found["weight"] = cosine
    return found


def turned_places(places: Integers, shapes: Integers, orientations: Integers) -> Integers:
    """Where pixels lie after `orient`.

    Parameters
    ----------
    places : (n, 2) y, x
    shapes : (n, 2) ny, nx of the image of each
    orientations : (n,)

    Returns
    -------
    (n, 2) y, x
    """
    (y, x), (ny, nx) = places.T, shapes.T
    quarters = orientations % 4
    turned_y = np.choose(quarters, [y, nx - 1 - x, ny - 1 - y, x])
    turned_x = np.choose(quarters, [x, y, nx - 1 - x, ny - 1 - y])
    width = np.where(quarters % 2 == 0, nx, ny)
    return np.stack([turned_y, np.where(orientations >= 4, width - 1 - turned_x, turned_x)], axis=1)


def _best(found: NDArray[np.void], n_images: int) -> NDArray[np.void]:
    """Alignments by pair, those that most windows ask for first."""
    alignments, which = np.unique(found[["pair", "orientation", "dy", "dx"]], return_inverse=True)
    weights = np.bincount(which, weights=found["weight"], minlength=len(alignments))
    order = np.lexsort((-weights, alignments["pair"]))
    alignments, weights = alignments[order], weights[order]
    rank = _rank(alignments["pair"])
    pairs, best = alignments["pair"][rank == 0], weights[rank == 0]
    is_partner = np.zeros(len(pairs), dtype=bool)
    for member in (pairs // n_images, pairs % n_images):
        order = np.lexsort((-best, member))
        is_partner[order] |= _rank(member[order]) < PARTNERS_OF_IMAGE
    number = np.cumsum(rank == 0) - 1
    kept: NDArray[np.void] = alignments[is_partner[number] & (rank < ALIGNMENTS)]
    return kept


def _rank(ascending: Integers) -> Integers:
    """0, 1, 2, … within each run of equal numbers."""
    is_first = np.diff(ascending, prepend=-1) > 0
    starts = np.flatnonzero(is_first)
    places = np.arange(len(ascending))
    return places - starts[np.cumsum(is_first) - 1] if len(starts) else places


def _group() -> tuple[Integers, Integers]:
    """What two orientations one after the other do, and what undoes each."""
    sample = np.arange(4).reshape(2, 2)
    turned = [orient(sample, k).tolist() for k in range(N_ORIENTATIONS)]
    composed = np.array(
        [
            [turned.index(orient(orient(sample, b), a).tolist()) for b in range(N_ORIENTATIONS)]
            for a in range(N_ORIENTATIONS)
        ]
    )
    return composed, np.argmin(composed, axis=1)


# COMPOSED[a, b] does what b and then a do; INVERSE[a] undoes a.
COMPOSED, INVERSE = _group()
