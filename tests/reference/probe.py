"""The strict linear probe as section 9.2 tells it: float64, one image at a time, AdamW by hand."""

import math

import numpy as np

BETA_1, BETA_2, EPS = 0.9, 0.999, 1e-8


def train(
    features,
    labels,
    weight,
    bias,
    class_weights,
    orders,
    orientations,
    *,
    batch_size,
    learning_rate,
    weight_decay,
    warmup_fraction,
    clip_norm,
):
    """Final weight (C, d) and bias (C,), from their initial values.

    `features` (n, 8, d); `orders` the training images, epoch by epoch; `orientations` (epochs, n).
    """
    n_classes, dim = weight.shape
    weight, bias = weight.copy(), bias.copy()
    m_w, v_w = np.zeros_like(weight), np.zeros_like(weight)
    m_b, v_b = np.zeros_like(bias), np.zeros_like(bias)
    n_steps = sum(math.ceil(len(order) / batch_size) for order in orders)
    n_warmup = math.ceil(n_steps * warmup_fraction)
    step = 0
    for order, turned in zip(orders, orientations, strict=True):
        for start in range(0, len(order), batch_size):
            batch = order[start : start + batch_size]
            grad_w, grad_b = np.zeros_like(weight), np.zeros_like(bias)
            total_weight = sum(class_weights[labels[i]] for i in batch)
            for i in batch:
                h = features[i, turned[i]]
                logits = [weight[c] @ h + bias[c] for c in range(n_classes)]
                normaliser = sum(math.exp(z) for z in logits)
                for c in range(n_classes):
                    p = math.exp(logits[c]) / normaliser
                    error = class_weights[labels[i]] * (p - (c == labels[i])) / total_weight
                    grad_b[c] += error
                    for j in range(dim):
                        grad_w[c, j] += error * h[j]

            norm = math.sqrt((grad_w**2).sum() + (grad_b**2).sum())
            if norm > clip_norm:
                # The 1e-6 is torch's guard against a zero norm.
                grad_w *= clip_norm / (norm + 1e-6)
                grad_b *= clip_norm / (norm + 1e-6)

            if step < n_warmup:
                rate = learning_rate * step / n_warmup
            else:
                done = (step - n_warmup) / (n_steps - n_warmup)
                rate = learning_rate * (1 + math.cos(math.pi * done)) / 2
            step += 1

            weight *= 1 - rate * weight_decay  # decoupled, and not on the bias
            for value, grad, m, v in ((weight, grad_w, m_w, v_w), (bias, grad_b, m_b, v_b)):
                m[...] = BETA_1 * m + (1 - BETA_1) * grad
                v[...] = BETA_2 * v + (1 - BETA_2) * grad**2
                m_hat = m / (1 - BETA_1**step)
                v_hat = v / (1 - BETA_2**step)
                value -= rate * m_hat / (np.sqrt(v_hat) + EPS)
    return weight, bias
