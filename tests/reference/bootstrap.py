"""The bootstrap over test sources, told image by image."""

import numpy as np


def f1(labels, predicted, n_classes, average):
    """Macro or weighted F1; 0 for a class neither present nor predicted."""
    scores, weights = [], []
    for c in range(n_classes):
        right = sum(t == p == c for t, p in zip(labels, predicted, strict=True))
        wrong = sum((t == c) != (p == c) for t, p in zip(labels, predicted, strict=True))
        scores.append(2 * right / (2 * right + wrong) if right + wrong else 0.0)
        weights.append(sum(t == c for t in labels) if average == "weighted" else 1)
    return sum(s * w for s, w in zip(scores, weights, strict=True)) / sum(weights)


def interval(sources, labels, predicted, n_classes, drawn, average):
    """(low, high) of the mean over trainings.

    `sources`, `labels` one entry per test image; `predicted` (trainings, images); `drawn` (R, S)
    numbers of sources, in the order of their names, that each resample holds.
    """
    names = sorted(set(sources))
    means = []
    for resample in drawn:
        images = [i for s in resample for i, source in enumerate(sources) if source == names[s]]
        truth = [labels[i] for i in images]
        scores = [f1(truth, [said[i] for i in images], n_classes, average) for said in predicted]
        means.append(sum(scores) / len(scores))
    return tuple(np.quantile(means, [0.025, 0.975]))
