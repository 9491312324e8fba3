"""MST-ControlNet on CogVideoX: the hook between attention and FFN, and the epsilon objective."""

from __future__ import annotations

import pytest
import torch
from diffusers import CogVideoXDDIMScheduler, CogVideoXDPMScheduler, CogVideoXTransformer3DModel
from torch import nn

from mtv.cogvideox.backbone import controlled, epsilon_loss, predicted_epsilon, rotary_embedding, steered
from mtv.control import MSTControlNet, TrackFeatures, trainable_backbone_parameters
from shared.utils.errors import UserError
from shared.utils.rng import generator

LATENTS, WIDTH = 3, 32
SIZE = (2, 1, 6)


def noise(name, *shape):
    return torch.randn(shape, generator=generator(0, "tests", name))


def randomise(module):
    """Random values where a weight starts at zero, so that no path is dead."""
    for name, parameter in module.named_parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.3, generator=generator(0, "weights", name))
    return module.eval()


def backbone(**changes):
    torch.manual_seed(0)
    sizes = {
        "num_attention_heads": 2, "attention_head_dim": 16, "in_channels": 4, "out_channels": 4, "time_embed_dim": 8,
        "text_embed_dim": 12, "num_layers": 2, "sample_width": 8, "sample_height": 8, "sample_frames": 9,
        "max_text_seq_length": 5, "use_rotary_positional_embeddings": True,
    }  # fmt: skip
    return randomise(CogVideoXTransformer3DModel(**(sizes | changes)))


def network(trained=True, **changes):
    torch.manual_seed(1)
    tracks = dict.fromkeys(("speech", "effects", "music"), SIZE)
    sizes = {"token_dim": 8, "tokens": 2, "interaction_blocks": 1, "heads": 2, "ffn_dim": 16, "hidden_dim": 12}
    net = MSTControlNet(WIDTH, 2, 2, tracks, **(sizes | changes))
    return randomise(net) if trained else net.eval()


def features(batch=2):
    frames = 4 * (LATENTS - 1) + 1
    return TrackFeatures(
        noise("speech", batch, 1, frames, *SIZE), noise("effects", batch, frames, *SIZE),
        noise("music", batch, frames, *SIZE),
    )  # fmt: skip


def inputs(model, batch=2):
    latents = noise("latents", batch, LATENTS, 4, 8, 8)
    return {
        "hidden_states": latents,
        "encoder_hidden_states": noise("text", batch, 5, 12),
        "timestep": torch.tensor([100, 900])[:batch],
        "image_rotary_emb": rotary_embedding(model, latents),
        "return_dict": False,
    }


SIGMA = torch.tensor([0.1, 0.9])


@torch.no_grad()
@pytest.mark.parametrize("rotary", [True, False])
def test_an_untrained_network_leaves_cogvideox_as_it_was_to_the_bit(rotary):
    model = backbone(use_rotary_positional_embeddings=rotary)
    given = inputs(model)
    alone = model(**given)[0]
    assert alone.std() > 0.1
    with controlled(model, network(trained=False)(features(), SIGMA)):
        assert torch.equal(model(**given)[0], alone)
    with controlled(model, network()(features(), SIGMA)):
        assert not torch.allclose(model(**given)[0], alone, atol=1e-3)
    assert torch.equal(model(**given)[0], alone)  # and nothing is left behind


@torch.no_grad()
def test_the_control_acts_between_attention_and_ffn():
    """Doubling the states there: the FFN's norm sees them doubled, and doubled they stay in the residual sum."""
    model, seen = backbone(num_layers=1), []
    block = model.transformer_blocks[0]
    block.norm2.register_forward_hook(lambda _, args, out: seen.extend([args[0], out[2]]))
    block.ff.register_forward_hook(lambda _, __, out: seen.append(out[:, 5:]))
    model.norm_final.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    given = inputs(model)
    model(**given)
    plain, *_ = seen
    seen.clear()
    with controlled(model, lambda index, x: 2 * x):
        model(**given)
    doubled, gate, ffn, out = seen
    torch.testing.assert_close(doubled, 2 * plain, rtol=0, atol=1e-5)
    torch.testing.assert_close(out, doubled + gate * ffn, rtol=0, atol=1e-5)


@torch.no_grad()
def test_a_batch_is_its_samples_alone():
    model, net, given, tracks = backbone(), network(), inputs(backbone()), features()
    with controlled(model, net(tracks, SIGMA)):
        together = model(**given)[0]
    for i in range(2):
        one = slice(i, i + 1)
        single = TrackFeatures(tracks.speech[one], tracks.effects[one], tracks.music[one])
        parts = {name: given[name][one] for name in ("hidden_states", "encoder_hidden_states", "timestep")}
        with controlled(model, net(single, SIGMA[one])):
            torch.testing.assert_close(model(**(given | parts))[0][0], together[i], rtol=0, atol=1e-5)


