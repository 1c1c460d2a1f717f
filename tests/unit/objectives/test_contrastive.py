"""InfoNCE, HCL and soft-HCL against loops over the paper's equations, closed forms, symmetries."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from stradavit.objectives.contrastive import contrastive_loss, temperature_at
from stradavit.settings.training import ContrastiveSettings
from tests.reference import contrastive as reference

LOSSES = ("info_nce", "hcl", "soft_hcl")
SETTINGS = ContrastiveSettings()
TWO_VIEWS = torch.tensor([0, 1, 2, 3, 0, 1, 2, 3])
# Three views of cutout 0 and two of each other: several positives.
MULTI_POSITIVE = torch.tensor([0, 0, 0, 1, 1, 2, 2, 5, 5])


def unit_vectors(n: int, d: int = 6, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(n, d, generator=generator), dim=-1)


def all_against_all(
    name: str, z: Tensor, ids: Tensor, t: float, settings: ContrastiveSettings = SETTINGS
) -> Tensor:
    return contrastive_loss(name, z, z, ids, ids, torch.arange(len(z)), t, settings)


def naive(name: str, z: Tensor, ids: Tensor, t: float, **options: float) -> Tensor:
    numbers = ids.tolist()
    return reference.loss(name, z, z, numbers, numbers, list(range(len(z))), t, **options)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("ids", [TWO_VIEWS, MULTI_POSITIVE], ids=["two views", "multi-positive"])
@pytest.mark.parametrize("t", [0.05, 0.1, 0.2])
def test_value_and_gradient_are_those_of_the_equations(name: str, ids: Tensor, t: float) -> None:
    z = unit_vectors(len(ids), seed=len(ids)).requires_grad_()
    twin = z.detach().double().requires_grad_()
    ours, theirs = all_against_all(name, z, ids, t), naive(name, twin, ids, t)
    ours.backward()
    theirs.backward()
    # float32 similarities of size 1 are divided by t: about 1e-7 / 0.05 relative in a mass.
    torch.testing.assert_close(ours.double(), theirs, rtol=2e-5, atol=1e-7)
    torch.testing.assert_close(z.grad.double(), twin.grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "ours", "theirs"),
    [
        ("hcl", {"hcl_beta": 0.5}, {"beta": 0.5}),
        ("hcl", {"hcl_beta": 2.0}, {"beta": 2.0}),
        ("soft_hcl", {"soft_hcl_alpha": 1.0}, {"alpha": 1.0}),
        ("soft_hcl", {"soft_hcl_alpha": 0.2, "soft_hcl_temperature": 0.5},
         {"alpha": 0.2, "hardness": 0.5}),
    ],
)  # fmt: skip
def test_options_enter_the_equations(
    name: str, ours: dict[str, float], theirs: dict[str, float]
) -> None:
    z = unit_vectors(8)
    found = all_against_all(name, z, TWO_VIEWS, 0.1, ContrastiveSettings(**ours))
    expected = naive(name, z, TWO_VIEWS, 0.1, **theirs)
    torch.testing.assert_close(found.double(), expected, rtol=2e-5, atol=1e-7)
    assert not torch.isclose(found, all_against_all(name, z, TWO_VIEWS, 0.1), rtol=1e-3)


@pytest.mark.parametrize("name", LOSSES)
def test_queries_may_be_a_part_of_the_keys(name: str) -> None:
    z, own = unit_vectors(8), torch.tensor([2, 3, 6])
    ours = contrastive_loss(name, z[own], z, TWO_VIEWS[own], TWO_VIEWS, own, 0.1, SETTINGS)
    ids = TWO_VIEWS.tolist()
    theirs = reference.loss(name, z[own], z, [ids[i] for i in own], ids, own.tolist(), 0.1)
    torch.testing.assert_close(ours.double(), theirs, rtol=2e-5, atol=1e-7)


@pytest.mark.parametrize("name", LOSSES)
def test_orthogonal_vectors_give_the_closed_form(name: str) -> None:
    # All masses are 1: P = 1 and N = 6, since equal negatives have unit weights in every variant.
    found = all_against_all(name, torch.eye(8), TWO_VIEWS, 0.1)
    assert found.item() == pytest.approx(math.log(7), rel=1e-6)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("t", [0.2, 0.01])
def test_identical_vectors_stay_finite(name: str, t: float) -> None:
    # At t = 0.01 a mass is exp(100), beyond float32; all masses are equal again.
    z = F.normalize(torch.ones(8, 4), dim=-1).requires_grad_()
    loss = all_against_all(name, z, TWO_VIEWS, t)
    loss.backward()
    assert loss.item() == pytest.approx(math.log(7), rel=1e-4)
    assert torch.isfinite(z.grad).all()


@pytest.mark.parametrize("name", LOSSES)
def test_perfect_pairs_opposite_to_the_rest_cost_almost_nothing(name: str) -> None:
    z = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [1.0, 0.0], [-1.0, 0.0]]).requires_grad_()
    ids = torch.tensor([0, 1, 0, 1])
    loss = all_against_all(name, z, ids, 0.1)
    loss.backward()
    # P = exp(10), two negatives of exp(−10).
    assert loss.item() == pytest.approx(math.log1p(2 * math.exp(-20)), rel=1e-4)
    assert torch.isfinite(z.grad).all()


@pytest.mark.parametrize("name", LOSSES)
def test_a_permutation_of_the_batch_changes_nothing(name: str) -> None:
    z, order = unit_vectors(9), torch.randperm(9, generator=torch.Generator().manual_seed(1))
    before = all_against_all(name, z, MULTI_POSITIVE, 0.1)
    after = all_against_all(name, z[order], MULTI_POSITIVE[order], 0.1)
    torch.testing.assert_close(before, after, rtol=1e-6, atol=0)


def test_hard_negatives_cost_more_in_the_order_of_the_paper() -> None:
    z = unit_vectors(8)
    info_nce, soft, hard = (
        all_against_all(name, z, TWO_VIEWS, 0.1).item() for name in ("info_nce", "soft_hcl", "hcl")
    )
    assert info_nce < soft < hard


def test_beta_and_alpha_zero_are_info_nce() -> None:
    z, plain = unit_vectors(8), ContrastiveSettings(hcl_beta=0.0, soft_hcl_alpha=0.0)
    expected = all_against_all("info_nce", z, TWO_VIEWS, 0.1)
    for name in ("hcl", "soft_hcl"):
        found = all_against_all(name, z, TWO_VIEWS, 0.1, plain)
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("name", LOSSES)
def test_without_negatives_only_the_floor_of_hcl_is_left(name: str) -> None:
    z, ids = F.normalize(torch.ones(2, 4), dim=-1).requires_grad_(), torch.tensor([7, 7])
    loss = all_against_all(name, z, ids, 0.5)
    # Raises on a NaN anywhere in the backward pass, also where a mask would hide it.
    with torch.autograd.set_detect_anomaly(True):
        loss.backward()
    # P = exp(2), N = exp(−2).
    expected = math.log1p(math.exp(-4)) if name == "hcl" else 0.0
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    assert torch.isfinite(z.grad).all()


def test_autocast_does_not_lower_the_precision() -> None:
    z = unit_vectors(8)
    expected = all_against_all("hcl", z, TWO_VIEWS, 0.05)
    with torch.autocast("cpu", torch.bfloat16):
        found = all_against_all("hcl", z, TWO_VIEWS, 0.05)
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)


def test_faults_are_named() -> None:
    z, ids = unit_vectors(4), torch.arange(4)
    with pytest.raises(ValueError, match="no positive"):
        all_against_all("info_nce", z, ids, 0.1)
    with pytest.raises(ValueError, match="temperature is 0"):
        all_against_all("info_nce", z, ids, 0.0)
    with pytest.raises(ValueError, match=r"found \(4, 6\), \(3,\)"):
        contrastive_loss("hcl", z, z, ids[:3], ids, ids, 0.1, SETTINGS)


def test_temperature_ramp() -> None:
    # 15 % of 35 epochs are five of warm-up, as for the learning rate.
    linear, cosine = ContrastiveSettings(), ContrastiveSettings(temperature_ramp="cosine")
    for settings in (linear, cosine):
        assert temperature_at(0, settings) == pytest.approx(0.20)
        assert temperature_at(5, settings) == temperature_at(34.9, settings) == 0.10
    assert temperature_at(2.5, linear) == pytest.approx(0.15)
    assert temperature_at(2, cosine) == temperature_at(2.9, cosine)
    assert temperature_at(2, cosine) == pytest.approx(0.1 + 0.05 * (1 + math.cos(0.4 * math.pi)))
    assert temperature_at(0, ContrastiveSettings(warmup_fraction=0.0)) == 0.10
