"""Duplicates as one would find them with patience: every pair, all eight sides, every shift."""

import math

import numpy as np

SIDES = [(quarters, flip) for flip in (False, True) for quarters in range(4)]


def turned(image, quarters, flip):
    """An image turned anticlockwise by quarters, then mirrored in x."""
    for _ in range(quarters):
        image = image.T[::-1]
    return image[:, ::-1] if flip else image


def contrasts(image, surroundings=15, faint=0.02):
    """Each pixel against mean and spread of the square around it; edges are continued."""
    low, high = image.min(), image.max()
    if low == high:
        return np.zeros(image.shape)
    image = (image.astype(np.float64) - low) / (high - low)
    reach = surroundings // 2
    padded = np.pad(image, reach, mode="edge")
    result = np.empty(image.shape)
    for y in range(image.shape[0]):
        for x in range(image.shape[1]):
            around = padded[y : y + surroundings, x : x + surroundings]
            result[y, x] = (image[y, x] - around.mean()) / (around.std() + faint)
    return result


def elements(a, b, lags=8):
    """Pixels that carry the agreeing power, over pixels that are correlated with each other."""
    power = np.maximum(a * b, 0)
    if power.sum() == 0:
        return 0.0
    amplitude = np.sign(a) * np.sqrt(power)
    ny, nx = amplitude.shape
    correlated = 0.0
    for dy in range(1 - min(lags, ny), min(lags, ny)):
        for dx in range(1 - min(lags, nx), min(lags, nx)):
            one = amplitude[max(0, dy) : min(ny, ny + dy), max(0, dx) : min(nx, nx + dx)]
            other = amplitude[max(0, -dy) : min(ny, ny - dy), max(0, -dx) : min(nx, nx - dx)]
            correlated += ((one * other).sum() / (amplitude**2).sum()) ** 2
    return power.sum() ** 2 / (power**2).sum() / correlated


def best_agreement(a, b, least_overlap):
    """Of two contrasts: evidence in bits and similarity, as they are laid on each other best."""
    best, similarity = None, -1.0
    for side in SIDES:
        other = turned(b, *side)
        (ny, nx), (my, mx) = a.shape, other.shape
        for y in range(1 - my, ny):
            for x in range(1 - mx, nx):
                height, width = min(ny, y + my) - max(0, y), min(nx, x + mx) - max(0, x)
                if height * width < least_overlap * min(a.size, b.size):
                    continue
                part = a[max(0, y) :, max(0, x) :][:height, :width]
                moved = other[max(0, -y) :, max(0, -x) :][:height, :width]
                power = (part**2).sum() * (moved**2).sum()
                if power > 0 and (part * moved).sum() > similarity * math.sqrt(power):
                    best, similarity = (part, moved), (part * moved).sum() / math.sqrt(power)
    if best is None:
        return 0.0, similarity
    return (elements(*best) - 1) * -math.log2(max(1 - similarity, 1e-6)), similarity


def duplicates(images, least_similarity, least_evidence, least_overlap):
    """Pairs of images that agree by that much, with their similarity."""
    every = [contrasts(image) for image in images]
    pairs = {}
    for i, a in enumerate(every):
        for j in range(i + 1, len(every)):
            bits, similarity = best_agreement(a, every[j], least_overlap)
            if similarity >= least_similarity and bits >= least_evidence:
                pairs[i, j] = similarity
    return pairs
