"""One stream: Wan's weights give Wan's output, clocks give positions, hooks are called."""

from __future__ import annotations

import pytest
import torch
from diffusers import WanTransformer3DModel
from safetensors.torch import load_file

from shared.nn.clock import LatentClock
from shared.nn.dit import DiTStream, StreamConfig

SIZES = {
    "in_channels": 4, "num_attention_heads": 2, "attention_head_dim": 24, "num_layers": 2, "ffn_dim": 64,
    "text_dim": 12, "freq_dim": 32,
}  # fmt: skip


def randomise(module: torch.nn.Module) -> None:
    torch.manual_seed(1)
    for parameter in module.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.3)


@pytest.fixture(scope="module")
def wan(tmp_path_factory):
    """A small random Wan, and our stream with the weights that diffusers wrote."""
    torch.manual_seed(0)
    theirs = WanTransformer3DModel(out_channels=4, **SIZES).eval()
    randomise(theirs)
    folder = tmp_path_factory.mktemp("wan")
    theirs.save_pretrained(folder)
    ours = DiTStream(StreamConfig(**SIZES)).eval()
    ours.load_state_dict(load_file(folder / "diffusion_pytorch_model.safetensors"))
    return WanTransformer3DModel.from_pretrained(folder).eval(), ours


def stream(**changes) -> DiTStream:
    torch.manual_seed(0)
    model = DiTStream(StreamConfig(**(SIZES | changes))).eval()
    randomise(model)
    return model


@torch.no_grad()
def test_wan_weights_give_wans_output_with_one_timestep_per_sample(wan):
    theirs, ours = wan
    latents, text, sigma = torch.randn(2, 4, 3, 8, 4), torch.randn(2, 5, 12), torch.tensor([0.25, 0.9])
    expected = theirs(latents, sigma * 1000, text).sample
    assert expected.std() > 0.1
    torch.testing.assert_close(ours(latents, sigma, text), expected, rtol=0, atol=1e-5)


@torch.no_grad()
def test_wan_weights_give_wans_output_with_a_timestep_per_frame(wan):
    theirs, ours = wan
    latents, text = torch.randn(2, 4, 3, 8, 4), torch.randn(2, 5, 12)
    sigma = torch.tensor([[0.0, 0.4, 0.9], [0.3, 0.3, 0.3]])
    per_token = sigma.repeat_interleave(4 * 2, dim=1) * 1000
    torch.testing.assert_close(ours(latents, sigma, text), theirs(latents, per_token, text).sample, rtol=0, atol=1e-5)


@torch.no_grad()
def test_equal_sigmas_per_frame_are_one_sigma():
    model, latents, text = stream(), torch.randn(1, 4, 3, 4, 4), torch.randn(1, 5, 12)
    one, many = model(latents, torch.tensor([0.5]), text), model(latents, torch.full((1, 3), 0.5), text)
    torch.testing.assert_close(one, many, rtol=0, atol=1e-5)


def test_an_untrained_stream_predicts_nothing():
    model = DiTStream(StreamConfig(**SIZES))
    assert not model(torch.randn(1, 4, 2, 4, 4), torch.tensor([0.5]), torch.randn(1, 5, 12)).any()


@torch.no_grad()
def test_a_time_stream_sees_differences_of_time_only():
    model = stream(grid="time", patch_size=(1, 1, 1), time_unit=0.25)
    latents, text, sigma = torch.randn(1, 4, 9, 1, 1), torch.randn(1, 5, 12), torch.tensor([0.5])
    clock = LatentClock.at_rate(9, 25.0)
    out = model(latents, sigma, text, clock)
    torch.testing.assert_close(model(latents, sigma, text, clock.shifted(12.34)), out, rtol=0, atol=1e-5)
    assert not torch.allclose(model(latents, sigma, text, LatentClock.at_rate(9, 5.0)), out, atol=1e-3)


def test_a_time_stream_needs_its_clock():
    model = stream(grid="time", patch_size=(1, 1, 1))
    for clock in (None, LatentClock.at_rate(8, 25.0)):
        with pytest.raises(ValueError, match="clock of its 9 latents"):
            model(torch.randn(1, 4, 9, 1, 1), torch.tensor([0.5]), torch.randn(1, 5, 12), clock)


