"""Features of an encoder that does not exist: a cluster for each class."""

import numpy as np

from stradavit.evaluation.feature_file import Features


def clusters(labels: np.ndarray, separation: float, seed: int = 0, dim: int = 10) -> np.ndarray:
    """(n, 8, dim): a centre per class, noise per image and orientation."""
    draw = np.random.default_rng(seed)
    centres = separation * draw.standard_normal((labels.max() + 1, 1, dim))
    return centres[labels] + draw.standard_normal((len(labels), 8, dim))


def fake_features(
    labels: np.ndarray,
    values: np.ndarray,
    sources: list[str] | None = None,
    splits: list[str] | None = None,
) -> Features:
    """What the stage `features` would write; every image its own source unless told."""
    n = len(labels)
    return Features(
        values=values.astype(np.float32),
        labels=labels.astype(np.int64),
        classes=[f"class {c}" for c in range(labels.max() + 1)],
        sources=sources or [f"source {i}" for i in range(n)],
        images=[f"image {i}" for i in range(n)],
        splits=splits or [""] * n,
        provenance={"encoder_sha256": "e", "benchmark_sha256": "b"},
    )