@torch.no_grad()
def test_steered_takes_the_noise_level_from_each_call():
    model, net, given = backbone(), network(), inputs(backbone())
    encoded = net.encode(features())
    with controlled(model, net.control(encoded, SIGMA)):
        expected = model(**given)[0]
    with steered(model, lambda sigma: net.control(encoded, sigma)):
        assert torch.equal(model(**given)[0], expected)
        other = model(**(given | {"timestep": torch.tensor([500, 500])}))[0]
    with controlled(model, net.control(encoded, torch.tensor([0.5, 0.5]))):
        assert torch.equal(model(**(given | {"timestep": torch.tensor([500, 500])}))[0], other)
    assert not torch.allclose(model(**given)[0], expected, atol=1e-3)


def test_gradients_with_checkpointing_are_those_without():
    model, given, gradients = backbone(), inputs(backbone()), []
    for checkpointing in (False, True):
        net = network()
        if checkpointing:
            model.enable_gradient_checkpointing()
        with controlled(model, net(features(), SIGMA)):
            model(**given)[0].square().mean().backward()
        gradients.append({name: parameter.grad for name, parameter in net.named_parameters()})
    for name, gradient in gradients[0].items():
        if gradient is not None:
            torch.testing.assert_close(gradients[1][name], gradient, rtol=0, atol=1e-6)
    assert gradients[0]["interval_injection.0.attentions.speech.to_out.weight"].any()


def test_a_transformer_that_joins_latents_in_a_token_is_refused():
    model = backbone(patch_size_t=2, patch_bias=False)
    with pytest.raises(UserError, match="patch_size_t"), controlled(model, lambda _, x: x):
        pass


@pytest.mark.parametrize("scheduler", [CogVideoXDDIMScheduler, CogVideoXDPMScheduler])
@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_a_perfect_prediction_means_the_noise(scheduler, kind):
    schedule = scheduler(prediction_type=kind)
    clean, eps, timesteps = noise("clean", 3, 2, 4, 2, 2), noise("eps", 3, 2, 4, 2, 2), torch.tensor([0, 500, 999])
    noisy = schedule.add_noise(clean, eps, timesteps)
    perfect = eps if kind == "epsilon" else schedule.get_velocity(clean, eps, timesteps)
    torch.testing.assert_close(predicted_epsilon(schedule, perfect, noisy, timesteps), eps, rtol=0, atol=1e-4)


def test_other_predictions_are_refused():
    schedule = CogVideoXDDIMScheduler(prediction_type="sample")
    x = torch.zeros(1, 1, 1, 1, 1)
    with pytest.raises(UserError, match="'sample'"):
        predicted_epsilon(schedule, x, x, torch.tensor([1]))


@torch.no_grad()
@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_the_epsilon_loss_of_a_sample_is_its_mean_over_noisy_latents(kind):
    model, schedule = backbone(), CogVideoXDPMScheduler(prediction_type=kind)
    given = inputs(model)
    latents, eps, timesteps = given["hidden_states"], noise("eps", 2, LATENTS, 4, 8, 8), given["timestep"]
    clean = torch.tensor([[True, False, False], [False, False, False]])
    loss = epsilon_loss(model, schedule, latents, given["encoder_hidden_states"], timesteps, eps, clean)
    noisy = schedule.add_noise(latents, eps, timesteps)
    noisy[0, 0] = latents[0, 0]
    prediction = model(**(given | {"hidden_states": noisy}))[0]
    error = (predicted_epsilon(schedule, prediction, noisy, timesteps) - eps).square()
    torch.testing.assert_close(loss, torch.stack([error[0, 1:].mean(), error[1].mean()]))
    with pytest.raises(ValueError, match="nothing to predict"):
        epsilon_loss(model, schedule, latents, given["encoder_hidden_states"], timesteps, eps, torch.ones_like(clean))


def test_a_cogvideox_folder_trains_by_mtv_alone(tmp_path):
    """A few steps on one batch, from a folder of diffusers' own: network and attention layers learn, the rest stays."""
    backbone().save_pretrained(tmp_path)
    model = CogVideoXTransformer3DModel.from_pretrained(tmp_path).requires_grad_(False)
    attention = trainable_backbone_parameters(model)
    assert len(attention) == 2 * 12 and all(".attn1." in name for name in attention)
    for parameter in attention.values():
        parameter.requires_grad_(True)
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    net, schedule, given = network(trained=False), CogVideoXDPMScheduler(prediction_type="v_prediction"), inputs(model)
    optimizer = torch.optim.AdamW([*net.parameters(), *attention.values()], lr=1e-2)
    eps, losses = noise("eps", 2, LATENTS, 4, 8, 8), []
    for _ in range(8):
        with controlled(model, net(features(), SIGMA)):
            text, latents = given["encoder_hidden_states"], given["hidden_states"]
            loss = epsilon_loss(model, schedule, latents, text, given["timestep"], eps).mean()
            loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]
    changed = {name for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])}
    assert changed == set(attention)
