"""Folds: the paper's where sources are single, grouped where not, and refused where impossible."""

from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from stradavit.errors import LabelError
from stradavit.evaluation.folds import make_folds, repeated_folds
from stradavit.settings.evaluation import FoldSettings


@dataclass
class Answers:
    labels: np.ndarray
    sources: list[str] = field(default_factory=list)
    classes: list[str] = field(default_factory=list)
    images: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        n = len(self.labels)
        self.sources = self.sources or [f"source {i}" for i in range(n)]
        self.classes = self.classes or [f"class {c}" for c in range(max(self.labels) + 1)]
        self.images = [f"image {i}" for i in range(n)]


@st.composite
def labels_and_folds(draw):
    count = draw(st.integers(2, 5))
    sizes = draw(st.lists(st.integers(count, 30), min_size=1, max_size=5))
    labels = draw(st.permutations([c for c, size in enumerate(sizes) for _ in range(size)]))
    return np.array(labels), FoldSettings(count=count, seed=draw(st.integers(0, 1000)))


@settings(deadline=None)
@given(labels_and_folds())
def test_single_sources_give_the_folds_of_scikit_learn(case) -> None:
    labels, wanted = case
    folds = make_folds(Answers(labels), wanted)
    splitter = StratifiedKFold(wanted.count, shuffle=True, random_state=wanted.seed)
    for fold, (train, test) in enumerate(splitter.split(labels, labels)):
        np.testing.assert_array_equal(np.flatnonzero(folds == fold), test)
        np.testing.assert_array_equal(np.flatnonzero(folds != fold), train)


@settings(deadline=None)
@given(labels_and_folds())
def test_classes_are_spread_evenly(case) -> None:
    labels, wanted = case
    folds = make_folds(Answers(labels), wanted)
    for label in np.unique(labels):
        per_fold = np.bincount(folds[labels == label], minlength=wanted.count)
        assert per_fold.max() - per_fold.min() <= 1


# Scikit-learn's grouped splitter is slow.
@settings(max_examples=25, deadline=None)
@given(labels_and_folds(), st.integers(2, 4), st.randoms(use_true_random=False))
def test_images_of_one_source_share_a_fold(case, images_per_source, random) -> None:
    source_labels, wanted = case
    of_image = np.repeat(np.arange(len(source_labels)), images_per_source)
    of_image = np.array(random.sample(list(of_image), len(of_image)))
    labels = source_labels[of_image]
    folds = make_folds(Answers(labels, [f"s{i}" for i in of_image]), wanted)
    for source in np.unique(of_image):
        assert len(np.unique(folds[of_image == source])) == 1
    for label in np.unique(labels):
        assert len(np.unique(folds[labels == label])) > 1
    # Same partition as scikit-learn's grouped splitter.
    splitter = StratifiedGroupKFold(wanted.count, shuffle=True, random_state=wanted.seed)
    # Group numbers are those of the sorted names.
    _, groups = np.unique([f"s{i}" for i in of_image], return_inverse=True)
    for fold, (_, test) in enumerate(splitter.split(labels, labels, groups)):
        np.testing.assert_array_equal(np.flatnonzero(folds == fold), test)


def test_another_seed_gives_other_folds() -> None:
    labels = np.repeat([0, 1], 30)
    first, second = (make_folds(Answers(labels), FoldSettings(seed=seed)) for seed in (0, 1))
    assert (first != second).any()


@settings(max_examples=25, deadline=None)
@given(labels_and_folds(), st.integers(1, 4))
def test_repeats_are_folds_of_derived_seeds(case, repeats) -> None:
    labels, wanted = case
    answers = Answers(labels)
    found = list(repeated_folds(answers, wanted, repeats))
    assert [split.draw for split in found] == list(range(repeats * wanted.count))
    for split in found:
        assert split.draw == split.repeat * wanted.count + split.fold
        seed = wanted.seed
        if split.repeat > 0:
            seed = int(np.random.SeedSequence((wanted.seed, split.repeat)).generate_state(1)[0])
        splitter = StratifiedKFold(wanted.count, shuffle=True, random_state=seed)
        train, test = list(splitter.split(labels, labels))[split.fold]
        np.testing.assert_array_equal(split.train, train)
        np.testing.assert_array_equal(split.test, test)


def test_repeats_differ_from_each_other_and_from_the_next_seed() -> None:
    answers = Answers(np.repeat([0, 1], 30))
    drawn = [
        make_folds(answers, FoldSettings(seed=seed), repeat).tolist()
        for seed in (0, 1)
        for repeat in range(4)
    ]
    assert len({tuple(folds) for folds in drawn}) == 8


def test_a_class_with_too_few_sources_is_named() -> None:
    # Six images of class FR II, but of two sources only.
    answers = Answers(
        np.repeat([0, 1], [9, 6]),
        [f"a{i}" for i in range(9)] + ["b0", "b1"] * 3,
        ["FR I", "FR II"],
    )
    with pytest.raises(LabelError, match=r"class 'FR II' has 2 sources, fewer than the 3 folds"):
        make_folds(answers, FoldSettings(count=3))


def test_a_class_without_images_is_named() -> None:
    answers = Answers(np.repeat([0, 2], 9), classes=["FR I", "Hybrid", "FR II"])
    with pytest.raises(LabelError, match=r"class 'Hybrid' has 0 sources"):
        make_folds(answers, FoldSettings(count=3))
