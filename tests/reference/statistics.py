"""The corrected tests in loops, with the distributions of scipy.stats."""

import math

from scipy import stats


def sample_variance(values):
    mean = sum(values) / len(values)
    return sum((value - mean) ** 2 for value in values) / (len(values) - 1)


def corrected_test(values, n_train, n_test, n_images=None):
    """Mean, low, high, p and degrees of freedom of `values[seed][fold]`."""
    n_seeds, n_folds = len(values), len(values[0])
    mean = sum(sum(row) for row in values) / (n_seeds * n_folds)

    # Nadeau & Bengio 2003, section 3: 1/J becomes 1/J + n_test / n_train.
    of_folds = [sum(row[fold] for row in values) / n_seeds for fold in range(n_folds)]
    fold_part = (1 / n_folds + n_test / n_train) * sample_variance(of_folds)
    variance, dof = fold_part, n_folds - 1

    if n_seeds > 1:
        of_seeds = [sum(row) / n_folds for row in values]
        seed_part = sample_variance(of_seeds) / n_seeds
        variance = fold_part + seed_part
        # Satterthwaite 1946, eq. 17.
        dof = variance**2 / (fold_part**2 / (n_folds - 1) + seed_part**2 / (n_seeds - 1))
        # Mickey & Brown 1966: the smaller is safe. Twice that is, for the variances met here.
        dof = min(dof, 2 * (n_folds - 1), 2 * (n_seeds - 1))

    if n_images is not None:
        # Of n draws, each of them 1 with probability |mean|.
        variance = max(variance, abs(mean) * (1 - abs(mean)) / n_images)

    t = mean / math.sqrt(variance)
    p = 2 * (1 - stats.t.cdf(abs(t), dof))
    reach = stats.t.ppf(0.975, dof) * math.sqrt(variance)
    return mean, mean - reach, mean + reach, p, dof


def holm_rejects(p_values, level):
    """Which hypotheses fall, step by step (Holm 1979, section 3)."""
    rejected = [False] * len(p_values)
    for step, number in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        if p_values[number] > level / (len(p_values) - step):
            break
        rejected[number] = True
    return rejected
