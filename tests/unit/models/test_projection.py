"""The projection head against its description, step by step."""

import torch

from stradavit.models.projection import ProjectionHead


def naive(head: ProjectionHead, x: torch.Tensor, with_norm: bool) -> torch.Tensor:
    w = {name: tensor.double() for name, tensor in head.state_dict().items()}
    h = x.double() @ w["fc1.weight"].T + w["fc1.bias"]
    h = (h - h.mean(1, keepdim=True)) / (h.var(1, unbiased=False, keepdim=True) + 1e-6).sqrt()
    h = (h * w["ln1.weight"] + w["ln1.bias"]).clamp_min(0)
    z = h @ w["fc2.weight"].T + w["fc2.bias"]
    if with_norm:
        z = (z - z.mean(0)) / (z.var(0, unbiased=False) + 1e-4).sqrt()
    return z / z.norm(dim=1, keepdim=True)


def test_forward_is_the_description() -> None:
    x = torch.randn(16, 12, generator=torch.Generator().manual_seed(0))
    for with_norm in (True, False):
        head = ProjectionHead(12, 40, 8, with_norm, seed=3)
        torch.testing.assert_close(
            head(x).double(), naive(head, x, with_norm), rtol=1e-4, atol=1e-5
        )


def test_output_is_of_unit_length_in_float32_under_autocast() -> None:
    head = ProjectionHead(12, 40, 8, True, seed=3)
    with torch.autocast("cpu", torch.bfloat16):
        z = head(torch.randn(16, 12))
    assert z.dtype == torch.float32
    torch.testing.assert_close(z.norm(dim=1), torch.ones(16))


def test_names_and_seed() -> None:
    head, again, other = (ProjectionHead(12, 40, 8, True, seed=s) for s in (3, 3, 4))
    assert {name.split(".")[0] for name in head.state_dict()} == {"fc1", "ln1", "fc2", "bn"}
    assert torch.equal(head.fc1.weight, again.fc1.weight)
    assert not torch.equal(head.fc1.weight, other.fc1.weight)
    # The output norm has no parameters of its own.
    assert not list(head.bn.parameters())
    assert head.bn.eps == 1e-4
