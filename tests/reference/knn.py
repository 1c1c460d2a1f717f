"""Weighted nearest neighbours as Wu et al. 2018, section 3.4, tell it: one pair at a time."""

import math


def vote(known, labels, asked, n_classes, neighbours, temperature):
    """Shares (m, C) of the votes, as lists; `known` (n, d) and `asked` (m, d) of any length."""
    shares = []
    for test in asked:
        similar = []
        for train, label in zip(known, labels, strict=True):
            dot = sum(a * b for a, b in zip(test, train, strict=True))
            length = math.sqrt(sum(a * a for a in test)) * math.sqrt(sum(b * b for b in train))
            similar.append((dot / length, label))
        nearest = sorted(similar, key=lambda pair: -pair[0])[:neighbours]
        votes = [0.0] * n_classes
        for similarity, label in nearest:
            votes[label] += math.exp(similarity / temperature)
        shares.append([vote / sum(votes) for vote in votes])
    return shares
