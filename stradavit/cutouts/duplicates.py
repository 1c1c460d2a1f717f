"""Images that show the same pixels: copies, turned or not, and overlapping parts of one picture.

`find_duplicates` takes any images that can be read by number. It finds

- exact copies up to a turn or flip, whatever is in them;
- images whose local contrasts agree where they overlap, up to a turn or flip, a shift, and
  brightness: parts of one mosaic on other grids, the same cutout stretched otherwise or in 8 bits.

It does not find images on another pixel scale, nor overlaps with less structure than
`least_evidence` asks for: of lone point sources only exact copies are found.
"""

import logging
from collections import OrderedDict, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations, product
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from stradavit.cutouts.agreement import Agreement, Glance, agree, elements
from stradavit.cutouts.landmarks import (
    CONTRAST_UNITS,
    N_ORIENTATIONS,
    STEPS_PX,
    Contrasts,
    Landmarks,
    cut_windows,
    local_contrasts,
    orient,
    standard_landmarks,
)
from stradavit.cutouts.lookalikes import find_alignments
from stradavit.cutouts.quantise import checksum, quantise
from stradavit.progress import progress
from stradavit.settings.duplicates import DuplicateSettings

logger = logging.getLogger(__name__)

# Images whose landmarks are turned together.
BLOCK = 64
# Copies of one image beyond this many are paired with the first only: pairs grow with the square.
MOST_COPIES = 100


class Images(Protocol):
    """What can be searched, a `LabelledCutouts` for instance."""

    def __len__(self) -> int:
        """Number of images."""

    def read(self, number: int) -> NDArray[np.float32]:
        """Image `number`, (ny, nx) float32 in [0, 1]."""


@dataclass(frozen=True)
class Duplicate:
    """Two images that show the same pixels.

    Attributes
    ----------
    first, second : numbers, first < second
    similarity : correlation of local contrasts where they overlap; 1 for exact copies
    elements : structures of the size of a beam that agree
    overlap : area in common, of the smaller image's
    """

    first: int
    second: int
    similarity: float
    elements: float
    overlap: float


@dataclass(frozen=True)
class Duplicates:
    """What was found among n images.

    Attributes
    ----------
    pairs : in order of their numbers
    elements : (n,) float64, structures of the size of a beam in each image
    """

    pairs: list[Duplicate]
    elements: NDArray[np.float64]


def find_duplicates(images: Images, settings: DuplicateSettings) -> Duplicates:
    """Search all images at once.

    Time grows with the number of images, not with its square: about 5 ms of a processor for an
    image of 150 px, up to 10 ms where most look alike. Memory is `settings.memory_mb` and 15 kB
    for such an image.

    Parameters
    ----------
    images : of any sizes; each is read once, or oftener if `memory_mb` does not hold them all
    settings : what counts as a duplicate
    """
    search = _Search(images, settings.memory_mb)
    for number in progress(range(len(images)), desc="describe", unit="image"):
        search.describe(number)
    best: dict[tuple[int, int], Agreement] = {}
    for first, second, orientation, shift in progress(
        search.alignments(), desc="compare", unit="alignment"
    ):
        agreement = agree(
            search.contrasts[first],
            search.contrasts[second],
            search.glances[first],
            orientation,
            shift,
            settings.least_similarity,
            settings.least_overlap,
        )
        if agreement is not None and agreement.evidence >= settings.least_evidence:
            known = best.get((first, second), agreement)
            best[first, second] = max(known, agreement, key=lambda one: one.similarity)
    pairs = [*search.originals.copies(search.elements), *_with_copies(best, search.originals)]
    pairs.sort(key=lambda pair: (pair.first, pair.second))
    logger.info("%d pairs of duplicates among %d images", len(pairs), len(images))
    return Duplicates(pairs, search.elements)


def _with_copies(
    best: dict[tuple[int, int], Agreement], originals: "_Originals"
) -> Iterator[Duplicate]:
    """What agrees with an image agrees with its copies."""
    for (first, second), found in best.items():
        for pair in product(originals.group(first), originals.group(second)):
            yield Duplicate(min(pair), max(pair), found.similarity, found.elements, found.overlap)