@torch.no_grad()
def test_the_control_hook_is_called_in_every_block():
    model, seen = stream(), []
    latents, text, sigma = torch.randn(1, 4, 2, 4, 4), torch.randn(1, 5, 12), torch.tensor([0.5])

    def control(index, x):
        seen.append((index, tuple(x.shape)))
        return x + index * torch.linspace(-1, 1, 48)

    changed = model(latents, sigma, text, control=control)
    assert seen == [(0, (1, 8, 48)), (1, (1, 8, 48))]
    assert not torch.allclose(changed, model(latents, sigma, text), atol=1e-3)
    assert torch.equal(model(latents, sigma, text, control=lambda _, x: x), model(latents, sigma, text))


@torch.no_grad()
def test_a_skip_adds_the_latents_times_a_factor_per_channel_and_noise_level():
    plain, model = stream(), stream(skip=True)
    model.load_state_dict(plain.state_dict() | {name: p for name, p in model.state_dict().items() if "skip" in name})
    latents, text, sigma = torch.randn(2, 4, 2, 4, 4), torch.randn(2, 5, 12), torch.tensor([[0.2, 0.5], [0.9, 0.9]])
    factor = (model(latents, sigma, text) - plain(latents, sigma, text)) / latents
    torch.testing.assert_close(factor, factor[..., :1, :1].expand_as(factor), rtol=0, atol=1e-3)
    torch.testing.assert_close(factor[1, :, 0], factor[1, :, 1], rtol=0, atol=1e-3)
    factor = factor * model.config.width**0.5  # the layer's own output, at the scale of its random weights
    assert factor[0, :, 0, 0, 0].std() > 0.1 and not torch.allclose(factor[0, :, 0], factor[0, :, 1], atol=1e-2)


@torch.no_grad()
def test_a_gate_adds_the_latents_times_a_factor_that_each_token_decides():
    plain, model = stream(), stream(gate=True)
    model.load_state_dict(plain.state_dict() | {name: p for name, p in model.state_dict().items() if "gate" in name})
    latents, text, sigma = torch.randn(2, 4, 2, 4, 4), torch.randn(2, 5, 12), torch.tensor([0.2, 0.9])
    model.gate.weight.zero_(), model.gate.bias.zero_()
    assert torch.equal(model(latents, sigma, text), plain(latents, sigma, text))
    model.gate.bias.copy_(torch.arange(16.0))  # one for each of a token's 2x2 latents of 4 channels
    factor = (model(latents, sigma, text) - plain(latents, sigma, text)) / latents
    expected = torch.arange(16.0).reshape(2, 2, 4).permute(2, 0, 1).repeat(1, 2, 2)[:, None]  # [4, 1, 4, 4]
    torch.testing.assert_close(factor, expected.expand_as(factor), rtol=0, atol=1e-2)
    torch.nn.init.normal_(model.gate.weight)
    factor = (model(latents, sigma, text) - plain(latents, sigma, text)) / latents
    assert not torch.allclose(factor[..., :2, :2], factor[..., 2:, 2:], atol=1e-1)


def test_an_unknown_grid_is_refused():
    with pytest.raises(ValueError, match="'sphere'"):
        StreamConfig(**SIZES, grid="sphere")


@torch.no_grad()
def test_a_stream_whose_blocks_are_lent_runs_them_still_and_has_only_its_ends():
    ours = stream()
    randomise(ours)
    latents, sigma, text = torch.randn(1, 4, 2, 4, 4), torch.tensor([0.4]), torch.randn(1, 3, 12)
    expected, names = ours(latents, sigma, text), {name for name, _ in ours.named_parameters()}
    blocks = ours.lend_blocks()
    assert torch.equal(ours(latents, sigma, text), expected) and expected.std() > 0.1
    assert {name for name, _ in ours.named_parameters()} == {name for name in names if not name.startswith("blocks.")}
    blocks[1].ffn.net[2].weight.zero_()
    assert not torch.allclose(ours(latents, sigma, text), expected, atol=1e-3)
