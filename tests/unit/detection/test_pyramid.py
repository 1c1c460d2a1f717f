"""Levels of the simple feature pyramid."""

import pytest
import torch
import torch.nn.functional as F

from stradavit.detection.pyramid import ChannelNorm, Pyramid


@pytest.mark.parametrize(
    ("grid", "expected"),
    [
        ((50, 50), [(200, 200), (100, 100), (50, 50), (25, 25), (13, 13)]),
        ((5, 8), [(20, 32), (10, 16), (5, 8), (3, 4), (2, 2)]),
        ((1, 1), [(4, 4), (2, 2), (1, 1), (1, 1), (1, 1)]),
    ],
)
def test_levels_have_their_strides(grid: tuple[int, int], expected: list[tuple[int, int]]) -> None:
    levels = Pyramid(8, 6)(torch.randn(2, 8, *grid))
    assert list(levels) == ["0", "1", "2", "3", "pool"]
    assert [tuple(level.shape) for level in levels.values()] == [(2, 6, *s) for s in expected]


def test_widths_are_those_of_the_paper() -> None:
    with torch.device("meta"):
        pyramid = Pyramid(768, 256)
    assert [m[0].in_channels for m in pyramid.finish.values()] == [192, 384, 768, 768]
    assert {tuple(m[2].weight.shape) for m in pyramid.finish.values()} == {(256, 256, 3, 3)}


def test_each_level_is_made_from_the_map_by_its_own_steps() -> None:
    torch.manual_seed(0)
    pyramid, maps = Pyramid(8, 6), torch.randn(1, 8, 5, 4)
    with torch.no_grad():
        levels = pyramid(maps)
        enlarge = pyramid.resize["0"]
        enlarged = enlarge[3](F.gelu(enlarge[1](enlarge[0](maps))))
        shrunk = torch.full((1, 8, 3, 2), float("-inf"))
        for row in range(5):
            for column in range(4):
                place = shrunk[:, :, row // 2, column // 2]
                place.copy_(torch.maximum(place, maps[:, :, row, column]))
        for name, resized in {"0": enlarged, "2": maps, "3": shrunk}.items():
            torch.testing.assert_close(levels[name], pyramid.finish[name](resized))
        # A deconvolution of kernel and stride 2 spreads each place over 2 x 2 places.
        weight, bias = pyramid.resize["1"].weight, pyramid.resize["1"].bias
        doubled = torch.einsum("bcyx,cdij->bdyixj", maps, weight).reshape(1, 4, 10, 8)
        expected = pyramid.finish["1"](doubled + bias.view(1, 4, 1, 1))
    torch.testing.assert_close(levels["1"], expected, rtol=1e-4, atol=1e-5)
    assert torch.equal(levels["pool"], levels["3"][:, :, ::2, ::2])


def test_norm_is_over_the_channels_of_a_place_in_float32() -> None:
    norm, maps = ChannelNorm(6), torch.randn(2, 6, 3, 4)
    torch.nn.init.normal_(norm.weight)
    found = norm(maps.bfloat16())
    assert found.dtype == torch.float32
    place = maps.bfloat16()[1, :, 2, 3].float()
    expected = (place - place.mean()) / (place.var(correction=0) + 1e-6).sqrt() * norm.weight
    torch.testing.assert_close(found[1, :, 2, 3], expected + norm.bias)


def test_levels_are_float32_under_autocast() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        levels = Pyramid(8, 6)(torch.randn(1, 8, 4, 4))
    assert {level.dtype for level in levels.values()} == {torch.float32}