class _Search:
    """What is known of the images described so far."""

    def __init__(self, images: Images, memory_mb: int) -> None:
        self._images = images
        self._shapes = np.zeros((len(images), 2), dtype=np.int64)
        self._waiting: list[tuple[int, NDArray[np.int64], list[NDArray[np.float32]]]] = []
        self._landmarks: list[list[Landmarks]] = [[] for _ in STEPS_PX]
        self.originals = _Originals(images)
        self.contrasts = _KeptContrasts(images, memory_mb)
        self.glances: dict[int, Glance] = {}
        self.elements = np.zeros(len(images))

    def describe(self, number: int) -> None:
        """Look at an image, in whose place an equal one may have been looked at."""
        image = self._images.read(number)
        self._shapes[number] = image.shape
        original = self.originals.add(number, image)
        if original != number:
            self.elements[number] = self.elements[original]
            return
        contrasts = local_contrasts(image)
        self.contrasts.keep(number, contrasts)
        self.glances[number] = Glance.at(contrasts)
        scaled = contrasts.astype(np.float32) / np.float32(CONTRAST_UNITS)
        self.elements[number] = elements(scaled, scaled)
        self._waiting.append((number, *cut_windows(contrasts)))
        if len(self._waiting) == BLOCK:
            self._turn_waiting()

    def _turn_waiting(self) -> None:
        """Landmarks of a few images at once: there is much overhead to each call."""
        if not self._waiting:
            return
        numbers, places, windows = zip(*self._waiting, strict=True)
        owners = np.repeat(np.array(numbers, np.int32), [len(some) for some in places])
        for size, landmarks in enumerate(self._landmarks):
            every = np.concatenate([some[size] for some in windows])
            landmarks.append(standard_landmarks(owners, np.concatenate(places), every))
        self._waiting.clear()

    def alignments(self) -> list[tuple[int, int, int, tuple[int, int]]]:
        """What to compare: two images, orientation and shift of the second."""
        self._turn_waiting()
        scales = [Landmarks.joined(parts) for parts in self._landmarks if parts]
        self._landmarks.clear()
        return find_alignments(scales, self._shapes)


class _Originals:
    """The first of all images that are equal up to a turn or flip, and its copies."""

    def __init__(self, images: Images) -> None:
        self._images = images
        self._by_sums: defaultdict[tuple[int, ...], list[int]] = defaultdict(list)
        self._digests: dict[int, int] = {}
        self._copies: defaultdict[int, list[int]] = defaultdict(list)

    def add(self, number: int, image: NDArray[np.float32]) -> int:
        """The image it is a copy of; itself if it is the first."""
        levels = quantise(image).astype(np.uint64)
        # The same from all sides, and enough to tell most images apart.
        sums = (*sorted(levels.shape), int(levels.sum()), int((levels * levels).sum()))
        for other in self._by_sums[sums]:
            if self._digest(other) == self._digest(number):
                self._copies[other].append(number)
                return other
        self._by_sums[sums].append(number)
        return number

    def _digest(self, number: int) -> int:
        """Equal for the eight orientations of an image, and for nothing else."""
        if number not in self._digests:
            levels = quantise(self._images.read(number))
            turned = (orient(levels, k) for k in range(N_ORIENTATIONS))
            self._digests[number] = min(hash((way.shape, checksum(way))) for way in turned)
        return self._digests[number]

    def group(self, original: int) -> list[int]:
        """An image and its copies, a bounded number of them."""
        return [original, *self._copies.get(original, [])[: MOST_COPIES - 1]]

    def copies(self, n_elements: NDArray[np.float64]) -> Iterator[Duplicate]:
        """All pairs of equal images; of large groups, the rest with the first image only."""
        for original, copies in self._copies.items():
            rest = copies[MOST_COPIES - 1 :]
            pairs = [*combinations(self.group(original), 2), *((original, copy) for copy in rest)]
            for first, second in pairs:
                yield Duplicate(first, second, 1.0, float(n_elements[original]), 1.0)


class _KeptContrasts:
    """Local contrasts of the images used last, as many as fit."""

    def __init__(self, images: Images, memory_mb: int) -> None:
        self._images = images
        self._left = memory_mb * 1_000_000
        self._kept: OrderedDict[int, Contrasts] = OrderedDict()

    def keep(self, number: int, contrasts: Contrasts) -> None:
        """Keep those of an image, and forget others if there is no room."""
        self._kept[number] = contrasts
        self._left -= contrasts.nbytes
        while self._left < 0 and len(self._kept) > 1:
            self._left += self._kept.popitem(last=False)[1].nbytes

    def __getitem__(self, number: int) -> Contrasts:
        if number not in self._kept:
            self.keep(number, local_contrasts(self._images.read(number)))
        self._kept.move_to_end(number)
        return self._kept[number]
