"""Copies, turned copies and overlapping parts are found; what only looks alike is not."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from stradavit.cutouts import lookalikes
from stradavit.cutouts.agreement import Glance, agree, elements, evidence
from stradavit.cutouts.duplicates import MOST_COPIES, find_duplicates
from stradavit.cutouts.landmarks import (
    CONTRAST_UNITS,
    N_ORIENTATIONS,
    STEPS_PX,
    cut_windows,
    local_contrasts,
    orient,
    standard_landmarks,
)
from stradavit.cutouts.lookalikes import COMPOSED, INVERSE, find_alignments, turned_places
from stradavit.settings.duplicates import DuplicateSettings
from tests.reference import duplicates as reference

USUAL = DuplicateSettings()


class ImageList:
    """Images in memory, which count how often they are read."""

    def __init__(self, images):
        self.images = [np.asarray(image, np.float32) for image in images]
        self.n_read = 0

    def __len__(self):
        return len(self.images)

    def read(self, number):
        self.n_read += 1
        return self.images[number]


def found(images, settings=USUAL):
    return {(d.first, d.second) for d in find_duplicates(ImageList(images), settings).pairs}


def sky(draw, side_px, beam_px=1.4, sources=8):
    """Noise of a beam with point sources of 3 to 50 sigma, `sources` to 150 x 150 px."""
    image = gaussian_filter(draw.standard_normal((side_px, side_px)), beam_px)
    image /= image.std()
    y, x = np.mgrid[:side_px, :side_px]
    for _ in range(draw.poisson(sources * (side_px / 150) ** 2)):
        y0, x0 = draw.uniform(0, side_px, 2)
        distance2 = (y - y0) ** 2 + (x - x0) ** 2
        image += draw.uniform(3, 50) * np.exp(-distance2 / (2 * beam_px**2))
    return image


def stretched(image, low=-2.0, high=8.0):
    """Between two limits in units of the noise, as z-scale does; what is brighter is cut off."""
    return np.clip((image - low) / (high - low), 0, 1)


def lone_sources(draw, n, side_px=100):
    """A point source each, somewhere near the middle, on zeros: what clipping leaves."""
    y, x = np.mgrid[:side_px, :side_px]
    for _ in range(n):
        y0, x0 = side_px / 2 + draw.uniform(-3, 3, 2)
        image = np.exp(-((y - y0) ** 2 + (x - x0) ** 2) / (2 * 1.3**2))
        yield np.where(image > 0.02, image, 0)


def change(draw, how, wide):
    """Another image of the sky in the middle 120 px of `wide`, which has 200."""
    same = wide[40:160, 40:160]
    if how == "turned":
        return orient(stretched(same), int(draw.integers(1, N_ORIENTATIONS)))
    if how == "dimmed":
        return 0.1 + draw.uniform(0.3, 0.8) * stretched(same)
    if how == "eight bit":
        return np.rint(stretched(same) * 255) / 255
    if how == "other limits":
        return stretched(same, *draw.choice([(-3, 6), (-1, 12), (-2, 20)]))
    y, x = 40 + draw.choice([-1, 1], 2) * draw.integers(5, 35, 2)
    other = wide[y : y + 120, x : x + 120]
    if how == "moved":
        return stretched(other)
    assert how == "all of it"
    turned = orient(stretched(other, -2, 12), int(draw.integers(1, N_ORIENTATIONS)))
    return np.rint(0.7 * turned * 255) / 255


CHANGES = ("turned", "dimmed", "eight bit", "other limits", "moved", "all of it")


def test_planted_duplicates_are_found_and_nothing_else():
    draw = np.random.default_rng(20)
    images, planted = [], set()
    for how in CHANGES * 4:
        wide = sky(draw, 200)
        planted.add((len(images), len(images) + 1))
        images += [stretched(wide[40:160, 40:160]), change(draw, how, wide)]
    images += [stretched(sky(draw, 120)) for _ in range(60)]
    images += list(lone_sources(draw, 60))
    order = draw.permutation(len(images))
    place = np.argsort(order)
    pairs = found([images[k] for k in order])
    assert pairs == {tuple(sorted((int(place[a]), int(place[b])))) for a, b in planted}


@pytest.mark.parametrize("seed", range(2))
def test_the_slow_search_finds_the_same(seed):
    draw = np.random.default_rng(seed)
    first, second = (sky(draw, 70, beam_px=1.0) for _ in range(2))
    images = [
        stretched(first[10:50, 10:50]),
        orient(stretched(first[14:54, 3:43]), int(draw.integers(8))),
        stretched(second[10:50, 10:50]),
        0.5 * stretched(second[10:50, 10:46]),  # of another shape
        *lone_sources(draw, 2, side_px=40),
    ]
    slow = reference.duplicates(images, USUAL.least_similarity, USUAL.least_evidence, 0.4)
    settings = DuplicateSettings(least_overlap=0.4)
    quick = {(d.first, d.second): d for d in find_duplicates(ImageList(images), settings).pairs}
    assert set(slow) == set(quick) == {(0, 1), (2, 3)}
    for pair, similarity in slow.items():
        # Contrasts are rounded to 1/1024, 8e-4 of what noise has.
        assert quick[pair].similarity == pytest.approx(similarity, abs=1e-4)


def test_contrasts_and_elements_are_those_of_the_definition():
    draw = np.random.default_rng(4)
    a, b = (sky(draw, 31)[:, :27] for _ in range(2))
    quick = [local_contrasts(image) / CONTRAST_UNITS for image in (a, b)]
    slow = [reference.contrasts(image) for image in (a, b)]
    np.testing.assert_allclose(quick, slow, atol=1 / CONTRAST_UNITS)
    assert not local_contrasts(np.full((20, 20), 0.3)).any()
    for pair in ((0, 0), (0, 1)):
        parts = [slow[k].astype(np.float32) for k in pair]
        assert elements(*parts) == pytest.approx(reference.elements(*parts), rel=1e-4)


def test_elements_count_sources():
    y, x = np.mgrid[:80, :80]

    def sources(*places):
        parts = [np.exp(-((y - y0) ** 2 + (x - x0) ** 2) / (2 * 1.5**2)) for y0, x0 in places]
        return np.sum(parts, axis=0).astype(np.float32)

    places = [(20, 20), (20, 60), (60, 40), (60, 65), (40, 40)]
    for n in range(1, 6):
        image = sources(*places[:n])
        assert elements(image, image) == pytest.approx(n, rel=1e-3)
    # Of which only those count that both have.
    both = elements(sources(*places[:3]), sources(*places[2:]))
    assert both == pytest.approx(1, rel=1e-3)
    assert elements(sources(places[0]), sources(places[1])) < 1.5
    assert evidence(0.99, 1) == 0 and evidence(1, 3) == pytest.approx(2 * 20, rel=0.01)


def test_lone_sources_look_alike_and_prove_nothing():
    draw = np.random.default_rng(1)
    images = list(lone_sources(draw, 40))
    contrasts = [local_contrasts(image) for image in images]
    # They do agree, many of them better than the threshold, once laid on each other.
    middles = [np.unravel_index(image.argmax(), image.shape) for image in images]
    y0, x0 = middles[0]
    glance = Glance.at(contrasts[0])
    alike = [
        agree(contrasts[0], other, glance, 0, (int(y0 - y), int(x0 - x)), 0.8, 0.2)
        for other, (y, x) in zip(contrasts[1:], middles[1:], strict=True)
    ]
    assert sum(one is not None and one.similarity > 0.95 for one in alike) > 10
    assert max(one.evidence for one in alike if one is not None) < USUAL.least_evidence / 4
    result = find_duplicates(ImageList(images), USUAL)
    assert result.pairs == [] and (result.elements < 1.3).all()
    # An exact copy is one all the same, upside down or not.
    assert found([*images, orient(images[7], 6)]) == {(7, 40)}


def test_blank_edges_do_not_make_images_alike():
    draw = np.random.default_rng(2)
    images = []
    for peak in (3.0, 8.0, 60.0, 400.0):
        for _ in range(12):
            image = stretched(sky(draw, 100), -2, peak)
            image[:, : draw.integers(20, 70)] = 0
            if draw.random() < 0.5:
                image[: draw.integers(20, 70)] = 0
            images.append(orient(image, int(draw.integers(N_ORIENTATIONS))))
    assert found(images) == set()


def test_copies_are_pairs_and_share_their_duplicates():
    draw = np.random.default_rng(3)
    wide = sky(draw, 150)
    image, beside = stretched(wide[:100, :100]), stretched(wide[30:130, 20:120])
    other = stretched(sky(draw, 100))
    pairs = found([image, other, orient(image, 3), beside, image])
    assert pairs == {(0, 2), (0, 4), (2, 4), (0, 3), (2, 3), (3, 4)}
    # Equal sums are not enough.
    swapped = image.copy()
    swapped[50, 50], swapped[20, 80] = image[20, 80], image[50, 50]
    exact = find_duplicates(ImageList([image, swapped]), USUAL).pairs
    assert exact and exact[0].similarity < 1


def test_many_copies_are_counted_without_all_their_pairs():
    blank = np.zeros((30, 30))
    n = MOST_COPIES + 20
    pairs = found([blank] * n)
    assert len(pairs) == MOST_COPIES * (MOST_COPIES - 1) // 2 + 20
    assert {(0, k) for k in range(1, n)} <= pairs


@pytest.mark.parametrize("images", [[], [np.zeros((40, 40))], [np.zeros((1, 1)), np.ones((3, 2))]])
def test_nothing_to_find(images):
    assert found(images) == set()


def test_little_memory_costs_reads_but_no_pairs():
    draw = np.random.default_rng(5)
    images = []
    for _ in range(40):
        wide = sky(draw, 160)
        images += [stretched(wide[:130, :130]), stretched(wide[25:155, 20:150])]
    # 34 kB an image; a tenth of an image stands for "hardly any".
    roomy, tight = ImageList(images), ImageList(images)
    expected = find_duplicates(roomy, USUAL)
    result = find_duplicates(tight, DuplicateSettings(memory_mb=1))
    assert result.pairs == expected.pairs and len(result.pairs) == 40
    assert roomy.n_read == len(images) < tight.n_read


def test_crowds_of_windows_are_compared_piecewise(monkeypatch):
    draw = np.random.default_rng(6)
    wide = sky(draw, 150)
    images = [stretched(wide[:120, :120]), stretched(wide[20:140, 25:145])]
    images += [stretched(sky(draw, 120)) for _ in range(20)]
    sizes = []
    compare = lookalikes._compare

    def watched(landmarks, some):
        sizes.append(len(some))
        return compare(landmarks, some)

    monkeypatch.setattr(lookalikes, "_compare", watched)
    monkeypatch.setattr(lookalikes, "LARGEST_BUCKET", 50)
    assert found(images) == {(0, 1)}
    assert max(sizes) == 50


def test_orientations_are_a_group_and_move_pixels():
    draw = np.random.default_rng(0)
    image = draw.random((5, 7))
    for a in range(N_ORIENTATIONS):
        turned = orient(image, a)
        assert np.array_equal(orient(turned, int(INVERSE[a])), image)
        y, x = np.indices(image.shape).reshape(2, -1)
        n = np.full(len(y), 1)
        where = turned_places(np.stack([y, x], 1), np.stack([5 * n, 7 * n], 1), a * n)
        assert np.array_equal(turned[where[:, 0], where[:, 1]], image[y, x])
        for b in range(N_ORIENTATIONS):
            assert np.array_equal(orient(turned, b), orient(image, int(COMPOSED[b, a])))


def test_orientations_are_those_of_the_probe():
    torch = pytest.importorskip("torch")
    from stradavit.evaluation.dihedral import orient as orient_tensor

    image = np.random.default_rng(0).random((6, 6))
    for k in range(N_ORIENTATIONS):
        assert np.array_equal(orient(image, k), orient_tensor(torch.from_numpy(image), k).numpy())


def test_standard_windows_of_a_turned_image_are_the_same():
    draw = np.random.default_rng(8)
    image = stretched(sky(draw, 120))
    windows = {}
    for k in (0, 5):
        contrasts = local_contrasts(orient(image, k))
        places, cut = cut_windows(contrasts)
        owners = np.zeros(len(places), np.int32)
        windows[k] = [standard_landmarks(owners, places, some) for some in cut]
    for first, second in zip(windows[0], windows[5], strict=True):
        assert len(first) > 5
        # But for rounding: sums over a square run along its rows first.
        difference = first.window[:, None].astype(int) - second.window
        nearest = np.abs(difference).max(axis=2).min(axis=1)
        assert len(first) == len(second) and nearest.max() <= 1


def test_alignments_lay_a_turned_part_where_it_belongs():
    draw = np.random.default_rng(9)
    wide = sky(draw, 160)
    images = [stretched(wide[:120, :100]), orient(stretched(wide[20:140, 15:115]), 7)]
    landmarks = [[] for _ in STEPS_PX]
    for number, image in enumerate(images):
        places, cut = cut_windows(local_contrasts(image))
        for size, windows in enumerate(cut):
            owners = np.full(len(places), number, np.int32)
            landmarks[size].append(standard_landmarks(owners, places, windows))
    shapes = np.array([image.shape for image in images])
    found_at = find_alignments([type(p[0]).joined(p) for p in landmarks], shapes)
    assert found_at[0] == (0, 1, int(INVERSE[7]), (20, 15))
