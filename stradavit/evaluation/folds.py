"""Stratified folds in which the images of one source stay together (paper, section 9.1)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from stradavit.errors import LabelError
from stradavit.settings.evaluation import FoldSettings


class Labelled(Protocol):
    """What folds and metrics need to know of a benchmark, one entry per image."""

    @property
    def classes(self) -> list[str]:
        """Class names in table order."""

    @property
    def labels(self) -> NDArray[np.int64]:
        """(n,) numbers into `classes`."""

    @property
    def sources(self) -> list[str]:
        """Source of each image; images of one source share a fold."""

    @property
    def images(self) -> list[str]:
        """Unique id of each image."""


@dataclass(frozen=True)
class Split:
    """One division of a benchmark into training and test images.

    Parameters
    ----------
    repeat : how often all folds had been drawn before
    fold : number of the fold that is held out
    draw : number of the split among all of a protocol's; seeds what its training draws
    train, test : numbers of the images, ascending
    """

    repeat: int
    fold: int
    draw: int
    train: NDArray[np.int64]
    test: NDArray[np.int64]


def repeated_folds(
    benchmark: Labelled, settings: FoldSettings, repeats: int = 1
) -> Iterator[Split]:
    """Every fold of every repeat, in that order.

    Raises
    ------
    LabelError
        As `make_folds` does.
    """
    for repeat in range(repeats):
        fold_of = make_folds(benchmark, settings, repeat)
        for fold in range(settings.count):
            train, test = np.flatnonzero(fold_of != fold), np.flatnonzero(fold_of == fold)
            yield Split(repeat, fold, repeat * settings.count + fold, train, test)


def make_folds(benchmark: Labelled, settings: FoldSettings, repeat: int = 0) -> NDArray[np.int64]:
    """The fold each image is held out in.

    Where every source has one image these are the folds of scikit-learn's ``StratifiedKFold(count,
    shuffle=True, random_state=seed)``, the paper's; where one has several, those of
    ``StratifiedGroupKFold``, so that no source is both trained on and tested on (the published
    setup mixed FIRST and NVSS images of the same MiraBest sources).

    Parameters
    ----------
    repeat : 0 takes the seed as it is, the paper's folds; a further repeat takes a seed derived
        from both numbers, hence other folds than any small seed of another run

    Returns
    -------
    (n,) int64 in [0, count)

    Raises
    ------
    LabelError
        If a class has fewer sources than folds, or cannot be spread over two folds.
    """
    if repeat > 0:
        derived = np.random.SeedSequence((settings.seed, repeat)).generate_state(1)[0]
        settings = settings.model_copy(update={"seed": int(derived)})
    labels = np.asarray(benchmark.labels, dtype=np.int64)
    _, groups = np.unique(np.asarray(benchmark.sources, dtype=np.str_), return_inverse=True)
    _check_sources_per_class(benchmark.classes, labels, groups, settings.count)
    if groups.max() + 1 == len(groups):
        folds = _stratified(labels, settings)
    else:
        folds = _stratified_by_group(labels, groups, settings)
        _check_classes_are_spread(benchmark.classes, labels, folds)
    first_fold = np.empty(groups.max() + 1, dtype=np.int64)
    first_fold[groups] = folds
    assert np.array_equal(first_fold[groups], folds), "a source lies in two folds"
    return folds


def _stratified(labels: NDArray[np.int64], settings: FoldSettings) -> NDArray[np.int64]:
    """`StratifiedKFold`, written out: the import of scikit-learn would double a probe's time.

    Image i of the sorted labels goes to fold i mod count, which fixes how many images of a class
    each fold gets; which of them is drawn class by class, in order of first appearance.
    """
    count = settings.count
    # The legacy generator, since its stream is the one the paper drew from.
    draw = np.random.RandomState(settings.seed)
    _, first_seen, codes = np.unique(labels, return_index=True, return_inverse=True)
    codes = np.argsort(np.argsort(first_seen))[codes]
    ranked = np.sort(codes)
    n_classes = len(first_seen)
    per_fold = np.stack([np.bincount(ranked[k::count], minlength=n_classes) for k in range(count)])
    folds = np.empty(len(labels), dtype=np.int64)
    for code in range(n_classes):
        of_class = np.arange(count).repeat(per_fold[:, code])
        draw.shuffle(of_class)
        folds[codes == code] = of_class
    return folds


def _stratified_by_group(
    labels: NDArray[np.int64], groups: NDArray[np.int64], settings: FoldSettings
) -> NDArray[np.int64]:
    """`StratifiedGroupKFold`, written out too: its import takes a second, and its folds have
    changed between versions of scikit-learn.

    Sources are drawn in random order, those with most images of one class first; each goes to the
    fold that leaves the classes most evenly spread, and of equals to the smallest.
    """
    n_groups, n_classes = groups.max() + 1, labels.max() + 1
    images = np.zeros((n_groups, n_classes))
    np.add.at(images, (groups, labels), 1)
    order = np.arange(n_groups)
    np.random.RandomState(settings.seed).shuffle(order)
    order = order[np.argsort(-images[order].std(axis=1), kind="stable")]
    class_sizes = images.sum(axis=0)
    held_out = np.zeros((settings.count, n_classes))
    fold_of_group = np.empty(n_groups, dtype=np.int64)
    for group in order:
        best, smallest_spread, smallest_size = 0, np.inf, np.inf
        for fold in range(settings.count):
            size = held_out[fold].sum()
            held_out[fold] += images[group]
            spread = (held_out / class_sizes).std(axis=0).mean()
            held_out[fold] -= images[group]
            is_equal = np.isclose(spread, smallest_spread)
            if spread < smallest_spread or (is_equal and size < smallest_size):
                best, smallest_spread, smallest_size = fold, spread, size
        held_out[best] += images[group]
        fold_of_group[group] = best
    folds: NDArray[np.int64] = fold_of_group[groups]
    return folds


def _check_sources_per_class(
    classes: Sequence[str], labels: NDArray[np.int64], groups: NDArray[np.int64], count: int
) -> None:
    for number, name in enumerate(classes):
        n_sources = len(np.unique(groups[labels == number]))
        if n_sources < count:
            raise LabelError(
                f"class {name!r} has {n_sources} source{'' if n_sources == 1 else 's'}, fewer than "
                f"the {count} folds, so it cannot be in each test split. Leave it out of the "
                "benchmark's `classes`, add sources, or lower evaluation.folds.count."
            )


def _check_classes_are_spread(
    classes: Sequence[str], labels: NDArray[np.int64], folds: NDArray[np.int64]
) -> None:
    for number, name in enumerate(classes):
        used = np.unique(folds[labels == number])
        if len(used) < 2:
            raise LabelError(
                f"all images of class {name!r} fell into fold {used[0]}, so no training split "
                "would contain it for that fold: a few sources hold most of its images. Choose "
                "another evaluation.folds.seed or lower evaluation.folds.count."
            )
