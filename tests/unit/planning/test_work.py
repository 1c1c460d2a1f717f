"""The work of scoring, against a count of what its loops would do."""

import math

import pytest

from stradavit.models.config import EncoderConfig
from stradavit.models.cost import encoder_flops
from stradavit.planning.networks import Network
from stradavit.planning.work import NUMBER_S, UPDATE_S, Sample, cutting_s, scoring_work
from stradavit.settings.evaluation import EvaluationSettings

NETWORK = Network(EncoderConfig(width=48, layers=2, heads=2, mlp_width=96), False, "counted", "")
SAMPLE = Sample(300, 5)


def evaluation(**blocks: object) -> EvaluationSettings:
    return EvaluationSettings.parse({"folds": {"count": 4}, **blocks})


def test_features_pass_each_image_in_eight_orientations() -> None:
    forward = encoder_flops(NETWORK.shape)
    assert scoring_work("features", evaluation(), SAMPLE, NETWORK) == 300 * 8 * forward


def test_finetuning_trains_on_all_folds_but_one() -> None:
    settings = evaluation(finetune={"epochs": 3, "repeats": 2})
    passes = 0
    for _repeat in range(2):
        for _fold in range(4):
            for _epoch in range(3):
                passes += 3 * 225
            passes += 75
    found = scoring_work("finetune", settings, SAMPLE, NETWORK)
    assert found == passes * encoder_flops(NETWORK.shape)


def test_probes_make_as_many_updates_as_their_loops() -> None:
    settings = evaluation(
        probe={"epochs": 2, "batch_size": 100, "repeats": 3},
        label_budget={"per_class": [4, 50], "draws": 2},
        published_split={"trainings": 7},
    )

    def seconds(trainings: int, n_train: int, batch: int | None = None) -> float:
        total = 0.0
        for _ in range(trainings):
            for _epoch in range(2):
                for first in range(0, n_train, 100):
                    n = min(100, n_train - first) if batch is None else batch
                    total += UPDATE_S + n * 48 * NUMBER_S
        return total

    def found(stage: str) -> float:
        return scoring_work(stage, settings, SAMPLE, NETWORK)

    assert found("linear_probe") == pytest.approx(seconds(3 * 4, 225))
    assert found("published_split") == pytest.approx(seconds(7, 300))
    # Budgets of 4 and 50 images of each of 5 classes; as many updates as the whole probe.
    budgets = seconds(2 * 4, 225, batch=20) + seconds(2 * 4, 225, batch=100)
    assert found("label_budget") == pytest.approx(budgets)


def test_neighbours_cost_all_pairs() -> None:
    once = scoring_work("knn", evaluation(), SAMPLE, NETWORK)
    repeated = scoring_work("knn", evaluation(knn={"repeats": 5}), SAMPLE, NETWORK)
    assert math.isclose(repeated, 5 * once)
    twice = scoring_work("knn", evaluation(), Sample(600, 5), NETWORK)
    assert math.isclose(twice, 4 * once)


def test_cutting_agrees_with_what_was_measured() -> None:
    # docs/performance.md: 4,573 and 823 cutouts a second.
    assert 1 / cutting_s(1, 128) == pytest.approx(4573, rel=0.1)
    assert 1 / cutting_s(1, 512) == pytest.approx(823, rel=0.1)
