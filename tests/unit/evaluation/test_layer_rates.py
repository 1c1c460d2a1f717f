"""Learning rate and weight decay of every parameter, in closed form."""

import pytest
import torch
from torch import nn

from stradavit.evaluation.classifier import Classifier
from stradavit.evaluation.layer_rates import parameter_groups
from stradavit.models.config import EncoderConfig
from stradavit.models.dinov2 import Dinov2Encoder
from stradavit.models.encoder import ViTEncoder
from stradavit.settings.evaluation import FinetuneSettings

SETTINGS = FinetuneSettings()


def _vit() -> nn.Module:
    config = EncoderConfig(
        image_px=16, patch_px=8, channels=1, width=16, layers=12, heads=2, mlp_width=32, registers=4
    )
    return ViTEncoder(config)


def _dinov2() -> nn.Module:
    from transformers import Dinov2WithRegistersConfig, Dinov2WithRegistersModel

    config = Dinov2WithRegistersConfig(
        hidden_size=16, num_hidden_layers=12, num_attention_heads=2, image_size=28, patch_size=14
    )
    return Dinov2Encoder(Dinov2WithRegistersModel(config))


def _found(model: Classifier) -> dict[str, tuple[float, float]]:
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = parameter_groups(model.encoder, model.head, SETTINGS)
    assert all(group["lr"] == group["peak"] for group in groups)
    listed = [names[id(p)] for group in groups for p in group["params"]]
    assert len(listed) == len(set(listed))
    return {
        names[id(parameter)]: (group["peak"], group["weight_decay"])
        for group in groups
        for parameter in group["params"]
    }


@pytest.mark.parametrize("make", [_vit, _dinov2])
def test_every_parameter_by_the_formula(make) -> None:
    model = Classifier(make(), torch.zeros(3, 16), dropout=0.0)
    found = _found(model)
    trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert found.keys() == trainable.keys()
    in_blocks = set()
    for name, (rate, decay) in found.items():
        if name.startswith("head."):
            expected = 5e-4 * 10
        elif ".layer." in name:
            block = int(name.split(".layer.")[1].split(".")[0])
            in_blocks.add(block)
            expected = 5e-4 * 0.65 ** (11 - block)
        else:
            expected = 5e-4 * 0.65**11
        assert rate == pytest.approx(expected, rel=1e-12), name
        is_map = name.endswith("weight") and "norm" not in name
        assert decay == (0.05 if is_map else 0.0), name
    assert in_blocks == set(range(12))
    tokens = [name for name in found if "token" in name]
    assert len(tokens) == 2, "class token and registers are trained"


def test_a_decay_of_one_gives_all_blocks_the_same_rate() -> None:
    encoder, head = _vit(), nn.Linear(16, 3)
    groups = parameter_groups(encoder, head, FinetuneSettings(layer_decay=1.0, head_multiplier=1.0))
    assert {group["peak"] for group in groups} == {5e-4}
