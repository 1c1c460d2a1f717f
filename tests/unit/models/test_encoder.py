"""Our ViT-MAE against transformers' and against a float64 reference with registers."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from stradavit.models.attention import attend
from stradavit.models.config import EncoderConfig
from stradavit.models.encoder import ViTEncoder, sin_cos_positions
from stradavit.models.hub import load_encoder, load_mae, save_encoder
from stradavit.models.initial import initial_weights
from stradavit.models.mae import MaskedAutoencoder, patchify, random_mask, unpatchify
from stradavit.models.preprocessing import Preprocessing
from tests.reference import vit_mae as reference


def drawn(config: EncoderConfig, seed: int = 0, spread: float = 0.3) -> MaskedAutoencoder:
    """An autoencoder with weights large enough for every part to show in the output."""
    mae = MaskedAutoencoder(ViTEncoder(config))
    generator = torch.Generator().manual_seed(seed)
    state = {
        name: tensor + spread * torch.randn(tensor.shape, generator=generator)
        for name, tensor in mae.state_dict().items()
    }
    mae.load_state_dict(state)
    return mae.eval()


def images(config: EncoderConfig, n: int = 2, side: int | None = None) -> Tensor:
    generator = torch.Generator().manual_seed(9)
    side = side or config.image_px
    return torch.randn(n, config.channels, side, side, generator=generator)


def noise(config: EncoderConfig, n: int = 2) -> Tensor:
    return torch.rand(n, config.patches, generator=torch.Generator().manual_seed(4))


def save(mae: MaskedAutoencoder, folder: Path, with_decoder: bool = True) -> None:
    preprocessing = Preprocessing.identity(mae.config.image_px, mae.config.channels)
    decoder = mae if with_decoder else None
    save_encoder(folder, mae.vit, decoder, preprocessing=preprocessing, card={})


# -- against transformers, through files in both directions ----------------------------------


@pytest.mark.parametrize("channels", [1, 3])
def test_transformers_reads_our_folder_and_computes_the_same(
    tiny: EncoderConfig, channels: int, tmp_path: Path
) -> None:
    from transformers import ViTMAEForPreTraining

    mae = drawn(replace(tiny, channels=channels))
    save(mae, tmp_path)
    theirs, report = ViTMAEForPreTraining.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    x, shuffle = images(mae.config), noise(mae.config)
    with torch.no_grad():
        expected = theirs.eval()(pixel_values=x, noise=shuffle)
        prediction, mask = mae(x, shuffle)
    assert torch.equal(mask, expected.mask)
    torch.testing.assert_close(prediction, expected.logits, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("with_decoder", [True, False])
def test_auto_model_reads_our_folder(
    tiny: EncoderConfig, with_decoder: bool, tmp_path: Path
) -> None:
    from transformers import AutoImageProcessor, AutoModel

    mae = drawn(tiny)
    save(mae, tmp_path, with_decoder)
    theirs = AutoModel.from_pretrained(tmp_path, mask_ratio=0.0).eval()
    x = images(tiny)
    in_order = torch.arange(tiny.patches).float().expand(2, -1)
    with torch.no_grad():
        expected = theirs(pixel_values=x, noise=in_order).last_hidden_state
        torch.testing.assert_close(mae.vit(x), expected, rtol=1e-5, atol=1e-5)
    processor = AutoImageProcessor.from_pretrained(tmp_path)
    assert not processor.do_rescale
    assert dict(processor.size) == {"height": 48, "width": 48}


@pytest.mark.parametrize("whole", [True, False], ids=["ForPreTraining", "Model"])
def test_we_read_a_folder_of_transformers(tiny: EncoderConfig, whole: bool, tmp_path: Path) -> None:
    from transformers import ViTMAEConfig, ViTMAEForPreTraining, ViTMAEModel

    kind = ViTMAEForPreTraining if whole else ViTMAEModel
    theirs = kind(ViTMAEConfig(**tiny.to_hf(with_decoder=True))).eval()
    theirs.save_pretrained(tmp_path)
    preprocessing = Preprocessing.identity(tiny.image_px, tiny.channels)
    (tmp_path / "preprocessor_config.json").write_text(
        '{"image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.2, 0.3], "size": 48, "resample": 2}'
    )
    x, shuffle = images(tiny), noise(tiny)
    loaded = load_encoder(tmp_path)
    assert loaded.preprocessing == replace(
        preprocessing, mean=(0.4, 0.5, 0.6), std=(0.2, 0.2, 0.3), resample="bilinear"
    )
    mae = load_mae(tmp_path, registers=0, seed=1)
    with torch.no_grad():
        expected = theirs(pixel_values=x, noise=shuffle)
        keep, _, _ = random_mask(shuffle, 0.75)
        if whole:
            prediction, _ = mae.eval()(x, shuffle)
            torch.testing.assert_close(prediction, expected.logits, rtol=1e-5, atol=1e-5)
        else:
            for encoder in (loaded.encoder, mae.vit):
                tokens = encoder(x, keep)
                torch.testing.assert_close(tokens, expected.last_hidden_state, rtol=1e-5, atol=1e-5)


def test_a_second_size_interpolates_positions_as_transformers_does(
    tiny: EncoderConfig, tmp_path: Path
) -> None:
    from transformers import ViTMAEModel

    mae = drawn(tiny)
    save(mae, tmp_path)
    theirs = ViTMAEModel.from_pretrained(tmp_path, mask_ratio=0.0).eval()
    x = images(tiny, side=80)[..., :64]
    in_order = torch.arange(20).float().expand(2, -1)
    with torch.no_grad():
        expected = theirs(pixel_values=x, noise=in_order, interpolate_pos_encoding=True)
        found = mae.vit(x)
    assert found.shape == (2, 21, 32)
    torch.testing.assert_close(found, expected.last_hidden_state, rtol=1e-5, atol=1e-5)


def test_positions_are_those_of_transformers(tiny: EncoderConfig) -> None:
    from transformers import ViTMAEConfig, ViTMAEForPreTraining

    theirs = ViTMAEForPreTraining(ViTMAEConfig(**tiny.to_hf(with_decoder=True)))
    # transformers 5 marks these as drawn before it gets to them, and leaves them zero.
    for marked in (*theirs.parameters(), theirs.vit.embeddings.patch_embeddings.projection):
        marked._is_hf_initialized = False
    theirs.vit.embeddings.initialize_weights()
    theirs.decoder.initialize_weights(tiny.patches)
    torch.testing.assert_close(sin_cos_positions(3, 32), theirs.vit.embeddings.position_embeddings)
    torch.testing.assert_close(sin_cos_positions(3, 24), theirs.decoder.decoder_pos_embed)


def test_positions_name_column_then_row() -> None:
    positions = sin_cos_positions(3, 16)[0]
    assert (positions[0] == 0).all()
    for row in range(3):
        for column in range(3):
            waves = [
                wave(place / 10000 ** (i / 4))
                for place in (column, row)
                for wave in (math.sin, math.cos)
                for i in range(4)
            ]
            found = positions[1 + 3 * row + column]
            torch.testing.assert_close(found, torch.tensor(waves), rtol=1e-6, atol=1e-7)


# -- registers, which transformers' ViT-MAE does not have ---------------------------------------


@pytest.mark.parametrize("registers", [0, 4])
@pytest.mark.parametrize("final_norm", [True, False])
def test_registers_and_final_norm_follow_the_reference(
    tiny: EncoderConfig, registers: int, final_norm: bool
) -> None:
    mae = drawn(replace(tiny, registers=registers, final_norm=final_norm))
    state = mae.state_dict()
    encoder_state = {k: v for k, v in state.items() if k.startswith("vit.")}
    x, shuffle = images(tiny), noise(tiny)
    keep, _, mask = random_mask(shuffle, 0.5)
    with torch.no_grad():
        tokens, prediction = mae.vit(x, keep), mae(x, shuffle, 0.5)[0]
        readout = mae.vit.readout(x)
    assert tokens.shape == (2, 1 + 4, 32)
    for i in range(2):
        visible = keep[i].tolist()
        shape = {"patch_px": 16, "layers": 3, "heads": 4, "eps": 1e-12, "final_norm": final_norm}
        expected = reference.encode(x[i], encoder_state, **shape, keep=visible)
        torch.testing.assert_close(tokens[i].double(), expected, rtol=1e-4, atol=1e-4)
        decoded = reference.decode(expected, visible, state, layers=2, heads=3, eps=1e-12)
        torch.testing.assert_close(prediction[i].double(), decoded, rtol=1e-4, atol=1e-4)
        whole = reference.encode(x[i], encoder_state, **shape)
        torch.testing.assert_close(readout[i].double(), whole[1:].mean(0), rtol=1e-4, atol=1e-4)
        assert mask[i].nonzero().flatten().tolist() == sorted(set(range(9)) - set(visible))


def test_registers_matter_and_are_cut_from_the_output(tiny: EncoderConfig) -> None:
    encoder = drawn(replace(tiny, registers=4)).vit
    x = images(tiny)
    with torch.no_grad():
        before = encoder(x)
        encoder.register_tokens.neg_()
        after = encoder(x)
    assert before.shape == after.shape == (2, 10, 32)
    assert (before - after).abs().max() > 1e-2


def test_hidden_patches_cannot_be_seen(tiny: EncoderConfig) -> None:
    mae, shuffle = drawn(tiny), noise(tiny)
    x = images(tiny)
    with torch.no_grad():
        before, mask = mae(x, shuffle)
        patches = patchify(x, 16) + 5 * mask.unsqueeze(-1)
        after, _ = mae(unpatchify(patches, 16), shuffle)
    assert torch.equal(before, after)


def test_only_a_used_final_norm_is_trained(tiny: EncoderConfig) -> None:
    for final_norm in (True, False):
        mae = drawn(replace(tiny, registers=4, final_norm=final_norm)).train()
        mae(images(tiny), noise(tiny))[0].square().mean().backward()
        unused = [name for name, p in mae.named_parameters() if p.requires_grad and p.grad is None]
        assert unused == []
        assert mae.vit.layernorm.weight.requires_grad == final_norm


# -- what is done in another way than it is written down ------------------------------------------


def test_patches_are_embedded_as_the_convolution_does(tiny: EncoderConfig) -> None:
    embed = drawn(tiny).vit.embeddings.patch_embeddings
    x, keep = images(tiny), random_mask(noise(tiny), 0.5)[0]
    whole = embed.projection(x).flatten(2).mT
    torch.testing.assert_close(embed(x), whole, rtol=1e-5, atol=1e-5)
    some = torch.stack([whole[i, keep[i]] for i in range(2)])
    torch.testing.assert_close(embed(x, keep), some, rtol=1e-5, atol=1e-5)
    weight = embed.projection.weight
    (found,) = torch.autograd.grad(embed(x, keep).square().sum(), weight)
    (expected,) = torch.autograd.grad(some.square().sum(), weight)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("n", [37, 600])
def test_bfloat16_attention_is_that_of_float32_to_its_rounding(n: int) -> None:
    """Both kinds on a processor: plain products for short sequences, fused for long ones."""
    generator = torch.Generator().manual_seed(n)
    operands = [torch.randn(2, 3, n, 24, generator=generator) for _ in range(3)]
    direction = torch.randn(2, 3, n, 24, generator=generator)
    exact = [t.bfloat16().double().requires_grad_() for t in operands]
    weights = (exact[0] @ exact[1].mT / 24**0.5).softmax(-1)
    expected = weights @ exact[2]
    gradients = torch.autograd.grad((expected * direction).sum(), exact)
    rounded = [t.bfloat16().requires_grad_() for t in operands]
    found = attend(*rounded)
    assert found.dtype == torch.bfloat16
    # bfloat16 has 8 bits: some roundings of half a per cent each.
    assert (found.double() - expected).std() < 0.01 * expected.std()
    for ours, theirs in zip(
        torch.autograd.grad((found * direction.bfloat16()).sum(), rounded), gradients, strict=True
    ):
        assert (ours.double() - theirs).std() < 0.015 * theirs.std()


# -- masking, patches, weights, faults -----------------------------------------------------------


def test_patchify_is_undone_and_ordered_as_transformers_does(tiny: EncoderConfig) -> None:
    from transformers import ViTMAEConfig, ViTMAEForPreTraining

    x = images(tiny)
    theirs = ViTMAEForPreTraining(ViTMAEConfig(**tiny.to_hf(with_decoder=True)))
    assert torch.equal(patchify(x, 16), theirs.patchify(x))
    assert torch.equal(unpatchify(patchify(x, 16), 16), x)
    with pytest.raises(ValueError, match="8 patches do not make a square"):
        unpatchify(patchify(x, 16)[:, :8], 16)


@pytest.mark.parametrize("ratio", [0.75, 0.5, 0.1])
def test_mask_counts(ratio: float) -> None:
    keep, restore, mask = random_mask(torch.rand(5, 196), ratio)
    assert keep.shape == (5, int(196 * (1 - ratio)))
    assert mask.sum(1).tolist() == [196 - keep.shape[1]] * 5
    assert torch.equal(restore.sort(1).values, torch.arange(196).expand(5, -1))
    assert mask.gather(1, keep).sum() == 0


def test_scratch_weights_are_keyed_by_seed_and_name(tiny: EncoderConfig) -> None:
    def draw(config: EncoderConfig, seed: int) -> dict[str, Tensor]:
        return initial_weights(MaskedAutoencoder(ViTEncoder(config)).state_dict(), 0.02, seed)

    torch.manual_seed(1)
    first = draw(tiny, 5)
    torch.manual_seed(2)
    again, registers, other = draw(tiny, 5), draw(replace(tiny, registers=4), 5), draw(tiny, 6)
    name = "vit.encoder.layer.0.intermediate.dense.weight"
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert all(torch.equal(first[key], registers[key]) for key in first)
    assert not torch.equal(first[name], other[name])
    assert not torch.equal(first[name], first[name.replace("layer.0", "layer.1")])
    alone = initial_weights(ViTEncoder(tiny).state_dict(), 0.02, 5)
    assert torch.equal(alone[name.removeprefix("vit.")], first[name])


def test_scratch_weights_are_drawn_as_mae_draws_them(tiny: EncoderConfig) -> None:
    config = replace(tiny, registers=4, width=128, heads=4)
    state = initial_weights(MaskedAutoencoder(ViTEncoder(config)).state_dict(), 0.02, 0)
    for name, tensor in state.items():
        if name.endswith(".bias"):
            assert (tensor == 0).all(), name
        elif "norm" in name:
            assert (tensor == 1).all(), name
        elif name.endswith(".weight"):
            # Xavier uniform of the layer on flattened patches: bound sqrt(6 / (in + out)).
            width_out, width_in = tensor.flatten(1).shape
            bound = (6 / (width_in + width_out)) ** 0.5
            assert 0.95 * bound < tensor.abs().max() <= bound, name
            assert abs(tensor.mean().item()) < 0.05 * bound, name
        elif tensor.numel() > 100 and "pos" not in name:
            assert tensor.std().item() == pytest.approx(0.02, rel=0.2), name


def test_inputs_that_do_not_fit_are_named(tiny: EncoderConfig) -> None:
    mae = drawn(tiny)
    with pytest.raises(ValueError, match="expected 3 channels"):
        mae.vit(torch.zeros(1, 1, 48, 48))
    with pytest.raises(ValueError, match="multiples of 16 px"):
        mae.vit(torch.zeros(1, 3, 48, 40))
    with pytest.raises(ValueError, match="expected images of 48 x 48"):
        mae(torch.zeros(1, 3, 64, 64), torch.rand(1, 16))


def test_bfloat16_autocast_stays_close(tiny: EncoderConfig) -> None:
    mae, x, shuffle = drawn(tiny, spread=0.1), images(tiny), noise(tiny)
    with torch.no_grad():
        expected, _ = mae(x, shuffle)
        with torch.autocast("cpu", torch.bfloat16):
            found, _ = mae(x, shuffle)
    # bfloat16 has 8 bits: a few per cent of the spread after five blocks.
    assert (found.float() - expected).std() < 0.05 * expected.std()
